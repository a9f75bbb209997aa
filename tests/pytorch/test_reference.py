# pyright: reportMissingImports=false
"""Files of torchvision are loaded into torchvision's networks, every name in its place.

make pytorch-test
"""

import numpy as np
import operators
import pytest
import torch

from mtpret_jax.weights import arrays, reference

OPERATORS = operators.declare()
# By name, what the names of the last layer begin with.
NETWORKS = {
    "resnet10": "fc.",
    "resnet18": "fc.",
    "densenet121": "classifier.",
    "convnext_tiny": "classifier.2.",
}


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


def load(tensors, name, prefix="", channels=3):
    left_out = tuple(key for key in tensors if key.startswith(prefix + NETWORKS[name]))
    read = arrays.Converted({}, "", left_out, prefix)
    options = {"name": name, "width": 64, "in_channels": channels}
    return reference.load(tensors, options, read, "file")


def drawn(name):
    import torchvision

    torch.manual_seed(0)
    if name == "resnet10":  # torchvision makes it, and has no name for it
        block = torchvision.models.resnet.BasicBlock
        network = torchvision.models.ResNet(block, [1, 1, 1, 1]).eval()
    else:
        network = getattr(torchvision.models, name)().eval()
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    return network, state


def test_features_are_those_before_the_last_layer(name):
    network, state = drawn(name)
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype(np.float32)

    found = load({f"module.{key}": x for key, x in state.items()}, name, "module.")

    last = network.fc if name.startswith("resnet") else network.classifier
    last = last[2] if name == "convnext_tiny" else last
    with torch.no_grad():
        expected = network(torch.from_numpy(image.transpose(0, 3, 1, 2).repeat(3, 1)))
        scores = last(torch.from_numpy(found.pooled(image)))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert found.library.startswith("torchvision ")


def test_a_stem_for_one_channel_is_built(name):
    _, state = drawn(name)
    stem = next(key for key, x in state.items() if x.ndim == 4)
    state[stem] = state[stem].sum(1, keepdims=True)

    found = load(state, name, channels=1).pooled(np.ones((1, 64, 64, 1), np.float32))

    assert np.isfinite(found).all()


def test_names_that_differ_are_told_in_one_line():
    _, state = drawn("resnet18")
    lost = "layer3.0.conv1.weight"
    state["another.weight"] = state.pop(lost)

    with pytest.raises(ValueError, match="differ in names") as refused:
        load(state, "resnet18")

    assert lost in str(refused.value)
    assert "\n" not in str(refused.value)
