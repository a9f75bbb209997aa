"""Momentum contrast, version 2: the published objective.

A query encoder learns to tell the other view of its own image from a queue of other
images' views. The key encoder that made those views follows the query encoder slowly.
A key of the query's own image or patient is no negative of it.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import heads
from mtpret_jax.objectives import objective
from mtpret_jax.ops import losses, placement, views


class Memory(flax.struct.PyTreeNode):
    """What momentum contrast keeps beside the query encoder.

    Attributes:
      key_params: Parameters of the key encoder, `{"backbone": tree, "head": tree}`.
      key_state: Batch statistics of the key encoder's backbone.
      queue: Embeddings of earlier keys, unit length, as they were encoded, float32
        [K, D].
      owner: Whose each key is, as in a batch (`types`), int32 [K]; -1: nobody's.
      pointer: Row of the queue that is overwritten next, int32 [].
    """

    key_params: types.Tree
    key_state: types.Tree
    queue: jax.Array
    owner: jax.Array
    pointer: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Moco:
    """Momentum contrast as `objective.Objective`.

    Attributes:
      encoder: Backbone and projection of both encoders.
      config: Sizes of queue and embedding, momentum, temperature.

    Source: He et al. 2020, "Momentum contrast"; Chen et al. 2020, "Improved baselines
    with momentum contrastive learning".
    """

    encoder: objective.Encoder
    config: schema.ContrastiveConfig
    draws = False
    splits = True
    rests = ()

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, Memory]:
        """Both encoders alike, a queue of random directions."""
        head = self.encoder.init(key, body, image)
        shape = (self.config.queue_size, self.config.embedding_size)
        queue = jax.random.normal(memory_key, shape, jnp.float32)
        return head, Memory(
            key_params={"backbone": body.params, "head": head},
            key_state=body.model_state,
            queue=queue / jnp.linalg.norm(queue, axis=-1, keepdims=True),
            owner=jnp.full(self.config.queue_size, -1, jnp.int32),
            pointer=jnp.zeros((), jnp.int32),
        )

    def begin(
        self, memory: Memory, pair: types.Tree, model_state: types.Tree
    ) -> Memory:
        """Makes the key encoder a copy of the query encoder, unless it was carried."""
        if self.config.carry_memory:
            return memory
        return memory.replace(key_params=pair, key_state=model_state)

    def prepare(
        self,
        key: jax.Array,
        memory: Memory,
        pair: types.Tree,
        arrays: objective.Arrays,
        progress: jax.Array,
    ) -> objective.Prepared:
        """Momentum update and keys; these join the queue after the step."""
        del progress, key
        slow = objective.SlowCopy(memory.key_params, memory.key_state)
        key_params = slow.follow(pair, self.config.momentum)
        positive = {k: x for k, x in arrays.items() if k.startswith("positive")}
        keys, key_state, dtype = self.encoder(
            key_params, memory.key_state, views.normalise(positive)["positive"]
        )
        keys = objective.everywhere(keys, dtype)
        query = {name: arrays[name] for name in arrays if name.startswith("query")}
        owner = placement.replicate(arrays["positive_owner"])
        zero = jnp.zeros((), jnp.int32)
        after = Memory(
            key_params=key_params,
            key_state=key_state,
            queue=jax.lax.dynamic_update_slice(
                memory.queue, keys, (memory.pointer, zero)
            ),
            owner=jax.lax.dynamic_update_slice(memory.owner, owner, (memory.pointer,)),
            pointer=(memory.pointer + keys.shape[0]) % self.config.queue_size,
        )
        return objective.Prepared(
            rows=query | {"positive": keys[arrays["partner"]]},
            shared={"queue": memory.queue, "owner": memory.owner},
            memory=after,
        )

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, objective.Told]:
        """InfoNCE of each query; also whether its own key came first."""
        pictures = {k: rows[k] for k in ("query", "query_statistics") if k in rows}
        image = views.normalise(pictures)["query"]  # Of a micro-batch at a time.
        embedding, updated, _ = self.encoder(pair, model_state, image)
        loss, first = losses.info_nce(
            embedding,
            rows["positive"],
            shared["queue"],
            temperature=self.config.temperature,
            excluded=rows["query_owner"][:, None] == shared["owner"][None],
        )
        told = {"loss": loss, "accuracy": first, "embedding": embedding}
        return loss, updated, told


def build(config: schema.ContrastiveConfig, backbone: types.Backbone) -> Moco:
    """The objective of a run's options."""
    projection = heads.Projection(config.embedding_size)
    encoder = objective.Encoder(backbone, projection, config.batch_norm_rows)
    return Moco(encoder, config)
