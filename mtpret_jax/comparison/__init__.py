"""A judge of encoders: their features, one recipe, what may be said of them."""
