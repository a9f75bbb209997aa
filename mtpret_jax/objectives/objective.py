"""What an objective of stage 1 is to the stage, and what several have in common.

Both views of all images go through a network as one batch, view beside view: row 2 i is
the query in row i, the next one the positive view in row i, which shows another image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from mtpret_jax import types
from mtpret_jax.ops import placement, views

# Of each row of a batch what is told of it: `loss` float32 [B], `embedding` float32
# [B, D], and whatever else has a mean worth a curve, [B].
Told = dict[str, jax.Array]
Arrays = Mapping[str, Any]


class Prepared(flax.struct.PyTreeNode):
    """What no gradient flows through, made of the whole batch before its parts.

    Attributes:
      rows: Trees whose leading axis is that of the batch: pictures and targets.
      shared: What the loss of every row needs.
      memory: The memory after the step.
    """

    rows: types.Tree
    shared: types.Tree
    memory: types.Tree


class Objective(Protocol):
    """How a network learns from views of images, labels unused. Frozen and pure.

    A pair is `{"backbone": params, "head": params}`.

    Attributes:
      draws: Whether a step has chance of its own.
      splits: Whether a batch may be done in parts, one after the other.
      rests: Outermost modules of the backbone's parameters that stay as they began.
    """

    @property
    def draws(self) -> bool: ...

    @property
    def splits(self) -> bool: ...

    @property
    def rests(self) -> tuple[str, ...]: ...

    def init(
        self,
        key: jax.Array,
        memory_key: jax.Array,
        body: types.Variables,
        image: jax.Array,
    ) -> tuple[types.Tree, types.Tree]:
        """Draws the head's parameters for a backbone, and a memory."""
        ...

    def begin(
        self, memory: types.Tree, pair: types.Tree, model_state: types.Tree
    ) -> types.Tree:
        """The memory before the first step, once the start has been carried on."""
        ...

    def prepare(
        self,
        key: jax.Array,
        memory: types.Tree,
        pair: types.Tree,
        arrays: Arrays,
        progress: jax.Array,
    ) -> Prepared:
        """What the loss takes beside the network.

        `key` is the step's own if it `draws`; `progress` the share done, [0, 1).
        """
        ...

    def loss(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
        shared: types.Tree,
    ) -> tuple[jax.Array, types.Tree, Told]:
        """Loss of each row, new batch statistics, and what is told of each row."""
        ...


class SlowCopy(flax.struct.PyTreeNode):
    """A copy of a network that follows it slowly.

    Attributes:
      params: Parameters of its backbone and head.
      state: Batch statistics of its backbone.
    """

    params: types.Tree
    state: types.Tree

    def follow(self, pair: types.Tree, momentum: jax.Array | float) -> types.Tree:
        """Its parameters, moved towards those of the network."""
        return jax.tree.map(
            lambda slow, fast: momentum * slow + (1 - momentum) * fast,
            self.params,
            pair,
        )


class Stateless:
    """The part of an objective that remembers nothing."""

    def begin(
        self, memory: types.Tree, pair: types.Tree, model_state: types.Tree
    ) -> types.Tree:
        """The memory as it is, `{}`."""
        del pair, model_state
        return memory


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """A backbone with a head on its pooled features, in training.

    Attributes:
      backbone: The backbone.
      head: Flax module, pooled features to embeddings.
      batch_norm_rows: Examples with statistics of their own; 0: the whole batch.
    """

    backbone: types.Backbone
    head: nn.Module
    batch_norm_rows: int

    def __call__(
        self,
        pair: types.Tree,
        model_state: types.Tree,
        image: jax.Array,
        *,
        views: int = 1,
    ) -> tuple[jax.Array, types.Tree, jnp.dtype]:
        """Embeddings [B, D], batch statistics, and what the backbone computes in.

        `views` of an image lie together, so that a group holds as many images as ever.
        """
        features, updated = self.backbone.apply(
            types.Variables(pair["backbone"], model_state),
            image,
            train=True,
            batch_norm_rows=views * self.batch_norm_rows,
        )
        embedding = self.head.apply({"params": pair["head"]}, features.pooled)
        return jnp.asarray(embedding), updated, features.levels[-1].dtype

    def init(
        self, key: jax.Array, body: types.Variables, image: jax.Array
    ) -> types.Tree:
        """Draws the head's parameters."""
        features, _ = self.backbone.apply(body, image, train=False)
        return self.head.init(key, features.pooled)["params"]


def pictures(arrays: Arrays) -> dict[str, Any]:
    """The pictures of a batch, as they came, with their statistics."""
    first = ("query", "positive", "local")
    names = [*first, *(f"{name}_statistics" for name in first)]
    return {name: arrays[name] for name in names if name in arrays}


def both(rows: Arrays) -> jax.Array:
    """Both views of a part, normalised: float32 [2 B, H, W, 1], view beside view."""
    given = {k: x for k, x in rows.items() if k.startswith(("query", "positive"))}
    normal = views.normalise(given)
    pair = jnp.stack([normal["query"], normal["positive"]], 1)
    return pair.reshape(-1, *pair.shape[2:])


def local(rows: Arrays) -> jax.Array | None:
    """Small views of a part, float32 [B V, h, w, 1], those of an image together."""
    if "local" not in rows:
        return None
    flat = {
        name: rows[name].reshape(-1, *rows[name].shape[2:])
        for name in ("local", "local_statistics")
        if name in rows
    }
    return views.normalise(flat)["local"]


def apart(embedding: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Embeddings of `both` as those of queries and of positive views, each [B, D]."""
    pair = embedding.reshape(-1, 2, embedding.shape[-1])
    return pair[:, 0], pair[:, 1]


def order(partner: jax.Array) -> jax.Array:
    """The row of the query that shows what each positive view shows, int32 [B]."""
    return jnp.argsort(placement.replicate(partner)).astype(partner.dtype)


def everywhere(embedding: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """A copy for every device, rounded to what the encoder computes in; no gradient.

    Sent once and as integers, or XLA may gather by a sum in float32, and one device
    leave the rounding out.
    """
    words = jax.lax.bitcast_convert_type(
        jax.lax.stop_gradient(embedding).astype(dtype),
        jnp.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}"),
    )
    sent = jax.lax.bitcast_convert_type(placement.replicate(words), dtype)
    return sent.astype(embedding.dtype)


def rising(momentum: float, progress: jax.Array) -> jax.Array:
    """A momentum that rises to 1 by half a cosine as a run goes on, float32 []."""
    return 1 - (1 - momentum) * (jnp.cos(jnp.pi * progress) + 1) / 2
