"""The command that writes a run for PyTorch: what it writes, and what it refuses."""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax.experiment import preparation, start, workfolder
from mtpret_jax.exports import folder, torch_layout
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import conversion, files, layouts

REPOSITORY = pathlib.Path(__file__).parents[2]


def export(model, out):
    """Writes what `trained` made."""
    described, task, network = model
    return torch_layout.write(network, described, task, out)


def header(path):
    """What the head of a safetensors file says of it as a whole."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size])["__metadata__"]


@pytest.mark.parametrize(
    "kind", [kind for kind, row in layouts.LAYOUTS.items() if not row.is_ours]
)
def test_the_tensors_of_a_run_are_written_as_they_are(kind, trained, tmp_path):
    model = trained(kind)

    facts = export(model, tmp_path / "out")

    tensors, stem = conversion.to_torchvision(model[-1], kind)
    found = files.read(tmp_path / "out" / "model.safetensors")
    assert found.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)
        assert found.tensors[name].dtype == array.dtype
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == facts
    assert facts["kind"] == kind
    assert facts["stem"] == stem
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    assert header(tmp_path / "out" / "model.safetensors") == {
        "format": "pt",
        "made_by": f"mtpret_jax {mtpret_jax.__version__}",
        "kind": kind,
        "stem": stem,
    }
    assert sorted(os.listdir(tmp_path / "out")) == [
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
    ]


def test_a_narrow_network_says_how_wide_it_is(trained, tmp_path):
    model = trained("classification", {"in_channels": 1}, exclusive=False)

    facts = export(model, tmp_path / "out")

    assert facts["torchvision"] == {
        "resnet": {"name": "resnet18", "width": 8, "num_classes": 3}
    }
    assert facts["stem"] == "1 channel divided over 3"
    assert facts["class_names"] == ["a", "b", "c"]
    assert facts["exclusive"] is False


def test_a_head_of_grades_has_one_output_fewer(trained, tmp_path):
    facts = export(trained("ordinal"), tmp_path / "out")

    assert facts["torchvision"]["resnet"]["num_classes"] == 2
    assert facts["class_names"] == ["a", "b", "c"]
    assert "a sigmoid gives the chance" in facts["outputs"]


def test_a_head_of_numbers_says_what_they_are_worth(trained, tmp_path):
    facts = export(trained("regression"), tmp_path / "out")

    assert facts["torchvision"]["resnet"]["num_classes"] == 1
    assert facts["outputs"] == "value = output * scale.deviation + scale.mean"
    wanted = {"mean": 100.0, "deviation": 40.0, "unit": "months", "second": []}
    assert facts["scale"] == wanted


def test_a_classifier_is_told_by_its_classes_and_input(trained, tmp_path):
    model = trained("classification", {"width": 64})

    facts = export(model, tmp_path / "out")

    assert facts["torchvision"] == {
        "resnet": {"name": "resnet18", "width": 64, "num_classes": 3}
    }
    assert facts["input"] == {
        "channels": "one grey channel, the same three times",
        "image_size": 64,
        "fit": "pad",
        "resample": "area",
        "normalisation": "image",
    }
    assert facts["origin"]["run"] == "run"


def test_masks_name_dilation_rates_and_the_auxiliary_head(trained, tmp_path):
    options = {"output_stride": 8, "rates": (2, 4), "dropout": 0.25}
    model = trained("segmentation", {"width": 64}, segmentation=options)

    facts = export(model, tmp_path / "out")

    assert facts["torchvision"] == {
        "resnet": {
            "name": "resnet18",
            "width": 64,
            "replace_stride_with_dilation": [False, True, True],
        },
        "classifier": {
            "in_channels": 512,
            "num_classes": 3,
            "atrous_rates": [2, 4],
            "channels": 8,
            "dropout": 0.25,
        },
        "aux_classifier": {"in_channels": 256, "channels": 3},
    }
    assert facts["class_names"] == ["background", "a", "b"]


@pytest.mark.parametrize(
    ("stride", "dilation"),
    [(32, [False, False, False]), (16, [False, False, True])],
)
def test_dilation_follows_the_output_stride(stride, dilation, trained, tmp_path):
    options = {"output_stride": stride, "auxiliary_weight": 0.0}
    model = trained("segmentation", {"width": 64}, segmentation=options)

    built = export(model, tmp_path / "out")["torchvision"]

    assert built["resnet"]["replace_stride_with_dilation"] == dilation
    assert built["aux_classifier"] is None


def test_boxes_name_all_that_decides_what_is_found(trained, tmp_path):
    options = {
        "anchor_sizes": (8, 16, 32, 64, 128),
        "proposals": 50,
        "detections": 7,
        "score_threshold": 0.1,
    }
    model = trained("detection", {"width": 64}, detection=options)

    facts = export(model, tmp_path / "out")

    built = facts["torchvision"]
    assert facts["class_names"] == ["__background__", "a", "b"]
    assert built["backbone"] == {
        "return_layers": {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"},
        "in_channels_list": [64, 128, 256, 512],
        "out_channels": 8,
    }
    assert built["rpn_anchor_generator"] == {
        "sizes": [[8], [16], [32], [64], [128]],
        "aspect_ratios": [[0.5, 1.0, 2.0]] * 5,
    }
    assert built["box_roi_pool"]["canonical_scale"] == 56  # 224 for anchors from 32
    assert built["box_head"] == {"in_channels": 392, "representation_size": 16}
    assert built["box_predictor"] == {"in_channels": 16, "num_classes": 3}
    wanted = {
        "min_size": 64,
        "max_size": 64,
        "image_mean": [0, 0, 0],
        "image_std": [1, 1, 1],
        "rpn_post_nms_top_n_test": 50,
        "rpn_pre_nms_top_n_test": 2000,
        "box_detections_per_img": 7,
        "box_score_thresh": 0.1,
        "box_nms_thresh": 0.5,
    }
    assert wanted.items() <= built["faster_rcnn"].items()


def test_boxes_of_one_stage_name_all_that_decides_what_is_found(trained, tmp_path):
    options = {
        "head": "retinanet",
        "channels": 16,
        "anchor_sizes": (6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192),
        "finest_level": 2,
        "candidates": 50,
        "detections": 7,
    }
    model = trained("detection", {"width": 64}, detection=options)

    facts = export(model, tmp_path / "out")

    built = facts["torchvision"]
    assert facts["class_names"] == ["a", "b"]  # none for the background
    assert built["backbone"] == {
        "return_layers": {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"},
        "in_channels_list": [64, 128, 256, 512],
        "out_channels": 16,
    }
    assert built["anchor_generator"] == {
        "sizes": [[6, 8], [12, 16], [24, 32], [48, 64], [96, 128], [160, 192]],
        "aspect_ratios": [[0.5, 1.0, 2.0]] * 6,
    }
    assert built["head"] == {
        "in_channels": 16,
        "num_anchors": 6,
        "num_classes": 2,
        "groups": 2,
    }
    wanted = {
        "min_size": 64,
        "max_size": 64,
        "topk_candidates": 50,
        "detections_per_img": 7,
        "score_thresh": 0.05,
        "nms_thresh": 0.5,
    }
    assert wanted.items() <= built["retinanet"].items()


def test_the_statistics_of_a_set_are_told_where_they_normalise(trained, tmp_path):
    model = trained("classification", changes={"input": {"normalisation": "dataset"}})

    facts = export(model, tmp_path / "out")

    assert facts["input"]["pixel_mean"] == 0.25
    assert facts["input"]["pixel_std"] == 0.5


@pytest.fixture
def work(tmp_path):
    """A work folder whose run `run` has not ended."""
    config: Any = schema.defaults()
    config.datasets.hand = schema.dataset("phantom_xray")
    config.runs.run = schema.run(
        stage="contrastive", contrastive={"datasets": {"hand": 1.0}}
    )
    (tmp_path / "work").mkdir()
    table = json.dumps(schema.as_dict(schema.parse(config)))
    (tmp_path / "work" / "config.json").write_text(table)
    return tmp_path / "work"


def refused(error, *arguments):
    with pytest.raises(error) as raised:
        folder.write(*arguments)
    return str(raised.value)


def test_nothing_is_written_over(work, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text("mine")

    found = refused(FileExistsError, work, "run", out)

    assert found == (
        f"--out: {out} is not an empty folder, and nothing is written over. Give "
        "another, or remove it."
    )
    assert os.listdir(out) == ["config.json"]
    assert (out / "config.json").read_text() == "mine"
    assert "is not an empty" in refused(
        FileExistsError, work, "run", out / "config.json"
    )


def test_runs_that_are_not_there_are_told(work, tmp_path):
    out = tmp_path / "out"

    assert "Did you mean 'run'?" in refused(ValueError, work, "runn", out)
    found = refused(FileNotFoundError, tmp_path, "run", out)
    assert found.startswith(f"No work folder {tmp_path}: it has no config.json.")
    found = refused(FileNotFoundError, work, "run", out)
    assert found.startswith("No finished backbone in ")
    assert not out.exists()


def test_a_head_that_torchvision_has_not_is_refused(trained, tmp_path):
    described, task, network = trained("segmentation")
    row = schema.TaskConfig(
        kind="segmentation", segmentation=schema.SegmentationConfig(head="unetplusplus")
    )
    described = dataclasses.replace(described, tasks={task: row})

    with pytest.raises(ValueError) as raised:
        export((described, task, network), tmp_path / "out")

    assert str(raised.value) == (
        "Run 'run' trained a head 'unetplusplus', which torchvision has not. Export "
        "the run it started from, or another, for its backbone."
    )
    assert not (tmp_path / "out").exists()


def test_a_disk_that_changes_what_is_written_is_noticed(tmp_path, monkeypatch):
    tensors = {"a": np.ones(3, np.float32), "b": np.zeros((), np.int64)}
    files.write(tmp_path / "good.safetensors", tensors, {})

    with pytest.raises(FileExistsError, match="is there already; it stays"):
        files.write(tmp_path / "good.safetensors", tensors, {})

    def damaged(path):
        found = files.TensorFile("x", "", {"a": np.full(3, 2, np.float32)})
        return found

    monkeypatch.setattr(files, "read", damaged)
    with pytest.raises(OSError, match=r"not hold what was written.*\['b', 'a'\] \(2 "):
        files.write(tmp_path / "bad.safetensors", tensors, {})


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtpret_jax.main", "export", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY), XLA_FLAGS=""),
    )


def test_mistakes_in_the_command_end_in_one_line(tmp_path):
    done = call(f"--workdir={tmp_path}", "--run=x", f"--out={tmp_path / 'out'}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: No work folder {tmp_path}")
    assert "Traceback" not in done.stderr

    done = call(f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "Error: the following arguments are required: --run, --out "
    )

    done = call("--workdri=x")
    assert done.returncode == 2
    assert "no option --workdri. Did you mean --workdir?" in done.stderr


@pytest.mark.slow
def test_a_trained_run_is_exported_and_another_starts_from_it(tmp_path):
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8)
    config.datasets.hand = schema.dataset(
        "phantom_xray", body="hand", image_size=32, train=16, validation=8, test=8
    )
    config.tasks.fracture = schema.task(
        dataset="hand", target="finding", image_size=32, batch_size=8
    )
    config.runs.run = schema.run(
        stage="finetune", finetune={"task": "fracture"}, steps=1
    )
    parsed = schema.parse(config)
    folders = preparation.prepare(parsed.datasets, tmp_path / "data")
    workfolder.run(parsed, tmp_path / "work", folders)

    done = call(
        f"--workdir={tmp_path / 'work'}",
        "--run=run",
        f"--out={tmp_path / 'out'}",
        f"--data_dir={tmp_path / 'data'}",
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Written to {tmp_path / 'out'}, read again; ")
    listed = (tmp_path / "out" / "training.csv").read_text().splitlines()
    assert listed[0] == "dataset,image_id,for"
    assert len(listed) == 1 + 16
    assert all(row.startswith("hand,") for row in listed[1:])
    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    assert facts["class_names"] == ["normal", "fracture"]
    assert facts["origin"]["steps"] == 1
    tree, _ = checkpoint.load_backbone(tmp_path / "work/runs/run/backbone", {})
    path = tmp_path / "out" / "model.safetensors"
    head = tree["heads"]["params"]["fracture"]["fc"]["kernel"]
    np.testing.assert_array_equal(files.read(path).tensors["fc.weight"], head.T)

    config.runs.again = schema.run(
        stage="finetune", finetune={"task": "fracture"}, init_from=str(path)
    )
    found = start.check(schema.parse(config))[str(path)]
    assert list(found.left_out) == ["fc.bias", "fc.weight"]
    assert found.sha256 == facts["sha256"]
