"""Sets that repeat a picture, and what is said to have grown."""

import json

import numpy as np

from benchmarks import growth
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation


def test_a_set_that_repeats_pictures_is_ready_and_has_every_record(tmp_path):
    row = growth.make_set(tmp_path, 40, side=64)

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.array_record*")}
    folders = preparation.prepare({"set": row}, tmp_path / "data")

    assert {path: path.stat().st_mtime_ns for path in made} == made
    counts = json.loads((folders["set"] / "preparation.json").read_text())["splits"]
    assert sum(counts.values()) == 40
    source = sources.open_prepared(folders["set"], "train")
    assert len({row["image_id"] for row in source.index}) == len(source) == 32
    for record, entry in enumerate(source.index):
        name = "ab"[int(np.argmax(source[record]["labels/label"] == 1))]
        assert entry["label"] == name
        assert entry["split"] == "train"


def test_what_was_added_is_that_of_the_most_over_the_least():
    def one(seconds: float, peak: float) -> dict:
        spreads = {"first_step_seconds": seconds, "step_seconds": 0.5, "peak_mib": peak}
        return {key: {"median": value} for key, value in spreads.items()}

    found = growth.added(
        {10: one(2.0, 300.0), 1000: one(7.0, 450.0), 1: one(1.0, 299.0)}
    )

    assert found == {"first_step_seconds": 6.0, "step_seconds": 0.0, "peak_mib": 151.0}
