"""Tests of what reads ahead: threads and processes, one budget, signals."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import pipeline, readers

SETTINGS = config.InputConfig(threads=2, workers=0, buffer=3)
TASK = config.TaskConfig(
    dataset="tiny",
    target="finding",
    image_size=32,
    batch_size=4,
    augment=config.AUGMENT_PRESETS["contrastive"],
)


class Counted:
    """Batches that tell which of them were read; some cannot be."""

    def __init__(self, length: int, broken: int = -1) -> None:
        self.length, self.broken, self.read = length, broken, []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        self.read.append(index)
        if index == self.broken:
            raise ValueError(f"No batch {index}.")
        return {"index": np.full(2, index), "name": np.array(True)}


def ahead(dataset, *, workers=0, batches=3) -> readers.Ahead:
    return readers.Ahead(dataset, threads=1, workers=workers, batches=batches)


def places(stream, count=None) -> list[int]:
    return [int(batch["index"][0]) for batch in itertools.islice(stream, count)]


@pytest.fixture(scope="module", autouse=True)
def workers_stay():
    """Workers take seconds to start: these serve all tests of the file."""
    kept = [ahead(Counted(0), workers=count) for count in (1, 2)]
    yield
    for stream in kept:
        stream.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_order_and_errors_in_their_place(workers):
    stream = ahead(Counted(9, broken=5), workers=workers)
    assert places(stream, 5) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="No batch 5"):
        next(stream)
    stream.close()
    whole = ahead(Counted(9), workers=workers)
    assert places(whole) == list(range(9))
    whole.close()


def test_only_the_stream_that_was_asked_last_is_read_ahead():
    one, other = Counted(99), Counted(99)
    first, second = ahead(one), ahead(other)
    assert places(first, 2) == [0, 1]
    assert places(second, 1) == [0]
    assert not first._pending
    assert len(second._pending) == second.batches == 3
    assert places(first, 2) == [2, 3]
    assert max(one.read) <= 3 + 1 + 3
    first.close()
    second.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_batches_that_threads_give(tiny, workers):
    def take(settings, first_batch=0, count=6):
        stream = pipeline.train_stream(
            "t", TASK, settings, tiny.open("train"), seed=0, first_batch=first_batch
        )
        with stream:
            return [next(stream).arrays for _ in range(count)]

    by_workers = config.InputConfig(workers=workers, buffer=3)
    expected = take(SETTINGS)
    for found in (take(by_workers), [*take(by_workers, 0, 2), *take(by_workers, 2, 4)]):
        for left, right in zip(found, expected, strict=True):
            assert left.keys() == right.keys()
            for name, array in left.items():
                np.testing.assert_array_equal(array, right[name], err_msg=name)
                assert array.dtype == right[name].dtype


def test_what_was_handed_out_does_not_change(tiny):
    settings = config.InputConfig(workers=1, buffer=1)
    stream = pipeline.train_stream("t", TASK, settings, tiny.open("train"), seed=0)
    with stream:
        first = next(stream).arrays
        kept = {name: array.copy() for name, array in first.items()}
        for _ in range(4):
            next(stream)
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


class Told:
    """A batch that tells of the process that reads it."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        bridge = sys.modules.get("jax._src.xla_bridge")
        started = bridge is not None and bridge.backends_are_initialized()
        return {"index": np.array([index]), "started": np.array(started)}


def test_a_worker_never_starts_jax():
    stream = ahead(Told(), workers=1)
    assert not next(stream)["started"]
    stream.close()


def test_workers_are_for_accelerators_unless_asked_for():
    open_ = config.InputConfig()
    assert pipeline.choose_workers(open_, is_accelerator=False).workers == 0
    assert pipeline.choose_workers(open_, is_accelerator=True).workers >= 1
    asked = config.InputConfig(workers=3)
    assert pipeline.choose_workers(asked, is_accelerator=False) is asked


SCRIPT = """
    import signal, sys, time
    from mtpret_jax import config
    from mtpret_jax.data import pipeline, readers, sources

    if __name__ == "__main__":
        # What a shell starts in the background ignores it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        task = config.TaskConfig(target="finding", image_size=32, batch_size=4)
        settings = config.InputConfig(workers=2, buffer=2)
        source = sources.open_prepared(sys.argv[1], "train")
        stream = pipeline.train_stream("t", task, settings, source, seed=0)
        try:
            other = pipeline.train_stream("t", task, settings, source, seed=1)
            next(stream), next(other)
            found = dict(readers._pools[2].executor._processes)
            print(*found, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            for _ in range(4):
                next(stream)
            stream.close()
            next(other)
            other.close()
            ended = not any(worker.is_alive() for worker in found.values())
            print("went on", ended, readers._pools, flush=True)
"""


def alive(number: int) -> bool:
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start(tiny, tmp_path) -> tuple[subprocess.Popen, list[int]]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen(
        [sys.executable, script, tiny.folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="Asks Linux.")
def test_ctrl_c_leaves_the_workers_to_the_streams_that_share_them(tiny, tmp_path):
    process, workers = start(tiny, tmp_path)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does.
    told, problems = process.communicate(timeout=60)
    assert told == "went on True {}\n"
    # The set of these tests has no digests, which is said.
    lines = problems.splitlines()
    assert all(line.startswith("WARNING:tfds_builders.") for line in lines), problems
    assert not any(alive(number) for number in workers)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="Asks Linux.")
def test_workers_end_with_a_parent_that_is_killed(tiny, tmp_path):
    process, workers = start(tiny, tmp_path)
    assert all(alive(number) for number in workers)
    process.kill()
    process.communicate()
    for _ in range(100):
        if not any(alive(number) for number in workers):
            return
        time.sleep(0.1)
    pytest.fail("workers outlived their parent")
