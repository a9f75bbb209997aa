"""Files of weights, and where torchvision and timm have what our networks have."""
