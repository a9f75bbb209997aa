# pyright: reportMissingImports=false
"""Fine-tuning by each option of the recipe, as timm, torch and peft do it.

`recipe`: one step of SGD on the cross-entropy of two images, a digest of what it adds
to each weight. `drop_path`, `drop_path_swin`: whole branches left out by draws that are
given to both sides. `layer_decay`: parameters in timm's groups. `ema`: the averages of
timm's ModelEmaV3 after two steps of torchvision's DenseNet. `head`: the head of that
network alone, the rest as in evaluation. `lora`: peft's adapters of transformers'
DINOv2; `lora_sums`: its weights, once merged, and the head.
`recipe_layers`: of each family, names of timm's parameters with the factors of their
rates.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import drawing
import make_densenet_goldens as densenet
import make_swin_goldens as swin
import make_vit_goldens as vit
import numpy as np
import phantoms

CLASSES, LABELS = 3, (2, 0)
RATE, WEIGHT_DECAY, LAYER_DECAY, EMA = 0.05, 0.1, 0.6, 0.7
RANK, ALPHA = 4, 8
DROP_PATH = 0.4  # probability in the last block
# By noise: JAX takes the softmax in float32, which shows where gradients cancel.
SWIN = {"depths": (1, 1), "heads": (1, 2), "side": 48}
DENSENET_DEPTHS = (1, 1)
# Networks of some cases; the others have the first.
NETWORKS = {
    "": "vit",
    "drop_path_swin": "swin",
    "ema": "densenet",
    "head": "densenet",
    "lora": "dinov2",
}
HEADS = {"vit": "head", "swin": "head.fc", "densenet": "classifier", "dinov2": "head"}
_NO_WEIGHTS = ("relative_position_index", "attn_mask", "num_batches_tracked")


def network_of(case: str) -> str:
    """The network of a case."""
    return NETWORKS.get(case, NETWORKS[""])


def images(case: str) -> np.ndarray:
    """Grey images, float32 [2, H, W, 1]."""
    grid = (vit.GRID, vit.GRID)
    return {
        "vit": vit.images(16, grid),
        "dinov2": vit.images(14, grid),
        "swin": drawing.images(len(LABELS), SWIN["side"]),
        "densenet": phantoms.images(len(LABELS), 64),
    }[network_of(case)]


def weights(case: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Of the network of a case, by the reference's names.

    Args:
      case: Name of the case.
      shapes: Of all networks, by `<network>/<name>`, as the golden file has them.
    """
    network = network_of(case)
    draw = {"swin": swin.draw, "densenet": drawing.draw}.get(network, vit.draw)
    start = f"{network}/"
    own = {
        key.removeprefix(start): shape
        for key, shape in shapes.items()
        if key.startswith(start)
    }
    return draw(own)


def adapters() -> dict[str, dict[str, np.ndarray]]:
    """Matrices `down` [D, r] and `up` [r, D] of each adapted layer, neither 0."""
    sides = {"down": (vit.WIDTH, RANK), "up": (RANK, vit.WIDTH)}
    return {
        f"{block}.{layer}": {
            side: drawing.uniform(f"{block}.{layer}.{side}", shape) / 4
            for side, shape in sides.items()
        }
        for block in range(vit.DEPTH)
        for layer in ("query", "value")
    }


def alive() -> np.ndarray:
    """Which branches of two blocks stay, bool [2, 2, 2]; all of the first block's."""
    drawn = drawing.uniform("branches", (2, 2, len(LABELS))) > 0
    drawn[0] = True
    return drawn


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


def _swin(
    depths: tuple[int, ...] = SWIN["depths"],
    heads: tuple[int, ...] = SWIN["heads"],
    **options: Any,
) -> Any:
    from timm.models import swin_transformer

    return swin_transformer.SwinTransformer(
        embed_dim=swin.WIDTH,
        depths=depths,
        num_heads=heads,
        window_size=swin.WINDOW,
        num_classes=CLASSES,
        img_size=SWIN["side"],
        **options,
    )


def _densenet() -> Any:
    from torchvision.models import densenet as torchvision_densenet

    return torchvision_densenet.DenseNet(
        densenet.WIDTH // 2, DENSENET_DEPTHS, densenet.WIDTH, num_classes=CLASSES
    )


def _dinov2() -> Any:
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = vit.CASES["vit_dinov2"].make()
            self.head = torch.nn.Linear(vit.WIDTH, CLASSES)

        def forward(self, image: Any) -> Any:
            return self.head(self.body(image).last_hidden_state[:, 0])

    return Classifier()


_MAKE = {"vit": _vit, "swin": _swin, "densenet": _densenet, "dinov2": _dinov2}


