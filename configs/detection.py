"""Boxes from scratch: lung opacities, fractures and simulated opacities, on two cores.

Run:     python -m mtpret_jax.main --config=configs/detection.py:FOLDER \
             --workdir=runs/detection
         where FOLDER holds chest_det and bone_det, each as `xray_folder` reads it.
Expect:  docs/results.md, "Boxes from scratch".
Source:  ours throughout; anchors follow the sides of the training boxes.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

STEPS = {"opacity": 300, "chest_det": 1200, "bone_det": 1500}


def get_config(folder: str = "") -> ConfigDict:
    """The config for the sets below `folder`."""
    if not folder:
        raise ValueError(
            "configs/detection.py needs the folder of the X-ray sets: "
            "--config=configs/detection.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "Boxes from scratch: one seed"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    _add_sets(config, folder)
    _add_tasks(config)
    for task, steps in STEPS.items():
        config.runs[task] = schema.run(
            stage="finetune",
            arm="scratch",
            steps=steps,
            log_every=10,
            checkpoint_every=50,
            evaluate_every=100,
            optimizer=dict(
                name="adamw", learning_rate=0.001, warmup_steps=50, weight_decay=0.05
            ),
            finetune=dict(task=task),
        )
    return config


def _add_sets(config: ConfigDict, folder: str) -> None:
    config.datasets.phantom = schema.dataset(
        "phantom_xray",
        body="chest",
        image_size=96,
        train=600,
        validation=80,
        test=200,
    )
    config.datasets.chest_det = schema.dataset(
        "xray_folder",
        folder=f"{folder}/chest_det",
        image_size=256,
        annotations="annotations.json",
        box_classes=["lung_opacity"],
    )
    kinds = ["angle", "fracture", "line", "messed_up_angle"]
    config.datasets.bone_det = schema.dataset(
        "xray_folder",
        folder=f"{folder}/bone_det",
        image_size=512,
        annotations="annotations.json",
        # The kinds are signs of one thing, and two of them are rare.
        box_classes=dict(fracture=kinds),
    )


def _add_tasks(config: ConfigDict) -> None:
    # ours: no rotation
    augment = schema.augment(
        "gentle", crop_min_area=0.6, flip_probability=0.5, rotation_degrees=0.0
    )
    head = dict(
        channels=64,
        proposals_before_nms=300,
        proposals=128,
        anchors_sampled=64,
        regions=64,
        hidden=256,
        max_boxes=8,
        detections=50,
    )
    # Sides of the boxes in pixels of the input, 5, 50 and 95 % of them:
    # opacity 14, 20, 27; chest_det 24, 48, 81; bone_det 9, 21, 64.
    rows = {
        "opacity": ("phantom", 96, 16, (14.0, 20.0, 28.0, 40.0, 56.0)),
        "chest_det": ("chest_det", 192, 8, (28.0, 40.0, 56.0, 80.0, 112.0)),
        "bone_det": ("bone_det", 384, 4, (16.0, 28.0, 44.0, 72.0, 128.0)),
    }
    for name, (dataset, size, batch, anchors) in rows.items():
        config.tasks[name] = schema.task(
            kind="detection",
            dataset=dataset,
            image_size=size,
            batch_size=batch,
            augment=augment,
            detection=dict(anchor_sizes=anchors, **head),
        )
