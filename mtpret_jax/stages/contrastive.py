"""Stage 1: momentum contrast (MoCo v2) over the images of many sets, labels unused.

A query encoder learns to tell the other view of its own image from a queue of other
images' views. The key encoder that made those views follows the query encoder slowly.
BatchNorm takes its statistics over fixed groups of the global batch, and each group of
keys belongs to queries of many groups, so that statistics do not tell which key belongs
to which query: a batch holds the other view of an image in another row, `partner`.

A key of the query's own image or patient is no negative of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import heads
from mtpret_jax.ops import losses, placement, views
from mtpret_jax.stages import accumulation, optimizer

_Told = tuple[jax.Array, jax.Array, jax.Array]  # what `_scalars` takes
TASK = schema.CONTRASTIVE  # Name of the one segment, of its batches and of its head.
_QUERY = "query"  # Begins the names of what there is of the first views.


class ContrastiveMemory(flax.struct.PyTreeNode):
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
class ContrastiveStage:
    """Momentum contrast as `types.Stage`.

    Attributes:
      backbone: Backbone of both encoders.
      projection: Flax module, pooled features to embeddings of unit length.
      config: Sizes of queue and embedding, momentum, temperature.
      optimizer: Optimizer whose curve spans the whole stage.
      steps: Optimiser steps.
    """

    backbone: types.Backbone
    projection: nn.Module
    config: schema.ContrastiveConfig
    optimizer: types.Optimizer
    steps: int

    def segments(self) -> tuple[types.Segment, ...]:
        """One segment, whose stream is the mix of all sets."""
        return (types.Segment(TASK, self.steps),)

    def is_validated(self, done: int, every: int) -> bool:
        """Never: there is nothing to validate without labels."""
        del done, every
        return False

    def init(
        self, key: jax.Array, batches: Mapping[str, types.Batch]
    ) -> types.TrainState:
        """A fresh state: both encoders alike, a queue of random directions."""
        body_key, head_key, queue_key = jax.random.split(key, 3)
        image = batches[TASK].arrays["query"]
        body = self.backbone.init(body_key, image)
        features, _ = self.backbone.apply(body, image, train=False)
        head = self.projection.init(head_key, features.pooled)["params"]
        shape = (self.config.queue_size, self.config.embedding_size)
        queue = jax.random.normal(queue_key, shape, jnp.float32)
        queue = queue / jnp.linalg.norm(queue, axis=-1, keepdims=True)
        pair = {"backbone": body.params, "head": head}
        direction = self.optimizer.direction
        return types.TrainState(
            step=jnp.zeros((), jnp.int32),
            params={"backbone": body.params, "heads": {TASK: head}},
            model_state={"backbone": body.model_state, "heads": {}},
            opt_state=direction.init(pair),
            memory=ContrastiveMemory(
                key_params=pair,
                key_state=body.model_state,
                queue=queue,
                owner=jnp.full(self.config.queue_size, -1, jnp.int32),
                pointer=jnp.zeros((), jnp.int32),
            ),
        )

    def begin(self, state: types.TrainState, task: str) -> types.TrainState:
        """Makes the key encoder a copy of the query encoder, unless it was carried."""
        del task
        if self.config.carry_memory:
            return state
        memory = state.memory.replace(
            key_params=_pair(state.params), key_state=state.model_state["backbone"]
        )
        return state.replace(memory=memory)

    def step(
        self, state: types.TrainState, batch: types.Batch
    ) -> tuple[types.TrainState, types.Scalars]:
        """One optimiser step: momentum update, keys, loss, then the queue."""
        config, memory = self.config, state.memory
        params = _pair(state.params)
        momentum = config.momentum
        key_params = jax.tree.map(
            lambda slow, fast: momentum * slow + (1 - momentum) * fast,
            memory.key_params,
            params,
        )
        arrays = batch.arrays
        keys, key_state, dtype = self._embed(
            key_params, memory.key_state, views.normalise(arrays)["positive"]
        )
        # Sent once, for the queue and for the queries of every device, and in the
        # precision that the encoder computes in: as integers, or XLA may gather by a
        # sum in float32, and one device leave the rounding out.
        words = jax.lax.bitcast_convert_type(
            jax.lax.stop_gradient(keys).astype(dtype),
            jnp.dtype(f"uint{8 * dtype.itemsize}"),
        )
        words = placement.replicate(words)
        keys = jax.lax.bitcast_convert_type(words, dtype).astype(keys.dtype)
        grads, body_state, told = self._gradients(
            params,
            state.model_state["backbone"],
            {name: arrays[name] for name in arrays if name.startswith(_QUERY)},
            keys[arrays["partner"]],
            memory,
        )
        grads, norm = self.optimizer.clip(grads)
        rate = self.optimizer.learning_rate(state.step)
        params, opt_state = self.optimizer.update(grads, state.opt_state, params, rate)
        queue = jax.lax.dynamic_update_slice(
            memory.queue, keys, (memory.pointer, jnp.zeros((), jnp.int32))
        )
        owner = jax.lax.dynamic_update_slice(
            memory.owner,
            placement.replicate(arrays["positive_owner"]),
            (memory.pointer,),
        )
        pointer = (memory.pointer + keys.shape[0]) % config.queue_size
        state = types.TrainState(
            step=state.step + 1,
            params={"backbone": params["backbone"], "heads": {TASK: params["head"]}},
            model_state={"backbone": body_state, "heads": {}},
            opt_state=opt_state,
            memory=ContrastiveMemory(
                key_params=key_params,
                key_state=key_state,
                queue=queue,
                owner=owner,
                pointer=pointer.astype(jnp.int32),
            ),
        )
        scalars = self._scalars(*told)
        return state, scalars | {"gradient_norm": norm, "learning_rate": rate}

    def _embed(
        self, params: types.Tree, model_state: types.Tree, image: jax.Array
    ) -> tuple[jax.Array, types.Tree, jnp.dtype]:
        """Embeddings [B, D], batch statistics, and what the backbone computes in."""
        features, updated = self.backbone.apply(
            types.Variables(params["backbone"], model_state),
            image,
            train=True,
            batch_norm_rows=self.config.batch_norm_rows,
        )
        embedding = self.projection.apply({"params": params["head"]}, features.pooled)
        return jnp.asarray(embedding), updated, features.levels[-1].dtype

    def _gradients(
        self,
        params: types.Tree,
        model_state: types.Tree,
        query: types.Tree,
        positive: jax.Array,
        memory: ContrastiveMemory,
    ) -> tuple[types.Tree, types.Tree, _Told]:
        """Gradients, batch statistics, and what `_scalars` takes."""
        loss = functools.partial(self._loss, memory=memory)
        gradient = jax.grad(loss, has_aux=True)
        parts = self.config.microbatches
        if parts == 1:
            grads, (updated, told) = gradient(params, model_state, query, positive)
            return grads, updated, told
        # Whole groups, so that their statistics are those of the batch done at once.
        cut = accumulation.split(
            (query, positive), parts, rows=self.config.batch_norm_rows
        )
        return accumulation.accumulate(gradient, params, model_state, cut)

    def _loss(
        self,
        params: types.Tree,
        model_state: types.Tree,
        query: types.Tree,
        positive: jax.Array,
        memory: ContrastiveMemory,
    ) -> tuple[jax.Array, tuple[types.Tree, _Told]]:
        """Mean loss; batch statistics and what `_scalars` takes."""
        image = views.normalise(query)[_QUERY]  # Of a micro-batch at a time.
        embedding, body_state, _ = self._embed(params, model_state, image)
        loss, first = losses.info_nce(
            embedding,
            positive,
            memory.queue,
            temperature=self.config.temperature,
            excluded=query["query_owner"][:, None] == memory.owner[None],
        )
        return loss.mean(), (body_state, (loss, first, embedding))

    def _scalars(
        self, loss: jax.Array, first: jax.Array, query: jax.Array
    ) -> types.Scalars:
        """Figures of a batch, from each query's; with parts, these come first.

        Args:
          loss: float32 [B].
          first: Whether the query's own key came first, bool [B].
          query: Embeddings, float32 [B, D].
        """
        # Both means at once: a deviation about the mean would have devices wait twice.
        rows = tuple(range(query.ndim - 1))
        variance = jnp.square(query).mean(rows) - jnp.square(query.mean(rows))
        return {
            "loss": loss.mean(),
            "accuracy": first.mean(dtype=jnp.float32),
            # 1 / sqrt(D) when embeddings fill the sphere, 0 when they collapse.
            "embedding_spread": jnp.sqrt(jnp.maximum(variance, 0.0)).mean(),
        }

    def hand_over(self, state: types.TrainState) -> types.Tree:
        """Backbone, projection head, key encoder and queue."""
        memory = {
            field.name: getattr(state.memory, field.name)
            for field in dataclasses.fields(state.memory)
        }
        return {
            "backbone": {
                "params": state.params["backbone"],
                "model_state": state.model_state["backbone"],
            },
            "heads": {"params": state.params["heads"], "model_state": {}},
            "memory": memory,
        }


def build(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> ContrastiveStage:
    """The stage of a run; it needs no task."""
    del all_tasks
    return ContrastiveStage(
        backbone=models.build_backbone(config.backbone),
        projection=heads.Projection(row.contrastive.embedding_size),
        config=row.contrastive,
        optimizer=optimizer.build_optimizer(
            row.optimizer,
            row.steps,
            scale=optimizer.rate_scales(config, row)[TASK],
        ),
        steps=row.steps,
    )


def _pair(params: types.Tree) -> types.Tree:
    return {"backbone": params["backbone"], "head": params["heads"][TASK]}
