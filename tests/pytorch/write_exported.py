"""Exports a ResNet-18 and a ResNet-50, with what they make of ten X-rays.

    python tests/pytorch/write_exported.py FOLDER

`test_in_pytorch.py` reads the folder where PyTorch is installed and JAX is not.
"""

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
from mtpret_jax.export import folder as hub
from mtpret_jax.inference import description, golden, preprocessing
from mtpret_jax.training import checkpoint
from tfds_builders import whole
from tfds_builders.phantom_xray import simulator

# Options of each backbone; torchvision itself builds no narrow one.
NETWORKS = {
    "resnet18": {"name": "resnet18"},
    "resnet50": {"name": "resnet50"},
    "narrow": {"name": "resnet50", "width": 8, "in_channels": 1},
}
COUNT, SIZE = 10, 128
SETS = {"chest": {"options": {"image_size": 256, "bit_depth": 8}}}
MADE = {"builder": "phantom_xray", "fingerprint": "none: drawn weights"}


# Mean and deviation, bits and resampling, by a name of their own.
PREPARED: dict[str, Any] = {
    "image": (None, 16, "area"),
    "dataset": ((0.4, 0.2), 16, "area"),
    "fixed": (((0.5, 0.4, 0.6), (0.3, 0.2, 0.2)), 16, "area"),
    "bicubic": (((0.5307,), (0.2583,)), 8, "bicubic"),
    "gaussian": (((0.5,), (0.2,)), 16, "gaussian"),
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


def write_run(work: pathlib.Path, backbone: dict[str, Any]) -> None:
    """A work folder with a run of drawn weights; no statistic is 0 or 1."""
    config: Any = schema.defaults()
    config.backbone.update(backbone)
    config.datasets.chest = schema.dataset("phantom_xray")
    config.runs.run = schema.run(
        stage="contrastive",
        contrastive={"datasets": {"chest": 1.0}, "image_size": SIZE},
    )
    parsed = schema.parse(config)
    row = parsed.runs["run"]
    stage = stages.build(parsed, row, {})
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
        class_names={},
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
        for how, (statistics, bits, resample) in PREPARED.items():
            made = preprocessing.Preparation(
                SIZE, fit, statistics, 100, bits, resample=resample
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


def write(folder: pathlib.Path) -> None:
    """Writes the networks and their features."""
    pictures = [
        preprocessing.open_pixels(picture, bit_depth=8)[0]
        for picture in real_or_simulated()
    ]
    for name, backbone in NETWORKS.items():
        work, out = folder / f"work_{name}", folder / name
        write_run(work, backbone)
        try:
            main.run(["export", f"--workdir={work}", "--run=run", f"--out={out}"])
        except SystemExit as end:
            if end.code:
                raise
        model = mtpret_jax.load(out)
        read = [preprocessing.read(picture, model.preparation) for picture in pictures]
        np.savez(
            folder / f"{name}.npz",
            image=np.stack([one.image for one in read]),
            embedding=np.stack([model.embed(picture) for picture in pictures]),
        )
    np.savez(folder / "pixels.npz", *pictures)
    write_prepared(folder / "prepared", pictures)
    told = "real" if "MTPRET_XRAY" in os.environ else "simulated"
    (folder / "pictures.json").write_text(json.dumps({"pictures": told}))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
