# pyright: reportMissingImports=false
"""ConvNeXt of torchvision, timm, transformers and the authors, two blocks a stage.

`convnext_<layout>`: names and shapes of one library; of each of `SIZES` the stem, the
levels (some channels) and the normalised mean of the last; with `timm` also dilated and
with branches left out; gradients of half the mean squared distance of the mean to drawn
numbers. The authors' layout is read by timm. `convnext_layouts`: names and shapes of
networks of full size, heads included.
"""

import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import drawing
import numpy as np
import phantoms

DEPTHS, WIDTHS = (2, 2, 2, 2), (8, 16, 32, 64)
BATCH = 2
SIZES = (64, 90)  # pixels; of the second every level but one loses a row
DROP_PATH = 0.4
STRIDES = (16, 8)  # of the last level, dilated
_UNDILATED = ("level0", "level1", "level2")  # are as without dilation
LIBRARIES = ("torchvision", "timm", "facebook", "hf", "hf_dinov3")
FULL = ("atto", "tiny", "small", "base")


def factors(blocks: int = sum(DEPTHS)) -> np.ndarray:
    """Of each block's branch, by example: 0, or what keeps the mean of 0 and it."""
    rates = np.linspace(0, DROP_PATH, blocks)[:, None]
    kept = drawing.uniform("paths", (blocks, BATCH)) > -DROP_PATH
    return np.where(kept | (rates == 0), 1 / (1 - rates), 0).astype(np.float32)


def target() -> np.ndarray:
    """What the pooled features are compared with."""
    return drawing.uniform("target", (BATCH, WIDTHS[-1]))


def kept(level: np.ndarray) -> np.ndarray:
    """Some channels of a level; of a large one every second row and column."""
    step = 2 if level.shape[1] > SIZES[0] // 8 else 1
    return drawing.kept(level)[:, ::step, ::step]


def facebook_names(name: str) -> str:
    """The authors' name of a tensor of timm's, undone by timm's own filter."""
    for pattern, other in {
        r"^stem\.": "downsample_layers.0.",
        r"^stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
        r"\.blocks\.": ".",
        r"conv_dw": "dwconv",
        r"mlp\.fc": "pwconv",
        r"^head\.norm": "norm",
        r"^head\.fc": "head",
    }.items():
        name = re.sub(pattern, other, name)
    return name


def _facebook(network: Any) -> dict[str, Any]:
    """The tensors of a network of timm's as the authors' file has them."""
    tensors = {facebook_names(n): x for n, x in network.state_dict().items()}
    return {
        name: x.flatten(1) if "pwconv" in name and x.ndim > 1 else x
        for name, x in tensors.items()
    }


def _torchvision(depths: tuple[int, ...], widths: tuple[int, ...]) -> Any:
    from torchvision.models import convnext

    outputs = (*widths[1:], None)
    rows = zip(widths, outputs, depths, strict=True)
    return convnext.ConvNeXt([convnext.CNBlockConfig(*row) for row in rows])


def _timm(depths: tuple[int, ...], widths: tuple[int, ...], **options: Any) -> Any:
    from timm.models import convnext

    options.setdefault("conv_mlp", widths[0] <= 80)
    return convnext.ConvNeXt(depths=depths, dims=widths, **options)


def _hf(depths: tuple[int, ...], widths: tuple[int, ...]) -> Any:
    import transformers

    sizes = {"depths": list(depths), "hidden_sizes": list(widths)}
    return transformers.ConvNextModel(transformers.ConvNextConfig(**sizes))


def _hf_dinov3(depths: tuple[int, ...], widths: tuple[int, ...]) -> Any:
    import transformers

    sizes = {"depths": list(depths), "hidden_sizes": list(widths)}
    return transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**sizes))


def _steps(library: str, network: Any) -> Iterator[tuple[Any, bool]]:
    """Modules in order, and whether what one puts out is kept: stem and levels."""
    if library == "torchvision":
        for number, module in enumerate(network.features):
            yield module, number == 0 or number % 2 == 1
    elif library == "hf_dinov3":
        for number, stage in enumerate(network.model.stages):
            first, second = stage.downsample_layers
            yield first, False
            yield second, number == 0
            for index, layer in enumerate(stage.layers):
                yield layer, index == len(stage.layers) - 1
    else:
        yield network.embeddings if library == "hf" else network.stem, True
        for stage in network.encoder.stages if library == "hf" else network.stages:
            yield stage, True


def _features(library: str, network: Any, image: Any) -> tuple[list[Any], Any]:
    """The stem and C2 to C5, and the normalised mean of C5."""
    hidden, levels = image, []
    for module, is_kept in _steps(library, network):
        hidden = module(hidden)
        if is_kept:
            levels.append(hidden)
    if library == "torchvision":
        return levels, network.classifier[0](network.avgpool(hidden)).flatten(1)
    if library in ("hf", "hf_dinov3"):
        return levels, network(image).pooler_output
    return levels, network.forward_head(hidden, pre_logits=True)


def _arrays(name: str, levels: list[Any], pooled: Any) -> dict[str, np.ndarray]:
    channels_last = [level.detach().numpy().transpose(0, 2, 3, 1) for level in levels]
    arrays = {
        f"{name}/level{number}": kept(level)
        for number, level in enumerate(channels_last)
    }
    return arrays | {f"{name}/pooled": pooled.detach().numpy()}


