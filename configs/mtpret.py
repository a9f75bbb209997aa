"""A study of MTPret at full size: eleven sets, seven tasks, two external sets.

Run:     python -m mtpret_jax.main --config=configs/mtpret.py:FOLDER --workdir=...
         where FOLDER holds the thirteen releases (`python -m tfds_builders.doctor
         FOLDER` says what is missing). With ImageNet weights of a ResNet-50, in
         torchvision's or timm's layout, the arm `imagenet` joins in:
         --config=configs/mtpret.py:FOLDER,WEIGHTS
         Sizes are for 1 to 8 accelerators; chips=256 gives stage 1 those of a pod:
         --config=configs/mtpret.py:FOLDER,chips=256
Expect:  weeks on one accelerator; no run of this size has been done yet.
         `mtpret_jax config check --for=tpu:v5e:2x4` says what a slice makes of it
         (docs/multi_device.md). The whole of it runs on dummy releases:
         configs/tiny.py:mtpret,FOLDER.
Source:  shared names are those of the published work; M is MoCo v2 (He et al., 2020),
         T torchvision's Faster R-CNN, P PaddleSeg's DeepLabV3. The papers' own
         hyper-parameters are not public, so all else is marked `ours:`.
"""

from typing import Any

from ml_collections import ConfigDict

from mtpret_jax import config as schema

# Published: the nine sets of MUSCLE. ours: panoramic_mandible and grazpedwri_dx, for
# the published "heads" and "bones", and which of the sets bring a task.
PRETRAINING_SETS = (
    "nih_chest_xray14",
    "shenzhen_cxr",
    "montgomery_cxr",
    "indiana_cxr",
    "rsna_bone_age",
    "kermany_pneumonia",
    "mura",
    "chest_xray_masks",
    "panoramic_mandible",
    "tbx11k",
    "grazpedwri_dx",
)
EXTERNAL_SETS = ("covid_chestxray", "fracatlas")  # ours
# Their makers split them; the others are split by patient.
OFFICIAL = ("nih_chest_xray14", "kermany_pneumonia", "mura", "rsna_bone_age")
# Of which masks or boxes are learnt.
MAPPED_SETS = (
    "chest_xray_masks",
    "panoramic_mandible",
    "tbx11k",
    "grazpedwri_dx",
    "fracatlas",
)

# ours: steps of fine-tuning, about 20 (the large sets) to 100 epochs.
FINETUNE_STEPS = {
    "findings": 24_000,
    "pneumonia": 3_000,
    "bone_abnormality": 15_000,
    "lungs": 3_000,
    "mandible": 600,
    "tuberculosis": 8_000,
    "wrist_fracture": 40_000,
    "covid": 1_000,
    "fracture": 2_500,
    "fracture_boxes": 10_000,
}
EXTERNAL_TASKS = ("covid", "fracture", "fracture_boxes")

# Published, but for the controls (ours): the papers lack any for the steps, and the
# updates, that stage 2 spends.
ARMS = (
    "scratch",
    "contrastive",
    "continual_plain",
    "mtpret",
    "control",
    "control_updates",
)
CLAIMS = (
    "mtpret - scratch",
    "mtpret - contrastive",
    "mtpret - continual_plain",
    "mtpret - control",
    "mtpret - control_updates",
)

# ours: longest side of a stored picture, pixels; for masks and boxes that of the input,
# for crops of 224 from the others half as much again
STORED = 336
STORED_FOR_MAPS = 512
ROUNDS = 10  # ours
SEGMENT_STEPS = 300  # ours

