"""Bone age in months, and grades of arthritis, from scratch on two cores.

Run:     python -m benchmarks.folds SETS/hand_age FOLDER/hand_age  # and knee_oa
         python -m mtpret_jax.main --config=configs/readings.py:FOLDER \
             --workdir=runs/readings
         where SETS holds both as `xray_folder` reads them, of which the first command
         leaves the images of the test split out. `:FOLDER,1` takes another fold.
Expect:  a mean absolute error below 18 months (the median of the training ages predicts
         34) and a quadratic kappa above 0.60: docs/results.md, "Bone age". Some 15
         minutes for a run of ages, 7 for one of grades, on two idle cores.
Source:  ours throughout; L1 and sex beside the features as in the challenge of 2017.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

STEPS = {"age": 1600, "arthritis": 1000}  # ours: 76 and 43 epochs
SIZE = 160  # ours: pixels


def get_config(arg: str = "") -> ConfigDict:
    """The config for "FOLDER" or "FOLDER,fold"."""
    folder, _, fold = arg.partition(",")
    if not folder:
        raise ValueError(
            "configs/readings.py needs the folder that benchmarks/folds.py wrote: "
            "--config=configs/readings.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "Readings from scratch: bone age and arthritis"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    split = f"fold_{fold or 0}"
    config.datasets.hand_age = schema.dataset(
        "xray_folder",
        folder=f"{folder}/hand_age",
        split_column=split,
        image_size=224,
        values=dict(bone_age_months="months"),
        about=dict(sex="sex"),
    )
    config.datasets.knee_oa = schema.dataset(
        "xray_folder",
        folder=f"{folder}/knee_oa",
        split_column=split,
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
