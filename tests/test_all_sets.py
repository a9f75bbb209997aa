"""The full config from stand-ins of the releases to the report, on 16 devices."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tfds_builders.releases import catalogue

REPOSITORY = pathlib.Path(__file__).parent.parent
# One task with studies, one of masks, and one of an external set; all ten tasks take
# minutes: `configs/tiny.py:mtpret,FOLDER`.
CONTINUAL = ("bone_abnormality", "mandible", "tuberculosis")
FINETUNED = ("bone_abnormality", "covid")
CONFIG = """
import importlib.util
spec = importlib.util.spec_from_file_location("tiny", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

def get_config():
    config = tiny.get_config("mtpret," + {releases!r})
    config.study.update(
        tasks={tasks!r}, hold_out={held!r}, arms=("mtpret",), seeds=(1,), claims=()
    )
    for task in set(config.study.finetune_steps) - set({tasks!r}):
        del config.study.finetune_steps[task]
    config.study.continual.continual.update(tasks={continual!r}, rounds=1)
    config.study.continual.steps = 2
    return config
"""


@pytest.mark.slow
def test_the_full_config_runs_on_dummy_releases_and_16_devices(tmp_path):
    releases = tmp_path / "releases"
    for name in catalogue.released():
        dummy_data = importlib.import_module(f"tfds_builders.{name}.dummy_data")
        dummy_data.write(releases / name, images=120)
    made = {"contrastive.s0", "mtpret.f100.s0"}
    made |= {f"mtpret.{name}.f100.s0" for name in FINETUNED}
    tiny = str(REPOSITORY / "configs" / "tiny.py")
    config = tmp_path / "all.py"
    config.write_text(
        CONFIG.format(
            tiny=tiny,
            releases=str(releases),
            tasks=FINETUNED,
            held=FINETUNED[1:],
            continual=CONTINUAL,
        )
    )

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mtpret_jax.main",
            f"--config={config}",
            f"--workdir={tmp_path / 'work'}",
            f"--data_dir={tmp_path / 'data'}",
        ],
        env=os.environ
        | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=16",
            "PYTHONPATH": str(REPOSITORY),
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    for name in made:
        assert f"Run '{name}' uses 8 of 16 devices" in done.stderr
    study = json.loads((tmp_path / "work" / "study.json").read_text())
    assert set(FINETUNED) == set(study["tasks"])
    assert len(study["audit"]["pools"]["contrastive.s0"]["sets"]) == 11
    assert tuple(study["forgetting"]["mtpret.f100.s0"]["tasks"]) == CONTINUAL
    values = study["values"]["bone_abnormality"]["1"]["mtpret"]
    for metric in ("auroc", "auroc_study", "kappa", "kappa_study"):
        assert values[metric]["value"] is not None, metric
