"""Exports backbones of every family, with what they make of ten X-rays.

    python tests/pytorch/write_exported.py FOLDER [NAMES of `NETWORKS`]

`test_in_pytorch.py` reads the folder where PyTorch is installed and JAX is not.
"""

import dataclasses
import json
import os
import pathlib
import sys
import types
from typing import Any

import jax
import numpy as np
from etils import epath

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax import main, stages
from mtpret_jax.experiment import workshop
from mtpret_jax.exports import folder as hub
from mtpret_jax.inference import description, golden, preprocessing
from mtpret_jax.models import convnext, swin_sizes, vit_families
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import libraries
from tfds_builders import whole
from tfds_builders.phantom_xray import simulator

COUNT, SIZE = 10, 128
CLASSES = ["a", "b", "c"]


@dataclasses.dataclass(frozen=True)
class Network:
    """A run to export.

    Attributes:
      backbone: Options of its backbone.
      size: Side of its images, pixels.
      layout: Of which library; "" for the family's own.
      kind: Of its task; "" for a backbone alone.
    """

    backbone: dict[str, Any]
    size: int = SIZE
    layout: str = ""
    kind: str = ""


def vit(family: str, layout: str = "", kind: str = "") -> Network:
    """A narrow ViT; its images have another size than those of its positions."""
    backbone = {"name": "vit_tiny", "width": 8, "family": family}
    return Network(backbone, 112, layout, kind)


_CONVNEXT = {"name": "convnext_tiny", "width": 8}
_DENSENET = {"name": "densenet121", "width": 8, "in_channels": 1}
# torchvision itself builds no narrow one.
NETWORKS = {
    "resnet10": Network({"name": "resnet10"}),
    "resnet18": Network({"name": "resnet18"}),
    "resnet50": Network({"name": "resnet50"}),
    "narrow": Network({"name": "resnet50", "width": 8, "in_channels": 1}),
    "convnext": Network(_CONVNEXT),
    "convnext_whole": Network({"name": "convnext_atto"}, kind="classification"),
    "convnext_torchvision": Network(
        _CONVNEXT, layout="torchvision", kind="classification"
    ),
    "densenet": Network(_DENSENET, kind="classification"),
    "densenet_torchvision": Network(_DENSENET, layout="torchvision"),
    "swin": Network({"name": "swin_tiny", "width": 8}, 256, kind="classification"),
    **{f"vit_{family}": vit(family) for family in vit_families.FAMILIES},
    "vit_classes": vit("mae_finetuned", kind="classification"),
    **{
        f"hf_{family}": vit(family, "transformers") for family in libraries.HUGGING_FACE
    },
}
SETS = {"chest": {"options": {"image_size": 256, "bit_depth": 8}}}
MADE = {"builder": "phantom_xray", "fingerprint": "none: drawn weights"}


# Mean and deviation, longest side, bits and resampling, by a name of their own.
PREPARED: dict[str, Any] = {
    "image": (None, 100, 16, "area"),
    "dataset": ((0.4, 0.2), 100, 16, "area"),
    "fixed": (((0.5, 0.4, 0.6), (0.3, 0.2, 0.2)), 100, 16, "area"),
    "bicubic": (((0.5307,), (0.2583,)), 0, 8, "bicubic"),
    "gaussian": (((0.5,), (0.2,)), 100, 16, "gaussian"),
}


