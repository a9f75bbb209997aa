"""Images and labels mixed in pairs, the first of a batch with the last."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def mix(arrays: Mapping[str, jax.Array], share: jax.Array) -> dict[str, jax.Array]:
    """Mixes each image of a batch, and its labels, with those of the mirrored row.

    Args:
      arrays: A batch of classification (see `types`), its images normalised.
      share: What an example keeps of itself, in [0, 1], float32 [].

    Returns:
      The arrays, of which `label` and `label_known` are float32 [B, L] in [0, 1]: the
      label, of those of the two that are known, and the share of these. The loss then
      is that of both labels, each by its share. An example whose partner is padding
      stays as it is.

    Source:
      Zhang et al. 2018, "mixup", as timm's Mixup in mode "batch".
    """
    share = jnp.where(arrays["example_valid"][::-1], share, 1.0)

    def blend(array: jax.Array) -> jax.Array:
        own = share.reshape(-1, *(1,) * (array.ndim - 1))
        return array * own + array[::-1] * (1 - own)

    was_known = arrays["label_known"].astype(jnp.float32)
    known = blend(was_known)
    label = blend(arrays["label"] * was_known) / jnp.where(known > 0, known, 1.0)
    mixed = {"image": blend(arrays["image"]), "label": label, "label_known": known}
    return {**arrays, **mixed}
