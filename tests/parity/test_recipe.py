"""Parity of a step of fine-tuning with timm, torch and peft, by each option.

Compared is what the step adds to each weight, in float64 (`float64` in conftest.py).
"""

import dataclasses

import drawing
import jax
import jax.numpy as jnp
import make_convnext_goldens as convnext_goldens
import make_densenet_goldens as densenet_goldens
import make_recipe_goldens as goldens
import make_swin_goldens as swin_goldens
import make_vit_goldens as vit_goldens
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import stochastic_depth, swin, swin_sizes, vit, vit_families
from mtpret_jax.stages import finetune, optimizer
from mtpret_jax.tasks import classification
from mtpret_jax.weights import (
    layout_convnext,
    layout_densenet,
    layout_swin,
    layout_vit,
    resnet,
)

EXACT = 1e-6
TASK = "one"


def network(case):
    """Our backbone, the reference's weights in it, and how they are told by name."""
    if case == "drop_path_swin":
        size = swin_sizes.Size(
            swin_goldens.WIDTH,
            swin_goldens.DEPTHS,
            swin_goldens.HEADS,
            swin_goldens.WINDOW,
        )
        body = swin.SwinBackbone(size, dtype=jnp.dtype("float64"))
        layout, name, head = layout_swin, "timm", "head.fc"
    else:
        family = dataclasses.replace(
            vit_families.FAMILIES["deit"], image_size=16 * vit_goldens.GRID
        )
        size = vit_families.Size(
            vit_goldens.WIDTH, vit_goldens.DEPTH, vit_goldens.HEADS
        )
        body = vit.ViTBackbone(family, size, dtype=jnp.dtype("float64"))
        layout, name, head = layout_vit, "timm", "head"
    shapes = jax.eval_shape(body.init, jax.random.key(0), goldens.images(case))
    weights = goldens.weights(case)
    kernel, bias = weights.pop(f"{head}.weight"), weights.pop(f"{head}.bias")
    expected = {"params": shapes.params, "model_state": {}}
    tree = layout.to_ours(weights, expected, case).tree
    params = {
        "backbone": tree["params"],
        "heads": {TASK: {"fc": {"kernel": kernel.T, "bias": bias}}},
    }

    def named(params):
        fc = params["heads"][TASK]["fc"]
        found = layout.from_ours({"params": params["backbone"]}, name)
        return {
            **found,
            f"{head}.weight": np.asarray(fc["kernel"]).T,
            f"{head}.bias": np.asarray(fc["bias"]),
        }

    return body, jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params), named


def build(body, backbone, *, weight_decay=0.0, **options):
    """A stage of one step of SGD."""
    config = schema.defaults()
    config.backbone.update(name=backbone)
    config.datasets.one = schema.dataset("phantom_xray")
    config.tasks.one = schema.task(dataset="one", batch_size=2)
    optimizer = {
        "learning_rate": goldens.RATE,
        "weight_decay": weight_decay,
        "clip_norm": 1e9,
    }
    config.runs.one = schema.run(
        steps=1, optimizer=optimizer, finetune={"task": TASK, **options}
    )
    parsed = schema.parse(config)
    tasks = {TASK: classification.ClassificationTask(TASK, ("a", "b", "c"), True)}
    stage = finetune.build(parsed, parsed.runs["one"], tasks)
    learner = dataclasses.replace(stage.learner, backbone=body)
    return dataclasses.replace(stage, learner=learner)


def batch(case):
    label = np.eye(goldens.CLASSES)[list(goldens.LABELS)]
    arrays = {
        "image": jnp.asarray(goldens.images(case), jnp.float64),
        "label": jnp.asarray(label),
        "label_known": jnp.ones(label.shape, bool),
        "example_valid": jnp.ones(len(label), bool),
    }
    return types.Batch(arrays, TASK)


def stepped(stage, params, case, steps=1):
    """The state after some steps from given parameters."""
    one = batch(case)
    state = stage.init(jax.random.key(0), {TASK: one})
    state = stage.begin(state.replace(params=params), TASK)
    step = jax.jit(stage.step)
    for _ in range(steps):
        state, _ = step(state, one)
    return state


