"""A masked autoencoder: most patches of an image are hidden, and drawn from the others.

For ViTs alone, which take any patches. Both views of an image are images of their own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import heads, mae_decoder, vit
from mtpret_jax.objectives import objective
from mtpret_jax.ops import self_supervision


@dataclasses.dataclass(frozen=True, eq=False)
class Mae(objective.Stateless):
    """The masked autoencoder as `objective.Objective`.

    Attributes:
      backbone: The encoder.
      decoder: Flax module, features of what was seen to all patches.
      config: Share that is hidden.

    Source: He et al. 2022, "Masked autoencoders are scalable vision learners". Differs:
    the encoder's positions are learnt.
    """

    backbone: vit.ViTBackbone
    decoder: mae_decoder.Decoder
    config: schema.MaeConfig
    draws = True
    splits = True
    rests = ()

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, types.Tree]:
        """A decoder; nothing is remembered."""
        del memory_key
        rows, columns = self._grid(image)
        order = jnp.arange(rows * columns)[None].repeat(len(image), 0)
        kept = order[:, : self._seen(rows * columns)]
        features, _ = self.backbone.apply(body, image, train=True, kept=kept)
        drawn = self.decoder.init(
            key, features.pooled, features.levels[0][:, 0], order, (rows, columns)
        )
        return drawn["params"], {}

    def prepare(
        self,
        key: jax.Array,
        memory: types.Tree,
        pair: types.Tree,
        arrays: objective.Arrays,
        progress: jax.Array,
    ) -> objective.Prepared:
        """Draws an order of the patches of each view; the first are seen."""
        del pair, progress
        rows, columns = self._grid(arrays["query"])
        shape = (len(arrays["query"]), 2, rows * columns)
        order = jnp.argsort(jax.random.uniform(key, shape), axis=-1)
        given = objective.pictures(arrays) | {"order": order.astype(jnp.int32)}
        return objective.Prepared(given, {}, memory)

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, objective.Told]:
        """Error of the hidden patches, the mean of both views."""
        del shared
        image = objective.both(rows)
        order = rows["order"].reshape(len(image), -1)
        seen = self._seen(order.shape[1])
        features, updated = self.backbone.apply(
            types.Variables(pair["backbone"], model_state),
            image,
            train=True,
            kept=order[:, :seen],
        )
        drawn: Any = self.decoder.apply(
            {"params": pair["head"]},
            features.pooled,
            features.levels[0][:, 0],
            order,
            self._grid(image),
        )
        hidden = jnp.argsort(order, axis=1) >= seen
        # Channels differ by scale and shift alone, which a patch loses.
        grey = image.mean(-1, keepdims=True)
        patch = self_supervision.patches(grey, self.backbone.family.patch)
        error = self_supervision.reconstruction(drawn, patch, hidden)
        loss = error.reshape(-1, 2).mean(1)
        query, _ = objective.apart(heads.unit(features.pooled))
        return loss, updated, {"loss": loss, "embedding": query}

    def _seen(self, count: int) -> int:
        """How many of the patches are seen; one at least, and one is hidden."""
        return min(count - 1, max(1, round(count * (1 - self.config.masked))))

    def _grid(self, image: jax.Array) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.backbone.family.patch
        return image.shape[1] // side, image.shape[2] // side


def build(config: schema.ContrastiveConfig, backbone: types.Backbone) -> Mae:
    """The objective of a run's options.

    Raises:
      ValueError: If the backbone is no ViT, or one with rotary positions, or an image
        has one patch.
    """
    if not isinstance(backbone, vit.ViTBackbone) or backbone.family.rotary:
        raise ValueError(
            "contrastive.objective: 'mae' is for ViTs whose positions are not rotary. "
            "Choose another objective, or another backbone or family."
        )
    if config.image_size < 2 * backbone.family.patch:
        raise ValueError(
            f"contrastive.image_size: {config.image_size} pixels have one patch of "
            f"{backbone.family.patch}; 'mae' hides some and needs others."
        )
    options = config.mae
    decoder = mae_decoder.Decoder(
        options.decoder_width,
        options.decoder_depth,
        options.decoder_heads,
        pixels=backbone.family.patch**2,
    )
    return Mae(backbone, decoder, options)
