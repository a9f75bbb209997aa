"""States on disk: two are kept, and a damaged one is told and not gone on from."""

import logging
import os
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.training import checkpoint, reporting

REPOSITORY = pathlib.Path(__file__).parents[2]
EMPTY = {"backbone": {}, "heads": {}}


def _state(step: int) -> types.TrainState:
    return types.TrainState(
        jnp.int32(step), {"w": jnp.full((999,), float(step))}, EMPTY, EMPTY, {}
    )


def _save(folder: pathlib.Path, values: dict[int, float]) -> None:
    saved = checkpoint.RunCheckpoints(folder)
    for step, value in values.items():
        saved.save(_state(step), step, value)
        saved.wait()
    saved.close()


def _steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


def _restored(folder: pathlib.Path) -> float:
    saved = checkpoint.RunCheckpoints(folder)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        _state(0),
    )
    step = saved.latest()
    assert step is not None
    restored = saved.restore(step, template)
    saved.close()
    assert np.unique(restored.params["w"]).tolist() == [step]
    return step


def _damage(state: pathlib.Path, name: str = "*") -> pathlib.Path:
    """Changes one bit of a state's largest file of that name."""
    found = (path for path in state.rglob(name) if path.is_file())
    files = [path for path in found if name != "*" or path.name != "SHA256SUMS"]
    path = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    return path


def test_the_two_newest_and_the_best_states_are_kept(tmp_path):
    folder = tmp_path / "run" / "checkpoints"

    _save(folder, {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.2, 5: 0.3})

    assert _steps(folder) == [2, 4, 5]


def test_a_state_is_on_disk_before_an_older_one_goes(tmp_path, monkeypatch):
    folder, sync = tmp_path / "run" / "checkpoints", os.fsync
    _save(folder, {1: 0.9, 2: 0.1, 3: 0.2})
    on_disk = set()  # While 2, which goes, is there.

    def note(handle):
        sync(handle)
        if (folder / "2").exists():
            on_disk.add(os.readlink(f"/proc/self/fd/{handle}"))

    monkeypatch.setattr(os, "fsync", note)
    _save(folder, {4: 0.3})

    assert _steps(folder) == [1, 3, 4]
    state = folder / "4"
    assert {str(path) for path in (folder, state, *state.rglob("*"))} <= on_disk


@pytest.mark.parametrize("name", ["*", "metrics", "_CHECKPOINT_METADATA"])
def test_a_damaged_newest_state_is_told_and_the_one_before_is_used(
    tmp_path, caplog, name
):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5, 2: 0.6, 3: 0.7})
    path = _damage(folder / "3", name)

    with caplog.at_level(logging.WARNING):
        assert _restored(folder) == 2

    (line,) = caplog.messages
    assert line.startswith(f"{path}: damaged")
    assert line.endswith("The state of step 2 is used.")
    _save(folder, {3: 0.7})  # It is saved again where it was.
    assert _restored(folder) == 3


def test_a_file_of_a_state_that_is_cut_or_gone_is_told(tmp_path, caplog):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5, 2: 0.6})
    path = next(
        path for path in (folder / "2" / "default").rglob("*") if path.is_file()
    )
    path.unlink()

    assert _restored(folder) == 1
    assert caplog.messages[0].startswith(f"{path} is missing.")


def test_a_state_whose_list_of_digests_is_cut_is_not_trusted(tmp_path, caplog):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5, 2: 0.6})
    path = folder / "2" / "SHA256SUMS"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))

    assert _restored(folder) == 1
    assert str(folder / "2") in caplog.messages[0]


def test_where_no_state_is_whole_nothing_begins_anew_unasked(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5, 2: 0.6})
    _damage(folder / "1")
    path = _damage(folder / "2")

    with pytest.raises(ValueError, match="No state of the run is whole") as caught:
        checkpoint.RunCheckpoints(folder)

    assert str(path) in str(caught.value)
    assert f"Delete {folder.parent} to do the run anew." in str(caught.value)
    assert _steps(folder) == [1, 2]


def test_a_damaged_state_that_validation_likes_best_is_not_passed_over(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.9, 2: 0.5, 3: 0.6})
    path = _damage(folder / "1")

    with pytest.raises(ValueError, match="may like this state best") as caught:
        checkpoint.RunCheckpoints(folder)

    assert str(path) in str(caught.value)


def test_a_state_that_a_kill_tore_while_it_was_deleted_is_dropped(tmp_path, caplog):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5, 2: 0.5, 3: 0.6})
    (folder / "2" / "_CHECKPOINT_METADATA").unlink()
    shutil.rmtree(folder / "2" / "metrics")

    with caplog.at_level(logging.WARNING):
        assert _restored(folder) == 3

    assert 2 not in _steps(folder)
    assert "is missing" in caplog.text


def test_an_older_state_that_nobody_needs_may_be_damaged(tmp_path, caplog):
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5, 2: 0.6})
    _damage(folder / "1")

    assert _restored(folder) == 2
    assert "The state of step 2 is used." in caplog.text


