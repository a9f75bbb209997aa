"""The loop keeps near the devices: what is in flight, shown, and lost by a stop."""

import functools
import json
import logging
import pathlib
import signal
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import stages, types
from mtpret_jax.experiment import recorder, workfolder
from mtpret_jax.training import loop, preemption, sharding, tracing

STEPS = 8
SEGMENTS = (types.Segment("contrastive", STEPS),)


@functools.partial(jax.jit, donate_argnums=0)
def slow_step(state: Any, batch: types.Batch) -> tuple[Any, types.Scalars]:
    """Takes some tenths of a second, and is handed over in none."""
    square = jnp.full((300, 300), 1e-3) + batch.arrays["image"][0]
    product = jax.lax.fori_loop(0, 300, lambda _, x: x @ square, square)
    loss = product.sum() * 0 + 1
    return state.replace(step=state.step + 1), {"loss": loss, "gradient_norm": loss}


def batches():
    while True:
        arrays = {
            "record": np.arange(4, dtype=np.int32),
            "image": np.zeros(1, np.float32),
        }
        yield types.Batch(arrays, "contrastive")


def blank_state() -> types.TrainState:
    empty = {"backbone": {}, "heads": {}}
    return types.TrainState(jnp.zeros((), jnp.int32), {}, empty, empty, {})


def run(hook, **changes) -> types.TrainState:
    parts = {
        "streams": {"contrastive": batches()},
        "start": 0,
        "begin": lambda state, task: state,
        "step": slow_step,
        "put": jax.device_put,
        "hook": hook,
    }
    return loop.fit(SEGMENTS, blank_state(), **parts | changes)


@pytest.fixture(autouse=True)
def compiled():
    """Compiles, and asks that a step outlasts being handed over."""
    state, scalars = slow_step(blank_state(), next(batches()))
    jax.block_until_ready(state)
    began = time.monotonic()
    _, scalars = slow_step(state, next(batches()))
    handed = time.monotonic() - began
    jax.block_until_ready(scalars)
    assert handed < 0.5 * (time.monotonic() - began)


def test_at_most_two_steps_are_in_flight():
    losses, unfinished = [], []

    def hook(state, scalars, batch, done, segment):
        losses.append(scalars["loss"])
        unfinished.append(sum(not loss.is_ready() for loss in losses))

    run(hook)

    assert len(losses) == STEPS
    assert max(unfinished) <= 2
    # One is: the devices have work while the host gets the next batch.
    assert max(unfinished) >= 1


def make_config(**options):
    config = schema.defaults()
    config.datasets.phantom = schema.dataset("phantom_xray")
    config.runs.one = schema.run(
        stage="contrastive",
        contrastive={"datasets": {"phantom": 1.0}},
        steps=STEPS,
        **options,
    )
    return schema.parse(config)


def make_recorder(tmp_path, *, profile=range(0), start=0, **options):
    config = make_config(**options)
    row = config.runs["one"]
    checkpoints: Any = _Checkpoints()
    blind: Any = _Blind()
    return recorder.Recorder(
        epath.Path(tmp_path) / "runs" / "one",
        row,
        stages.build(config, row, {}),
        sharding.make_mesh(jax.devices()[:1]),
        checkpoints,
        start=start,
        images_per_step=4.0,
        validate=lambda *_: ({}, 0.0),
        look=blind,
        profile=profile,
    )


class _Blind:
    """Stands for `monitor.Monitor` where nothing is looked at."""

    def is_due(self, done):
        return False

    def recall(self, lines):
        pass

    def facts(self):
        return {}


class _Checkpoints:
    """Stands for `checkpoint.RunCheckpoints`, and keeps what step was saved."""

    saved = 0

    def save(self, state, done, value):
        jax.block_until_ready(state)
        self.saved = done


@pytest.mark.parametrize("log_every", [1, 3, STEPS])
def test_steps_shown_are_steps_done(tmp_path, monkeypatch, log_every):
    made = make_recorder(tmp_path, log_every=log_every)
    losses, shown = [], []
    draw = made._progress.update

    def update(step, note=""):
        # At once: what is not done now was not when it was counted.
        shown.append((step, sum(loss.is_ready() for loss in losses)))
        draw(step, note)

    monkeypatch.setattr(made._progress, "update", update)

    def hook(state, scalars, *rest):
        losses.append(scalars["loss"])
        made(state, scalars, *rest)

    run(hook)
    made.close()

    assert [step for step, done in shown if step > done] == []
    # Nor does it lag behind: all but the one at work is shown.
    assert [step for step, _ in shown] == [*range(STEPS - 1), STEPS]


