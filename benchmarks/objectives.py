"""Does each objective of stage 1 learn features that tell findings?

A narrow network of each learns from simulated radiographs without labels; then it is
left as it is, and a linear probe of its features is fitted on labelled ones and tested.
Beside it stands the same network with the random weights that it began with. The task
was fixed before anything was run. Three more are made to collapse: by the rate, or
without what keeps embeddings apart; the monitor should tell these, and no other.

Run:     python -m benchmarks.objectives [--objectives moco dino ...] [--count 3]
Expect:  for each objective the AUROC of the probe above that of random weights, the
         mean over seeds with an interval, and in how many runs a collapse was told;
         some two minutes a run on two cores.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats
from sklearn import metrics

from benchmarks import harness
from mtpret_jax import config as schema

OBJECTIVES = ("moco", "moco_v3", "dino", "lejepa", "mae")
TASK = "missing_tooth"  # fixed beforehand
SIZE = 64  # pixels
_HEADS = dict(embedding_size=64, hidden_size=256)
OPTIONS: dict[str, dict[str, Any]] = {
    "moco": dict(queue_size=448, momentum=0.99),
    "moco_v3": dict(moco_v3=_HEADS),
    "dino": dict(
        dino=dict(prototypes=512, **_HEADS), local_views=2, local_size=SIZE // 2
    ),
    "lejepa": dict(
        lejepa=dict(slices=256, **_HEADS), local_views=2, local_size=SIZE // 2
    ),
    "mae": dict(mae=dict(decoder_width=64, decoder_depth=2, decoder_heads=4)),
}
# What is made to collapse: an objective, the factor of its rate, and its options.
INDUCED: dict[str, tuple[str, float, dict[str, Any]]] = {
    "moco_too_fast": ("moco", 100.0, {}),
    "dino_uncentred": ("dino", 1.0, {"dino": dict(center_momentum=1.0)}),
    "lejepa_unspread": ("lejepa", 1.0, {"lejepa": dict(weight=0.0)}),
}


def get_config(arg: str) -> ConfigDict:
    """The config of "OBJECTIVE,seeds,steps": this file is a config file."""
    name, seeds, steps = arg.split(",")
    objective, factor, changes = INDUCED.get(name, (name, 1.0, {}))
    options = dict(OPTIONS[objective])
    options |= {key: options[key] | value for key, value in changes.items()}
    config = schema.defaults()
    config.backbone.update(name="resnet18", width=16, in_channels=1)
    if objective == "mae":
        vit = dict(name="vit_tiny", family="mae_finetuned", width=32, positions=SIZE)
        config.backbone.update(**vit)
    for body in ("chest", "hand", "head"):
        sizes = dict(train=600, validation=80, test=200)
        config.datasets[body] = schema.dataset(
            "phantom_xray", body=body, image_size=SIZE, **sizes
        )
    config.tasks[TASK] = schema.task(
        kind="classification",
        dataset="head",
        target="finding",
        image_size=SIZE,
        batch_size=32,
    )
    probe = dict(task=TASK, frozen=True)
    for seed in range(int(seeds)):
        config.runs[f"learnt_{seed}"] = schema.run(
            stage="contrastive",
            seed=seed,
            steps=int(steps),
            log_every=10,
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3 * factor,
                warmup_steps=20,
                weight_decay=0.05,
            ),
            contrastive=dict(
                objective=objective,
                datasets=dict(chest=1.0, hand=1.0, head=1.0),
                image_size=SIZE,
                batch_size=64,
                batch_norm_rows=16,
                **options,
            ),
        )
        for arm, start in (("random", ""), (name, f"learnt_{seed}")):
            config.runs[f"{arm}_probe_{seed}"] = schema.run(
                arm=arm, seed=seed, init_from=start, steps=1, finetune=probe
            )
    config.report.baseline = "random"
    return config


def _area(work: pathlib.Path, run: str) -> float:
    """AUROC of the linear probe on the test split."""
    path = work / "runs" / run / "predictions" / TASK / "test.linear.npz"
    with np.load(path) as arrays:
        label, probability = arrays["label"], arrays["probability"]
    return float(metrics.roc_auc_score(label[:, 1], probability[:, 1]))


def _measure(objective: str, options: Any, folder: pathlib.Path) -> dict[str, Any]:
    """Runs an objective's config and reads what its probes came to."""
    work, seeds = folder / objective, options.count
    config = f"{pathlib.Path(__file__)}:{objective},{seeds},{options.steps}"
    command = [sys.executable, "-m", "mtpret_jax.main", "train", f"--config={config}"]
    command += [f"--workdir={work}", f"--data_dir={folder / 'data'}"]
    environment = dict(os.environ) | {"PYTHONPATH": str(harness.REPOSITORY)}
    subprocess.run(command, check=True, env=environment)
    found = {
        arm: [_area(work, f"{arm}_probe_{seed}") for seed in range(seeds)]
        for arm in ("random", objective)
    }
    told = [
        json.loads((work / "runs" / f"learnt_{seed}" / "run.json").read_text())
        for seed in range(seeds)
    ]
    gains = [b - a for a, b in zip(found["random"], found[objective], strict=True)]
    mean = statistics.mean(gains)
    half = stats.t.ppf(0.975, seeds - 1) * statistics.stdev(gains) / seeds**0.5
    return {
        "objective": objective,
        "random": found["random"],
        "learnt": found[objective],
        "gain": mean,
        "lower": mean - half,
        "upper": mean + half,
        "collapses": [run.get("monitor", {}).get("collapses") for run in told],
    }


def main() -> None:
    """Runs all objectives and prints the table."""
    parser = harness.parser(__doc__, count=3, steps=600, folder="")
    known = [*OBJECTIVES, *INDUCED]
    parser.add_argument("--objectives", nargs="+", default=known, choices=known)
    options = parser.parse_args()
    if options.count < 2:
        parser.error("--count: an interval needs two seeds at least")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary)
        rows = [_measure(name, options, folder) for name in options.objectives]
    harness.table(
        [
            ["objective", "random", "learnt", "gain", "95 % interval", "collapses"],
            *(
                [
                    row["objective"],
                    f"{statistics.mean(row['random']):.3f}",
                    f"{statistics.mean(row['learnt']):.3f}",
                    f"{row['gain']:.3f}",
                    f"{row['lower']:.3f} to {row['upper']:.3f}",
                    f"{sum(map(bool, row['collapses']))} of {options.count}",
                ]
                for row in rows
            ),
        ]
    )
    harness.write("objectives", {"task": TASK, "rows": rows}, options, n=options.count)


if __name__ == "__main__":
    main()
