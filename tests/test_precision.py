"""The first device of a work folder decides in which dtype; the folder keeps it."""

import importlib.util
import json
import logging
import pathlib
import shutil

import jax
import jax.numpy as jnp
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.cli import config_check, config_slice
from mtpret_jax.experiment import estimate, precision, preparation, workfolder, workshop
from mtpret_jax.inference import description, networks
from mtpret_jax.training import checkpoint, sharding

REPOSITORY = pathlib.Path(__file__).parents[1]


def small(**backbone) -> schema.ExperimentConfig:
    """One step of stage 1 and one of a fine-tuning, of a tiny network."""
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny_of_precision", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("demo")
    config.backbone.update(**backbone)
    kept = config.runs.scratch_missing_tooth.to_dict() | {"steps": 1}
    kept["finetune"] = kept["finetune"] | {"batch_norm_batches": 0}
    with config.unlocked():
        for name in list(config.runs):
            del config.runs[name]
        config.runs.one = schema.run(**kept)
    config.report.update(bootstrap=5, samples=1)
    return schema.parse(config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    config = small()
    return preparation.prepare(config.datasets, tmp_path_factory.mktemp("data"))


@pytest.fixture
def on(monkeypatch):
    """Lets the devices seem to be of another platform."""

    def pretend(platform: str) -> None:
        monkeypatch.setattr(precision, "platform", lambda mesh: platform)

    return pretend


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("platform", "dtype"),
    [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")],
)
def test_accelerators_compute_in_bfloat16(platform, dtype):
    settled = precision.settle(small(), platform)

    assert settled.backbone.compute_dtype == dtype
    assert settled.backbone.dtype == dtype
    for given in ("float32", "bfloat16"):
        config = small(compute_dtype=given)
        assert precision.settle(config, platform) is config


def test_the_platform_is_that_of_the_mesh():
    class Device:
        platform = "tpu"

    class Mesh:
        class devices:
            flat = (Device(),)

    assert precision.platform(Mesh) == "tpu"
    assert precision.platform(sharding.make_mesh()) == "cpu"


def _products(config: schema.ExperimentConfig, shop: workshop.Workshop) -> set[str]:
    """The dtypes of the products and convolutions of the run's step."""
    row = config.runs["one"]
    stage = stages.build(shop.config, row, shop.tasks)
    shapes = stages.shape_batches(shop.config, row)
    state = jax.eval_shape(stage.init, jax.random.key(0), shapes)
    batch = estimate.blank(shop.config, row, "missing_tooth", 2)
    text = str(jax.make_jaxpr(stage.step)(state, batch))
    lines = [line for line in text.splitlines() if "conv_general_dilated[" in line]
    return {"bfloat16" if ":bf16[" in line else "float32" for line in lines}


@pytest.mark.slow
def test_a_folder_keeps_what_it_was_begun_in(folders, tmp_path, on, caplog):
    config, work = small(), tmp_path / "work"
    on("tpu")
    workfolder.run(config, work, folders)
    backbone = work / "runs/one/backbone"
    before = json.loads((backbone / checkpoint.METADATA).read_text())
    shutil.rmtree(work / "runs")
    on("cpu")

    with caplog.at_level(logging.INFO):
        workfolder.run(config, work, folders)

    after = json.loads((backbone / checkpoint.METADATA).read_text())
    versions = json.loads((work / "versions.json").read_text())
    assert versions["compute_dtype"] == "bfloat16"
    for described in (before, after):
        assert described["network"]["compute_dtype"] == "bfloat16"
        network = networks.build(
            description.from_json(described, "backbone"), "missing_tooth"
        )
        assert network.backbone.dtype == jnp.bfloat16
    said = [r.getMessage() for r in caplog.records if "Computes in" in r.getMessage()]
    assert len(said) == 1
    assert "bfloat16, as this folder was begun" in said[0]
    # The config itself is as it was given, so that the same command goes on.
    stored = json.loads((work / "config.json").read_text())
    assert stored["backbone"]["compute_dtype"] == "auto"
    shop = workshop.open_workshop(config, work, folders)
    assert _products(config, shop) == {"bfloat16"}
    other = workshop.open_workshop(config, tmp_path / "other", folders)
    assert _products(config, other) == {"float32"}


def test_an_estimate_is_of_what_the_devices_would_compute_in(on, monkeypatch):
    seen = []

    def measure(config, *_):
        seen.append(config.backbone.compute_dtype)
        return estimate.Cost(("one",), "finetune", (), 1, 1, 1.0, 1.0, 1)

    monkeypatch.setattr(estimate, "_measure", measure)
    for platform in ("gpu", "cpu"):
        on(platform)
        first = next(config_check.check(small(), None))
        assert first.endswith(
            f"In {precision.settle(small(), platform).backbone.dtype}, on '{platform}'."
        )
        list(estimate.estimate(small(), {}))

    assert seen == ["bfloat16", "float32"]


def test_a_slice_computes_in_what_its_chips_would(monkeypatch):
    class Chip:
        platform = "tpu"

    seen = []

    def steps(config, names):
        seen.append(config.backbone.compute_dtype)
        return []

    monkeypatch.setattr(config_slice.topologies, "devices", lambda name: [Chip] * 4)
    monkeypatch.setattr(estimate, "steps", steps)

    first, *_ = config_check.check(small(), None, "tpu:v5e:2x2")

    assert seen == ["bfloat16"]
    assert "4 chips of 16 GiB, in bfloat16" in first
