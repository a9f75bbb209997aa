"""Fixed normalisation: numbers of published encoders, from the config to exports."""

import functools
import json
from typing import Any

import flax
import jax
import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.exports import folder as hub
from mtpret_jax.exports import serialised, torch_layout
from mtpret_jax.inference import description, golden, preprocessing

COLOURS = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
FIXED = {
    "imagenet": COLOURS,
    "rad_dino": {"mean": (0.5307,) * 3, "deviation": (0.2583,) * 3},
    "torchxrayvision": {"mean": (0,), "deviation": (1,), "greys": (-1024, 1024)},
}


def fixed(**numbers: Any) -> dict[str, Any]:
    return {"normalisation": "fixed", "fixed": numbers}


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    """A run of ImageNet's numbers, as it is left."""
    place = tmp_path_factory.mktemp("run") / "run"
    return make_model(place, "backbone", input=fixed(**COLOURS))


@pytest.mark.parametrize("name", FIXED)
def test_pixels_are_those_of_the_published_numbers(name):
    row = schema.FixedConfig(**FIXED[name])
    pixels = np.random.default_rng(0).integers(256, size=(32, 24), dtype=np.uint8)
    made = preprocessing.Preparation(32, "pad", row.statistics, 0, 8)

    image, _ = made(pixels)

    assert image.shape == made.shape == (32, 32, 3 if name == "imagenet" else 1)
    black, white = row.greys
    grey = black + np.maximum(pixels, 1)[..., None] / 255 * (white - black)
    wanted = (grey - np.array(row.mean)) / np.array(row.deviation)
    np.testing.assert_allclose(
        image[:, 4:28], wanted[..., : image.shape[-1]], rtol=1e-5, atol=1e-5
    )
    assert not image[:, :4].any()  # Padding, in every channel.


def test_a_model_gives_the_same_wherever_it_is_loaded(folder, chest, tmp_path):
    model = mtpret_jax.load(folder)
    expected = model.embed(chest)

    image = preprocessing.read(chest, model.preparation).image[None]
    found = serialised.call(
        serialised.serialise(model.network, model.tree, model.preparation.shape), image
    )
    assert image.shape == (1, 64, 64, 3)
    np.testing.assert_allclose(found["embedding"][0], expected, rtol=1e-4, atol=1e-5)
    kept = golden.read(folder / "backbone", "", (64, 64, 3))
    differences = hub._fill(model, kept, tmp_path, images="", library="")
    assert max(differences.values()) < 1e-5
    again = mtpret_jax.load(tmp_path)
    np.testing.assert_allclose(again.embed(chest), expected, rtol=1e-4, atol=1e-5)
    facts = json.loads((tmp_path / torch_layout.FACTS).read_text())
    assert facts["input"]["fixed"] == {
        "mean": [0.485, 0.456, 0.406],
        "deviation": [0.229, 0.224, 0.225],
        "greys": [0.0, 1.0],
    }


@pytest.mark.parametrize("name", FIXED)
def test_processors_are_told_numbers_for_intensities(name):
    row = schema.FixedConfig(**FIXED[name])
    model: Any = type("Model", (), {})()
    model.preparation = preprocessing.Preparation(32, "pad", row.statistics, 0, 8)
    model.description = type("Description", (), {"normalisation": "fixed"})

    told = hub.preprocessor(model)

    pixels = np.arange(256.0)[:, None]
    made = pixels * told["rescale_factor"] - np.array(told["image_mean"])
    black, white = row.greys
    wanted = black + pixels / 255 * (white - black) - np.array(row.mean)
    np.testing.assert_allclose(
        made / np.array(told["image_std"]),
        np.broadcast_to(wanted / np.array(row.deviation), (256, 3)),
        rtol=1e-9,
        atol=1e-9,
    )


def test_a_processor_of_transformers_is_named_where_it_does_the_same():
    row = schema.FixedConfig(**FIXED["rad_dino"])
    model: Any = type("Model", (), {})()
    model.description = type("Description", (), {"normalisation": "fixed"})

    def told(fit: str = "crop", stored: int = 0, bits: int = 8) -> dict[str, Any]:
        model.preparation = preprocessing.Preparation(
            518, fit, row.statistics, stored, bits, resample="bicubic"
        )
        return hub.preprocessor(model)

    wanted = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 518},
        "crop_size": {"height": 518, "width": 518},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.5307] * 3,
        "image_std": [0.2583] * 3,
    }
    assert wanted.items() <= told().items()
    for other in (told("pad"), told(stored=512), told(bits=16)):
        assert other["image_processor_type"].startswith("mtpret_jax.")


