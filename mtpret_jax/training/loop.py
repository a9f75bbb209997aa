"""The only loop over training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from mtpret_jax import types

# Called after a step was handed to the devices, with the new state, its scalars, the
# host batch, the number of steps so far, and the index of the segment. All steps but
# this one have been done.
Hook = Callable[[types.TrainState, types.Scalars, types.Batch, int, int], None]


def batches_before(segments: Sequence[types.Segment], step: int) -> dict[str, int]:
    """How many batches of each task the first `step` steps have consumed."""
    consumed = {segment.task: 0 for segment in segments}
    for segment in segments:
        used = min(segment.steps, max(step, 0))
        consumed[segment.task] += used
        step -= used
    return consumed


def fit(
    segments: Sequence[types.Segment],
    state: types.TrainState,
    streams: Mapping[str, Iterator[types.Batch]],
    *,
    start: int,
    begin: Callable[[types.TrainState, str], types.TrainState],
    step: Callable[
        [types.TrainState, types.Batch], tuple[types.TrainState, types.Scalars]
    ],
    put: Callable[[types.Batch], types.Batch],
    hook: Hook,
) -> types.TrainState:
    """Takes `state` through every segment that it has not yet finished.

    At most two steps are in flight: one that the devices work at, and one that waits
    for them, so that they never wait for the host, nor it runs ahead of them.

    Args:
      segments: All of the run.
      state: At step `start`; donated.
      streams: For each task, batches from where step `start` stands.
      start: Steps already done.
      begin: Compiled; called before the first step of a segment only.
      step: Compiled.
      put: Host batch to global batch.
      hook: See `Hook`; logging, evaluation and saving happen there, in that order.

    Returns:
      The state after the last step.
    """
    done = segment_start = 0
    before: types.Scalars = {}  # of the step before
    for index, segment in enumerate(segments):
        offset = max(start - segment_start, 0)
        segment_start += segment.steps
        done = max(start, segment_start - segment.steps)
        if offset >= segment.steps:
            continue
        if offset == 0:
            state = begin(state, segment.task)
        for _ in range(segment.steps - offset):
            batch = next(streams[segment.task])
            with jax.profiler.StepTraceAnnotation("train", step_num=done + 1):
                state, scalars = step(state, put(batch))
            jax.block_until_ready(before)
            before = scalars
            done += 1
            hook(state, scalars, batch, done, index)
    return state
