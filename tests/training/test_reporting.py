"""Scalars on disk survive kills; the progress line tells speed and time to go."""

import io
import json

import pytest
from tensorboard.backend.event_processing import event_accumulator

from mtpret_jax.training import reporting


def _lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def _write(folder, steps, *, resume_step):
    writer = reporting.RunWriter(folder, resume_step=resume_step)
    for step in steps:
        writer.write(step, {"train/loss": 1 / step})
    writer.close()


def test_each_write_is_one_line_on_disk_at_once(tmp_path):
    writer = reporting.RunWriter(tmp_path / "runs" / "a", resume_step=0)

    writer.write(10, {"train/loss": 0.5, "validation/auroc": float("nan")})

    line = json.loads(_lines(tmp_path / "runs" / "a")[0])
    assert line == {"step": 10, "train/loss": 0.5, "validation/auroc": None}
    writer.close()


@pytest.mark.smoke
@pytest.mark.parametrize("torn", ["", '{"step": 60, "train/lo', '{"step": 50'])
def test_a_resumed_run_leaves_the_file_of_an_uninterrupted_one(tmp_path, torn):
    _write(tmp_path / "whole", range(10, 101, 10), resume_step=0)
    _write(tmp_path / "killed", range(10, 51, 10), resume_step=0)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write(torn)

    _write(tmp_path / "killed", range(40, 101, 10), resume_step=30)

    whole = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == whole
    assert [path.name for path in (tmp_path / "killed").glob("metrics*")] == [
        "metrics.jsonl"
    ]


def test_a_run_that_starts_again_starts_an_empty_file(tmp_path):
    _write(tmp_path, [10, 20], resume_step=0)

    _write(tmp_path, [], resume_step=0)

    assert _lines(tmp_path) == []


def test_steps_must_not_go_back(tmp_path):
    writer = reporting.RunWriter(tmp_path, resume_step=0)
    writer.write(10, {"train/loss": 1.0})

    with pytest.raises(ValueError, match="step 9 come after those of step 10"):
        writer.write(9, {"train/loss": 1.0})
    writer.close()


@pytest.mark.smoke
def test_tensorboard_reads_the_scalars(tmp_path):
    writer = reporting.RunWriter(tmp_path, resume_step=0)
    writer.write(10, {"train/loss": 0.5})
    writer.write_board(10, {"speed/images_per_second": 7.0})
    writer.close()

    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    assert set(events.Tags()["tensors"]) == {"train/loss", "speed/images_per_second"}
    assert "images_per_second" not in _lines(tmp_path)[0]


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_tells_step_time_to_go_and_speed():
    clock, stream = _Clock(), io.StringIO()
    progress = reporting.Progress(
        "mtpret", 200, images_per_step=16, stream=stream, clock=clock
    )

    progress.update(50)
    clock.now = 20.0
    progress.update(90, note="lung_seg")

    assert stream.getvalue().splitlines() == [
        "mtpret: step 50/200 (25 %)",
        "mtpret: step 90/200 (45 %), 0:55 left, 32.0 images/s, lung_seg",
    ]
    assert progress.images_per_second == 32.0


def test_a_log_file_gets_a_line_every_ten_seconds_and_the_last_one():
    clock, stream = _Clock(), io.StringIO()
    progress = reporting.Progress(
        "a", 100, images_per_step=1, stream=stream, clock=clock
    )

    for step in range(1, 101):
        clock.now = step * 0.5
        progress.update(step)
    progress.close()

    steps = [
        int(line.split()[2].split("/")[0]) for line in stream.getvalue().splitlines()
    ]
    assert steps == [1, 21, 41, 61, 81, 100]


def test_a_terminal_is_redrawn_in_place_and_left_clean():
    clock, stream = _Clock(), _Terminal()
    progress = reporting.Progress("a", 2, images_per_step=1, stream=stream, clock=clock)

    progress.update(1, note="a long note")
    clock.now = 3700.0
    progress.update(2)
    progress.close()

    text = stream.getvalue()
    assert text.count("\r") == 2
    assert text.endswith("\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "0:42"), (725, "12:05"), (3723, "1:02:03")]
)
def test_durations_read_like_a_clock(seconds, text):
    clock, stream = _Clock(), io.StringIO()
    progress = reporting.Progress(
        "a", seconds + 20, images_per_step=1, stream=stream, clock=clock
    )

    progress.update(0)
    clock.now = 20.0
    progress.update(20)

    assert f", {text} left" in stream.getvalue()
