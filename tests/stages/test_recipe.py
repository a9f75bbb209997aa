"""Options of fine-tuning: going on after a stop, what is handed over, and refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import stochastic_depth, vit_families
from mtpret_jax.stages import finetune
from mtpret_jax.tasks import classification
from mtpret_jax.training import checkpoint, sharding

TASK, BATCH = "one", 6
VIT = {"name": "vit_tiny", "family": "deit", "width": 8, "in_channels": 1}
DENSENET = {"name": "densenet121", "width": 4, "in_channels": 1}
NARROW = {
    "vit_tiny": {"size": vit_families.Size(24, 2, 2)},
    "densenet121": {"depths": (1, 1)},
}
ALL = {"drop_path": 0.5, "layer_decay": 0.7, "ema": 0.9}
CASES = {
    "all": (VIT, ALL),
    "head": (DENSENET, {"trains": "head"}),
    "head_averaged": (DENSENET, {"trains": "head", "ema": 0.9}),
    "lora": (VIT, {"trains": "lora", "lora_rank": 2}),
    "lora_averaged": (VIT, {"trains": "lora", "drop_path": 0.5, "ema": 0.9}),
}


def parse(backbone, options, kind="classification"):
    config = schema.defaults()
    config.backbone.update(backbone)
    config.datasets.one = schema.dataset("phantom_xray")
    config.tasks.one = schema.task(
        dataset="one", kind=kind, batch_size=BATCH, microbatches=3
    )
    config.runs.one = schema.run(
        steps=4,
        optimizer={"name": "adamw", "learning_rate": 0.01},
        finetune={"task": TASK, **options},
    )
    return schema.parse(config)


def build(backbone, options):
    config = parse(backbone, options)
    tasks = {TASK: classification.ClassificationTask(TASK, ("a", "b"), True)}
    stage = finetune.build(config, config.runs["one"], tasks)
    body = dataclasses.replace(stage.learner.backbone, **NARROW[backbone["name"]])
    learner = dataclasses.replace(stage.learner, backbone=body)
    return dataclasses.replace(stage, learner=learner)


def batch(step):
    rng = np.random.default_rng(step)
    label = np.eye(2, dtype=np.float32)[rng.integers(0, 2, BATCH)]
    arrays = {
        "image": rng.normal(size=(BATCH, 32, 32, 1)).astype(np.float32),
        "label": label,
        "label_known": np.ones(label.shape, bool),
        "example_valid": np.ones(BATCH, bool),
    }
    return types.Batch(arrays, TASK)


def shapes(stage):
    return jax.eval_shape(
        lambda key: stage.init(key, {TASK: batch(0)}), jax.random.key(0)
    )


class Steps:
    """The compiled steps of a stage, and a drawn state, as if a run were carried on."""

    def __init__(self, stage):
        self.mesh = sharding.make_mesh(jax.devices()[:1])
        begin, self._step = sharding.compile_stage(stage, self.mesh)
        rng = np.random.default_rng(0)

        def draw(leaf):
            is_count = leaf.dtype == jnp.int32
            drawn = (
                np.zeros(leaf.shape) if is_count else rng.uniform(0, 0.1, leaf.shape)
            )
            return jnp.asarray(drawn, leaf.dtype)

        self.begun = begin(jax.tree.map(draw, shapes(stage)), TASK)

    def do(self, state, steps):
        state = jax.tree.map(jnp.copy, state)  # A step consumes the one it is given.
        for step in steps:
            state, _ = self._step(state, sharding.put(batch(step), self.mesh))
        return jax.device_get(state)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A stage, its steps, and the state that it begins with."""
    stage = build(*CASES[request.param])
    steps = Steps(stage)
    return stage, steps, steps.begun


def test_a_stop_changes_nothing(case, tmp_path):
    stage, steps, begun = case
    whole = steps.do(begun, range(4))
    saved = checkpoint.RunCheckpoints(tmp_path)
    saved.save(steps.do(begun, range(2)), 2)
    saved.wait()
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding.replicated(steps.mesh)
        ),
        shapes(stage),
    )

    resumed = steps.do(saved.restore(2, template), range(2, 4))

    saved.close()
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert jax.tree.structure(whole) == jax.tree.structure(resumed)


def test_the_weights_handed_over_are_those_of_the_parameters(case):
    """Of training before averages; kernels and products, where there are adapters."""
    stage, steps, begun = case
    after = steps.do(begun, range(3))
    before = jax.device_get(begun)

    handed = stage.hand_over(after)

    assert handed["backbone"]["params"] is after.params["backbone"]
    moved = jax.tree.map(
        lambda x, y: not np.array_equal(x, y),
        after.params["backbone"],
        before.params["backbone"],
    )
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, is_moved in jax.tree_util.tree_leaves_with_path(moved)
        if is_moved
    }
    if stage.learner.rests:
        assert names == set()
        jax.tree.map(
            np.testing.assert_array_equal,
            after.model_state["backbone"],
            before.model_state["backbone"],
        )
    elif stage.adapters:
        assert names == set(after.memory.kernels)
        assert len(names) == 4
    else:
        assert len(names) == len(jax.tree.leaves(moved))
    head = after.params["heads"][TASK]["fc"]["kernel"]
    assert not np.array_equal(head, before.params["heads"][TASK]["fc"]["kernel"])
    if stage.ema:
        trained = after.memory.params["heads"][TASK]["fc"]["kernel"]
        assert not np.array_equal(head, trained)


def test_new_adapters_change_nothing():
    stage = build(*CASES["lora"])
    body = Steps(stage).begun.params["backbone"]
    kernels = stage.adapters.kernels(body)

    drawn = stage.adapters.init(jax.random.key(0), kernels)
    whole = stage.adapters.add(body, kernels, drawn)

    jax.tree.map(np.testing.assert_array_equal, whole, body)
    assert all(pair["down"].any() for pair in drawn.values())


def test_eight_devices_leave_the_same_branches_out():
    divided = jax.sharding.NamedSharding(
        sharding.make_mesh(), jax.sharding.PartitionSpec(None, None, "data")
    )

    def draw(key):
        return stochastic_depth.draw(key, 0.5, (2, 2), 16)

    alone = jax.jit(draw)(jax.random.key(0))
    shared = jax.jit(draw, out_shardings=divided)(jax.random.key(0))

    np.testing.assert_array_equal(alone, shared)
    assert (alone == 0).any()


def test_what_the_backbone_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"drop_path: 'densenet121' has no branches"):
        build(DENSENET, {"drop_path": 0.1})
    with pytest.raises(ValueError, match=r"adapts attention, and 'densenet121' has"):
        build(DENSENET, {"trains": "lora"})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trains": "head", "drop_path": 0.1}, "drop_path: means nothing.*'head'"),
        ({"trains": "head", "layer_decay": 0.7}, "layer_decay: means nothing"),
        ({"trains": "lora", "layer_decay": 0.7}, "layer_decay: means nothing.*'lora'"),
        ({"lora_rank": 4}, "lora_rank: means nothing where trains is 'all'"),
        ({"trains": "head", "lora_alpha": 4.0}, "lora_alpha: means nothing"),
        ({"ema": 1.0}, "ema: expected 0 to 0.99999, got 1.0"),
        ({"drop_path": 1.0}, "drop_path: expected 0 to 0.99, got 1.0"),
        ({"layer_decay": 0.0}, "layer_decay: expected 0.01 to 1, got 0.0"),
        ({"trains": "body"}, "trains"),
    ],
)
def test_what_means_nothing_is_refused_in_the_config(options, told):
    with pytest.raises(ValueError, match=told):
        parse(VIT, options)
