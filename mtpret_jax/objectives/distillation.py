"""Distillation: the features that a frozen teacher has of an image are told from views.

The teacher sees the whole image once, as it was trained to, however large it is; its
features lie beside the prepared set and come with a batch (`experiment.teaching`).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import heads
from mtpret_jax.objectives import objective


@dataclasses.dataclass(frozen=True, eq=False)
class Distillation(objective.Stateless):
    """Distillation of a teacher's features as `objective.Objective`.

    Attributes:
      encoder: Backbone, and a head to the teacher's width.

    Source: ours; a squared distance between features of unit length, as Grill et al.
    2020 have between views, here of a frozen network and a view.
    """

    encoder: objective.Encoder
    draws = False
    splits = True
    rests = ()

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, types.Tree]:
        """A head; nothing is remembered."""
        del memory_key
        return self.encoder.init(key, body, image), {}

    def prepare(
        self,
        key: jax.Array,
        memory: types.Tree,
        pair: types.Tree,
        arrays: objective.Arrays,
        progress: jax.Array,
    ) -> objective.Prepared:
        """The teacher's features come with the pictures."""
        del key, pair, progress
        taught = {name: arrays[name] for name in ("query_teacher", "positive_teacher")}
        return objective.Prepared(objective.pictures(arrays) | taught, {}, memory)

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, objective.Told]:
        """Squared distance, the mean of both views: 0 alike, 4 opposite."""
        del shared
        embedding, updated, _ = self.encoder(
            pair, model_state, objective.both(rows), views=2
        )
        query, positive = objective.apart(heads.unit(embedding))
        taught = (rows["query_teacher"], rows["positive_teacher"])
        loss = sum(
            (
                jnp.square(view - heads.unit(teacher)).sum(-1) / 2
                for view, teacher in zip((query, positive), taught, strict=True)
            ),
            jnp.zeros(len(query)),
        )
        return loss, updated, {"loss": loss, "embedding": query}


def build(config: schema.ContrastiveConfig, backbone: types.Backbone) -> Distillation:
    """The objective of a run's options."""
    options = config.distillation
    head = heads.Mlp(options.hidden_size, options.features, layers=2)
    return Distillation(objective.Encoder(backbone, head, config.batch_norm_rows))
