"""What the heads of detection share: their sizes, and the anchors on their levels."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import pyramid

Array = jax.Array
Levels = tuple[Array, ...]
Truth = tuple[Array, Array, Array]


@dataclasses.dataclass(frozen=True)
class Detector(abc.ABC):
    """A head of detection, without its parameters; it treats each image alone.

    Attributes:
      classes: Real classes.
      image_size: Side of the square input, pixels.
      config: Sizes of the head.
      dtype: What layers compute in; boxes and losses are float32.
    """

    classes: int
    image_size: int
    config: schema.DetectionConfig
    dtype: jax.typing.DTypeLike

    @property
    @abc.abstractmethod
    def levels(self) -> tuple[int, int]:
        """Finest and coarsest level that has anchors: (2, 6) for P2 to P6."""

    @abc.abstractmethod
    def module(self, features: Levels) -> nn.Module:
        """The layers, for a backbone's levels: C2 to C5, or the one map of a ViT."""

    @abc.abstractmethod
    def losses(
        self,
        params: types.Tree,
        keys: tuple[Array, Array],
        features: Levels,
        truth: Truth,
    ) -> dict[str, Array]:
        """The losses of each of some images.

        Args:
          params: The head's parameters.
          keys: For what is drawn by chance, each [B].
          features: C2 to C5, or the one map of a ViT.
          truth: Boxes in pixels, float32 [B, M, 4]; whether each is one, bool [B, M];
            classes, int32 [B, M].

        Returns:
          Each by name, float32 [B].
        """

    @abc.abstractmethod
    def detect(self, params: types.Tree, features: Levels) -> dict[str, Array]:
        """Detections of each of some images, as `candidates.detect` gives them."""

    @property
    def anchors_of_position(self) -> int:
        """Number of anchors at one position of a level."""
        finest, coarsest = self.levels
        sizes = len(self.config.anchor_sizes) // (coarsest - finest + 1)
        return sizes * len(self.config.anchor_ratios)

    def anchors(self, levels: Levels, features: Levels) -> tuple[np.ndarray, ...]:
        """Anchors, float32 [N, 4], pixels, of each of the pyramid's levels.

        Args:
          levels: The pyramid, [B, h, w, C]: its sizes alone count.
          features: The backbone's.
        """
        strides = pyramid.strides_of(features, self.image_size)
        return pyramid.anchors(
            levels,
            image_size=self.image_size,
            strides=strides[self.levels[0] - pyramid.FINEST :],
            sizes=self.config.anchor_sizes,
            ratios=self.config.anchor_ratios,
        )


def apply(module: nn.Module, method: str, params: types.Tree, *inputs: Any) -> Any:
    """Calls a method of a head's layers."""
    return module.apply({"params": params}, *inputs, method=method)
