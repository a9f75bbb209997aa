"""Metrics of each task kind, and intervals around their values. NumPy only."""
