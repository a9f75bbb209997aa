"""Does each family of encoders go through every stage, kind of task and verb?

A narrow network of each takes ten steps of stage 1, of stage 2 with three kinds of
task, and of a fine-tuning of each, on simulated radiographs of 96 pixels (98 for
patches of 14):

- *resumed*: the same, killed (SIGKILL) twice at a random moment and given again, leaves
  the same metrics, predictions and report, bit for bit;
- *devices*: on eight virtual devices, the largest difference of a loss from that on
  one, over the loss;
- *verbs*: predict, embed and export, of a run of each kind, and what is refused;
- *learns*: mean loss of the first and of the last ten of `LEARNING` steps.

Run:     python -m benchmarks.families [--networks vit_tiny,dinov2 ...]
Expect:  a line for each; some ten minutes each on two cores.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from benchmarks import harness, kills
from mtpret_jax import config as schema
from mtpret_jax.models import vit_families

NETWORKS = (
    "convnext_atto",
    "densenet121",
    "swin_tiny",
    "vit_tiny,deit",
    "vit_tiny,mae_finetuned",
    "vit_tiny,dinov2",
    "vit_tiny,dinov2_registers",
    "vit_tiny,eva_x",
    "vit_tiny,dinov3",
)
TASKS = ("missing_tooth", "mandible", "opacity")  # one of each kind
LEARNING = 100  # steps
_KILLS = 2


def get_config(arg: str) -> ConfigDict:
    """The config of a network, as `NETWORKS` names it: this file is a config file."""
    name, _, family = arg.partition(",")
    path = harness.REPOSITORY / "configs" / "tiny.py"
    spec: Any = importlib.util.spec_from_file_location("tiny_of_families", path)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    config = tiny.get_config("demo")
    config.backbone.update(name=name, family=family, width=8)
    side = 98 if family and vit_families.FAMILIES[family].patch == 14 else 96
    for row in config.datasets.values():
        row.options.image_size = side
    for row in config.tasks.values():
        row.image_size = side
    runs = {run: config.runs[run] for run in ("contrastive", "continual")}
    runs["contrastive"].contrastive.image_size = side
    runs["continual"].continual.rounds = 1
    for task in TASKS:
        runs[task] = config.runs[f"mtpret_{task}"]
    for row in runs.values():
        row.update(steps=10, checkpoint_every=3)
    runs["learns"] = schema.run(
        arm="scratch",
        steps=LEARNING,
        log_every=1,
        optimizer={"name": "adamw", "learning_rate": 1e-3},
        finetune={"task": TASKS[0], "batch_norm_batches": 2},
    )
    config.runs = ConfigDict(runs, sort_keys=False)
    return config


def _command(network: str, work: pathlib.Path, data: pathlib.Path) -> list[str]:
    verb = [sys.executable, "-m", "mtpret_jax.main", "train"]
    config = f"--config={harness.REPOSITORY / 'benchmarks' / 'families.py'}:{network}"
    return [*verb, config, f"--workdir={work}", f"--data_dir={data}"]


def _environment(devices: int) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return dict(os.environ) | {
        "XLA_FLAGS": flags,
        "PYTHONPATH": str(harness.REPOSITORY),
    }


def _do(command: list[str], devices: int = 1) -> str:
    """Runs to the end; what it said, where it ended with an error."""
    done = subprocess.run(
        command, capture_output=True, text=True, env=_environment(devices), check=False
    )
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-300:]


def _resumed(
    network: str, folder: pathlib.Path, seconds: float, rng: random.Random
) -> str:
    """What differs in a folder whose command was killed and given again."""
    work, left = folder / "killed", _KILLS
    command = _command(network, work, folder / "data")
    while True:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(1),
        )
        moment = rng.uniform(0.2, 0.8) * seconds if left else None
        try:
            code = process.wait(moment)
        except subprocess.TimeoutExpired:
            left -= 1
            kills.kill_group(process)
            continue
        break
    whole, again = kills.content(folder / "whole"), kills.content(work)
    wrong = sorted(n for n in {*whole, *again} if whole.get(n) != again.get(n))
    return f"ended with {code}" if code else ", ".join(wrong)


def _losses(work: pathlib.Path, run: str) -> np.ndarray:
    """The loss of every step, whatever its task."""
    lines = (work / "runs" / run / "metrics.jsonl").read_text().splitlines()
    found = [
        value
        for row in map(json.loads, lines)
        for name, value in row.items()
        if name.startswith("train/") and name.endswith("/loss")
    ]
    return np.asarray(found)


def _apart(one: pathlib.Path, other: pathlib.Path) -> float:
    """The largest difference of a loss, over it, in ten steps of every run."""
    found = [0.0]
    for run in ("contrastive", "continual", *TASKS):
        ours, theirs = (_losses(work, run)[:10] for work in (one, other))
        found.append(float(np.max(np.abs(ours - theirs) / np.abs(theirs))))
    return max(found)


def _verbs(folder: pathlib.Path) -> str:
    """Predicts, embeds and exports with a run of each kind; what is refused."""
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        picture = cv2.GaussianBlur(rng.uniform(0, 255, (120, 100)), (0, 0), 5)
        cv2.imwrite(str(images / f"{number}.png"), picture.astype(np.uint8))
    main, refused = [sys.executable, "-m", "mtpret_jax.main"], []
    for task in TASKS:
        model = folder / "whole" / "runs" / task / "backbone"
        for verb in ("predict", "embed"):
            end = ".npz" if verb == "embed" else ""
            out = folder / f"{verb}_{task}{end}"
            given = [f"--model={model}", f"--out={out}", str(images)]
            if said := _do([*main, verb, *given]):
                refused.append(f"{verb} {task}: {said}")
        given = [f"--workdir={folder / 'whole'}", f"--run={task}"]
        if said := _do([*main, "export", *given, f"--out={folder / task}"]):
            refused.append(f"export {task}: {said}")
    return "; ".join(refused)


def measure(network: str, folder: pathlib.Path, seed: int) -> dict[str, Any]:
    """Everything of one network."""
    start = time.monotonic()
    if said := _do(_command(network, folder / "whole", folder / "data")):
        return {"network": network, "failed": said}
    seconds = time.monotonic() - start
    differing = _resumed(network, folder, seconds, random.Random(seed))
    said = _do(_command(network, folder / "eight", folder / "data"), devices=8)
    loss = _losses(folder / "whole", "learns")
    return {
        "network": network,
        "seconds": round(seconds, 1),
        "resumed": differing or "the same",
        "devices": said or _apart(folder / "eight", folder / "whole"),
        "verbs": _verbs(folder) or "all",
        "learns": [float(loss[:10].mean()), float(loss[-10:].mean())],
    }


def main() -> int:
    """Measures every network; 1 where one fails or differs."""
    parser = harness.parser(__doc__, seed=0, folder="")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options, rows, wrong = parser.parse_args(), [], 0
    with contextlib.ExitStack() as stack:
        made = options.folder or stack.enter_context(tempfile.TemporaryDirectory())
        for network in options.networks:
            folder = pathlib.Path(made) / network.replace(",", "_")
            folder.mkdir(parents=True)
            row = measure(network, folder, options.seed)
            rows.append(row)
            wrong += "failed" in row or row["resumed"] != "the same"
            harness.show(json.dumps(row))
    harness.write("families", {"rows": rows}, options, n=1)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
