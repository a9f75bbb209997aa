"""One stage against two: RetinaNet and Faster R-CNN on four sets, in equal time.

Run:     python -m benchmarks.folds SETS/chest_det FOLDER/chest_det  # and the others
         python -m benchmarks.folds SETS/bone_det FOLDER/bone_det \
             --boxes_of=SETS/bones_frac
         python -m mtpret_jax.main --config=configs/detectors.py:FOLDER,minutes=30 \
             --workdir=runs/detectors
         where FOLDER holds chest_det, spine_vert, dental_find and bone_det, which the
         first command lays out without the images of their test splits. `fold=1`
         holds out the second fifth of the groups, `seeds=2` trains each twice, and
         `only=spine_vert` (or `only=retinanet`, or `only=spine_vert_retinanet`)
         leaves the others out.
Expect:  each run takes `minutes` on two quiet cores; with 30 of them AP50 of RetinaNet
         of 0.84 on spine_vert and 0.35 on dental_find (docs/results.md); of the others
         nothing is known yet.
Source:  ours throughout; anchors are those of `config anchors`, of spine_vert those
         that it finds when the mean overlap alone counts.
"""

from typing import Any

from ml_collections import ConfigDict

from mtpret_jax import config as schema

BOXES: dict[str, Any] = {
    "chest_det": ["lung_opacity"],
    "spine_vert": ["vertebra"],
    "dental_find": ["Fillings", "Cavity", "Impacted Tooth", "Implant"],
    # The kinds are signs of one thing, and two of them are rare.
    "bone_det": dict(fracture=["angle", "fracture", "line", "messed_up_angle"]),
}
# Side of the input, images of a batch, height over width of anchors.
INPUT = {
    "chest_det": (192, 8, (0.98, 1.43, 2.14)),
    "spine_vert": (384, 4, (0.41, 0.51, 0.66)),
    "dental_find": (384, 4, (2.44, 3.75, 5.6)),
    "bone_det": (384, 4, (0.67, 1.11, 1.89)),
}
ANCHORS = {
    "retinanet": {  # two of each level, from the finest to P7
        "chest_det": (23, 43, 57, 79, 81, 81, 81, 92, 94, 105),
        "spine_vert": (18, 30, 37, 45, 50, 57, 61, 64, 64, 66, 68, 78),
        "dental_find": (19, 30, 37, 45, 49, 57, 60, 61, 68, 72, 72, 81),
        "bone_det": (9, 14, 17, 26, 36, 47, 64, 90, 116, 160, 161, 162),
    },
    "faster_rcnn": {  # P2 to P6
        "chest_det": (23, 46, 62, 86, 92),
        "spine_vert": (17, 34, 50, 56, 59),
        "dental_find": (19, 34, 49, 56, 68),
        "bone_det": (12, 23, 42, 67, 120),
    },
}
# Boxes that are low or small for P3, which has a place every 8 pixels. P2 has four
# times as many places, and so as many operations; fewer channels make up for some.
FINE = {"finest_level": 2, "channels": 48}
FINE_SETS = ("spine_vert", "dental_find", "bone_det")
SIZES = {
    "retinanet": dict(channels=64, candidates=300),
    "faster_rcnn": dict(
        channels=64,
        proposals_before_nms=300,
        proposals=128,
        anchors_sampled=64,
        regions=64,
        hidden=256,
    ),
}
# Images a second of training, by the processor's time of two cores.
RATES = {
    "retinanet": dict(chest_det=27, spine_vert=4.2, dental_find=4.2, bone_det=4.2),
    "faster_rcnn": dict(chest_det=25, spine_vert=6.2, dental_find=6.6, bone_det=6.6),
}


def get_config(argument: str = "") -> ConfigDict:
    """The config for "FOLDER" and, after commas, `option=value`."""
    folder, *given = argument.split(",")
    if not folder:
        raise ValueError(
            "configs/detectors.py needs the folder of the sets that benchmarks.folds "
            "laid out: --config=configs/detectors.py:/path/to/folder."
        )
    options = {"minutes": "30", "fold": "0", "seeds": "1", "only": ""}
    for part in given:
        name, _, value = part.partition("=")
        if name not in options or not value:
            raise ValueError(
                f"configs/detectors.py: expected OPTION=VALUE with one of "
                f"{', '.join(options)}, got '{part}'."
            )
        options[name] = value
    both = [f"{name}_{head}" for name in BOXES for head in ANCHORS]
    if options["only"] not in ("", *BOXES, *ANCHORS, *both):
        raise ValueError(
            f"configs/detectors.py: only: expected a set, a head or both, one of "
            f"{', '.join([*BOXES, *ANCHORS, *both])}, got '{options['only']}'."
        )
    config = schema.defaults()
    config.report.title = "One stage against two, boxes from scratch"
    config.report.baseline = "seed 0"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    for name in BOXES:
        for head in ANCHORS:
            if options["only"] in ("", name, head, f"{name}_{head}"):
                _add_set(config, name, folder, int(options["fold"]))
                _add_task(config, name, head)
                for seed in range(int(options["seeds"])):
                    _add_run(config, name, head, seed, float(options["minutes"]))
    return config


def _add_set(config: ConfigDict, name: str, folder: str, fold: int) -> None:
    config.datasets[name] = schema.dataset(
        "xray_folder",
        folder=f"{folder}/{name}",
        split_column=f"fold_{fold}",
        image_size=512,
        annotations="annotations.json",
        box_classes=BOXES[name],
    )


def _add_task(config: ConfigDict, name: str, head: str) -> None:
    size, batch, ratios = INPUT[name]
    fine = FINE if head == "retinanet" and name in FINE_SETS else {}
    config.tasks[f"{name}_{head}"] = schema.task(
        kind="detection",
        dataset=name,
        image_size=size,
        batch_size=batch,
        crop_box_probability=0.5,
        augment=schema.augment(
            "gentle",
            crop_min_area=0.4,
            crop_max_area=1.5,
            flip_probability=0.5,
            rotation_degrees=0.0,
        ),
        detection=dict(
            head=head,
            anchor_sizes=ANCHORS[head][name],
            anchor_ratios=ratios,
            max_boxes=24,
            **(SIZES[head] | fine),
        ),
    )


def _add_run(
    config: ConfigDict, name: str, head: str, seed: int, minutes: float
) -> None:
    batch = INPUT[name][1]
    steps = max(20, round(60 * minutes * RATES[head][name] / batch, -1))
    config.runs[f"{name}_{head}_{seed}"] = schema.run(
        stage="finetune",
        arm=f"seed {seed}",
        seed=seed,
        steps=int(steps),
        log_every=10,
        checkpoint_every=50,
        evaluate_every=int(steps / 10),
        optimizer=dict(
            name="adamw", learning_rate=0.001, warmup_steps=10, weight_decay=0.05
        ),
        finetune=dict(task=f"{name}_{head}", ema=0.99),
    )