@functools.cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """Of all networks, by `<network>/<name>`."""
    return {
        f"{network}/{key.removeprefix('body.')}": tuple(tensor.shape)
        for network, make in _MAKE.items()
        for key, tensor in make().state_dict().items()
        if not key.endswith(_NO_WEIGHTS)
    }


def _network(case: str, dtype: Any, **options: Any) -> Any:
    """The network of a case with drawn weights."""
    import torch

    network = _MAKE[network_of(case)](**options).to(dtype)
    drawn = weights(case, _shapes())
    state = network.state_dict()
    for key in state:
        if not key.endswith(_NO_WEIGHTS):
            array = drawn[key.removeprefix("body.")]
            state[key] = torch.tensor(array, dtype=dtype)
    network.load_state_dict(state)
    return network.train()


def _changes(case: str, after: Mapping[str, np.ndarray]) -> np.ndarray:
    """A digest of what was added to the weights of a case."""
    before = weights(case, _shapes())
    return drawing.digest({key: after[key] - before[key] for key in before})


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
    network = _network(case, dtype, drop_path_rate=DROP_PATH)
    with _drawing(alive()[1:]):  # Nothing is drawn for the first.
        _step(case, network, _sgd(network.parameters()))
    return drawing.state(network)


def _layer_decay(case: str, dtype: Any) -> dict[str, np.ndarray]:
    from timm import optim

    network = _network(case, dtype)
    groups = optim.param_groups_layer_decay(
        network, WEIGHT_DECAY, ("cls_token",), layer_decay=LAYER_DECAY
    )
    for group in groups:
        group["lr"] = RATE * group.pop("lr_scale")
    _step(case, network, _sgd(groups))
    return drawing.state(network)


def _ema(case: str, dtype: Any) -> dict[str, np.ndarray]:
    from timm import utils

    network = _network(case, dtype)
    averages = utils.ModelEmaV3(network, decay=EMA)
    optimizer = _sgd(network.parameters())
    for _ in range(2):
        _step(case, network, optimizer)
        averages.update(network)
    return drawing.state(averages.module)


def _head(case: str, dtype: Any) -> dict[str, np.ndarray]:
    network = _network(case, dtype)
    network.features.requires_grad_(False).eval()
    _step(case, network, _sgd(network.classifier.parameters()))
    return drawing.state(network)


def _lora(case: str, dtype: Any) -> tuple[dict[str, np.ndarray], ...]:
    """Adapters and head, and the weights that they make."""
    import peft
    import torch

    network = _network(case, dtype)
    options = {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["head"]}
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, **options)
    adapted = peft.get_peft_model(network, config)
    pairs = {}
    for name, module in adapted.named_modules():
        if hasattr(module, "lora_A"):
            block = name.split(".layer.")[1].split(".")[0]
            layer = {"q_proj": "query", "v_proj": "value"}[name.split(".")[-1]]
            pair = {"down": module.lora_A, "up": module.lora_B}
            pairs[f"{block}.{layer}"] = {
                side: part["default"].weight for side, part in pair.items()
            }
    for place, sides in adapters().items():
        for side, array in sides.items():
            pairs[place][side].data = torch.tensor(array.T.copy(), dtype=dtype)
    trained = [x for x in adapted.parameters() if x.requires_grad]
    _step(case, adapted, _sgd(trained))
    added = {
        f"{place}.{side}": x.detach().numpy().T - adapters()[place][side]
        for place, sides in pairs.items()
        for side, x in sides.items()
    }
    merged = drawing.state(adapted.merge_and_unload())
    return added, {key.removeprefix("body."): x for key, x in merged.items()}


CASES: dict[str, Callable[[str, Any], dict[str, np.ndarray]]] = {
    "drop_path": _drop_path,
    "drop_path_swin": _drop_path,
    "layer_decay": _layer_decay,
    "ema": _ema,
    "head": _head,
}


def _layers() -> dict[str, np.ndarray]:
    """Names of timm's parameters and the factors of their rates, of each family."""
    import make_convnext_goldens as convnext
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
        "swin": _swin(swin.DEPTHS, swin.HEADS),
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

    results = []
    for dtype in (torch.float64, torch.float32):
        found = {
            case: _changes(case, make(case, dtype)) for case, make in CASES.items()
        }
        added, merged = _lora("lora", dtype)
        found["lora"] = drawing.digest(added)
        found["lora_sums"] = _changes("lora", merged)
        results.append(found)
    drawing.store("recipe", _shapes(), *results)
    np.savez_compressed(drawing.FOLDER / "recipe_layers.npz", **_layers())


if __name__ == "__main__":
    main()
