"""TFDS builders of X-ray sets, usable without JAX, TensorFlow or the rest of the house.

A builder reads what a data set's makers released and writes a prepared folder; that
folder is all that training ever sees. `tfds_builders.<name>` exports `Builder` and
`Config` for each set.
"""