class _Scaled:
    """Takes the place of timm's DropPath: a branch times given factors."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def __call__(self, branch: Any) -> Any:
        return branch * self.factor.to(branch.dtype)[:, None, None, None]


def _timm_only(state: Any, tensor: Callable[..., Any]) -> dict[str, np.ndarray]:
    """Dilated, and with branches left out."""
    import torch

    arrays, image = {}, tensor(phantoms.images(BATCH, SIZES[0]))
    for stride in STRIDES:
        network = _timm(DEPTHS, WIDTHS, output_stride=stride, num_classes=0)
        network.to(image.dtype).load_state_dict(state)
        found = _arrays(f"stride{stride}", *_features("timm", network, image))
        arrays |= {key: found[key] for key in found if not key.endswith(_UNDILATED)}
    network = _timm(DEPTHS, WIDTHS, drop_path_rate=DROP_PATH, num_classes=0)
    network.to(image.dtype).load_state_dict(state)
    blocks = [block for stage in network.stages for block in stage.blocks]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    for block, factor in zip(blocks, torch.tensor(factors()), strict=True):
        del block.drop_path
        object.__setattr__(block, "drop_path", _Scaled(factor))
    found = _arrays("paths", *_features("timm", network, image))
    arrays |= {key: found[key] for key in ("paths/level2", "paths/level4")}
    return arrays | {"rates": np.array([rates])}


def _results(library: str, dtype: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Shapes of a library's network, and what it computes."""
    import torch
    from timm.models import convnext

    def tensor(grey: np.ndarray) -> Any:
        channels = grey.transpose(0, 3, 1, 2).repeat(3, axis=1)
        return torch.tensor(channels, dtype=dtype)

    builder = {"torchvision": _torchvision, "hf": _hf, "hf_dinov3": _hf_dinov3}
    network = builder.get(library, _timm)(DEPTHS, WIDTHS).to(dtype).eval()
    if library == "torchvision":
        network.classifier[2] = torch.nn.Identity()
    elif library in ("timm", "facebook"):
        network.reset_classifier(0)
    if library == "facebook":
        shapes = {n: tuple(x.shape) for n, x in _facebook(network).items()}
        drawn = {
            name: torch.tensor(array, dtype=dtype)
            for name, array in drawing.draw(shapes).items()
        }
        network.load_state_dict(convnext.checkpoint_filter_fn(drawn, network))
    else:
        shapes = drawing.fill(network)
    arrays = {}
    for size in SIZES:
        image = tensor(phantoms.images(BATCH, size))
        levels, pooled = _features(library, network, image)
        arrays |= _arrays(f"{size}", levels, pooled)
        if size == SIZES[0]:
            loss = (pooled - pooled.new_tensor(target())).square().mean() / 2
            loss.backward()
            found = drawing.gradients(network)
            if library == "facebook":
                found = {facebook_names(name): array for name, array in found.items()}
            arrays["gradients"] = drawing.digest(found)
    if library == "timm":
        arrays |= _timm_only(network.state_dict(), tensor)
    return shapes, arrays


def _full_sizes() -> dict[str, np.ndarray]:
    """Names and shapes of whole networks: `<library>/<size>`."""
    import safetensors.torch
    import timm
    import torch
    import torchvision
    import transformers
    from timm.models import convnext

    found: dict[str, Any] = {}
    for size in FULL:
        with torch.device("meta"):
            network = timm.create_model(f"convnext_{size}")
            found[f"timm/{size}"] = network.state_dict()
            theirs = _facebook(network)
            back = convnext.checkpoint_filter_fn(theirs, network)
            network.load_state_dict(back, assign=True)  # Strict: the names are right.
            found[f"facebook/{size}"] = theirs
            if size == "atto":
                continue
            network = getattr(torchvision.models, f"convnext_{size}")()
            found[f"torchvision/{size}"] = network.state_dict()
            depths = [len(network.features[number]) for number in (1, 3, 5, 7)]
            first = network.features[0][0].out_channels
            sizes = {
                "depths": depths,
                "hidden_sizes": [first * 2**stage for stage in range(4)],
            }
            config = transformers.ConvNextConfig(**sizes)
            network = transformers.ConvNextForImageClassification(config)
            found[f"hf/{size}"] = network.state_dict()
            network = transformers.DINOv3ConvNextModel(
                transformers.DINOv3ConvNextConfig(**sizes)
            )
            found[f"hf_dinov3_state/{size}"] = network.state_dict()
    with tempfile.TemporaryDirectory() as folder:  # Files have other names.
        _hf_dinov3(DEPTHS, WIDTHS).save_pretrained(folder)
        path = pathlib.Path(folder) / "model.safetensors"
        found["hf_dinov3/narrow"] = safetensors.torch.load_file(path)
    return {
        key: np.array(
            [f"{name} {'x'.join(map(str, x.shape))}" for name, x in state.items()]
        )
        for key, state in found.items()
    }


def main() -> None:
    """Writes every file."""
    import torch

    for library in LIBRARIES:
        shapes, exact = _results(library, torch.float64)
        _, single = _results(library, torch.float32)
        drawing.store(f"convnext_{library}", shapes, exact, single)
    np.savez_compressed(drawing.FOLDER / "convnext_layouts.npz", **_full_sizes())


if __name__ == "__main__":
    main()
