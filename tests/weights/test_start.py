"""A run of any stage starts from a file of weights, and says so afterwards."""

import dataclasses
import hashlib
import json
import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, stages, types
from mtpret_jax.experiment import preparation, run, start, workfolder, workshop
from mtpret_jax.inference import description
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import resnet

NAMES = {"hand": {"label_names": {"finding": ["normal", "fracture"]}}}


def body_weights(*, name="resnet18", width=8, channels=3):
    """Names and arrays of a narrow network of random numbers, as torchvision's."""
    body = models.build_backbone(
        schema.BackboneConfig(name=name, width=width, in_channels=channels)
    )
    drawn = jax.eval_shape(
        lambda: body.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    )
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32),
        {"params": drawn.params, "model_state": drawn.model_state},
    )
    return resnet.to_torchvision(tree)


def save(path, weights):
    """Writes a safetensors file of float32 arrays."""
    header, data = {}, b""
    for name, array in weights.items():
        places = [len(data), len(data) + array.nbytes]
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": places,
        }
        data += array.tobytes()
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path


def config(start, *, channels=3, **runs) -> Any:
    """One run of each stage from `start`; an option by path changes a run."""
    made: Any = schema.defaults()
    made.backbone.update(name="resnet18", width=8, in_channels=channels)
    made.datasets.hand = schema.dataset(
        "phantom_xray", body="hand", image_size=32, train=16, validation=8, test=8
    )
    made.tasks.fracture = schema.task(
        dataset="hand", target="finding", image_size=32, batch_size=8
    )
    common = dict(init_from=str(start), steps=1)
    made.runs.contrastive = schema.run(
        stage="contrastive",
        contrastive=dict(datasets={"hand": 1.0}, batch_size=8, queue_size=16),
        **common,
    )
    made.runs.continual = schema.run(
        stage="continual", continual=dict(tasks=("fracture",), rounds=1), **common
    )
    made.runs.imagenet = schema.run(
        stage="finetune",
        arm="imagenet",
        finetune=dict(task="fracture", batch_norm_batches=0),
        **common,
    )
    for name, options in runs.items():
        made.runs[name].update(options)
    return made


def message(call, *arguments, error=ValueError, **options):
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    return str(raised.value)


@pytest.fixture
def weights(tmp_path):
    """A file of a narrow ResNet-18 with a stem for three channels."""
    return save(tmp_path / "narrow.safetensors", body_weights())


@pytest.mark.parametrize("run", ["contrastive", "continual", "imagenet"])
def test_every_stage_starts_from_the_file(run, weights, tmp_path):
    parsed = schema.parse(config(weights))
    facts = start.check(parsed)

    state = start.carry(parsed, run, fresh(parsed, run), runs=tmp_path, weights=facts)

    body = types.Variables(state.params["backbone"], state.model_state["backbone"])
    out = resnet.to_torchvision(
        {"params": body.params, "model_state": body.model_state}
    )
    for name, array in body_weights().items():
        np.testing.assert_array_equal(out[name], array)


def test_the_facts_of_a_file_are_its_name_hash_and_stem(weights):
    facts = start.check(schema.parse(config(weights, channels=1)))

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    told = ("narrow.safetensors", digest, "3 channels summed to 1", ())
    assert facts == {str(weights): start.Weights(*told)}


def test_a_file_that_does_not_fit_is_refused_before_anything_runs(tmp_path):
    deep = save(tmp_path / "deep.safetensors", body_weights(name="resnet50"))
    found = message(start.check, schema.parse(config(deep)))
    assert found.startswith(
        f"config.runs.contrastive.init_from ({deep}): the file lacks ["
    )
    assert "ResNet-50 of width 8, the config wants ResNet-18 of width 8" in found

    gone = schema.parse(config(tmp_path / "gone.pth"))
    found = message(start.check, gone, error=FileNotFoundError)
    assert found == f"No file of weights '{tmp_path / 'gone.pth'}'."


def fresh(parsed, run):
    """The state that a run begins with, all zeros."""
    tasks = workshop.build_tasks(parsed, NAMES)
    stage = stages.build(parsed, parsed.runs[run], tasks)
    batches = stages.shape_batches(parsed, parsed.runs[run])
    shapes = jax.eval_shape(lambda: stage.init(jax.random.key(0), batches))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def test_a_file_has_no_queue_to_carry():
    asked = config("a.pt", contrastive={"contrastive": {"carry_memory": True}})
    assert message(schema.parse, asked) == (
        "config.runs.contrastive.contrastive.carry_memory: asks for key encoder and "
        "queue, but init_from 'a.pt' is a file of weights and holds none."
    )


