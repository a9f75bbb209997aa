# pyright: reportMissingImports=false
"""Our networks to torchvision and back: the same outputs of the same images?

    pip install torch torchvision   # beside this package
    python tests/golden/round_trip.py              # all, or those named

Out: random weights of ours as the result of a run, exported by `export.torch_layout`,
loaded by `docs/load_exported.py` with strict=True. In: torchvision's own network with
drawn weights, saved by `torch.save`, read by `weights`. Prints, for each, the largest
output and the largest difference; ends with an error where one is beyond `LIMIT`.

Detectors are compared twice. As drawn ("far"), offsets move anchors by 5 to 7 of their
sides and scale them by as many powers of e, and rounding grows with that: torchvision's
own boxes in float32 are up to 2e-3 pixels from its boxes in float64. These boxes are
compared as fractions of the image. With offsets as training makes them ("near", see
`_near`), boxes are compared in pixels.

Without names, writes `torchvision_networks.npz` beside itself: names, shapes and types
of all of torchvision's tensors, which the tests compare with ours without torch.
"""

import importlib.util
import itertools
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import drawing
import jax
import numpy as np
import roi_border
import torch
from round_trip_cases import CASES, Case

from mtpret_jax import config as schema
from mtpret_jax import models, stages, types
from mtpret_jax.experiment import workshop
from mtpret_jax.exports import torch_layout
from mtpret_jax.inference import description
from mtpret_jax.models import deeplab, heads
from mtpret_jax.weights import conversion, files

FOLDER = pathlib.Path(__file__).parent
LIMIT = 1e-4
NAMES = {
    "label_names": {"label": ["a", "b", "c"]},
    "mask_names": ["background", "a", "b"],
    "object_names": ["a", "b"],
}
IMAGES = 2
Outputs = dict[str, np.ndarray]


