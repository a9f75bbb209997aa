"""Named files of encoders as arms of a study, each with its own network and input."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.experiment import preparation, start, workfolder
from mtpret_jax.inference import loader
from mtpret_jax.study import plan
from mtpret_jax.weights import files, layout_convnext, resnet

NETWORKS = {
    "atto": dict(name="convnext_atto", width=8),
    "stem": dict(name="resnet18", width=8, in_channels=1),
}


def drawn(network: dict[str, Any]) -> Any:
    """A tree of random numbers of a network."""
    shapes = models.backbone_shapes(schema.BackboneConfig(**network))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32), shapes
    )


def write(path, tensors: dict[str, np.ndarray]) -> str:
    """A file of weights, and its path."""
    files.write(path, tensors, {})
    return str(path)


@pytest.fixture
def study(tmp_path) -> Any:
    """A ConvNeXt at another size, a ResNet of one channel, and random weights."""
    atto = layout_convnext.FAMILY.write(drawn(NETWORKS["atto"]), "timm", channels=3)[0]
    given = {
        "atto": write(tmp_path / "atto.safetensors", atto),
        "stem": write(
            tmp_path / "stem.safetensors",
            resnet.to_torchvision(drawn(NETWORKS["stem"])),
        ),
    }
    made: Any = schema.defaults()
    made.backbone.update(name="resnet18", width=8)
    made.datasets.hand = schema.dataset(
        "phantom_xray", body="hand", image_size=64, train=16, validation=8, test=8
    )
    made.tasks.fracture = schema.task(
        dataset="hand", target="finding", image_size=32, batch_size=8
    )
    for name, path in given.items():
        made.encoders[name] = schema.encoder(weights=path, backbone=NETWORKS[name])
    made.encoders.atto.image_size = 64
    made.encoders.stem.input.fit = "stretch"
    made.report.update(bootstrap=20, samples=1)
    made.study = schema.study(
        tasks=("fracture",), arms=("scratch", "atto", "stem"), finetune=dict(steps=1)
    )
    return made


def test_arms_are_fed_and_built_as_their_files_were(study, tmp_path):
    config = plan.expand(schema.parse(study))
    folders = preparation.prepare(config.datasets, tmp_path / "data")
    workdir = tmp_path / "work"
    workfolder.run(config, workdir, folders)

    found = {
        arm: loader.load(workdir / "runs" / f"{arm}.fracture.f100.s0" / "backbone")
        for arm in ("scratch", "atto", "stem")
    }
    described = {arm: model.description for arm, model in found.items()}
    names = {arm: one.network.name for arm, one in described.items()}
    assert names == {
        "scratch": "resnet18",
        "atto": "convnext_atto",
        "stem": "resnet18",
    }
    assert described["stem"].network.in_channels == 1
    assert [described[arm].fit for arm in names] == ["pad", "pad", "stretch"]
    assert [found[arm].preparation.image_size for arm in names] == [32, 64, 32]
    report = json.loads((workdir / "study.json").read_text())
    assert report["arms"]["atto"] == "convnext_atto from atto.safetensors"


def test_a_run_has_the_network_of_the_one_that_it_starts_from(study):
    first = schema.RunConfig(
        encoder="atto",
        init_from=study.encoders.atto.weights,
        stage="continual",
        continual=schema.ContinualConfig(tasks=("fracture",)),
    )
    later = schema.RunConfig(
        encoder="atto",
        init_from="first",
        finetune=schema.FinetuneConfig(task="fracture"),
    )
    made = study.to_dict() | {"study": {}}

    def parse(*rows: schema.RunConfig) -> schema.ExperimentConfig:
        runs = dict(zip(("first", "later"), map(schema.as_dict, rows), strict=True))
        return schema.parse(made | {"runs": runs})

    parse(first, later)
    with pytest.raises(ValueError, match="Give both the same"):
        parse(first, dataclasses.replace(later, encoder=""))
    with pytest.raises(ValueError, match="Unknown encoder"):
        parse(first, dataclasses.replace(later, encoder="otto"))


def test_a_file_is_told_as_each_network_reads_it(study):
    study.encoders.repeated = schema.encoder(
        weights=study.encoders.stem.weights,
        backbone=dict(NETWORKS["stem"], in_channels=3),
    )
    study.study.arms = ("scratch", "stem", "repeated")
    found = start.check(plan.expand(schema.parse(study)))
    told = {key.partition(":")[0]: weights.stem for key, weights in found.items()}
    assert told["stem"] != told["repeated"]
    assert len({weights.sha256 for weights in found.values()}) == 1


def test_a_file_of_another_network_is_refused_before_anything_runs(study):
    study.encoders.stem.weights = study.encoders.atto.weights
    with pytest.raises(ValueError, match=r"^config\.runs\.stem\.fracture\.f100\.s0"):
        start.check(plan.expand(schema.parse(study)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoders": {"atto": {}}}, "arm 'atto' needs a file of weights"),
        ({"encoders": {"vit.base": {}}}, "'vit.base' has ., but names arms"),
        ({"encoders": {"mtpret": {}}}, "an arm of every study has this name"),
        (
            {"encoders": {"a": {"input": {"workers": 3}}}},
            "config.encoders.a.input.workers: got 3, but all runs share",
        ),
        (
            {"encoders": {"a": {"backbone": {"compute_dtype": "float32"}}}},
            "all runs share that of config.backbone",
        ),
        ({"study": {"imagenet": "a.pth"}}, "rows of config.encoders"),
    ],
)
def test_what_would_be_set_in_vain_is_refused(study, change, message):
    made = study.to_dict()
    for table, rows in change.items():
        made[table] = {**made[table], **rows}
    with pytest.raises(ValueError) as refused:
        schema.parse(made)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
