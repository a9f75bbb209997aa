"""A run as a folder for others: weights, description, model card, JAX function."""