def test_a_state_from_before_digests_is_used_with_a_line(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("tfds_builders.whole._told", set())
    folder = tmp_path / "run" / "checkpoints"
    _save(folder, {1: 0.5})
    (folder / "1" / "SHA256SUMS").unlink()

    assert _restored(folder) == 1
    assert "is read unchecked" in caplog.text


def test_a_damaged_backbone_is_refused_by_name(tmp_path):
    tree = {"w": jnp.arange(4096.0)}
    checkpoint.save_backbone(tmp_path / "backbone", tree, {"backbone": "resnet18"})
    loaded, _ = checkpoint.load_backbone(tmp_path / "backbone", {})
    np.testing.assert_array_equal(loaded["w"], tree["w"])
    path = _damage(tmp_path / "backbone" / "arrays")

    with pytest.raises(ValueError, match="damaged, its SHA-256") as caught:
        checkpoint.load_backbone(tmp_path / "backbone", {})

    assert str(path) in str(caught.value)


def test_a_changed_description_is_refused_by_name(tmp_path):
    tree = {"w": jnp.arange(4.0)}
    checkpoint.save_backbone(tmp_path, tree, {"normalisation": "image"})
    path = tmp_path / checkpoint.METADATA
    path.write_text(path.read_text().replace("image", "imagf"))

    with pytest.raises(ValueError, match="damaged, its SHA-256") as caught:
        checkpoint.load_backbone(tmp_path, {})

    assert str(path) in str(caught.value)


def test_lines_before_a_state_are_those_that_were_written(tmp_path):
    writer = reporting.RunWriter(tmp_path, resume_step=0)
    for step in range(1, 5):
        writer.write(step, {"loss": 0.25 * step})
        if step in (2, 4):
            writer.note()
    writer.close()
    path = tmp_path / "metrics.jsonl"
    reporting.RunWriter(tmp_path, resume_step=2).close()
    assert path.read_text().count("\n") == 2
    path.write_text(path.read_text().replace("0.25", "0.35"))

    with pytest.raises(ValueError, match="damaged, its SHA-256") as caught:
        reporting.RunWriter(tmp_path, resume_step=2)

    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["", '{"step": 6, "loss": 0.5}\n', '{"step": 2,\n'])
def test_lines_that_are_gone_at_the_end_are_missed(tmp_path, damage):
    writer = reporting.RunWriter(tmp_path, resume_step=0)
    for step in (1, 2):
        writer.write(step, {"loss": 0.25 * step})
        writer.note()
    writer.close()
    path = tmp_path / "metrics.jsonl"
    first = path.read_text().splitlines(keepends=True)[0]

    # Gone on with from the first state, then stopped before another: nothing is lost.
    reporting.RunWriter(tmp_path, resume_step=1).close()
    reporting.RunWriter(tmp_path, resume_step=1).close()
    assert path.read_text() == first
    writer = reporting.RunWriter(tmp_path, resume_step=1)
    writer.write(2, {"loss": 0.5})
    writer.note()
    writer.close()
    path.write_text(first + damage)

    with pytest.raises(ValueError, match="lines are changed or gone") as caught:
        reporting.RunWriter(tmp_path, resume_step=2)

    assert str(path) in str(caught.value)


SAVER = """
import sys
import jax.numpy as jnp
from mtpret_jax import types
from mtpret_jax.training import checkpoint

saved = checkpoint.RunCheckpoints(sys.argv[1])
for step in range(saved.latest() or 0, 10_000):
    big = jnp.full((2_000_000,), step + 1, jnp.float32)
    empty = {"backbone": {}, "heads": {}}
    state = types.TrainState(jnp.int32(step + 1), {"big": big}, empty, empty, {})
    saved.save(state, step + 1)
    print(step + 1, flush=True)
"""


@pytest.mark.slow
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    rng = np.random.default_rng(1)
    folder = tmp_path / "checkpoints"
    environment = dict(os.environ, XLA_FLAGS="", PYTHONPATH=str(REPOSITORY))
    last = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3):  # Let some saves begin, then strike within one.
            process.stdout.readline()
        time.sleep(float(rng.uniform(0.0, 0.2)))
        process.kill()
        process.wait()
        process.stdout.close()

        saved = checkpoint.RunCheckpoints(folder)
        step = saved.latest()
        assert step is not None
        assert step >= last
        last = step
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shape = jax.ShapeDtypeStruct((2_000_000,), jnp.float32, sharding=place)
        count = jax.ShapeDtypeStruct((), jnp.int32, sharding=place)
        template = types.TrainState(count, {"big": shape}, EMPTY, EMPTY, {})
        restored = saved.restore(step, template)
        saved.close()
        np.testing.assert_array_equal(np.asarray(restored.params["big"]), step)


def test_the_best_checkpoint_and_the_newest_are_kept(tmp_path):
    saved = checkpoint.RunCheckpoints(tmp_path)
    for step, value in enumerate([0.5, 0.9, 0.7, float("nan"), 0.3], start=1):
        state = types.TrainState(jnp.int32(step), EMPTY, EMPTY, EMPTY, {})
        saved.save(state, step, value)
    saved.close()

    opened = checkpoint.RunCheckpoints(tmp_path)

    assert opened.best() == (2, 0.9)
    assert opened.latest() == 5
    opened.close()
