"""Does pre-training help on real X-rays? Four arms, five tasks, on two CPU cores.

Run:     python -m mtpret_jax.main --config=configs/study_mini.py:FOLDER \
             --workdir=runs/study_mini
         where FOLDER holds chest_cls, chest_det, lung_seg, dental_teeth and bone_cls,
         each as `xray_folder` reads it. The bones are held out: no pre-training reads
         them. `--config.study.hold_out="()"` takes them in.
Expect:  README, "Does it help?"; about two hours with two processes at work.
Source:  arms as published, with a control of equal budget that is ours; every size,
         budget and rate is ours, cut to what two cores do in hours. They were chosen
         without the test splits: docs/study_mini_search.md.
"""

from typing import Any

from ml_collections import ConfigDict

from mtpret_jax import config as schema

# ours: at most 300 steps a cell
FINETUNE_STEPS = {
    "chest_cls": 150,
    "chest_det_cls": 150,
    "bone_cls": 150,
    "lung_seg": 150,
    "chest_det": 300,
}
SIZE = 96  # ours: pixels; twice that for boxes
VIEW = 64  # ours: pixels of stage 1


def get_config(folder: str = "") -> ConfigDict:
    """The config for the sets below `folder`."""
    if not folder:
        raise ValueError(
            "configs/study_mini.py needs the folder of the X-ray sets: "
            "--config=configs/study_mini.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "Does pre-training help on real X-rays?"
    config.report.bootstrap = 5000
    # ours: the smaller published depth, at a quarter of its width: more steps and seeds
    config.backbone.update(name="resnet18", width=16, in_channels=1)
    # ours: the shape of a picture tells its hospital; a stretched one does not.
    config.input.fit = "stretch"
    _add_sets(config, folder)
    _add_tasks(config)
    config.study = _study()
    return config


def _add_sets(config: ConfigDict, folder: str) -> None:
    told = dict(age="age", sex="sex", view="view")
    sets: dict[str, dict[str, Any]] = dict(
        chest_cls=dict(
            image_size=128,
            labels=dict(label=["normal", "pneumonia", "covid"]),
            about=told,
        ),
        # Copies of pictures in chest_cls, in the same splits.
        chest_det=dict(
            image_size=256,
            labels=dict(
                label=dict(
                    normal=["Normal"],
                    abnormal=["No Lung Opacity / Not Normal"],
                    opacity=["Lung Opacity"],
                )
            ),
            unknown=["not_in_rsna"],
            about=told,
            annotations="annotations.json",
            box_classes=["lung_opacity"],
        ),
        lung_seg=dict(image_size=128, masks="bits", mask_classes=dict(lungs=[0, 1])),
        dental_teeth=dict(  # For stage 1 alone.
            image_size=128, masks="labels", mask_classes=dict(tooth=list(range(1, 33)))
        ),
        bone_cls=dict(image_size=128, labels=dict(label=["normal", "fracture"])),
    )
    for name, options in sets.items():
        config.datasets[name] = schema.dataset(
            "xray_folder", folder=f"{folder}/{name}", **options
        )


def _add_tasks(config: ConfigDict) -> None:
    for name, dataset in (
        ("chest_cls", "chest_cls"),
        ("chest_det_cls", "chest_det"),
        ("bone_cls", "bone_cls"),
    ):
        config.tasks[name] = schema.task(
            kind="classification",
            dataset=dataset,
            image_size=SIZE,
            batch_size=32,
            # ours: few labels are soon learnt by heart, in stage 2 above all
            learning_rate_scale=0.1,
            augment=schema.augment("contrastive", crop_min_area=0.5),
        )
    config.tasks.lung_seg = schema.task(
        kind="segmentation",
        dataset="lung_seg",
        image_size=SIZE,
        batch_size=16,
        learning_rate_scale=2.0,  # ours: as in configs/segmentation.py
        segmentation=dict(output_stride=8, channels=64, rates=(2, 4, 6)),
    )
    config.tasks.chest_det = schema.task(
        kind="detection",
        dataset="chest_det",
        image_size=2 * SIZE,
        batch_size=8,
        # ours: no rotation
        augment=schema.augment(
            "gentle", crop_min_area=0.6, flip_probability=0.5, rotation_degrees=0.0
        ),
        detection=dict(
            channels=64,
            # ours: sides of the training boxes 24, 48, 81 px (5, 50 and 95 % of them)
            anchor_sizes=(28.0, 40.0, 56.0, 80.0, 112.0),
            proposals_before_nms=300,
            proposals=128,
            anchors_sampled=64,  # ours: few boxes, few steps
            regions=64,
            hidden=256,
            max_boxes=8,
            detections=50,
        ),
    )


def _study() -> ConfigDict:
    sets = ("chest_cls", "lung_seg", "dental_teeth", "bone_cls")
    return schema.study(
        tasks=tuple(FINETUNE_STEPS),
        hold_out=("bone_cls",),
        arms=("scratch", "contrastive", "control", "mtpret"),
        fractions=(0.1, 1.0),
        seeds=(3, 1),
        contrastive=dict(
            stage="contrastive",
            steps=1500,  # ours: about 72 epochs of 1,327 images
            log_every=10,
            checkpoint_every=250,
            optimizer=dict(learning_rate=0.1, warmup_steps=50),  # ours
            contrastive=dict(
                # Not chest_det: it would count its pictures twice.
                datasets=dict.fromkeys(sets, 1.0),
                image_size=VIEW,
                batch_size=64,  # ours
                queue_size=512,  # ours: two fifths of the pool
                momentum=0.99,  # ours: the published 0.999 is for longer training
                batch_norm_rows=16,  # ours
                augment=schema.augment("contrastive", crop_min_area=0.5),  # ours
            ),
        ),
        continual=dict(
            stage="continual",
            steps=60,  # ours
            log_every=10,
            checkpoint_every=60,
            # ours: as in fine-tuning, where SGD hardly learnt boxes and masks
            optimizer=dict(name="adamw", learning_rate=0.001, warmup_steps=10),
            continual=dict(rounds=5, anchor_previous=0.001, anchor_pretrained=0.001),
        ),
        finetune=dict(
            log_every=10,
            checkpoint_every=50,
            evaluate_every=50,
            # ours, alike for every arm
            optimizer=dict(
                name="adamw", learning_rate=0.001, warmup_steps=20, weight_decay=0.05
            ),
            finetune=dict(selection="auto"),
        ),
        finetune_steps=FINETUNE_STEPS,
        # ours: times the scale, 0.0003
        learning_rates=dict.fromkeys(("chest_cls", "chest_det_cls", "bone_cls"), 0.003),
        frozen=True,
        claims=(
            "mtpret - scratch",
            "mtpret - contrastive",
            "mtpret - control",
        ),
    )
