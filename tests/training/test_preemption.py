"""A wish to stop: at once where nothing is lost, after the step under way elsewhere."""

import os
import pathlib
import signal
import subprocess
import sys

import jax.numpy as jnp
import pytest
from jax.experimental import multihost_utils

from mtpret_jax import types
from mtpret_jax.training import checkpoint, preemption

REPOSITORY = pathlib.Path(__file__).parents[2]
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def fresh(monkeypatch):
    """Nobody has asked yet; handlers are put back at the end."""
    monkeypatch.setattr(preemption, "_request", preemption._Request())
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Maybe ignored till now.
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.smoke
@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_a_run_s_steps_the_signal_ends_at_once(fresh, number):
    preemption.listen()

    with pytest.raises(preemption.Preempted, match="The same command goes on"):
        signal.raise_signal(number)

    # Where somebody swallowed that, the next look raises again.
    with pytest.raises(preemption.Preempted):
        preemption.check()


@pytest.mark.smoke
def test_within_held_the_signal_waits_to_be_looked_at(fresh):
    preemption.listen()

    with preemption.held():
        assert not preemption.is_asked()
        signal.raise_signal(signal.SIGTERM)
        preemption.check()
        assert preemption.is_asked()
    with pytest.raises(preemption.Preempted):
        preemption.check()


@pytest.mark.smoke
def test_ctrl_c_stays_ignored_where_it_was(fresh):
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    preemption.listen()

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


DEAF = """
import time
from mtpret_jax.training import preemption
preemption.listen()
with preemption.held():
    print("in a long step", flush=True)
    while not preemption.is_asked():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(600)
"""


COMPILING = """
import atexit, sys
import jax, jax.numpy as jnp
from mtpret_jax.cli import command
from mtpret_jax.training import preemption

def body():
    preemption.listen()
    atexit.register(print, "Python's own end, in which JAX crashes now and then")
    print("compiles", flush=True)
    for length in range(1, 10_000):
        jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x)))(jnp.ones((length, length)))
    return 0

sys.exit(command.call(body, verbosity=0))
"""


def test_a_signal_while_jax_compiles_ends_in_one_line_and_75():
    process = subprocess.Popen(
        [sys.executable, "-c", COMPILING],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "compiles\n"
        process.send_signal(signal.SIGTERM)
        printed, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 75
    assert told == "Stopped. The same command goes on from here.\n"
    assert printed == ""


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(second):
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "in a long step\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(second)
        assert process.wait(timeout=60) == -second
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.smoke
def test_saving_is_not_taken_for_a_step_by_jax(tmp_path, monkeypatch):
    """Orbax asks JAX too, with steps of a run; processes would agree on a past one."""
    asked = []
    monkeypatch.setattr(
        multihost_utils,
        "reached_preemption_sync_point",
        lambda step: asked.append(step) or False,
    )
    saved = checkpoint.RunCheckpoints(tmp_path)
    empty = {"backbone": {}, "heads": {}}

    saved.save(types.TrainState(jnp.int32(3), empty, empty, empty, {}), 3)
    saved.close()

    assert asked == []
