"""`compare` from the command to the page, on phantoms."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mtpret_jax import main
from mtpret_jax.comparison import page
from tests.predict import conftest as models


@pytest.fixture
def compare(prepared, tmp_path, capsys):
    """Runs the verb; gives what it wrote, as bytes and read, and its warnings."""
    file, data, *_ = prepared

    def run(*arguments: str, out="out", code=0):
        with pytest.raises(SystemExit) as ended:
            main.run(
                ["compare", f"--config={file}", f"--data_dir={data}"]
                + [f"--out={tmp_path / out}", "--resamples=200", *arguments]
            )
        said = capsys.readouterr()
        assert ended.value.code == code, said.err
        if code:
            return said.err
        written = [
            (tmp_path / out / name).read_bytes() for name in (page.JSON, page.HTML)
        ]
        return written, json.loads(written[0]), said

    return run


@pytest.mark.slow
def test_a_network_and_tables_are_judged_alike_twice(
    compare, make_table, tmp_path, prepared
):
    good = make_table(tmp_path / "good.npz", 0, 6.0)
    poor = make_table(tmp_path / "poor.npz", 1, 0.0, about=np.array('{"images": 12}'))
    run = models.make(tmp_path / "runs" / "run", "backbone")
    encoders = (f"--encoder=poor={poor}", f"--encoder=good={good}")
    encoders += (f"--encoder=run={run}", "--fractions=0.5,1")

    first, found, said = compare(*encoders)
    kept = sorted((tmp_path / "out" / "features" / "run").glob("*.npz"))
    again, *_ = compare(*encoders)

    assert first == again
    assert len(kept) == 3
    assert said.err == ""
    assert found["left_out"] == {"opacity": "detection"}
    assert list(found["encoders"]) == ["poor", "good", "run"]
    assert found["encoders"]["poor"]["images"] == 12
    assert found["encoders"]["run"]["parameters"] > 1000
    assert list(found["values"]["finding"]) == ["0.5", "1"]
    better, other = found["judged"]
    assert (better["encoder"], better["verdict"]) == ("good", "better")
    assert better["p_corrected"] < 0.05 < better["difference"]
    assert better["low_retrained"] <= better["low"] + 1e-9
    assert (other["encoder"], other["baseline"]) == ("run", "poor")
    assert any(
        line.startswith("good is better than poor on finding") for line in found["said"]
    )
    assert len(found["others"]) == 2 * 3
    html = first[1].decode()
    assert "good is better than poor" in html
    assert "no list: not known" in html


def test_an_encoder_that_learnt_from_test_images_is_flagged(
    compare, make_table, tmp_path, prepared
):
    *_, task = prepared
    ids = task.splits["test"].image_ids[:3] + task.splits["train"].image_ids[:2]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"/somewhere/{name}.png\n" for name in ids))
    poor = make_table(tmp_path / "poor.npz", 1, 0.0)
    good = make_table(tmp_path / "good.npz", 0, 6.0)

    (_, html), found, said = compare(
        *(f"--encoder=poor={poor}", f"--encoder=good={good}"),
        *(f"--training_list=good={listed}", "--fractions=1"),
    )

    leak = found["leaks"]["finding"]["good"]
    assert (leak["named"], leak["images"]) == (5, 3)
    assert 1 <= leak["groups"] <= 3
    (row,) = found["judged"]
    assert row["verdict"] == "not judged"
    assert row["p_corrected"] is None
    assert not any("is better" in line for line in found["said"])
    (line,) = said.err.splitlines()
    assert line.startswith("Warning: encoder 'good' learnt from 3 images of the test")
    assert "good learnt from 3 images of the test split" in " ".join(
        html.decode().split()
    )


def test_mistakes_are_told_in_one_line(compare, make_table, tmp_path):
    table = make_table(tmp_path / "a.npz", 0, 1.0)
    one = f"--encoder=a={table}"

    def told(*arguments: str, code=1) -> str:
        (line,) = compare(*arguments, code=code).splitlines()
        return line

    assert "'opacity' is of kind 'detection'" in told(one, "--tasks=opacity")
    assert "'lung' is no row of config.tasks" in told(one, "--tasks=lung")
    assert "expected NAME=PATH" in told("--encoder=a")
    assert "each name once" in told(one, one)
    assert "'b' is no --encoder" in told(one, "--training_list=b=c")
    assert "expected shares above 0" in told(one, "--fractions=0,1", code=2)
    (tmp_path / "w.safetensors").write_bytes(b"")
    said = told(f"--encoder=a={tmp_path / 'w.safetensors'}")
    assert "weights identify" in said
    (tmp_path / "empty.txt").write_text("\n")
    said = told(one, f"--training_list=a={tmp_path / 'empty.txt'}")
    assert "the list is empty" in said