def test_the_head_of_a_file_is_carried_where_asked(tmp_path):
    fc = {"fc.weight": np.full((2, 64), 3, np.float32), "fc.bias": np.ones(2, "f4")}
    path = save(tmp_path / "whole.safetensors", body_weights() | fc)
    parsed = schema.parse(config(path, imagenet={"finetune": {"head": "carried"}}))
    facts = start.check(parsed)
    zeros = fresh(parsed, "imagenet")

    start.check_head(parsed, "imagenet", zeros)
    state = start.carry(parsed, "imagenet", zeros, runs=tmp_path, weights=facts)

    head = state.params["heads"]["fracture"]["fc"]
    np.testing.assert_array_equal(head["kernel"], fc["fc.weight"].T)
    np.testing.assert_array_equal(head["bias"], fc["fc.bias"])
    body = state.params["backbone"]
    np.testing.assert_array_equal(body["bn1"]["bias"], body_weights()["bn1.bias"])
    state = start.carry(
        parsed, "continual", fresh(parsed, "continual"), runs=tmp_path, weights=facts
    )
    assert not np.asarray(state.params["heads"]["fracture"]["fc"]["kernel"]).any()


def test_a_head_of_other_classes_is_refused_before_anything_runs(tmp_path):
    fc = {"fc.weight": np.ones((5, 64), np.float32), "fc.bias": np.ones(5, "f4")}
    path = save(tmp_path / "whole.safetensors", body_weights() | fc)
    asked = config(path, imagenet={"finetune": {"head": "carried"}})
    folders = preparation.prepare(schema.parse(asked).datasets, tmp_path / "data")

    found = message(
        workshop.open_workshop, schema.parse(asked), tmp_path / "work", folders
    )

    assert found.startswith(f"config.runs.imagenet.init_from ({path}): ")
    assert "'fc.bias' has shape (5,), expected (2,)." in found
    assert found.endswith("Start from the backbone alone: finetune.head='new'.")


@pytest.mark.parametrize(
    ("known", "part"),
    [
        ({"fracture": ["fracture", "normal"]}, "tells ['fracture', 'normal'] apart"),
        ({"lungs": ["background", "lung"]}, "no head of task 'fracture', only of ["),
    ],
)
def test_a_folder_with_a_head_of_other_classes_is_refused(known, part, tmp_path):
    asked = config(tmp_path, imagenet={"finetune": {"head": "carried"}})
    facts = description.architecture(schema.parse(asked)) | {"class_names": known}
    (tmp_path / "backbone.json").write_text(json.dumps(facts))
    folders = preparation.prepare(schema.parse(asked).datasets, tmp_path / "data")

    found = message(
        workshop.open_workshop, schema.parse(asked), tmp_path / "work", folders
    )

    assert found.startswith(f"config.runs.imagenet.init_from ({tmp_path}): ")
    assert part in found


def test_a_file_that_changes_under_way_is_noticed(weights, tmp_path):
    parsed = schema.parse(config(weights))
    facts = start.check(parsed)
    changed = body_weights()
    changed["bn1.bias"] = changed["bn1.bias"] + 1
    save(weights, changed)

    found = message(start.carry, parsed, "imagenet", None, runs=tmp_path, weights=facts)

    assert found.endswith("the file has changed since the command began.")
    workfolder.claim_workdir(parsed, tmp_path / "work", {}, weights=facts)
    found = message(
        workfolder.claim_workdir,
        parsed,
        tmp_path / "work",
        {},
        weights=start.check(parsed),
    )
    assert "weights.json differs from this call: " in found
    assert ".sha256: was " in found


@pytest.mark.slow
def test_a_run_names_the_file_in_its_results(weights, tmp_path):
    """From its start straight to its end, since compiling a step takes long."""
    asked = config(weights)
    with asked.unlocked():
        del asked.runs["continual"]
        del asked.runs["imagenet"]
    parsed = schema.parse(asked)
    work = tmp_path / "work"
    folders = preparation.prepare(parsed.datasets, tmp_path / "data")
    made = run.Run(workshop.open_workshop(parsed, work, folders), "contrastive")

    state, done = made.start()
    made.end(state, {"seconds": 1.0, "resumed_at": done})

    made.checkpoints.close()
    facts = start.check(parsed)[str(weights)]
    tree, described = checkpoint.load_backbone(made.folder / "backbone", {})
    assert done == 0
    assert described["parent"] == dataclasses.asdict(facts) | {"left_out": []}
    said = f"narrow.safetensors (sha256 {facts.sha256[:12]})"
    assert json.loads((made.folder / "run.json").read_text())["parent"] == said
    out = resnet.to_torchvision(tree["backbone"])
    np.testing.assert_array_equal(out["conv1.weight"], body_weights()["conv1.weight"])
