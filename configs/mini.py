"""All three stages on five small sets of real X-rays, one seed, on two CPU cores.

Run:     python -m mtpret_jax.main --config=configs/mini.py:FOLDER --workdir=runs/mini
         where FOLDER holds chest_cls, bone_cls, lung_seg, dental_teeth and chest_det,
         each as `xray_folder` reads it.
Expect:  docs/results.md, "Results on real X-rays".
Source:  stages and arms as published; every size, budget and rate is ours, cut to
         what two cores do in about an hour.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

ARMS = {"scratch": "", "contrastive": "contrastive", "mtpret": "continual"}


def get_config(folder: str = "") -> ConfigDict:
    """The config for the sets below `folder`."""
    if not folder:
        raise ValueError(
            "configs/mini.py needs the folder of the X-ray sets: "
            "--config=configs/mini.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "MTPret in JAX: three stages on real X-rays, one seed"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    # ours: the shape of a picture tells its hospital; a stretched one does not.
    config.input.fit = "stretch"
    _add_sets(config, folder)
    _add_tasks(config)
    _add_stages(config)
    for arm, start in ARMS.items():
        for task, steps in FINETUNE_STEPS.items():
            config.runs[f"{arm}_{task}"] = schema.run(
                stage="finetune",
                arm=arm,
                init_from=start,
                steps=steps,
                log_every=10,
                checkpoint_every=100,
                evaluate_every=50,
                optimizer=dict(learning_rate=0.02),
                finetune=dict(task=task),
            )
    return config


FINETUNE_STEPS = {
    "chest_cls": 250,
    "bone_cls": 250,
    "lung_seg": 150,
    "dental_teeth": 150,
    "chest_det": 400,
}


def _add_sets(config: ConfigDict, folder: str) -> None:
    """Five sets; stage 1 stores nothing larger than the largest input needs."""
    config.datasets.chest_cls = schema.dataset(
        "xray_folder",
        folder=f"{folder}/chest_cls",
        image_size=128,
        labels=dict(label=["normal", "pneumonia", "covid"]),
    )
    config.datasets.bone_cls = schema.dataset(
        "xray_folder",
        folder=f"{folder}/bone_cls",
        image_size=128,
        labels=dict(label=["normal", "fracture"]),
    )
    config.datasets.lung_seg = schema.dataset(
        "xray_folder",
        folder=f"{folder}/lung_seg",
        image_size=128,
        masks="bits",
        mask_classes=dict(lungs=[0, 1]),
    )
    config.datasets.dental_teeth = schema.dataset(
        "xray_folder",
        folder=f"{folder}/dental_teeth",
        image_size=256,
        masks="labels",
        mask_classes=dict(tooth=list(range(1, 33))),
    )
    config.datasets.chest_det = schema.dataset(
        "xray_folder",
        folder=f"{folder}/chest_det",
        image_size=256,
        annotations="annotations.json",
        box_classes=["lung_opacity"],
    )


def _add_tasks(config: ConfigDict) -> None:
    for name in ("chest_cls", "bone_cls"):
        config.tasks[name] = schema.task(
            kind="classification", dataset=name, image_size=96, batch_size=32
        )
    segmentation = dict(output_stride=8, channels=64, rates=(2, 4, 6))
    config.tasks.lung_seg = schema.task(
        kind="segmentation",
        dataset="lung_seg",
        image_size=96,
        batch_size=16,
        segmentation=segmentation,
    )
    config.tasks.dental_teeth = schema.task(
        kind="segmentation",
        dataset="dental_teeth",
        image_size=192,
        batch_size=8,
        segmentation=segmentation,
    )
    config.tasks.chest_det = schema.task(
        kind="detection",
        dataset="chest_det",
        image_size=192,
        batch_size=8,
        detection=dict(
            channels=64,
            # ours: the boxes' median side is a quarter of the picture.
            anchor_sizes=(12.0, 24.0, 40.0, 56.0, 80.0),
            proposals_before_nms=300,
            proposals=128,
            anchors_sampled=64,  # ours: few boxes, few steps
            regions=64,
            hidden=256,
            max_boxes=8,
            detections=50,
        ),
    )


def _add_stages(config: ConfigDict) -> None:
    # chest_det's pictures are copies of chest_cls's, in the same splits.
    pool = ("chest_cls", "bone_cls", "lung_seg", "dental_teeth")
    config.runs.contrastive = schema.run(
        stage="contrastive",
        steps=1500,
        log_every=10,
        checkpoint_every=250,
        optimizer=dict(learning_rate=0.03, warmup_steps=50),
        contrastive=dict(
            datasets=dict.fromkeys(pool, 1.0),
            image_size=96,
            batch_size=64,
            queue_size=384,  # ours: below a quarter of a pool of 1,641 images
            momentum=0.99,
            batch_norm_rows=16,
            augment=schema.augment("contrastive", crop_min_area=0.5),
        ),
    )
    config.runs.continual = schema.run(
        stage="continual",
        init_from="contrastive",
        steps=30,
        log_every=10,
        checkpoint_every=30,
        optimizer=dict(learning_rate=0.02),
        continual=dict(
            tasks=tuple(config.tasks),
            rounds=6,
            anchor_previous=0.001,
            anchor_pretrained=0.001,
            validation_batches=32,  # all: the sets are small
        ),
    )