def real_or_simulated() -> list[Any]:
    """Ten X-rays: of the folder MTPRET_XRAY, taken evenly, else simulated."""
    if "MTPRET_XRAY" in os.environ:
        found = sorted(pathlib.Path(os.environ["MTPRET_XRAY"]).glob("*/images/*.jpg"))
        return found[:: len(found) // COUNT][:COUNT]
    return [
        simulator.simulate("chest", size=200, seed=0, split_index=0, index=index).image
        for index in range(COUNT)
    ]


def write_run(work: pathlib.Path, network: Network) -> None:
    """A work folder with a run of drawn weights; no statistic is 0 or 1."""
    config: Any = schema.defaults()
    config.backbone.update(network.backbone)
    config.datasets.chest = schema.dataset("phantom_xray")
    config.runs.run = schema.run(
        stage="contrastive",
        contrastive={"datasets": {"chest": 1.0}, "image_size": network.size},
    )
    tasks, class_names = {}, {}
    if network.kind:
        config.tasks.task = schema.task(
            kind=network.kind,
            dataset="chest",
            target="finding",
            image_size=network.size,
        )
        config.runs.run = schema.run(stage="finetune", finetune={"task": "task"})
        class_names = {"task": CLASSES}
    parsed = schema.parse(config)
    if network.kind:
        made = {"label_names": {"finding": CLASSES}, "mask_names": CLASSES}
        made |= {"object_names": CLASSES}
        tasks = workshop.build_tasks(parsed, {"chest": made})
    row = parsed.runs["run"]
    stage = stages.build(parsed, row, tasks)
    state = jax.jit(lambda key: stage.init(key, stages.shape_batches(parsed, row)))(
        jax.random.key(0)
    )
    rng = np.random.default_rng(0)

    def drawn(path: Any, leaf: np.ndarray) -> np.ndarray:
        """Kernels as they begin; no scale, bias or statistic is 0 or 1.

        Scales are small enough for features near 1, as trained ones are.
        """
        name = jax.tree_util.keystr(path)
        if leaf.ndim > 1:
            return leaf
        middle = {"scale": 0.4, "var": 1.0}.get(name.split("'")[-2], 0.0)
        return rng.uniform(middle - 0.3, middle + 0.3, leaf.shape).astype(leaf.dtype)

    tree = jax.tree.map(np.asarray, stage.hand_over(state))
    tree["backbone"] = jax.tree_util.tree_map_with_path(drawn, tree["backbone"])
    described = description.make(
        parsed,
        "run",
        SETS,
        class_names=class_names,
        decisions={},
        parent=None,
        pools=[],
        steps=0,
    )
    folder = work / "runs" / "run" / "backbone"
    checkpoint.save_backbone(folder, tree, described.to_json())
    golden.write_all(epath.Path(folder), tree, described)
    for file, value in (
        ("config.json", schema.as_dict(parsed)),
        ("datasets.json", {"chest": MADE}),
        ("versions.json", {"jax": jax.__version__}),
    ):
        whole.write_json(epath.Path(work / file), value)


def write_prepared(folder: pathlib.Path, pictures: list[np.ndarray]) -> None:
    """Writes what each fit and normalisation makes of pictures that are not square."""
    cut = [pixels[: 60 + 9 * n, n:] for n, pixels in enumerate(pictures)]
    for fit in ("pad", "crop", "stretch"):
        for how, (statistics, stored, bits, resample) in PREPARED.items():
            made = preprocessing.Preparation(
                SIZE, fit, statistics, stored, bits, resample=resample
            )
            model: Any = types.SimpleNamespace(
                preparation=made, description=types.SimpleNamespace(normalisation=how)
            )
            place = folder / f"{fit}_{how}"
            place.mkdir(parents=True)
            (place / hub.PREPROCESSOR).write_text(json.dumps(hub.preprocessor(model)))
            images = [preprocessing.read(pixels, made).image for pixels in cut]
            np.savez(place / "images.npz", *images)
            np.savez(place / "pixels.npz", *cut)


def outputs(model: Any, image: np.ndarray) -> np.ndarray:
    """Probabilities of a model with classes, else its features, [B, ...]."""
    found = jax.jit(model.network)(model.tree, image)
    return np.asarray(found["probability" if model.classes else "embedding"])


def make_shallow() -> None:
    """Leaves out most blocks of what compiles long; exports tell their number."""
    swin = dataclasses.replace(swin_sizes.SIZES["tiny"], depths=(2, 1, 1, 1))
    for module, size in (
        (convnext, ((1, 1, 2, 1), 96)),
        (swin_sizes, swin),
        (vit_families, vit_families.Size(192, 2, 3)),
    ):
        module.SIZES = {**module.SIZES, "tiny": size}


def write(folder: pathlib.Path) -> None:
    """Writes the networks and their features."""
    make_shallow()
    pictures = [
        preprocessing.open_pixels(picture, bit_depth=8)[0]
        for picture in real_or_simulated()
    ]
    for name in sys.argv[2:] or NETWORKS:
        network = NETWORKS[name]
        work, out = folder / f"work_{name}", folder / name
        write_run(work, network)
        options = ["export", f"--workdir={work}", "--run=run", f"--out={out}"]
        options += [f"--layout={network.layout}"] if network.layout else []
        try:
            main.run(options)
        except SystemExit as end:
            if end.code:
                raise
        model = mtpret_jax.load(out)
        read = [preprocessing.read(picture, model.preparation) for picture in pictures]
        np.savez(
            folder / f"{name}.npz",
            image=np.stack([one.image for one in read]),
            expected=outputs(model, np.stack([one.image for one in read])),
        )
    np.savez(folder / "pixels.npz", *pictures)
    write_prepared(folder / "prepared", pictures)
    told = "real" if "MTPRET_XRAY" in os.environ else "simulated"
    (folder / "pictures.json").write_text(json.dumps({"pictures": told}))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
