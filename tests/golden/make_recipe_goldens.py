# pyright: reportMissingImports=false
"""Fine-tuning by each option of the recipe, as timm, torch and peft do it.

`recipe`: one step of SGD on the cross-entropy of two images, a digest of what it adds
to each weight. `drop_path`, `drop_path_swin`: whole branches left out by draws that are
given to both sides. `layer_decay`: parameters in timm's groups.
`recipe_layers`: of each family, names of timm's parameters with the factors of their
rates.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import drawing
import make_swin_goldens as swin
import make_vit_goldens as vit
import numpy as np

CLASSES, LABELS = 3, (2, 0)
RATE, WEIGHT_DECAY, LAYER_DECAY = 0.05, 0.1, 0.6
DROP_PATH = 0.4  # probability in the last block
_UNUSED = ("relative_position_index", "attn_mask")  # no weights


def images(case: str) -> np.ndarray:
    """Grey images of noise, float32 [2, H, W, 1]."""
    own = {"drop_path_swin": swin.images("own")}
    return own.get(case, vit.images(16, (vit.GRID, vit.GRID)))


def weights(case: str) -> dict[str, np.ndarray]:
    """Of the network of a case, by the reference's names, with its head."""
    if case == "drop_path_swin":
        shapes, width, name = drawing.load("swin").shapes, 8 * swin.WIDTH, "head.fc"
    else:
        shapes, width, name = drawing.load("vit_deit").shapes, vit.WIDTH, "head"
    head = {f"{name}.weight": (CLASSES, width), f"{name}.bias": (CLASSES,)}
    return (swin if case == "drop_path_swin" else vit).draw({**shapes, **head})


def alive(blocks: int) -> np.ndarray:
    """Which branches stay in an example, bool [blocks, 2, 2]; all of the first."""
    drawn = drawing.uniform("alive", (blocks, 2, len(LABELS))) > -DROP_PATH
    drawn[0] = True
    return drawn


def changes(case: str, after: Mapping[str, np.ndarray]) -> np.ndarray:
    """A digest of what was added to the weights of a case."""
    before = weights(case)
    return drawing.digest({key: after[key] - before[key] for key in before})


def _vit(**options: Any) -> Any:
    from timm.models import vision_transformer

    return vision_transformer.VisionTransformer(
        img_size=16 * vit.GRID,
        embed_dim=vit.WIDTH,
        depth=vit.DEPTH,
        num_heads=vit.HEADS,
        num_classes=CLASSES,
        **options,
    )


def _swin(**options: Any) -> Any:
    from timm.models import swin_transformer

    return swin_transformer.SwinTransformer(
        img_size=swin.SIZES["own"],
        embed_dim=swin.WIDTH,
        depths=swin.DEPTHS,
        num_heads=swin.HEADS,
        window_size=swin.WINDOW,
        num_classes=CLASSES,
        **options,
    )


def _filled(case: str, network: Any, dtype: Any) -> Any:
    import torch

    state = {key: torch.tensor(x, dtype=dtype) for key, x in weights(case).items()}
    network = network.to(dtype)
    missing = network.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing
    assert all(key.endswith(_UNUSED) for key in missing.missing_keys), missing
    return network.train()


def _step(case: str, network: Any, optimizer: Any) -> None:
    import torch

    like = next(network.parameters())
    channels = like.new_tensor(images(case).transpose(0, 3, 1, 2).repeat(3, axis=1))
    loss = torch.nn.functional.cross_entropy(network(channels), torch.tensor(LABELS))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@contextlib.contextmanager
def _drawing(draws: np.ndarray) -> Iterator[None]:
    """Gives the draws that PyTorch asks for, in the order of the blocks."""
    import torch

    rest, drawn = iter(draws.reshape(-1, draws.shape[-1])), torch.Tensor.bernoulli_
    torch.Tensor.bernoulli_ = lambda self, p: self.copy_(
        torch.tensor(next(rest)).reshape(self.shape)
    )
    try:
        yield
    finally:
        torch.Tensor.bernoulli_ = drawn


def _sgd(groups: Any) -> Any:
    import torch

    return torch.optim.SGD(groups, lr=RATE, momentum=0.9)


def _drop_path(case: str, dtype: Any) -> dict[str, np.ndarray]:
    make, blocks = _vit, vit.DEPTH
    if case == "drop_path_swin":
        make, blocks = _swin, sum(swin.DEPTHS)
    network = _filled(case, make(drop_path_rate=DROP_PATH), dtype)
    with _drawing(alive(blocks)[1:]):  # Nothing is drawn for the first.
        _step(case, network, _sgd(network.parameters()))
    return drawing.state(network)


def _layer_decay(case: str, dtype: Any) -> dict[str, np.ndarray]:
    from timm import optim

    network = _filled(case, _vit(), dtype)
    groups = optim.param_groups_layer_decay(
        network, WEIGHT_DECAY, ("cls_token",), layer_decay=LAYER_DECAY
    )
    for group in groups:
        group["lr"] = RATE * group.pop("lr_scale")
    _step(case, network, _sgd(groups))
    return drawing.state(network)


CASES: dict[str, Callable[[str, Any], dict[str, np.ndarray]]] = {
    "drop_path": _drop_path,
    "drop_path_swin": _drop_path,
    "layer_decay": _layer_decay,
}


def _layers() -> dict[str, np.ndarray]:
    """Names of timm's parameters and the factors of their rates, of each family."""
    import make_convnext_goldens as convnext
    import make_densenet_goldens as densenet
    import timm
    from timm import optim
    from timm.models import convnext as timm_convnext
    from timm.models import densenet as timm_densenet

    narrow = timm_densenet.DenseNet(densenet.WIDTH // 2, densenet.DEPTHS, CLASSES)
    networks = {
        "vit": _vit(),
        "vit_mean": _vit(global_pool="avg"),
        "convnext": timm_convnext.ConvNeXt(
            depths=convnext.DEPTHS, dims=convnext.WIDTHS, num_classes=CLASSES
        ),
        "swin": _swin(),
        "resnet": timm.create_model("resnet18", num_classes=CLASSES),
        "densenet": narrow,
    }
    found = {}
    for family, network in networks.items():
        groups = optim.param_groups_layer_decay(network, 0.0, layer_decay=LAYER_DECAY)
        factor = {id(x): group["lr_scale"] for group in groups for x in group["params"]}
        lines = [f"{name} {factor[id(x)]!r}" for name, x in network.named_parameters()]
        found[family] = np.array(lines)
    return found


def main() -> None:
    """Writes every file."""
    import torch

    results = [
        {case: changes(case, compute(case, dtype)) for case, compute in CASES.items()}
        for dtype in (torch.float64, torch.float32)
    ]
    drawing.store("recipe", {}, *results)
    np.savez_compressed(drawing.FOLDER / "recipe_layers.npz", **_layers())


if __name__ == "__main__":
    main()