def test_a_description_keeps_the_numbers_and_shares_them(folder):
    table = json.loads((folder / "backbone" / "backbone.json").read_text())
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8)
    config.input.update(fixed(**COLOURS))

    found = description.from_json(table, "backbone.json")

    assert found.fixed == schema.FixedConfig(**COLOURS)
    wanted = description.architecture(schema.parse(config))
    assert {name: table[name] for name in wanted} == wanted
    table["fixed"]["deviation"] = [0.2, 0.0, 0.2]
    with pytest.raises(ValueError, match=r"description\.fixed: .* deviations above 0"):
        description.from_json(table, "backbone.json")


SMALLEST = ("resnet18", "densenet121", "convnext_atto", "swin_tiny", "vit_tiny")


@pytest.mark.parametrize("name", SMALLEST)
def test_every_backbone_takes_channels_that_differ(name):
    body = models.build_backbone(schema.BackboneConfig(name=name, width=8))
    one, three, two = (
        jax.ShapeDtypeStruct((1, 32, 32, n), np.float32) for n in (1, 3, 2)
    )
    variables = jax.eval_shape(body.init, jax.random.key(0), one)

    def pooled(image: jax.ShapeDtypeStruct) -> Any:
        run = functools.partial(body.apply, train=False)
        return jax.eval_shape(run, variables, image)[0].pooled

    assert pooled(one) == pooled(three)
    with pytest.raises(flax.errors.ScopeParamShapeError):
        pooled(two)


def test_channels_that_are_alike_give_what_one_gives():
    body = models.build_backbone(schema.BackboneConfig(name="resnet18", width=8))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype(np.float32)
    variables = body.init(jax.random.key(0), image)

    one, alike, other = (
        body.apply(variables, image * np.float32(factors), train=False)[0].pooled
        for factors in ([1], [1, 1, 1], [1, 2, 3])
    )

    np.testing.assert_allclose(one, alike, rtol=1e-4, atol=1e-5)
    assert np.abs(other - one).max() > 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"normalisation": "fixed"}, "needs mean and deviation"),
        (fixed(mean=(0.5,)), r"got \[0.5\] and \[\]"),
        (fixed(mean=(0.5,) * 2, deviation=(0.2,) * 2), "each of the 3"),
        (fixed(mean=(0.5,), deviation=(0.0,)), "deviations above 0"),
        (fixed(mean=(float("nan"),), deviation=(1.0,)), "finite numbers"),
        (fixed(mean=(0.5,), deviation=(0.2,), greys=(1.0, 0.0)), r"greys: .* \[1.0, 0"),
        ({"fixed": {"mean": (0.5,)}}, "only normalisation 'fixed' reads it"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(given, message):
    config: Any = schema.defaults()
    config.input.update(given)

    with pytest.raises(ValueError, match=message) as refused:
        schema.parse(config)

    assert "\n" not in str(refused.value)
    encoders: Any = schema.defaults()
    encoders.encoders.mine = schema.encoder(input=given)
    with pytest.raises(ValueError, match=message) as refused:
        schema.parse(encoders)
    assert str(refused.value).startswith("config.encoders.mine.input.fixed")


def test_stage_one_by_the_statistics_of_a_set_leaves_a_backbone(make_model, tmp_path):
    by_set = {"normalisation": "dataset"}
    model = mtpret_jax.load(make_model(tmp_path / "run", "backbone", input=by_set))

    assert model.preparation.statistics == pytest.approx((0.4, 0.2), abs=1e-5)
    facts = torch_layout.write(model.tree, model.description, "", tmp_path / "out")
    told = {name: facts["input"][name] for name in ("pixel_mean", "pixel_std")}
    assert told == pytest.approx({"pixel_mean": 0.4, "pixel_std": 0.2})


def test_sets_of_a_pool_count_by_their_images():
    rng = np.random.default_rng(0)
    pixels = [rng.uniform(0.1, 0.4, 100), rng.uniform(0.3, 0.9, 300)]
    config: Any = schema.defaults()
    sets: Any = {}
    for name, values in zip("ab", pixels, strict=True):
        config.datasets[name] = schema.dataset("phantom_xray")
        statistics = {"pixel_mean": values.mean(), "pixel_std": values.std()}
        sets[name] = {"splits": {"train": len(values), "test": 7}, **statistics}
    pool = {"datasets": {"a": 1.0, "b": 1.0}}
    config.runs.run = schema.run(stage="contrastive", contrastive=pool)

    described = description.make(
        schema.parse(config),
        "run",
        sets,
        class_names={},
        decisions={},
        parent=None,
        pools=[],
        steps=0,
    )

    found, together = described.prepared_for(""), np.concatenate(pixels)
    assert found.pixel_mean == pytest.approx(together.mean())
    assert found.pixel_std == pytest.approx(together.std())
