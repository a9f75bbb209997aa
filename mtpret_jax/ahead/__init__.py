"""Ahead of time: programs compiled for accelerators that are not here, and read."""
