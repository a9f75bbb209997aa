"""Runs any stage: mesh, optimiser, checkpoints, the loops. Knows no task."""
