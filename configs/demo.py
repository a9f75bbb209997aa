"""The demonstration: three stages on simulated radiographs, in minutes on a CPU.

Run:     python -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo
Expect:  docs/results.md, "Results on phantoms".
Source:  the stages are those of the published method; every number is ours.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

ARMS = {"scratch": "", "contrastive": "contrastive", "mtpret": "continual"}
FINETUNE_STEPS = {"missing_tooth": 200, "mandible": 100, "opacity": 250}
SIZE = 96  # pixels; below 80 the CPU backend is slower, not faster


def get_config(arg: str = "") -> ConfigDict:
    """The config; it takes no argument."""
    if arg:
        raise ValueError(f"configs/demo.py takes no argument, got '{arg}'.")
    config = schema.defaults()
    config.report.title = "MTPret in JAX: three stages on simulated radiographs"
    config.backbone.update(name="resnet18", width=16, in_channels=1)
    for body in ("chest", "hand", "head"):
        config.datasets[body] = schema.dataset(
            "phantom_xray",
            body=body,
            image_size=SIZE,
            train=600,
            validation=80,
            test=200,
        )
    config.tasks.missing_tooth = schema.task(
        kind="classification",
        dataset="head",
        target="finding",
        image_size=SIZE,
        batch_size=32,
    )
    config.tasks.mandible = schema.task(
        kind="segmentation",
        dataset="head",
        image_size=SIZE,
        batch_size=16,
        segmentation=dict(output_stride=8, channels=32, rates=(2, 4, 6)),
    )
    config.tasks.opacity = schema.task(
        kind="detection",
        dataset="chest",
        image_size=SIZE,
        batch_size=16,
        detection=dict(
            channels=32,
            anchor_sizes=(14.0, 20.0, 28.0, 40.0, 56.0),
            proposals_before_nms=100,
            proposals=64,
            anchors_sampled=32,
            regions=32,
            hidden=64,
            max_boxes=4,
            detections=20,
        ),
    )
    config.runs.contrastive = schema.run(
        stage="contrastive",
        steps=300,
        log_every=10,
        checkpoint_every=100,
        optimizer=dict(learning_rate=0.03),
        contrastive=dict(
            datasets=dict(chest=1.0, hand=1.0, head=1.0),
            image_size=SIZE,
            batch_size=64,
            queue_size=448,  # a quarter of the pool
            momentum=0.99,
            batch_norm_rows=16,
        ),
    )
    config.runs.continual = schema.run(
        stage="continual",
        init_from="contrastive",
        steps=40,
        log_every=5,
        checkpoint_every=100,
        optimizer=dict(learning_rate=0.02),
        continual=dict(tasks=tuple(config.tasks), rounds=3),
    )
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
