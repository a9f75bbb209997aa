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
from mtpret_jax.models import stochastic_depth, swin_sizes, vit_families
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
SWIN = swin_sizes.Size(
    swin_goldens.WIDTH,
    goldens.SWIN["depths"],
    goldens.SWIN["heads"],
    swin_goldens.WINDOW,
)
VIT = vit_families.Size(vit_goldens.WIDTH, vit_goldens.DEPTH, vit_goldens.HEADS)
DENSENET = layout_densenet.FAMILY
# By network: backbone and family of the config, what makes it as narrow as the
# reference's, how its weights are read and written by name.
NETWORKS = {
    "vit": (
        ("vit_tiny", "deit"),
        {"size": VIT},
        layout_vit.to_ours,
        lambda tree: layout_vit.from_ours(tree, "timm"),
    ),
    "dinov2": (
        ("vit_tiny", "dinov2"),
        {"size": VIT},
        layout_vit.to_ours,
        lambda tree: layout_vit.from_ours(tree, "dinov2_hf5"),
    ),
    "swin": (
        ("swin_tiny", ""),
        {"size": SWIN},
        layout_swin.to_ours,
        lambda tree: layout_swin.from_ours(tree, "timm"),
    ),
    "densenet": (
        ("densenet121", ""),
        {"depths": goldens.DENSENET_DEPTHS, "width": densenet_goldens.WIDTH},
        DENSENET.read,
        lambda tree: DENSENET.write(tree, "torchvision", channels=3)[0],
    ),
}


def build(case, **options):
    """A stage of SGD with the narrow backbone of a case."""
    (name, family), sizes, _, _ = NETWORKS[goldens.network_of(case)]
    config = schema.defaults()
    config.backbone.update(name=name, family=family)
    config.datasets.one = schema.dataset("phantom_xray")
    config.tasks.one = schema.task(dataset="one", batch_size=2)
    weight_decay = goldens.WEIGHT_DECAY if case == "layer_decay" else 0.0
    rate = {"learning_rate": goldens.RATE, "final_learning_rate": goldens.RATE}
    config.runs.one = schema.run(
        steps=2,
        optimizer={**rate, "weight_decay": weight_decay, "clip_norm": 1e9},
        finetune={"task": TASK, **options},
    )
    parsed = schema.parse(config)
    tasks = {TASK: classification.ClassificationTask(TASK, ("a", "b", "c"), True)}
    stage = finetune.build(parsed, parsed.runs["one"], tasks)
    body = dataclasses.replace(
        stage.learner.backbone, **sizes, dtype=jnp.dtype("float64")
    )
    if family:
        side = body.family.patch * vit_goldens.GRID
        family = dataclasses.replace(body.family, image_size=side)
        body = dataclasses.replace(body, family=family)
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


def start(case, stage):
    """A state of the reference's weights before the first step."""
    _, _, read, _ = NETWORKS[goldens.network_of(case)]
    weights = goldens.weights(case, drawing.load("recipe").shapes)
    head = goldens.HEADS[goldens.network_of(case)]
    kernel, bias = weights.pop(f"{head}.weight"), weights.pop(f"{head}.bias")
    state = stage.init(jax.random.key(0), {TASK: batch(case)})
    expected = {
        "params": state.params["backbone"],
        "model_state": state.model_state["backbone"],
    }
    tree = read(weights, jax.eval_shape(lambda: expected), case).tree
    params = {
        "backbone": tree["params"],
        "heads": {TASK: {"fc": {"kernel": kernel.T, "bias": bias}}},
    }
    model_state = {"backbone": tree["model_state"], "heads": {TASK: {}}}
    state = state.replace(params=params, model_state=model_state)
    wide = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float64 if x.dtype == np.float32 else None), state
    )
    return stage.begin(wide, TASK)


def stepped(case, stage, state, steps=1):
    step = jax.jit(stage.step)
    for _ in range(steps):
        state, _ = step(state, batch(case))
    return state


