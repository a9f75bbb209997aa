"""Landmarks of lateral skull X-rays from scratch: 19 points, in folds, two seeds.

Run:     python -m benchmarks.folds FOLDER/skull_ceph folds/skull_ceph
         python -m mtpret_jax.main --config=configs/cephalometry.py:folds/skull_ceph \
             --workdir=runs/cephalometry
         where FOLDER holds skull_ceph, of which the first command leaves the images of
         the test split out. `:folds/skull_ceph,5` does all five folds, not the first
         two.
Expect:  a mean radial error below 2 % of the longer side in each fold (the mean shape
         has 3.5 %, two readers 0.7 %): docs/results.md, "Landmarks". Three minutes a
         run on two idle cores.
Source:  ours throughout.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

SEEDS = (0, 1)
LANDMARKS = (
    "sella",
    "nasion",
    "orbitale",
    "porion",
    "subspinale_A",
    "supramentale_B",
    "pogonion",
    "menton",
    "gnathion",
    "gonion",
    "lower_incisal",
    "upper_incisal",
    "upper_lip",
    "lower_lip",
    "subnasale",
    "soft_pogonion",
    "posterior_nasal_spine",
    "anterior_nasal_spine",
    "articulare",
)


def get_config(arg: str = "") -> ConfigDict:
    """The config for "FOLDER" or "FOLDER,folds"."""
    folder, _, folds = arg.partition(",")
    if not folder:
        raise ValueError(
            "configs/cephalometry.py needs the folder that benchmarks/folds.py wrote: "
            "--config=configs/cephalometry.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "Landmarks of lateral skulls from scratch"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    config.input.fit = "stretch"
    augment = schema.augment(
        "gentle", crop_min_area=0.7, rotation_degrees=10.0, brightness=0.2, contrast=0.3
    )
    for fold in range(int(folds or 2)):
        name = f"fold_{fold}"
        config.datasets[name] = schema.dataset(
            "xray_folder",
            folder=folder,
            split_column=name,
            image_size=512,
            keypoints="annotations_keypoints.json",
            landmark_names=LANDMARKS,
        )
        config.tasks[name] = schema.task(
            kind="landmarks",
            dataset=name,
            image_size=256,
            batch_size=8,
            augment=augment,
            landmarks=dict(channels=64),
        )
        for seed in SEEDS:
            config.runs[f"{name}_seed_{seed}"] = schema.run(
                stage="finetune",
                arm=f"seed {seed}",
                seed=seed,
                steps=400,
                log_every=10,
                checkpoint_every=100,
                evaluate_every=100,
                optimizer=dict(
                    name="adamw",
                    learning_rate=0.002,
                    warmup_steps=50,
                    weight_decay=0.05,
                ),
                finetune=dict(task=name),
            )
    config.report.baseline = "seed 0"
    return config
