"""The network as a serialised function of JAX, weights inside.

    function = jax.export.deserialize(bytearray(pathlib.Path(file).read_bytes()))
    function.call(images)  # float32 [B, S, S, 1]; where channels differ, [B, S, S, C]

It holds StableHLO, a program for a compiler; reading it runs nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mtpret_jax import types
from mtpret_jax.inference import networks

FILE = "model.jax_export"
PLATFORMS = ("cpu", "cuda", "tpu")


def serialise(
    network: networks.Network, tree: types.Tree, shape: tuple[int, int, int]
) -> bytes:
    """Normalised images of any number to the outputs of `networks.Network`."""
    tree = jax.tree.map(jnp.asarray, tree)
    (batch,) = jax_export.symbolic_shape("batch")
    function = jax.jit(lambda image: network(tree, image))
    exported = jax_export.export(function, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    )
    return bytes(exported.serialize())


def call(content: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a serialised function for normalised images [B, S, S, C]."""
    function: Any = jax_export.deserialize(bytearray(content))
    return {name: np.asarray(value) for name, value in function.call(image).items()}