def error(case, after, before):
    """Of what was added to parameters and statistics, by the reference's names."""
    _, _, _, write = NETWORKS[goldens.network_of(case)]
    trees = [
        {"params": state.params, "model_state": state.model_state}
        for state in (after, before)
    ]
    added = jax.tree.map(lambda x, y: np.asarray(x - y), *trees)
    fc = added["params"]["heads"][TASK]["fc"]
    named = write({part: tree["backbone"] for part, tree in added.items()})
    head = goldens.HEADS[goldens.network_of(case)]
    named |= {f"{head}.weight": fc["kernel"].T, f"{head}.bias": fc["bias"]}
    golden = drawing.load("recipe")
    wanted = goldens.weights(case, golden.shapes).keys()
    assert {*wanted} - {*named} <= {"embeddings.mask_token"}
    named = {name: named.get(name, np.zeros(1)) for name in wanted}
    key = {"lora": "lora_sums"}.get(case, case)
    return drawing.error(drawing.digest(named), golden.arrays[key])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", ["drop_path", "drop_path_swin"])
def test_drop_path(case, monkeypatch):
    """Timm's draws in place of ours; how ours are spaced: test_convnext."""
    stage = build(case, drop_path=goldens.DROP_PATH)
    before, branches = start(case, stage), stage.learner.backbone.branches
    kept = 1 - np.array([0, goldens.DROP_PATH])[:, None, None]
    asked = []

    def draw(key, *wanted):
        asked.append(wanted)
        return jnp.asarray(goldens.alive() / kept)

    monkeypatch.setattr(stochastic_depth, "draw", draw)

    after = stepped(case, stage, before)

    assert error(case, after, before) <= EXACT
    assert asked == [(goldens.DROP_PATH, branches, 2)]


@pytest.mark.usefixtures("float64")
def test_layer_decay():
    stage = build("layer_decay", layer_decay=goldens.LAYER_DECAY)
    before = start("layer_decay", stage)

    after = stepped("layer_decay", stage, before)

    assert error("layer_decay", after, before) <= EXACT


@pytest.mark.usefixtures("float64")
def test_averages_of_weights_and_statistics():
    stage = build("ema", ema=goldens.EMA)
    before = start("ema", stage)

    after = stepped("ema", stage, before, steps=2)

    assert error("ema", after, before) <= EXACT


@pytest.mark.usefixtures("float64")
def test_the_head_alone():
    stage = build("head", trains="head")
    before = start("head", stage)

    after = stepped("head", stage, before)

    assert error("head", after, before) <= EXACT
    assert not jax.tree.leaves(after.opt_state["backbone"])
    for part in ("params", "model_state"):
        pairs = (getattr(state, part)["backbone"] for state in (before, after))
        jax.tree.map(np.testing.assert_array_equal, *pairs)


@pytest.mark.usefixtures("float64")
def test_adapters():
    """Both matrices drawn: peft's zeros would leave the gradient of one at 0."""
    stage = build(
        "lora", trains="lora", lora_rank=goldens.RANK, lora_alpha=goldens.ALPHA
    )
    state = start("lora", stage)
    drawn = {
        "blocks_{}/attn/{}/kernel".format(*place.split(".")): pair
        for place, pair in goldens.adapters().items()
    }
    assert state.memory.params["backbone"].keys() == drawn.keys()
    shapes = jax.tree.map(jnp.shape, state.memory.params["backbone"])
    assert shapes == jax.tree.map(jnp.shape, drawn)
    params = {
        "backbone": jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), drawn),
        "heads": state.params["heads"],
    }
    before = state.replace(memory=state.memory.replace(params=params))

    after = stepped("lora", stage, before)

    trained = after.memory.params["backbone"]
    added = {
        f"{place}.{side}": trained[path][side] - array
        for path, (place, pair) in zip(drawn, goldens.adapters().items(), strict=True)
        for side, array in pair.items()
    }
    golden = drawing.load("recipe").arrays["lora"]
    assert drawing.error(drawing.digest(added), golden) <= EXACT
    assert error("lora", after, before) <= EXACT


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
