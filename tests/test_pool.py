"""A run obeys the audit's list: what it reads, refuses, keeps and reports."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import json
import logging
import pathlib
from typing import Any

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.audit import overlaps
from mtpret_jax.experiment import feed, pool, workfolder, workshop
from mtpret_jax.inference import description
from mtpret_jax.report import page, sentences
from mtpret_jax.stages import contrastive
from tfds_builders import whole, xray_folder
from tfds_builders.phantom_xray import simulator

COPIED = ("a0.png", "a3.png", "a8.png")  # that set "b" tests on, at half the size


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, epath.Path]:
    """Two sets of phantoms; "b" tests on three training images of "a"."""
    root = tmp_path_factory.mktemp("pool")
    made = {}
    for number, name in enumerate("ab"):
        images = root / name / "images"
        images.mkdir(parents=True)
        rows = []
        for i in range(16):
            copied = name == "b" and i < len(COPIED)
            drawn = int(COPIED[i][1:-4]) if copied else i + 100 * number
            picture = simulator.simulate(
                "chest", size=128, seed=0, split_index=0, index=drawn
            ).image
            if copied:
                picture = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
            split = "test" if i < len(COPIED) and name == "b" else "train"
            split = "val" if i == 15 else split
            rows.append([f"{name}{i}.png", split, f"{name}{i}"])
            cv2.imwrite(str(images / f"{name}{i}.png"), picture)
        with (root / name / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file", "split", "group"], *rows])
        config = xray_folder.Config(name=name, folder=str(root / name))
        builder = xray_folder.Builder(data_dir=root / "data", config=config)
        builder.download_and_prepare()
        made[name] = epath.Path(builder.data_dir)
    return made


def _config(**options: object) -> schema.ExperimentConfig:
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    for name in "ab":
        config.datasets[name] = schema.dataset("xray_folder", folder="x")
    given = dict(
        datasets=dict(a=1.0, b=1.0),
        image_size=32,
        batch_size=8,
        queue_size=16,
        embedding_size=8,
        batch_norm_rows=0,
    )
    config.runs.first = schema.run(
        stage="contrastive", steps=2, contrastive=given | options
    )
    return schema.parse(config)


def _open(
    config: schema.ExperimentConfig,
    workdir: pathlib.Path,
    folders: dict[str, epath.Path],
) -> workshop.Workshop:
    """What an experiment does before its first run."""
    folder = epath.Path(workdir)
    findings = pool.find(config, folder, folders)
    shop = workshop.open_workshop(config, folder, folders, findings)
    workfolder.claim_workdir(config, folder, folders)
    pool.write(shop)
    return shop


def _images_read(shop: workshop.Workshop) -> set[str]:
    """Images of several epochs of stage 1, by the index of the prepared folders."""
    row = shop.config.runs["first"]
    named = [
        entry["image_id"]
        for name in row.contrastive.datasets
        for entry in shop.open_set(name, "train").index
    ]
    streams = feed.Feed(shop, row, shop.shard).streams({contrastive.TASK: 0})
    with streams[contrastive.TASK] as stream:
        batches = list(itertools.islice(stream, 12))
    records = np.concatenate([batch.arrays["record"] for batch in batches])
    return {named[record] for record in records}


def test_stage_1_reads_everything_but_what_evaluation_holds_again(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, logger="mtpret_jax")

    shop = _open(_config(), tmp_path, folders)

    everything = {f"a{i}.png" for i in range(15)} | {f"b{i}.png" for i in range(3, 15)}
    assert _images_read(shop) == everything - set(COPIED)
    counts = json.loads((tmp_path / "audit" / "pool.json").read_text())
    assert counts["first"]["sets"]["a"] == {"images": 15, "removed": 3}
    assert counts["first"]["sets"]["b"] == {"images": 12, "removed": 0}
    assert "a: 3, near copy as in b test" in caplog.text
    with (tmp_path / "audit" / "exclusions.csv").open() as file:
        assert {row["image_id"] for row in csv.DictReader(file)} == set(COPIED)


def test_the_published_pool_reads_them_and_the_report_says_so_first(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    shop = _open(_config(pool="paper"), tmp_path, folders)

    assert set(COPIED) <= _images_read(shop)
    assert not (tmp_path / "audit" / "exclusions.csv").exists()
    result = workfolder.report.contents.build(tmp_path, shop.config, {}, {})
    assert "Run first reproduces the published pool" in sentences.warnings(result)[0]
    assert "all 27 training images" in page.render(tmp_path, result, "audit.html")


def test_the_report_tells_what_was_removed_and_why(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    shop = _open(_config(), tmp_path, folders)

    result = workfolder.report.contents.build(tmp_path, shop.config, {}, {})

    assert not sentences.warnings(result)
    text = " ".join(page.render(tmp_path, result, "audit.html").split())
    assert "27 training images. 3 were removed" in text
    row = "<td>a</td><td>near copy</td><td>b</td><td>test</td><td>3</td>"
    assert row in text.replace("> <", "><")
    assert "What it cannot find: copies that are both turned and cropped" in text


def test_a_run_goes_on_with_the_same_list(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    first = _images_read(_open(_config(), tmp_path, folders))
    monkeypatch.setattr(overlaps, "audit", None)  # It is not done again.

    assert _images_read(_open(_config(), tmp_path, folders)) == first


def test_a_changed_list_is_refused(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    _open(_config(), tmp_path, folders)
    audit = overlaps.audit

    def finds_less(sets: dict[str, overlaps.Set]) -> overlaps.Findings:
        found = audit(sets)
        return dataclasses.replace(found, excluded=found.excluded[1:])

    monkeypatch.setattr(overlaps, "audit", finds_less)
    monkeypatch.setattr(overlaps, "key", lambda sets: "another")
    with pytest.raises(ValueError, match=r"0 images more, 1 fewer.*another --workdir"):
        _open(_config(), tmp_path, folders)

    path = tmp_path / "audit" / "exclusions.csv"
    whole.write(path, "\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"exclusions.csv was changed"):
        _open(_config(), tmp_path, folders)


def test_what_an_audit_wrote_is_left_as_it_is(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    """The command's files, taken up by a run and by its resumption."""
    folder = tmp_path / "audit"
    sets = {name: overlaps.Set(path) for name, path in folders.items()}
    overlaps.write(epath.Path(folder), overlaps.audit(sets))
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(written["copies.csv"].splitlines()) == 4

    _open(_config(), tmp_path, folders)
    _open(_config(), tmp_path, folders)

    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    sums, then = kept.pop("SHA256SUMS"), written.pop("SHA256SUMS")
    assert sums.startswith(then)
    digest = json.loads(written["audit.json"])["exclusions_sha256"]
    assert json.loads(kept.pop("pool.json"))["first"]["exclusions_sha256"] == digest
    assert kept == written