# Stage 1 by the number of accelerators: each gets 32 pairs on 8, and on 256.
SIZES: dict[int, dict[str, Any]] = {
    8: dict(
        batch_size=256,  # M
        momentum=0.999,  # M
        steps=117_500,  # M: 200 epochs, here of about 150,000 images
        checkpoint_every=2000,
        optimizer=dict(name="sgd", learning_rate=0.03, weight_decay=1e-4),  # M
    ),
    # ours: as many epochs. SGD is not known to hold at such a batch; LARS with these
    # figures does for another contrastive method (Chen et al., 2021, MoCo v3).
    256: dict(
        batch_size=8192,
        momentum=0.99,
        steps=3672,
        checkpoint_every=125,
        optimizer=dict(
            name="lars",
            learning_rate=0.3,
            learning_rate_batch=256,  # ours: in proportion to the batch
            weight_decay=1.5e-6,
            warmup_steps=180,  # ten epochs
        ),
    ),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config for the releases below a folder, and perhaps ImageNet weights."""
    folder, *rest = arg.split(",")
    chips = next((part[6:] for part in rest if part.startswith("chips=")), "8")
    weights = next((part for part in rest if not part.startswith("chips=")), "")
    if not folder or chips not in map(str, SIZES):
        raise ValueError(
            "configs/mtpret.py needs the folder of the releases, and chips is one of "
            f"{list(SIZES)}: --config=configs/mtpret.py:/path/to/folder"
            "[,/path/to/weights.pth][,chips=256]."
        )
    config = schema.defaults()
    config.report.title = "MTPret in JAX: eleven sets, seven tasks, two external sets"
    config.report.bootstrap = 1000  # ours
    # Both depths of 18 and 50 are published.
    config.backbone.update(name="resnet50", width=64, in_channels=3)
    config.input.normalisation = "image"  # ours: Z-score of each image
    config.input.fit = "pad"  # ours
    if weights:
        config.encoders.imagenet = schema.encoder(weights=weights)
    options = dict(
        tbx11k=dict(only_tb=True),  # published: its 800 images of tuberculosis
        grazpedwri_dx=dict(objects=("fracture",)),  # ours: of nine kinds of object
    )
    for name in (*PRETRAINING_SETS, *EXTERNAL_SETS):
        stored = STORED_FOR_MAPS if name in MAPPED_SETS else STORED
        config.datasets[name] = schema.dataset(
            name,
            splits="official" if name in OFFICIAL else "grouped",
            folder=folder,
            image_size=stored,
            **options.get(name, {}),
        )
    _add_classification(config)
    _add_segmentation(config)
    _add_detection(config)
    config.study = _study(SIZES[int(chips)], weights)
    return config


def _add_classification(config: ConfigDict) -> None:
    common: dict[str, Any] = dict(
        kind="classification",
        image_size=224,  # M
        batch_size=64,  # ours
    )
    config.tasks.findings = schema.task(
        dataset="nih_chest_xray14", target="finding", exclusive=False, **common
    )
    for task, dataset in (
        ("pneumonia", "kermany_pneumonia"),
        ("bone_abnormality", "mura"),
        ("covid", "covid_chestxray"),
        ("fracture", "fracatlas"),
    ):
        config.tasks[task] = schema.task(dataset=dataset, target="label", **common)


def _add_segmentation(config: ConfigDict) -> None:
    for task, dataset in (
        ("lungs", "chest_xray_masks"),
        ("mandible", "panoramic_mandible"),
    ):
        config.tasks[task] = schema.task(
            kind="segmentation",
            dataset=dataset,
            image_size=512,  # P
            batch_size=16,  # ours: at least 8 for BatchNorm
            # P: output stride 8, with the rates that go with it
            segmentation=dict(output_stride=8, channels=256, rates=(12, 24, 36)),
        )


def _add_detection(config: ConfigDict) -> None:
    for task, dataset in (
        ("tuberculosis", "tbx11k"),
        ("wrist_fracture", "grazpedwri_dx"),
        ("fracture_boxes", "fracatlas"),
    ):
        config.tasks[task] = schema.task(
            kind="detection",
            dataset=dataset,
            image_size=512,  # ours
            batch_size=8,  # ours
            learning_rate_scale=0.5,  # ours
            detection=dict(
                channels=256,  # T
                # ours: T's 32 to 512 pixels are for pictures of 800
                anchor_sizes=(16.0, 32.0, 64.0, 128.0, 256.0),
                proposals_before_nms=1000,  # ours: T takes 2000 when training
                proposals=1000,  # T, when testing
                anchors_sampled=256,  # T
                regions=512,  # T
                hidden=1024,  # T
                max_boxes=32,  # ours
                detections=100,  # T
            ),
        )


def _study(sizes: dict[str, Any], weights: str) -> ConfigDict:
    return schema.study(
        tasks=tuple(FINETUNE_STEPS),
        hold_out=EXTERNAL_TASKS,
        arms=(*ARMS, "imagenet") if weights else ARMS,
        fractions=(1.0,),
        seeds=(3,),  # ours
        contrastive=_contrastive(sizes),
        continual=_continual(),
        finetune=dict(
            log_every=50,
            checkpoint_every=500,
            evaluate_every=1000,  # ours
            # ours, alike for every arm
            optimizer=dict(name="sgd", learning_rate=0.01, warmup_steps=100),
        ),
        finetune_steps=FINETUNE_STEPS,
        frozen=True,
        claims=CLAIMS,
    )


def _contrastive(sizes: dict[str, Any]) -> dict[str, Any]:
    return dict(
        stage="contrastive",
        steps=sizes["steps"],
        log_every=25,
        checkpoint_every=sizes["checkpoint_every"],
        optimizer=dict(momentum=0.9) | sizes["optimizer"],  # M
        contrastive=dict(
            datasets=dict.fromkeys(PRETRAINING_SETS, 1.0),
            size_exponent=1.0,  # Published: the sets are aggregated
            image_size=224,  # M
            batch_size=sizes["batch_size"],
            queue_size=32_768,  # ours: below a quarter of the pool; M has 65,536
            momentum=sizes["momentum"],
            temperature=0.2,  # M
            embedding_size=128,  # M
            batch_norm_rows=32,  # M, on eight devices
            augment=schema.augment(
                "contrastive",
                # ours: M has 0.2, but a small crop loses what is to be found
                crop_min_area=0.4,
                flip_probability=0.5,  # M
                rotation_degrees=10.0,  # ours
                brightness=0.2,  # ours: M has 0.4; 0.2 moves an image by a deviation
                contrast=0.4,  # M
                gamma=0.3,  # ours
                blur_probability=0.5,  # M
                blur_sigma=2.0,  # M
                noise=0.03,  # ours
            ),
        ),
    )


def _continual() -> dict[str, Any]:
    return dict(
        stage="continual",
        log_every=50,
        steps=SEGMENT_STEPS,
        checkpoint_every=SEGMENT_STEPS,
        optimizer=dict(
            name="sgd",
            learning_rate=0.01,  # ours
            final_learning_rate=1e-5,  # ours
            momentum=0.9,  # ours
            clip_norm=10.0,  # ours
        ),
        # Published: cross-task memorization, a cyclic and reshuffled schedule. ours:
        # how, and every number.
        continual=dict(
            rounds=ROUNDS,
            reshuffle=True,
            cyclic=True,
            anchor_previous=0.01,
            anchor_pretrained=0.01,
            feature_memory=0.0,
            head_decay=0.01,
        ),
    )
