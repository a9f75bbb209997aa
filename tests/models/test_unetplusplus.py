"""UNet++: what each node reads, how many parameters it has, odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import unetplusplus

# Worked out from the paper's figure 1: node x_i_j reads j maps of its row and one of
# the row below. With b the backbone's channels and c the nodes', a node of n inputs
# has 9 n c + 9 c c weights and 4 c of two BatchNorms; a head has c + 1 for each class.
PARAMETERS = {
    ("resnet18", False): 4_482_370,
    ("resnet18", True): 4_482_370 + 3 * 66,
    ("resnet50", False): 12_168_514,
    ("resnet50", True): 12_168_514 + 3 * 66,
}
BACKBONE = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
}
NODES = (32, 64, 128, 256)


def decoder(**options) -> unetplusplus.UNetPlusPlus:
    options = {
        "classes": 3,
        "channels": (4, 5, 6, 7),
        "deep_supervision": True,
        "image_size": 64,
    } | options
    return unetplusplus.UNetPlusPlus(**options)


def noise(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def features(height: int = 64, width: int = 64) -> types.Features:
    """Of an image of this size, in a backbone of 3 to 7 channels."""
    maps = [
        noise(2, -(-height // 2**row), -(-width // 2**row), row + 2)
        for row in range(1, 6)
    ]
    return types.Features(tuple(maps[1:]), maps[-1].mean((1, 2)), maps[0])


def inputs(row: int, column: int, backbone: tuple[int, ...]) -> int:
    """Channels that node x_row_column reads, by the paper's figure."""
    below = backbone[row + 1] if column == 1 else NODES[row + 1]
    return backbone[row] + (column - 1) * NODES[row] + below


@pytest.mark.parametrize("name", BACKBONE)
def test_the_pinned_numbers_follow_from_the_figure(name):
    total = 2 * (NODES[0] + 1)
    for row in range(4):
        for column in range(1, 5 - row):
            read, made = inputs(row, column, BACKBONE[name]), NODES[row]
            total += 9 * read * made + 9 * made * made + 4 * made

    assert total == PARAMETERS[name, False]


@pytest.mark.parametrize(("name", "deep"), PARAMETERS)
def test_parameters_are_counted(name, deep):
    body = models.build_backbone(schema.BackboneConfig(name=name))
    module = decoder(classes=2, channels=NODES, deep_supervision=deep)

    def init(key, image):
        found, _ = body.apply(body.init(key, image), image, train=False)
        return module.init(key, found, train=False)["params"]

    params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 64, 64, 1)))

    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name, deep]
    for row in range(4):
        for column in range(1, 5 - row):
            kernel = params[f"x_{row}_{column}"]["conv1"]["kernel"]
            assert kernel.shape[2] == inputs(row, column, BACKBONE[name])
    assert sum(name.startswith("x_") for name in params) == 10


def test_a_head_at_depth_d_sees_the_rows_above_d_and_no_other():
    module, found = decoder(), features()
    variables = jax.jit(module.init, static_argnames="train")(
        jax.random.key(0), found, train=False
    )

    @jax.jit
    def draw(found):
        return module.apply(variables, found, train=False)

    before = draw(found)
    for row in range(5):
        maps = [found.stem, *found.levels]
        maps[row] = maps[row] + 1.0
        after = draw(types.Features(tuple(maps[1:]), found.pooled, maps[0]))
        changed = [
            bool((one != other).any()) for one, other in zip(before, after, strict=True)
        ]
        assert changed == [row <= depth for depth in range(1, 5)]


def test_only_the_last_node_has_a_head_without_deep_supervision():
    found = features()
    deep, plain = decoder(), decoder(deep_supervision=False)
    variables = deep.init(jax.random.key(0), found, train=False)

    last = deep.apply(variables, found, train=False)[-1]
    alone = plain.apply(variables, found, train=False)

    assert (len(alone), plain.loss_weights, deep.loss_weights) == (
        1,
        (1.0,),
        (0.25,) * 4,
    )
    np.testing.assert_array_equal(alone[0], last)
    assert "final_1" not in plain.init(jax.random.key(0), found, train=False)["params"]


def test_a_node_adds_the_middle_of_the_map_below():
    """Kernels that pass the lower map on: bilinear, centres of pixels at half."""
    node = unetplusplus.Node(1)
    row, below = [jnp.zeros((1, 1, 4, 1))], jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
    variables = node.init(jax.random.key(0), row, below, False)
    kernels = {
        name: {"kernel": jnp.zeros_like(old["kernel"]).at[1, 1, -1].set(1.0)}
        for name, old in variables["params"].items()
        if name.startswith("conv")
    }
    params = {**variables["params"], **kernels}

    found = node.apply({**variables, "params": params}, row, below, False)

    # Two BatchNorms of unit statistics divide by the root of 1 + 1e-5.
    np.testing.assert_allclose(found.ravel(), [0.0, 1.0, 3.0, 4.0], rtol=1e-4)


@pytest.mark.parametrize(
    ("classes", "height", "width"), [(2, 65, 65), (7, 40, 97), (3, 1, 1)]
)
def test_levels_of_any_size_give_every_pixel_a_logit(classes, height, width):
    module, found = decoder(classes=classes, image_size=65), features(height, width)
    variables = module.init(jax.random.key(0), found, train=False)

    results = module.apply(variables, found, train=False)

    assert len(results) == 4
    for logits in results:
        assert logits.shape == (2, 65, 65, classes)
        assert logits.dtype == jnp.float32
        assert np.isfinite(logits).all()
