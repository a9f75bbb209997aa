"""Every arm and ablation on seven tasks of real X-rays, for one accelerator.

Run:     python -m mtpret_jax.main --config=configs/study_full.py:FOLDER \
             --workdir=runs/study_full
         where FOLDER holds chest_cls, chest_det, lung_seg, dental_teeth, bone_cls and
         bone_det, each as `xray_folder` reads it. With ImageNet weights of a
         ResNet-50, in torchvision's or timm's layout, the arm `imagenet` joins in:
         --config=configs/study_full.py:FOLDER,WEIGHTS
         The bones are held out: both sets, since they share pictures.
Expect:  some 500 fine-tunings; started again anywhere, it goes on.
Source:  arms as published, the control and the ablations ours; M is MoCo v2 (He et
         al., 2020). The papers' own hyper-parameters are not public, so all else is
         ours.
"""

from typing import Any

from ml_collections import ConfigDict

from mtpret_jax import config as schema

ARMS = (
    "scratch",
    "contrastive_single",
    "contrastive",
    "joint_supervised",
    "continual_plain",
    "mtpret",
    "control",
    "memorization_only",
    "schedule_only",
    "anchor_previous_only",
    "anchor_pretrained_only",
    "head_carried",
    "unetplusplus",
)
# ours
FINETUNE_STEPS = {
    "chest_cls": 400,
    "chest_det_cls": 400,
    "bone_cls": 400,
    "lung_seg": 400,
    "dental_teeth": 400,
    "chest_det": 800,
    "bone_det": 800,
}


def get_config(arg: str = "") -> ConfigDict:
    """The config for the sets below a folder, and perhaps ImageNet weights."""
    folder, _, weights = arg.partition(",")
    if not folder:
        raise ValueError(
            "configs/study_full.py needs the folder of the X-ray sets: "
            "--config=configs/study_full.py:/path/to/folder[,/path/to/weights.pth]."
        )
    config = schema.defaults()
    config.report.title = "What helps on real X-rays, and why?"
    config.backbone.update(name="resnet50", compute_dtype="bfloat16")
    # ours: the shape of a picture tells its hospital; a stretched one does not.
    config.input.fit = "stretch"
    if weights:
        given = {"weights": weights, "input": {"fit": "stretch"}}
        config.encoders.imagenet = schema.encoder(**given)
    _add_sets(config, folder)
    _add_tasks(config)
    config.study = _study(weights)
    return config


def _add_sets(config: ConfigDict, folder: str) -> None:
    """Six sets, stored as small as their tasks allow: some 60 MB in all."""
    sets: dict[str, dict[str, Any]] = dict(
        chest_cls=dict(
            image_size=128, labels=dict(label=["normal", "pneumonia", "covid"])
        ),
        # Copies of pictures in chest_cls, in the same splits.
        chest_det=dict(
            image_size=192,
            labels=dict(
                label=dict(
                    normal=["Normal"],
                    abnormal=["No Lung Opacity / Not Normal"],
                    opacity=["Lung Opacity"],
                )
            ),
            unknown=["not_in_rsna"],
            annotations="annotations.json",
            box_classes=["lung_opacity"],
        ),
        lung_seg=dict(image_size=128, masks="bits", mask_classes=dict(lungs=[0, 1])),
        dental_teeth=dict(
            image_size=192, masks="labels", mask_classes=dict(tooth=list(range(1, 33)))
        ),
        bone_cls=dict(image_size=128, labels=dict(label=["normal", "fracture"])),
        bone_det=dict(
            image_size=256,
            annotations="annotations.json",
            # The kinds are signs of one thing, and two of them are rare.
            box_classes=dict(fracture=["angle", "fracture", "line", "messed_up_angle"]),
        ),
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
            kind="classification", dataset=dataset, image_size=128, batch_size=32
        )
    for name, size in (("lung_seg", 128), ("dental_teeth", 192)):
        config.tasks[name] = schema.task(
            kind="segmentation",
            dataset=name,
            image_size=size,
            batch_size=16,
            # ours: rates for levels of 16 to 24 cells
            segmentation=dict(output_stride=8, channels=128, rates=(2, 4, 6)),
        )
    # ours: anchors follow the sides of the training boxes, 5 to 95 % of them: opacities
    # 24 to 81 px of 192, fractures 6 to 43 px of 256
    for name, size, anchors in (
        ("chest_det", 192, (28.0, 40.0, 56.0, 80.0, 112.0)),
        ("bone_det", 256, (10.0, 18.0, 30.0, 48.0, 86.0)),
    ):
        config.tasks[name] = schema.task(
            kind="detection",
            dataset=name,
            image_size=size,
            batch_size=8,
            # ours: no rotation
            augment=schema.augment(
                "gentle", crop_min_area=0.6, flip_probability=0.5, rotation_degrees=0.0
            ),
            detection=dict(
                channels=128,
                anchor_sizes=anchors,
                proposals_before_nms=500,
                proposals=256,
                anchors_sampled=64,  # ours: few boxes, few steps
                regions=128,
                hidden=512,
                max_boxes=8,
                detections=50,
            ),
        )


def _study(weights: str) -> ConfigDict:
    sets = ("chest_cls", "lung_seg", "dental_teeth", "bone_cls", "bone_det")
    return schema.study(
        tasks=tuple(FINETUNE_STEPS),
        hold_out=("bone_cls", "bone_det"),
        arms=(*ARMS, "imagenet") if weights else ARMS,
        fractions=(0.1, 1.0),
        seeds=(3, 3),
        contrastive=dict(
            stage="contrastive",
            steps=6000,  # ours: about 290 epochs of 1,327 images
            log_every=50,
            checkpoint_every=1000,
            optimizer=dict(learning_rate=0.03, warmup_steps=100),  # ours
            contrastive=dict(
                # Not chest_det: it would count its pictures twice.
                datasets=dict.fromkeys(sets, 1.0),
                image_size=128,
                batch_size=64,  # ours
                queue_size=512,  # ours: two fifths of the pool
                momentum=0.99,  # ours: the published 0.999 is for longer training
                batch_norm_rows=8,  # M: eight groups
                augment=schema.augment("contrastive", crop_min_area=0.5),  # ours
            ),
        ),
        single_queue_size=128,  # ours: half of the smallest set
        continual=dict(
            stage="continual",
            steps=50,  # ours
            log_every=10,
            checkpoint_every=50,
            optimizer=dict(learning_rate=0.01),  # ours
            continual=dict(rounds=8, anchor_previous=0.001, anchor_pretrained=0.001),
        ),
        finetune=dict(
            log_every=10,
            checkpoint_every=200,
            evaluate_every=100,
            # ours, alike for every arm
            optimizer=dict(
                name="adamw", learning_rate=0.0005, warmup_steps=40, weight_decay=0.05
            ),
            finetune=dict(selection="auto"),
        ),
        finetune_steps=FINETUNE_STEPS,
        # ours: UNet++ narrower than published, for small pictures
        unetplusplus=dict(head="unetplusplus", node_channels=(16, 32, 64, 128)),
        frozen=True,
        claims=(
            "mtpret - scratch",
            "mtpret - contrastive",
            "mtpret - control",
            "mtpret - continual_plain",
            "mtpret - joint_supervised",
            "contrastive - scratch",
            "contrastive - contrastive_single",
        ),
    )
