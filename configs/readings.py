"""Bone age in months, and grades of arthritis, from scratch on two cores.

Run:     python -m mtpret_jax.main --config=configs/readings.py:FOLDER \
             --workdir=runs/readings
         where FOLDER holds hand_age and knee_oa, each as `xray_folder` reads it. No
         image of their test splits is read: `labels.csv` is shared out anew by
         `python configs/readings.py FOLDER OUT`, by group over train and validation,
         and OUT is then the FOLDER of the config.
Expect:  a mean absolute error below 18 months (the median of the training ages predicts
         34) and a quadratic kappa above 0.60.
Source:  ours throughout; L1 and sex beside the features as in the challenge of 2017.
"""

import csv
import hashlib
import pathlib
import sys

from ml_collections import ConfigDict

from mtpret_jax import config as schema

SETS = ("hand_age", "knee_oa")
FOLDS = 5  # of which one is tested, one chooses the step, and three train
STEPS = {"age": 3000, "arthritis": 2000}  # ours: 170 and 100 epochs
SIZE = 160  # ours: pixels


def get_config(folder: str = "") -> ConfigDict:
    """The config for the sets below `folder`, shared out by `share_out`."""
    if not folder:
        raise ValueError(
            "configs/readings.py needs the folder of the X-ray sets: "
            "--config=configs/readings.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "Readings from scratch: bone age and arthritis"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    config.datasets.hand_age = schema.dataset(
        "xray_folder",
        folder=f"{folder}/hand_age",
        image_size=224,
        values=dict(bone_age_months="months"),
        about=dict(sex="sex"),
    )
    config.datasets.knee_oa = schema.dataset(
        "xray_folder",
        folder=f"{folder}/knee_oa",
        image_size=192,
        labels=dict(kl_grade=[str(grade) for grade in range(5)]),
    )
    # ours: either hand, either knee
    augment = schema.augment("gentle", flip_probability=0.5, rotation_degrees=15.0)
    shared = dict(image_size=SIZE, batch_size=32, flip_at_test=True, augment=augment)
    config.tasks.age = schema.task(
        kind="regression",
        dataset="hand_age",
        target="bone_age_months",
        second_input="sex",
        **shared,
    )
    config.tasks.arthritis = schema.task(
        kind="ordinal",
        dataset="knee_oa",
        target="kl_grade",
        label_smoothing=0.05,
        **shared,
    )
    config.study = schema.study(
        tasks=tuple(STEPS),
        arms=("scratch",),
        seeds=(2,),
        finetune=dict(
            log_every=20,
            checkpoint_every=200,
            evaluate_every=200,
            optimizer=dict(
                name="adamw", learning_rate=0.001, warmup_steps=100, weight_decay=0.05
            ),
            finetune=dict(ema=0.99),
        ),
        finetune_steps=STEPS,
    )
    return config


def share_out(source: pathlib.Path, out: pathlib.Path, fold: int = 0) -> None:
    """Writes the sets anew, with splits of their train and validation images alone.

    Groups are shared out by a digest of their names: of `FOLDS` parts, one is the test
    split, the next the validation split.

    Args:
      source: Holds the sets as they were released.
      out: Gets a folder for each, with a table and a link to the images.
      fold: Which part is tested.
    """
    names = {fold % FOLDS: "test", (fold + 1) % FOLDS: "validation"}
    for name in SETS:
        with (source / name / "labels.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] != "test"]
        for row in rows:
            digest = hashlib.sha256(f"{name}|{row['group']}".encode()).digest()
            row["split"] = names.get(digest[0] % FOLDS, "train")
        (out / name).mkdir(parents=True, exist_ok=True)
        if not (out / name / "images").exists():
            (out / name / "images").symlink_to((source / name / "images").resolve())
        with (out / name / "labels.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    share_out(*map(pathlib.Path, sys.argv[1:3]), *map(int, sys.argv[3:4]))
