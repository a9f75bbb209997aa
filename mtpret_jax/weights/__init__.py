"""Files of weights as torchvision and timm lay them out; NumPy only.

Knows names and bytes; which network a config wants is told by the caller.
"""
