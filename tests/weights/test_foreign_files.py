"""Fifty files that hold no backbone of ours, or a damaged one: one line says so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main, models
from mtpret_jax.weights import bodies, files, resnet

Tensors = dict[str, np.ndarray]


@functools.cache
def _drawn(name: str) -> Mapping[str, np.ndarray]:
    network = schema.BackboneConfig(name=name)
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32),
        models.backbone_shapes(network),
    )
    if name == "resnet18":
        return resnet.to_torchvision(tree)
    layout = "torchvision" if name == "densenet121" else "timm"
    return bodies.write(tree, network, layout)[0]


def whole(name: str) -> Tensors:
    """The tensors of a published size of ours, small numbers."""
    return dict(_drawn(name))


def named(*names: str, shape: tuple[int, ...] = (4, 4)) -> Callable[[], Tensors]:
    """Tensors of ones by names of other networks."""
    return lambda: {name: np.ones(shape, np.float32) for name in names}


def changed(name: str, change: Callable[[Tensors], object]) -> Callable[[], Tensors]:
    """The tensors of a network of ours after a change in place."""

    def make() -> Tensors:
        tensors = whole(name)
        change(tensors)
        return tensors

    return make


def lacking(part: str) -> Callable[[Tensors], None]:
    """Takes the first tensor away whose name has a part in it."""

    def change(tensors: Tensors) -> None:
        del tensors[next(key for key in tensors if part in key)]

    return change


def filled(part: str, value: float) -> Callable[[Tensors], None]:
    """Puts a number into the first tensor whose name has a part in it."""

    def change(tensors: Tensors) -> None:
        name = next(key for key in tensors if part in key)
        tensors[name] = tensors[name].copy()
        tensors[name].flat[0] = value

    return change


def cut(part: str) -> Callable[[Tensors], None]:
    """Takes the last row from the first tensor whose name has a part in it."""

    def change(tensors: Tensors) -> None:
        name = next(key for key in tensors if part in key)
        tensors[name] = tensors[name][:-1]

    return change


def renamed(old: str, new: str) -> Callable[[Tensors], None]:
    """Renames every tensor whose name has a part in it."""

    def change(tensors: Tensors) -> None:
        for name in [key for key in tensors if old in key]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


FOREIGN: dict[str, Callable[[], Tensors]] = {
    "one number": named("weight", shape=()),
    "mobilenet": named("features.0.0.weight", "features.1.conv.0.0.weight"),
    "efficientnet": named("_conv_stem.weight", "_blocks.0._expand_conv.weight"),
    "timm efficientnet": named("conv_stem.weight", "blocks.0.0.conv_dw.weight"),
    "vgg": named("features.0.weight", "features.0.bias", "classifier.0.weight"),
    "alexnet": named("features.0.weight", "features.3.weight", "classifier.1.bias"),
    "inception": named("Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"),
    "squeezenet": named("features.3.squeeze.weight", "features.3.expand1x1.weight"),
    "regnet": named("stem.0.weight", "trunk_output.block1.block1-0.proj.0.weight"),
    "bert": named("encoder.layer.0.attention.self.query.weight", "pooler.dense.bias"),
    "gpt": named("transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"),
    "llama": named("model.layers.0.self_attn.q_proj.weight", "lm_head.weight"),
    "clip's text": named("text_model.encoder.layers.0.mlp.fc1.weight"),
    "clip's image": named("vision_model.encoder.layers.0.self_attn.q_proj.weight"),
    "open clip": named("visual.transformer.resblocks.0.attn.in_proj_weight"),
    "beit": named("beit.encoder.layer.0.attention.attention.query.weight"),
    "unet": named("inc.double_conv.0.weight", "down1.maxpool_conv.1.weight"),
    "yolo": named("model.0.conv.weight", "model.24.m.0.weight"),
    "detr": named("transformer.encoder.layers.0.linear1.weight", "query_embed.weight"),
    "sam": named("image_encoder.blocks.0.attn.rel_pos_h", "mask_decoder.iou_token"),
    "diffusion": named("down_blocks.0.resnets.0.conv1.weight", "time_embedding.weight"),
    "optimiser": named("state.0.exp_avg", "state.0.exp_avg_sq"),
    "lora": named("base_model.model.q_proj.lora_A.weight"),
    "a stem": named("conv1.weight", shape=(64, 3, 7, 7)),
    "patches": named("patch_embed.proj.weight", shape=(192, 3, 16, 16)),
    "a norm": named("blocks.0.norm1.weight", shape=(192,)),
    "a classifier": named("fc.weight", "fc.bias"),
    "keras": named("conv1_conv/kernel:0", "conv1_bn/gamma:0"),
    "flax": named("params/conv_init/kernel", "batch_stats/bn_init/mean"),
    "resnet less a norm": changed("resnet18", lacking("layer1.0.bn1.weight")),
    "resnet less a block": changed("resnet18", renamed("layer3.1.", "layer9.1.")),
    "resnet not finite": changed("resnet18", filled("layer2.0.conv1", np.nan)),
    "resnet cut": changed("resnet18", cut("layer4.1.conv2.weight")),
    "resnet of 34": changed(
        "resnet18",
        lambda t: t.update({"layer1.2.conv1.weight": np.ones((64, 64, 3, 3))}),
    ),
    "squeezed resnet": changed(
        "resnet18", lambda t: t.update({"layer1.0.se.fc1.weight": np.ones((4, 64))})
    ),
    "densenet less a layer": changed("densenet121", lacking("denselayer7.conv2")),
    "densenet not finite": changed("densenet121", filled("transition1", np.inf)),
    "densenet cut": changed("densenet121", cut("denselayer3.conv1")),
    "convnext less a scale": changed("convnext_atto", lacking("gamma")),
    "convnext not finite": changed("convnext_atto", filled("mlp.fc1", -np.inf)),
    "convnext cut": changed("convnext_atto", cut("mlp.fc2")),
    "convnext with a response norm": changed(
        "convnext_atto",
        lambda t: t.update({"stages.0.blocks.0.mlp.grn.weight": np.ones(160)}),
    ),
    "swin less a bias table": changed(
        "swin_tiny", lacking("relative_position_bias_table")
    ),
    "swin of version 2": changed(
        "swin_tiny", renamed("relative_position_bias_table", "logit_scale")
    ),
    "swin cut": changed("swin_tiny", cut("attn.qkv.weight")),
    "vit less a norm": changed("vit_tiny", lacking("blocks.3.norm1")),
    "vit less its class token": changed("vit_tiny", lacking("cls_token")),
    "vit less a block": changed("vit_tiny", renamed("blocks.4.", "blocks.40.")),
    "vit not finite": changed("vit_tiny", filled("attn.proj", np.nan)),
    "vit cut": changed("vit_tiny", cut("blocks.1.mlp.fc1.weight")),
    "vit of no square": changed("vit_tiny", cut("pos_embed")),
    "vit of integers": changed(
        "vit_tiny",
        lambda t: t.update({"norm.weight": np.ones(192, np.int64)}),
    ),
    "two networks": lambda: (
        whole("resnet18")
        | {f"other.{key}": value for key, value in whole("resnet18").items()}
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_one_line_says_that_it_is_no_backbone(name, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    files.write(path, FOREIGN[name](), {})

    with pytest.raises(SystemExit) as stop:
        main.run(["weights", "identify", str(path)])

    told = capsys.readouterr()
    assert stop.value.code == 1, told.out
    assert str(path) in told.err
    assert len(told.err.splitlines()) == 1
    assert len(told.err) < 700
    assert not told.out


def test_there_are_fifty():
    assert len(FOREIGN) >= 50