def test_a_signal_is_answered_within_two_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(preemption, "_request", preemption._Request())
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    preemption.listen()
    made = make_recorder(tmp_path, log_every=STEPS)
    losses, done_then = [], []

    def stream():
        for number, batch in enumerate(batches()):
            if number == 4:
                done_then.append(sum(loss.is_ready() for loss in losses))
                signal.raise_signal(signal.SIGTERM)
            yield batch

    def hook(state, scalars, *rest):
        losses.append(scalars["loss"])
        made(state, scalars, *rest)

    try:
        with preemption.held(), pytest.raises(preemption.Preempted):
            run(hook, streams={"contrastive": stream()})
    finally:
        for number, handler in zip(
            (signal.SIGTERM, signal.SIGINT), before, strict=True
        ):
            signal.signal(number, handler)
        made.close()

    assert made._checkpoints.saved == 5
    assert made._checkpoints.saved - done_then[0] <= 2


def test_what_is_logged_of_a_step_is_that_step_s(tmp_path):
    made = make_recorder(tmp_path, log_every=1)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        state = state.replace(step=state.step + 1)
        loss = state.step.astype(jnp.float32)
        return state, {"loss": loss, "gradient_norm": loss}

    run(made, step=step)
    made.close()

    lines = (tmp_path / "runs/one/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    steps = list(range(1, STEPS + 1))
    assert [line["step"] for line in found] == steps
    assert [line["train/loss"] for line in found] == steps
    names = {"step", "train/loss", "train/gradient_norm", "train/records"}
    assert all(set(line) == names for line in found)  # Nothing of the clock.


def test_the_log_tells_how_fast_it_went(tmp_path, caplog):
    made = make_recorder(tmp_path)

    def stream():
        for batch in batches():
            time.sleep(0.02)
            yield batch

    with caplog.at_level(logging.INFO):
        timed, step = made.watch({"contrastive": stream()}, slow_step)
        run(made, streams=timed, step=step)
    told = made.facts()
    made.close()

    (line,) = [r.getMessage() for r in caplog.records if "images/s" in r.getMessage()]
    assert "on the device, model FLOP utilisation unknown" in line
    assert told["model_flop_utilisation"] is None  # A CPU has no peak in the table.
    told = {name: value for name, value in told.items() if value is not None}
    assert told["input_wait_seconds"] >= STEPS * 0.02
    assert 0 < told["input_wait_share"] < 1
    assert told["images_per_second_per_device"] > 0


def test_a_trace_holds_the_steps_asked_for(tmp_path):
    made = make_recorder(tmp_path, profile=range(2, 4))
    folder = tmp_path / "runs/one/tensorboard/plugins/profile"

    run(made)
    made.close()

    (path,) = folder.glob("*/*.xplane.pb")
    assert traced(path) == [3, 4]


def test_a_run_resumed_amid_the_steps_traces_the_others(tmp_path):
    made = make_recorder(tmp_path, profile=range(2, 6), start=4)

    run(made, start=4)
    made.close()

    (path,) = tmp_path.glob("runs/one/tensorboard/plugins/profile/*/*.xplane.pb")
    assert traced(path) == [5, 6]


def test_a_stop_leaves_the_trace_of_what_was_done(tmp_path):
    made = make_recorder(tmp_path, profile=range(2, 6))

    def hook(state, scalars, batch, done, segment):
        made(state, scalars, batch, done, segment)
        if done == 3:
            raise preemption.Preempted

    with pytest.raises(preemption.Preempted):
        run(hook)
    made.close()

    (path,) = tmp_path.glob("runs/one/tensorboard/plugins/profile/*/*.xplane.pb")
    assert traced(path) == [3]


def traced(path: pathlib.Path) -> list[int]:
    """Numbers of the steps in a trace."""
    found = jax.profiler.ProfileData.from_file(str(path))
    return sorted(
        dict(event.stats)["step_num"]
        for plane in found.planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    )


def test_steps_that_no_run_has_are_refused():
    config = make_config()

    workfolder.check_profile(config, range(STEPS - 1, STEPS + 5))
    with pytest.raises(ValueError, match=f"the longest has {STEPS} steps"):
        workfolder.check_profile(config, range(STEPS, STEPS + 5))


@pytest.mark.parametrize("text", ["110:100", "5:5", "5", "a:b", "-1:3", ":3", "1:2:3"])
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match=r"--profile=.*the smaller first"):
        tracing.parse(text)
