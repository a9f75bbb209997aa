"""Our side of the comparison of detectors, which can also say where its time goes."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import ours, pairing
from mtpret_jax import types
from mtpret_jax.models import faster_rcnn, pyramid
from mtpret_jax.ops import alignment, regions, views


class Side(ours.Side):
    """What `pairing` asks of our side."""

    def parts(self, repeats: int) -> dict[str, float]:
        """Seconds of the parts of a step; their sum is the step.

        Each part is a program of its own, fed with what the part before made, so that
        fusion across the seams is lost; what that costs, targets and losses are the
        rest of the forward pass, which a step's backward pass and update follow.

        Args:
          repeats: Of each part; the median is taken.
        """
        state, batch = self._trainer.state, self._batch
        task = self._config.tasks[ours.TASK]
        head = self._trainer.stage.learner.tasks[ours.TASK]._head
        trees = {"params": state.params["heads"][ours.TASK]}
        body = types.Variables(state.params["backbone"], state.model_state["backbone"])
        image = views.normalise(batch.arrays)["image"]

        measure = functools.partial(_measure, self._trainer.options, repeats)
        seconds = {}
        (features, _), seconds["backbone"] = measure(self._features, body, image)
        propose = functools.partial(head.apply, method="propose")
        (levels, logits, offsets), seconds["pyramid and RPN head"] = measure(
            propose, trees, features.levels
        )
        select = functools.partial(
            faster_rcnn.select_proposals,
            anchors=_anchors(levels, task),
            image_size=task.image_size,
            before_nms=task.detection.proposals_before_nms,
            count=task.detection.proposals,
        )
        (box, _), seconds["proposals and NMS"] = measure(select, logits, offsets)
        align = functools.partial(
            alignment.align,
            strides=pyramid.STRIDES,
            finest_anchor=head.finest_anchor,
            size=faster_rcnn.REGION_SIZE,
        )
        region, seconds["RoIAlign"] = measure(
            align, levels[:-1], box[:, : task.detection.regions]
        )
        classify = functools.partial(
            head.apply, method=lambda head, x: head.box_predictor(head.box_head(x))
        )
        _, seconds["box heads"] = measure(classify, trees, region)
        _, forward = measure(self._loss, state, batch)
        seconds["targets, losses, seams"] = forward - sum(seconds.values())
        _, gradient = measure(jax.grad(self._mean_loss), state.params, state, batch)
        seconds["backward"] = gradient - forward
        step = statistics.median(self.step(1) for _ in range(repeats))
        seconds["update"] = step - gradient
        return seconds

    def _features(self, body: types.Variables, image: jax.Array) -> Any:
        backbone = self._trainer.stage.learner.backbone
        return backbone.apply(body, image, train=True, output_stride=32)

    def _loss(self, state: types.TrainState, batch: types.Batch) -> jax.Array:
        body = types.Variables(state.params["backbone"], state.model_state["backbone"])
        features, _ = self._features(body, views.normalise(batch.arrays)["image"])
        head = types.Variables(state.params["heads"][ours.TASK], {})
        task = self._trainer.stage.learner.tasks[ours.TASK]
        loss, _, _ = task.loss(jax.random.key(0), head, features, batch)
        return loss

    def _mean_loss(
        self, params: types.Tree, state: types.TrainState, batch: types.Batch
    ) -> jax.Array:
        return self._loss(state.replace(params=params), batch).mean()


def _anchors(levels: Any, task: Any) -> tuple[np.ndarray, ...]:
    return regions.anchors(
        [level.shape[1:3] for level in levels],
        strides=pyramid.anchor_strides(task.image_size),
        sizes=task.detection.anchor_sizes,
        ratios=task.detection.anchor_ratios,
    )


def _measure(
    options: dict[str, str] | None,
    repeats: int,
    function: Callable[..., Any],
    *inputs: Any,
) -> tuple[Any, float]:
    """The result of a function, compiled as the step is, and its median seconds."""
    compiled = jax.jit(function, compiler_options=options)
    result = jax.block_until_ready(compiled(*inputs))
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*inputs))
        found.append(time.perf_counter() - begin)
    return result, statistics.median(found)


if __name__ == "__main__":
    pairing.serve(Side)
