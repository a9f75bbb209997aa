"""A study on simulated radiographs: four arms, three tasks, one of them held out.

Run:     python -m mtpret_jax.main --config=configs/study.py --workdir=runs/study
         In a few minutes, with figures that mean nothing: configs/tiny.py:study.
Expect:  half an hour or so on two CPU cores; it shows how a study is written.
Source:  arms as published, with a control of equal budget; every number is ours.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

SIZE = 96  # pixels
TASKS = {  # set and kind
    "opacity": ("chest", "classification"),
    "mandible": ("head", "segmentation"),
    "fracture": ("hand", "classification"),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config; it takes no argument."""
    if arg:
        raise ValueError(f"configs/study.py takes no argument, got '{arg}'.")
    config = schema.defaults()
    config.report.title = "A study on simulated radiographs"
    config.backbone.update(name="resnet18", width=16, in_channels=1)
    for task, (body, kind) in TASKS.items():
        config.datasets[body] = schema.dataset(
            "phantom_xray",
            body=body,
            image_size=SIZE,
            train=600,
            validation=80,
            test=200,
        )
        config.tasks[task] = schema.task(
            kind=kind,
            dataset=body,
            target="finding",
            image_size=SIZE,
            batch_size=16,
            segmentation=dict(output_stride=8, channels=32, rates=(2, 4, 6)),
        )
    config.study = schema.study(
        tasks=tuple(TASKS),
        hold_out=("fracture",),
        arms=("scratch", "contrastive", "control", "mtpret"),
        fractions=(0.1, 1.0),
        seeds=(2, 1),
        contrastive=dict(
            stage="contrastive",
            steps=300,
            log_every=10,
            checkpoint_every=100,
            optimizer=dict(learning_rate=0.03),
            contrastive=dict(
                datasets=dict.fromkeys(config.datasets, 1.0),
                image_size=SIZE,
                batch_size=64,
                queue_size=256,  # below a quarter of the pool
                momentum=0.99,
                batch_norm_rows=16,
            ),
        ),
        continual=dict(
            stage="continual",
            steps=40,
            log_every=10,
            checkpoint_every=40,
            optimizer=dict(learning_rate=0.02),
            continual=dict(rounds=3),
        ),
        finetune=dict(
            steps=100,
            log_every=10,
            checkpoint_every=100,
            optimizer=dict(learning_rate=0.02),
            finetune=dict(selection="auto"),
        ),
        frozen=True,
        claims=("mtpret - scratch", "mtpret - contrastive", "mtpret - control"),
    )
    return config