def changes(case, named, after, before):
    """The digest of what was added to the weights."""
    difference = jax.tree.map(jnp.subtract, after, before)
    return drawing.error(
        drawing.digest(named(difference)), drawing.load("recipe").arrays[case]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("case", "backbone"), [("drop_path", "vit_tiny"), ("drop_path_swin", "swin_tiny")]
)
def test_drop_path(case, backbone, monkeypatch):
    """Timm's draws in place of ours; how ours are spaced: test_convnext."""
    body, params, named = network(case)
    blocks, _ = body.branches
    kept = 1 - np.linspace(0, goldens.DROP_PATH, blocks)[:, None, None]
    asked = []

    def draw(key, *wanted):
        asked.append(wanted)
        return jnp.asarray(goldens.alive(blocks) / kept)

    monkeypatch.setattr(stochastic_depth, "draw", draw)
    stage = build(body, backbone, drop_path=goldens.DROP_PATH)

    state = stepped(stage, params, case)

    assert changes(case, named, state.params, params) <= EXACT
    assert asked == [(goldens.DROP_PATH, body.branches, 2)]


@pytest.mark.usefixtures("float64")
def test_layer_decay():
    case = "layer_decay"
    body, params, named = network(case)
    # Our class token has one axis and does not decay.
    stage = build(
        body,
        "vit_tiny",
        weight_decay=goldens.WEIGHT_DECAY,
        layer_decay=goldens.LAYER_DECAY,
    )

    state = stepped(stage, params, case)

    assert changes(case, named, state.params, params) <= EXACT


LAYOUTS = {
    "vit": ("vit_tiny", "deit", lambda tree: layout_vit.from_ours(tree, "timm")),
    "vit_mean": (
        "vit_tiny",
        "mae_finetuned",
        lambda tree: layout_vit.from_ours(tree, "timm_pooled"),
    ),
    "convnext": (
        "convnext_atto",
        "",
        lambda tree: layout_convnext.FAMILY.write(tree, "timm", channels=3)[0],
    ),
    "swin": ("swin_tiny", "", lambda tree: layout_swin.from_ours(tree, "timm")),
    "resnet": ("resnet18", "", resnet.to_torchvision),
    "densenet": (
        "densenet121",
        "",
        lambda tree: layout_densenet.FAMILY.write(tree, "torchvision", channels=3)[0],
    ),
}
SIZES = {
    "vit": {"size": vit_families.Size(24, vit_goldens.DEPTH, 2)},
    "vit_mean": {"size": vit_families.Size(24, vit_goldens.DEPTH, 2)},
    "convnext": {"depths": convnext_goldens.DEPTHS},
    "swin": {"size": swin_sizes.Size(8, swin_goldens.DEPTHS, swin_goldens.HEADS, 3)},
    "resnet": {},
    "densenet": {"depths": densenet_goldens.DEPTHS},
}


@pytest.mark.parametrize("family", LAYOUTS)
def test_layers_are_those_of_timm(family):
    """A tree of the factors, in timm's names."""
    name, kind, to_timm = LAYOUTS[family]
    config = schema.BackboneConfig(name=name, family=kind, width=8)
    body = dataclasses.replace(models.build_backbone(config), **SIZES[family])
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    factors = optimizer.layer_factors(body.layers, goldens.LAYER_DECAY)
    filled = {
        module: jax.tree.map(
            lambda leaf, module=module: np.full(leaf.shape, factors.get(module, 1.0)),
            part,
        )
        for module, part in shapes.params.items()
    }
    statistics = jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes.model_state)

    found = to_timm({"params": filled, "model_state": statistics})

    with np.load(drawing.FOLDER / "recipe_layers.npz") as file:
        wanted = dict(line.split(" ") for line in file[family])
    heads = ("head.weight", "head.bias", "head.fc.", "fc.", "classifier.")
    named = {key for key in wanted if not key.startswith(heads)}
    assert named <= found.keys()
    for key in named:
        assert np.allclose(found[key], float(wanted[key]), rtol=1e-6), key
