"""UNet++: nested, densely connected skip paths from a backbone's levels to a mask."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax import types
from mtpret_jax.models import normalisation, vit_pyramid


class Node(nn.Module):
    """Two convolutions of a row's earlier nodes and the node below, enlarged.

    Attributes:
      channels: Width of the result.
      dtype: What layers compute in.
      batch_norm_rows: Examples that have statistics of their own; 0: the batch.
    """

    channels: int
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0

    @nn.compact
    def __call__(
        self, row: Sequence[jax.Array], below: jax.Array, train: bool
    ) -> jax.Array:
        """Maps nodes [B, h, w, C] and one below, about half, to [B, h, w, channels]."""
        size = (*row[0].shape[:3], below.shape[-1])
        raised = jax.image.resize(below, size, "bilinear")
        hidden = jnp.concatenate([*row, raised], -1)
        for number in (1, 2):
            hidden = nn.Conv(
                self.channels,
                (3, 3),
                padding=((1, 1), (1, 1)),
                use_bias=False,
                dtype=self.dtype,
                name=f"conv{number}",
            )(hidden)
            norm = normalisation.BatchNorm(
                rows=self.batch_norm_rows, dtype=self.dtype, name=f"bn{number}"
            )
            hidden = nn.relu(norm(hidden, train=train))
        return hidden


class UNetPlusPlus(nn.Module):
    """Features of all levels to logits of every pixel, once or at four depths.

    Node `x_i_j` is the j-th of row i, of stride 2^(i+1). Node 0 of the five rows are
    the backbone's stem and C2 to C5 (of a ViT's one map, a pyramid); every other node
    reads all nodes before it in its row and the one before it in the row below.

    Attributes:
      classes: Number of classes of the mask, background included.
      channels: Widths of the nodes of rows 0 to 3.
      deep_supervision: Whether nodes 1 to 4 of row 0 each have a head. Their losses
        count alike, and their probabilities are averaged: the paper's accurate mode.
        Otherwise only the last node has one.
      image_size: Side of the square result, pixels.
      dtype: What layers compute in; logits are float32.
      batch_norm_rows: Examples that have statistics of their own; 0: the batch.

    Source: Zhou et al. 2018, "UNet++", and 2020 (IEEE TMI 39). Differs: the encoder is
    the shared ResNet and not the paper's own, so that the same weights can start it;
    its finest level has stride 2, so logits are enlarged twice at the end; nodes are
    enlarged bilinearly instead of by a transposed convolution, and have BatchNorm.
    """

    classes: int
    channels: tuple[int, ...]
    deep_supervision: bool
    image_size: int
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """Of the loss of each result."""
        depths = len(self.channels) if self.deep_supervision else 1
        return (1.0 / depths,) * depths

    @property
    def prediction_weights(self) -> tuple[float, ...]:
        """Of each result's probabilities."""
        return self.loss_weights

    @nn.compact
    def __call__(
        self, features: types.Features, *, train: bool
    ) -> tuple[jax.Array, ...]:
        """Logits, each float32 [B, image_size, image_size, S], of rising depth."""
        # The newest nodes of a row come last; row 4 stays the backbone's alone.
        maps = (features.stem, *features.levels)
        if len(features.levels) == 1:
            make = vit_pyramid.ViTPyramid(5, self.dtype, name="vit_pyramid")
            maps = make(features.levels[0])
        rows = [[level] for level in maps]
        depth = len(self.channels)
        for column in range(1, depth + 1):
            for row in range(depth + 1 - column):
                node = Node(
                    self.channels[row],
                    self.dtype,
                    self.batch_norm_rows,
                    name=f"x_{row}_{column}",
                )
                rows[row].append(node(rows[row], rows[row + 1][column - 1], train))
        first = 1 if self.deep_supervision else depth
        results = []
        for column in range(first, depth + 1):
            logits = nn.Conv(self.classes, (1, 1), name=f"final_{column}")(
                rows[0][column].astype(jnp.float32)
            )
            size = (logits.shape[0], self.image_size, self.image_size, self.classes)
            results.append(jax.image.resize(logits, size, "bilinear"))
        return tuple(results)