def _load_exported() -> Any:
    path = FOLDER.parents[1] / "docs" / "load_exported.py"
    spec = importlib.util.spec_from_file_location("load_exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _config(case: Case) -> schema.ExperimentConfig:
    config: Any = schema.defaults()
    config.backbone.update(case.backbone)
    config.datasets.images = schema.dataset("phantom_xray")
    config.tasks.task = schema.task(dataset="images", **case.task)
    config.runs.run = schema.run(stage="finetune", finetune={"task": "task"})
    return schema.parse(config)


def shapes(config: schema.ExperimentConfig) -> types.TrainState:
    """The state that a run would train, as shapes."""
    tasks = workshop.build_tasks(config, {"images": NAMES})
    row = config.runs["run"]
    stage = stages.build(config, row, tasks)
    batches = stages.shape_batches(config, row)
    return jax.eval_shape(lambda: stage.init(jax.random.key(0), batches))


def _draw(tree: Any, factor: Callable[[str], float]) -> Any:
    """Weights of a size that keeps features near 1; no statistic is 0 or 1."""

    def leaf(path: Any, shape: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        numbers = drawing.uniform(name, shape.shape) * np.float32(factor(name))
        if len(shape.shape) > 1:
            return numbers * np.float32(np.sqrt(3 / np.prod(shape.shape[:-1])))
        return numbers / 2 + (1 if name.endswith(("['scale']", "['var']")) else 0)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _as_drawn(name: str) -> float:
    del name
    return 1.0


def _near(name: str) -> float:
    """Makes the deviation of offsets about 0.4 of anchors and 1 of regions."""
    if "bbox_reg" in name:
        return 1 / 4
    if "bbox_pred" not in name:
        return 1.0
    return 1 / 4 if "box_predictor" in name else 1 / 16


def _ours(config: schema.ExperimentConfig, network: Any, image: np.ndarray) -> Outputs:
    """What our network makes of images [B, H, W, 1]."""
    row = config.tasks["task"]
    task: Any = workshop.build_tasks(config, {"images": NAMES})["task"]
    backbone = models.build_backbone(config.backbone)
    body, head = (types.Variables(**network[part]) for part in ("backbone", "head"))
    trees = {"params": head.params, "batch_stats": head.model_state}

    @jax.jit
    def predict(image: jax.Array) -> Any:
        features, _ = backbone.apply(
            body, image, train=False, output_stride=task.output_stride
        )
        if row.kind == "classification":
            return {"logits": heads.Linear(3).apply(trees, features.pooled)}
        if row.kind == "detection":
            return task.predict(head, features)
        options = row.segmentation
        module = deeplab.DeepLabV3(
            classes=3,
            channels=options.channels,
            rates=options.rates,
            dropout=options.dropout,
            auxiliary_weight=options.auxiliary_weight,
            image_size=row.image_size,
        )
        found = module.apply(trees, features, train=False)
        return dict(zip(("logits", "auxiliary"), found, strict=False))

    found = {name: np.asarray(array) for name, array in predict(image).items()}
    if row.kind != "detection":
        return found
    box = found["box"][..., [1, 0, 3, 2]] * row.image_size
    kept = found["valid"]
    return {
        "boxes": box[kept],
        "scores": found["score"][kept],
        "labels": found["class"][kept] + float(row.detection.head == "faster_rcnn"),
        "counts": kept.sum(1).astype(float),
    }


def _theirs(network: torch.nn.Module, kind: str, image: np.ndarray) -> Outputs:
    """What a network of PyTorch makes of the same images."""
    grey = torch.from_numpy(image.transpose(0, 3, 1, 2).repeat(3, axis=1))
    with torch.no_grad():
        if kind == "classification":
            return {"logits": network.eval()(grey).numpy()}
        if kind == "segmentation":
            found = network.eval()(grey)
            masks = {"logits": found["out"], "auxiliary": found.get("aux")}
            return {
                name: mask.permute(0, 2, 3, 1).numpy()
                for name, mask in masks.items()
                if mask is not None
            }
        boxes = network.eval()(list(grey))
    result = {
        name: np.concatenate([found[name].numpy() for found in boxes])
        for name in ("boxes", "scores", "labels")
    }
    return result | {"counts": np.array([float(len(f["boxes"])) for f in boxes])}


def _out(
    case: Case,
    config: schema.ExperimentConfig,
    image: np.ndarray,
    factor: Callable[[str], float],
) -> Any:
    """Outputs of drawn weights of ours, and of the same weights exported."""
    state = shapes(config)
    params = _draw(state.params, factor)
    model_state = _draw(state.model_state, factor)
    network = {
        "backbone": {
            "params": params["backbone"],
            "model_state": model_state["backbone"],
        },
        "head": {
            "params": params["heads"]["task"],
            "model_state": model_state["heads"]["task"],
        },
    }
    task = workshop.build_tasks(config, {"images": NAMES})["task"]
    described = description.make(
        config,
        "run",
        {name: {} for name in config.datasets},
        class_names={"task": task.metric().class_names},
        decisions={},
        parent=None,
        pools=[],
        steps=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        torch_layout.write(network, described, "task", f"{folder}/out")
        theirs = _load_exported().load(f"{folder}/out")
    kind = config.tasks["task"].kind
    return _ours(config, network, image), _theirs(theirs, kind, image), theirs


def _in(
    case: Case,
    config: schema.ExperimentConfig,
    image: np.ndarray,
    factor: Callable[[str], float],
) -> Any:
    """Outputs of torchvision's network, and of its weights read by us."""
    theirs = case.theirs()  # pyright: ignore
    drawing.fill(theirs)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.mul_(factor(name))
    kind = config.tasks["task"].kind
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), f"{folder}/theirs.pth")
        tensors = files.read(f"{folder}/theirs.pth").tensors
    state = shapes(config)
    expected = {
        "backbone": {
            "params": state.params["backbone"],
            "model_state": state.model_state["backbone"],
        },
        "head": {
            "params": state.params["heads"]["task"],
            "model_state": state.model_state["heads"]["task"],
        },
    }
    network = conversion.from_torchvision(tensors, expected, kind, case.name).tree
    return _ours(config, network, image), _theirs(theirs, kind, image), theirs


def _compare(case: str, way: str, ours: Outputs, theirs: Outputs) -> bool:
    """Prints one line for each output; whether all are near enough."""
    good = ours.keys() == theirs.keys()
    for name in ours:
        one, other = ours[name], theirs.get(name)
        if other is None or one.shape != other.shape:
            print(f"{case:20} {way:8} {name}: {one.shape}, not the same")  # noqa: T201
            return False
        largest = float(np.abs(other).max())
        difference = float(np.abs(one - other).max())
        good &= difference <= LIMIT
        print(  # noqa: T201
            f"{case:20} {way:8} {name:9} {one.shape!s:17} largest {largest:9.4f}"
            f"  difference {difference:.1e}"
        )
    return good


def main(asked: list[str]) -> None:
    """Runs every case, or those asked for by name."""
    roi_border.follow_compiled()
    names, wrong = {}, []
    chosen = [case for case in CASES if not asked or case.name in asked]
    for case in chosen:
        config = _config(case)
        size = config.tasks["task"].image_size
        image = drawing.images(IMAGES, size)
        ways = {"out": _out} | ({"in": _in} if case.theirs else {})
        scales = {"": _as_drawn}
        if config.tasks["task"].kind == "detection":
            scales = {" far": _as_drawn, " near": _near}
        for (way, run), (scale, factor) in itertools.product(
            ways.items(), scales.items()
        ):
            ours, theirs, network = run(case, config, image, factor)
            if scale == " far":
                ours["boxes"], theirs["boxes"] = (
                    found["boxes"] / size for found in (ours, theirs)
                )
            if not _compare(case.name, way + scale, ours, theirs):
                wrong.append(f"{case.name} {way}{scale}")
        if case.theirs:
            names[case.name] = [
                f"{key} {'x'.join(map(str, tensor.shape))} {str(tensor.dtype)[6:]}"
                for key, tensor in sorted(network.state_dict().items())
            ]
    if not asked:
        np.savez_compressed(FOLDER / "torchvision_networks.npz", **names)
    if wrong:
        sys.exit(f"Beyond {LIMIT}: {', '.join(wrong)}.")
    print(f"All within {LIMIT}.")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
