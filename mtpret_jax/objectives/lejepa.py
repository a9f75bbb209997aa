"""Views of an image alike, and embeddings spread as an isotropic Gaussian.

No slow copy, no queue, no prototypes: the spreading term alone keeps the embeddings
apart, measured along directions that every step draws anew.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import heads
from mtpret_jax.objectives import objective
from mtpret_jax.ops import placement, self_supervision


@dataclasses.dataclass(frozen=True, eq=False)
class Lejepa(objective.Stateless):
    """The stateless objective as `objective.Objective`.

    Attributes:
      encoder: Backbone and projection.
      config: Weight and directions of the spreading term.

    Source: Balestriero and LeCun 2025, "LeJEPA: Provable and scalable self-supervised
    learning without the heuristics". Differs: LayerNorm in place of BatchNorm in the
    head.
    """

    encoder: objective.Encoder
    config: schema.LejepaConfig
    draws = True
    splits = False  # The spreading term is of a whole batch, both views of which learn.
    rests = ()

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, types.Tree]:
        """A projection; nothing is remembered."""
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
        """Draws the directions of this step."""
        del pair, progress
        shape = (self.config.embedding_size, self.config.slices)
        drawn = jax.random.normal(key, shape, jnp.float32)
        directions = heads.unit(drawn, axis=0)
        rows = objective.pictures(arrays) | {"partner": arrays["partner"]}
        return objective.Prepared(rows, {"directions": directions}, memory)

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, objective.Told]:
        """Distance from the mean of the large views, and from a Gaussian."""
        embedding, updated, _ = self.encoder(
            pair, model_state, objective.both(rows), views=2
        )
        query, positive = objective.apart(embedding)
        # Of the image of this row's query; sent to every device, with its gradient.
        positive = placement.replicate(positive)[rows["partner"]]
        seen = [query, positive]
        small = objective.local(rows)
        if small is not None:
            count = len(small) // len(query)
            # Running statistics are those of large views, as users' images are.
            extra, _, _ = self.encoder(pair, model_state, small, views=count)
            extra = extra.reshape(len(query), count, extra.shape[-1])
            seen += list(jnp.moveaxis(extra, 1, 0))
        center = (query + positive) / 2
        likeness = sum(
            (jnp.square(center - one).mean(-1) for one in seen), jnp.zeros(len(query))
        ) / len(seen)
        spread = self_supervision.gaussian_distance(
            jnp.stack(seen), shared["directions"]
        ).mean()
        weight = self.config.weight
        loss = weight * spread + (1 - weight) * likeness
        return (
            loss,
            updated,
            {
                "loss": loss,
                "likeness": likeness,
                "gaussian_distance": jnp.broadcast_to(spread, loss.shape),
                "embedding": heads.unit(query),
            },
        )


def build(config: schema.ContrastiveConfig, backbone: types.Backbone) -> Lejepa:
    """The objective of a run's options."""
    options = config.lejepa
    head = heads.Mlp(options.hidden_size, options.embedding_size, layers=3)
    encoder = objective.Encoder(backbone, head, config.batch_norm_rows)
    return Lejepa(encoder, options)
