"""Files of ResNet weights as torchvision and timm lay them out; NumPy only.

Knows names and bytes; which backbone a config wants is told by the caller.
"""
