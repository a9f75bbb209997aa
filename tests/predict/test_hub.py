"""Exported folders: read again with the same features; cards; nothing half done."""

import json
import os
import pathlib
import re
import shutil
import stat

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.exports import card, serialised, torch_layout
from mtpret_jax.exports import folder as hub
from mtpret_jax.inference import loader

KINDS = ("classification", "segmentation", "detection", "backbone")


@pytest.fixture(scope="module")
def work_folder(model_folder, tmp_path_factory):
    """A work folder around the model of a kind, as the training leaves it."""

    def get(kind):
        work = tmp_path_factory.mktemp(f"work_{kind}")
        run = model_folder(kind)
        (work / "runs").mkdir()
        (work / "runs" / "run").symlink_to(run)
        described = json.loads((run / "backbone" / "backbone.json").read_text())
        config = schema.defaults()
        config.backbone.update(name="resnet18", width=8)
        config.datasets.chest = schema.dataset("phantom_xray")
        row = {"stage": "contrastive", "contrastive": {"datasets": {"chest": 1.0}}}
        if kind != "backbone":
            config.tasks.task = described["tasks"]["task"]
            row = {"stage": "finetune", "finetune": {"task": "task"}}
        config.runs.run = schema.run(**row)
        plain = schema.as_dict(schema.parse(config))
        made = {
            "builder": "phantom_xray",
            "fingerprint": "f" * 64,
            "splits": {"train": 24},
            "splits_in_use": {"name": "official", "sha256": "e" * 64},
        }
        value = {"value": 0.75, "low": 0.5, "high": 0.875}
        value |= {"by_seed": [0.75], "seeds": [0]}
        cell = {"run": "run", "arm": "scratch", "task": "task", "fraction": 1.0}
        report = {
            "split": "test",
            "interval": {"resamples": 50},
            "tasks": {"task": {"images": 12, "groups": 8}},
            "cells": [cell | {"seed": 0}],
            "values": {"task": {"1": {"scratch": {"auroc": value}}}},
        }
        for name, value in (
            ("config.json", plain),
            ("datasets.json", {"chest": made}),
            ("report.json", report),
            ("versions.json", {"jax": "0"}),
        ):
            (work / name).write_text(json.dumps(value))
        return work

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_gives_the_same_answers(
    kind, work_folder, load, chest, tmp_path
):
    out = tmp_path / "out"

    differences = hub.write(work_folder(kind), "run", out)

    assert set(differences) == {torch_layout.TENSORS, serialised.FILE}
    assert max(differences.values()) < 1e-5
    again = loader.load(out)
    assert again.kind == kind
    np.testing.assert_allclose(
        again.embed(chest), load(kind).embed(chest), rtol=0, atol=1e-5
    )
    if kind != "backbone":
        mine, theirs = again.predict(chest), load(kind).predict(chest)
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"mask", "boxes"}:
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4)
    two = np.zeros((2, 64, 64, 1), np.float32)
    called = serialised.call((out / serialised.FILE).read_bytes(), two)
    assert called["embedding"].shape == (2, 64)


def test_the_card_says_where_it_comes_from(work_folder, tmp_path):
    out = tmp_path / "out"
    hub.write(work_folder("classification"), "run", out, images="dataset,image_id\n")

    card = (out / hub.card.FILE).read_text()

    assert card.startswith("---\nlibrary_name: mtpret_jax\n")
    assert "| auroc | 0.750 | 0.750 | 0.500 to 0.875 |" in card
    assert "12 images of 8 groups" in card
    assert "| chest | phantom_xray | run: task | 24 | official `eeeeeeeeeeee` |" in card
    assert "not a medical device" in card
    assert "`tasks.task.image_size = 64`" in card
    for name in (torch_layout.TENSORS, serialised.FILE, "golden.npz", "training.csv"):
        assert re.search(rf"\| {re.escape(name)} \| `[0-9a-f]{{64}}` \|", card), name
    assert "None" not in card
    facts = json.loads((out / hub.PREPROCESSOR).read_text())
    assert facts["size"] == {"height": 64, "width": 64}
    assert facts["stored_longest_side"] == 96


def test_the_card_of_a_study_s_run_quotes_it(work_folder, tmp_path):
    work = work_folder("classification")
    study = {
        "split": "test",
        "interval": {"resamples": 5000},
        "tasks": {"task": {"images": 195, "groups": 122}},
        "cells": [
            {"run": "other", "arm": "mtpret", "task": "task", "fraction": 1, "seed": 2},
            {"run": "run", "arm": "mtpret", "task": "task", "fraction": 0.1, "seed": 2},
        ],
        "values": {
            "task": {
                "0.1": {
                    "mtpret": {
                        "auroc": {
                            "value": 0.85,
                            "low": 0.8,
                            "high": 0.9,
                            "by_seed": [0.86, 0.84],
                            "seeds": [0, 2],
                        }
                    }
                }
            }
        },
    }
    copy = shutil.copytree(work, tmp_path / "work")
    (copy / "study.json").write_text(json.dumps(study))

    hub.write(copy, "run", tmp_path / "out")

    told = " ".join((tmp_path / "out" / hub.card.FILE).read_text().split())
    assert "| auroc | 0.840 | 0.850 | 0.800 to 0.900 |" in told
    assert "Arm `mtpret`, 10 % of the labels" in told
    assert "195 images of 122 groups" in told


