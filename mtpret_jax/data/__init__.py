"""Prepared folders to batches, in NumPy only: reading, fitting, augmenting, streaming.

Our own code here never imports jax, so a process that only feeds data needs no device.
"""
