"""Lungs on real chest X-rays from scratch: DeepLabV3 and UNet++ side by side.

Run:     python -m mtpret_jax.main --config=configs/segmentation.py:FOLDER \
             --workdir=runs/segmentation
         where FOLDER holds lung_seg, as `xray_folder` reads it.
Expect:  Dice of the lungs on 102 test images, with 95 % interval: DeepLabV3 at output
         stride 8 0.961 (0.957 to 0.965), UNet++ 0.968 (0.964 to 0.971); one seed. About
         20 minutes each on two busy cores; a step takes 1.2 s on quieter ones.
Source:  heads as published; every size, budget and rate is ours.
"""

from ml_collections import ConfigDict

from mtpret_jax import config as schema

HEADS = {
    # ours: rates for a level of 16 x 16 cells; the published ones are for 32 and up.
    "deeplabv3": dict(output_stride=8, channels=64, rates=(2, 4, 6)),
    "unetplusplus": dict(
        head="unetplusplus", node_channels=(16, 32, 64, 128), deep_supervision=True
    ),
}


def get_config(folder: str = "") -> ConfigDict:
    """The config for the sets below `folder`."""
    if not folder:
        raise ValueError(
            "configs/segmentation.py needs the folder of the X-ray sets: "
            "--config=configs/segmentation.py:/path/to/folder."
        )
    config = schema.defaults()
    config.report.title = "Lungs from scratch: DeepLabV3 and UNet++"
    config.backbone.update(name="resnet18", width=32, in_channels=1)
    config.input.fit = "stretch"
    config.datasets.lung_seg = schema.dataset(
        "xray_folder",
        folder=f"{folder}/lung_seg",
        image_size=128,
        masks="bits",
        mask_classes=dict(lungs=[0, 1]),
    )
    for head, options in HEADS.items():
        config.tasks[head] = schema.task(
            kind="segmentation",
            dataset="lung_seg",
            image_size=128,
            batch_size=16,
            segmentation=options,
        )
        config.runs[f"scratch_{head}"] = schema.run(
            stage="finetune",
            arm="scratch",
            steps=600,
            log_every=10,
            checkpoint_every=50,
            evaluate_every=100,
            optimizer=dict(
                name="adamw", learning_rate=0.002, warmup_steps=20, weight_decay=0.05
            ),
            finetune=dict(task=head),
        )
    return config