def test_runs_go_on_only_with_the_audit_that_they_began_with(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    _open(_config(), tmp_path, folders)
    report = tmp_path / "audit" / "audit.json"
    listed = tmp_path / "audit" / "exclusions.csv"
    content = json.loads(report.read_text())
    empty = listed.read_text().splitlines()[0] + "\n"
    whole.write(listed, empty)

    report.unlink()
    with pytest.raises(ValueError, match=r"audit.json is missing.*another --workdir"):
        _open(_config(), tmp_path, folders)
    content["exclusions_sha256"] = hashlib.sha256(empty.encode()).hexdigest()
    whole.write_json(report, content)
    with pytest.raises(ValueError, match=r"run 'first' began with .*audit.json is of"):
        _open(_config(), tmp_path, folders)


def _descend(
    folders: dict[str, epath.Path],
    path: pathlib.Path,
    parent: dict[str, Any],
) -> list[dict[str, Any]]:
    """The pools of a run that starts from a backbone with this description."""
    folder = path / "made" / "backbone"
    folder.mkdir(parents=True)
    config = _config()
    parent = {**description.architecture(config), **parent}
    (folder / "backbone.json").write_text(json.dumps(parent))
    row = dataclasses.replace(config.runs["first"], init_from=str(folder))
    config = dataclasses.replace(config, runs={"first": row})
    findings = pool.find(config, epath.Path(path), folders)
    pool.write(workshop.open_workshop(config, path, folders, findings))
    pools = pool.lineage(config, "first", epath.Path(path) / "runs", findings)
    run = path / "runs" / "first"
    run.mkdir(parents=True)
    ended = {"finished": True, "stage": "contrastive", "pools": pools}
    (run / "run.json").write_text(json.dumps(ended))
    return pools


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ({"pools": []}, None),
        ({"stage": "contrastive", "run": "old", "parent": None}, "did not say what it"),
        ({"stage": "finetune", "run": "old", "parent": "x"}, "did not say what it"),
        ({"pools": [{"run": "r", "pool": "paper", "audit": None}]}, "published pool"),
        ({"pools": [{"run": "r", "pool": "clean", "audit": "5"}]}, "was not examined"),
        ({"pools": [{"run": "r", "pool": "clean", "audit": "own"}]}, None),
    ],
)
def test_the_pools_of_a_backbone_from_elsewhere_are_handed_on_and_told(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    parent: dict[str, Any],
    said: str | None,
):
    own = overlaps.key({name: overlaps.Set(path) for name, path in folders.items()})
    parent = json.loads(json.dumps(parent).replace('"own"', f'"{own}"'))

    *inherited, last = _descend(folders, tmp_path, parent)

    assert (last["run"], last["pool"], last["audit"]) == ("first", "clean", own)
    assert "start" not in last
    assert all(one["start"].endswith("made/backbone") for one in inherited)
    report = workfolder.report.contents.build(tmp_path, _config(), {}, {})
    lines = sentences.warnings(report)
    assert len(lines) == (said is not None)
    if said is not None:
        assert said in lines[0]
        assert lines[0].startswith("first: the backbone that this run started from")


