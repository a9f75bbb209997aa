"""A device computes and sends as much in a mesh of eight as in a smaller one.

Read from the compiled programs of all steps and predictions; nothing is run.
"""

import dataclasses
import functools

import jax
import pytest

from mtpret_jax.ahead import program
from mtpret_jax.training import sharding

EACH = 4  # examples on each device, a group of BatchNorm
SIZE = 32  # pixels
QUEUE = 64
DEVICES = (1, 2, 8)
# A step of every stage; boxes are in tests/tasks/test_detection_devices.py.
STEPS = [
    ("contrastive", "contrastive"),
    ("continual", "mandible"),
    ("scratch_missing_tooth", "missing_tooth"),
]
TASKS = ["missing_tooth", "mandible", "opacity"]
FLOAT = 4  # bytes


def _resize(config, *, devices, keep):
    """The config with `EACH` examples on every device, and one task of its stage 2."""
    rows = {"batch_size": EACH * devices, "batch_norm_rows": EACH, "image_size": SIZE}
    tasks = {
        name: dataclasses.replace(task, **rows) for name, task in config.tasks.items()
    }
    runs = {
        name: dataclasses.replace(
            run,
            contrastive=dataclasses.replace(run.contrastive, queue_size=QUEUE, **rows),
            continual=dataclasses.replace(run.continual, tasks=(keep,)),
        )
        for name, run in config.runs.items()
    }
    return dataclasses.replace(config, tasks=tasks, runs=runs)


def _placed(tree, where):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree
    )


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program of one mesh, and bytes of trained parameters and of statistics."""

    found: program.Program
    parameters: int
    statistics: int


def _bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.fixture
def compile_step(make_case):
    """Compiles the step, or the prediction, of a task of a run for some devices."""

    @functools.cache
    def compiled(run, task, devices, *, predicts=False):
        case = make_case(run, functools.partial(_resize, devices=devices, keep=task))
        mesh = sharding.make_mesh(jax.devices()[:devices])
        same, split = sharding.replicated(mesh), sharding.divided(mesh)
        state = jax.eval_shape(
            lambda key: case.stage.init(key, case.shapes), jax.random.key(0)
        )
        batch = _placed(case.batches[task], split)
        if predicts:
            function = sharding.compile_predict(case.stage.learner.predict, mesh)
            given = _placed((state.params, state.model_state), same)
        else:
            _, function = sharding.compile_stage(case.stage, mesh)
            given = (_placed(state, same),)
        found = program.read(function.lower(*given, batch).compile())
        return Compiled(found, _bytes(state.params), _bytes(state.model_state))

    return compiled


def _assert_flat(programs):
    """That operations differ by no more than 2 %."""
    # Of suppressing boxes, whose length the data decides: one trip is counted.
    untold = {
        sum(loop.trips is None for loop in each.found.loops)
        for each in programs.values()
    }
    assert len(untold) == 1
    operations = [each.found.operations for each in programs.values()]
    assert max(operations) <= 1.02 * min(operations), operations


@pytest.mark.slow
@pytest.mark.parametrize(("run", "task"), STEPS)
def test_a_step_costs_a_device_the_same_on_any_mesh(compile_step, run, task):
    programs = {devices: compile_step(run, task, devices) for devices in DEVICES}

    _assert_flat(programs)
    for devices, each in programs.items():
        sent = sum(
            one.bytes * one.times for one in each.found.collectives if one.devices > 1
        )
        if devices == 1:
            assert sent == 0
            continue
        width = 16 + 1  # of the embeddings of the tiny config, and whose each is
        keys = FLOAT * EACH * devices * width if run == "contrastive" else 0
        # Those of the key encoder are as many.
        statistics = each.statistics * (1 + (run == "contrastive"))
        figures = 64 * FLOAT  # losses and the like
        rest = sent - each.parameters - keys - statistics - figures
        assert rest <= 0, [one for one in each.found.collectives if one.bytes > 64]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_evaluation_costs_a_device_the_same_and_sends_nothing(compile_step, task):
    programs = {
        devices: compile_step("continual", task, devices, predicts=True)
        for devices in DEVICES
    }

    _assert_flat(programs)
    for each in programs.values():
        assert not each.found.collectives