def test_the_card_says_that_a_report_of_an_earlier_version_is_not_read(
    work_folder, tmp_path
):
    copy = shutil.copytree(work_folder("classification"), tmp_path / "work")
    arm = {"run": "run", "values": {"auroc": {"value": 0.75}}}
    old = {"split": "test", "tasks": {"task": {"arms": {"scratch": arm}}}}
    (copy / "report.json").write_text(json.dumps(old))

    hub.write(copy, "run", tmp_path / "out")

    told = (tmp_path / "out" / hub.card.FILE).read_text()
    assert "Not measured: report.json has no such run, or is of an earlier" in told


def test_the_card_of_a_narrow_network_names_the_script_that_builds_it(
    work_folder, tmp_path
):
    out = tmp_path / "out"
    hub.write(work_folder("backbone"), "run", out)

    card = (out / hub.card.FILE).read_text()

    assert '```python\nimport mtpret_jax\n\nmtpret_jax.load("this folder")' in card
    assert 'network = load_exported.load("this folder")' in card
    assert "torchvision.models" not in card  # All of these are wider.


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"tasks": '),
        ("config.json", '{"tasks": []}'),
        ("datasets.json", "[]"),
        ("datasets.json", '{"chest": []}'),
        ("report.json", "{}"),
        ("versions.json", ""),
    ],
)
def test_a_damaged_work_folder_names_the_file(file, content, work_folder, tmp_path):
    work = work_folder("classification")
    (work / file).write_text(content)

    with pytest.raises(ValueError, match=rf"/{re.escape(file)}: "):
        hub.write(work, "run", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(work_folder, tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(hub.serialised, "serialise", broken)
    with pytest.raises(OSError, match="No space left"):
        hub.write(work_folder("backbone"), "run", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_function_than_the_run_is_found(work_folder, tmp_path, monkeypatch):
    real = serialised.call

    def wrong(content, image):
        found = real(content, image)
        return found | {"embedding": found["embedding"] * 1.01}

    monkeypatch.setattr(hub.serialised, "call", wrong)
    with pytest.raises(ValueError, match=r"model\.jax_export: the embedding"):
        hub.write(work_folder("backbone"), "run", tmp_path / "out")


def test_two_exports_of_a_run_are_the_same_bytes_by_the_umask(work_folder, tmp_path):
    work = work_folder("classification")
    part = tmp_path / "one.part"  # As a kill leaves it.
    part.mkdir()
    (part / "model.safetensors").write_bytes(b"cut")
    before = os.umask(0o027)
    try:
        for name in ("one", "other"):
            hub.write(work, "run", tmp_path / name)
            jax.clear_caches()
    finally:
        os.umask(before)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o750


def test_tensors_are_those_that_their_description_names(work_folder, tmp_path):
    out = tmp_path / "out"
    hub.write(work_folder("backbone"), "run", out)
    facts = json.loads((out / torch_layout.FACTS).read_text())
    (out / "SHA256SUMS").unlink()
    (out / torch_layout.FACTS).write_text(json.dumps(facts | {"sha256": "0" * 64}))

    with pytest.raises(ValueError, match=r"SHA-256 is not the one in config\.json"):
        loader.load(out)


def test_an_exported_folder_that_is_damaged_is_refused(work_folder, tmp_path):
    out = tmp_path / "out"
    hub.write(work_folder("backbone"), "run", out)
    path = out / torch_layout.FACTS
    whole = path.read_text()
    sums = (out / "SHA256SUMS").read_text()
    for name in (torch_layout.FACTS, torch_layout.TENSORS, "golden.npz"):
        content = bytearray((out / name).read_bytes())
        content[-30] ^= 1
        (out / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: damaged, its SHA-256"):
            loader.load(out)
        content[-30] ^= 1
        (out / name).write_bytes(content)
    (out / "SHA256SUMS").unlink()  # As in folders from before digests.
    for content in ("", "[]", "{}", whole[: len(whole) // 2]):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"/config\.json: .* export the run again"):
            loader.load(out)
    facts = json.loads(whole)
    del facts["mtpret_jax"]["mtpret_jax"]
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"/config\.json: it lacks mtpret_jax"):
        loader.load(out)
    path.write_text(whole)
    (out / "SHA256SUMS").write_text(sums)
    tensors = pathlib.Path(out / torch_layout.TENSORS)
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        loader.load(out)


def test_the_card_shows_every_name_as_it_is():
    name = "<b>*x* `$\\frac{$`|_y_</b>"

    cell = card._cell(card._name(name))

    # Code, in a fence that its backticks do not end; bars would end the cell.
    assert cell == "`` <b>*x* `$\\frac{$`\\|_y_</b> ``"
    assert card._cell(card._name("chest_cls, 2 %")) == "chest_cls, 2 %"
    for harmful in ("<b>", "_y_", "*x*", "[a](b)", "a\nb", "&amp;", "~~s~~", "$x$"):
        assert card._name(harmful) == f"`{harmful}`".replace("\n", " "), harmful