def test_runs_hand_their_pools_on_within_a_work_folder(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    config = _config(pool="paper")
    row = config.runs["first"]
    child = dataclasses.replace(row, stage="finetune", init_from="first")
    config = dataclasses.replace(config, runs={"first": row, "child": child})
    runs = epath.Path(tmp_path) / "runs"
    own = pool.lineage(config, "first", runs, None)
    (runs / "first" / "backbone").mkdir(parents=True)
    description = runs / "first" / "backbone" / "backbone.json"
    description.write_text(json.dumps({"pools": own}))

    assert pool.lineage(config, "child", runs, None) == own
    assert [(one["run"], one["pool"]) for one in own] == [("first", "paper")]


def test_a_task_that_several_runs_share_is_looked_at_once(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.datasets.a = schema.dataset("xray_folder", folder="x")
    config.tasks.t = schema.task(
        kind="classification", dataset="a", target="label", image_size=32, batch_size=8
    )
    for name in ("one", "two"):
        options = {"task": "t", "batch_norm_batches": 1}
        config.runs[name] = schema.run(stage="finetune", steps=2, finetune=options)
    seen = []
    monkeypatch.setattr(workshop, "build_tasks", lambda *_: {})
    monkeypatch.setattr(stages, "build", lambda *_: None)
    monkeypatch.setattr(
        workshop, "_check_split", lambda shop, name, split: seen.append((name, split))
    )

    workshop.open_workshop(schema.parse(config), tmp_path, folders)

    assert seen == [("t", "train"), ("t", "validation"), ("t", "test")]


def test_negatives_are_counted_against_what_is_left(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    options = {"datasets": {"a": 1.0}, "queue_size": 16}  # of 15, 12 are left

    with pytest.raises(ValueError, match=r"a pool of 12 images"):
        _open(_config(**options), tmp_path, folders)


def test_no_audit_without_stage_1(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    config = dataclasses.replace(_config(), runs={})

    assert pool.find(config, epath.Path(tmp_path), folders) is None
    pool.write(workshop.open_workshop(config, tmp_path, folders, None))

    assert not (tmp_path / "audit").exists()
