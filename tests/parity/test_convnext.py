"""Parity of ConvNeXt with torchvision, timm, transformers and the authors' files.

In float32 our result may be SLACK times as far from PyTorch's float64 as PyTorch's own
float32 is. Nothing in the network has a kink, so gradients are tested so, too.
"""

import drawing
import jax
import jax.numpy as jnp
import make_convnext_goldens as goldens
import numpy as np
import phantoms
import pytest

from mtpret_jax import types
from mtpret_jax.models import convnext, stochastic_depth
from mtpret_jax.weights import layout_convnext

SLACK = 10


def backbone(**options):
    return convnext.ConvNeXtBackbone(goldens.DEPTHS, goldens.WIDTHS[0], **options)


def weights(golden, channels=3):
    """A library's drawn weights as ours."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    body = backbone(in_channels=channels)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    expected = {"params": shapes.params, "model_state": {}}
    tensors = drawing.draw(golden.shapes)
    converted = layout_convnext.FAMILY.read(tensors, expected, "golden")
    return types.Variables(converted.tree["params"], {})


def arrays(name, features):
    levels = (features.stem, *features.levels)
    kept = {
        f"{name}/level{number}": goldens.kept(np.asarray(level))
        for number, level in enumerate(levels)
    }
    return kept | {f"{name}/pooled": np.asarray(features.pooled)}


def apply(body, variables, size=goldens.SIZES[0], **options):
    image = phantoms.images(goldens.BATCH, size)
    features, state = jax.jit(lambda v, x: body.apply(v, x, train=False, **options))(
        variables, image
    )
    assert state == {}
    return features


def require_parity(found, golden):
    for key, array in found.items():
        if key in golden.arrays:
            limit = SLACK * golden.rounding[key]
            assert limit <= 2e-5
            assert drawing.error(array, golden.arrays[key]) <= limit, key


@pytest.mark.parametrize("size", goldens.SIZES)
@pytest.mark.parametrize("library", goldens.LIBRARIES)
def test_features(library, size):
    golden = drawing.load(f"convnext_{library}")

    features = apply(backbone(), weights(golden), size)

    found = arrays(str(size), features)
    assert found.keys() <= golden.arrays.keys()
    require_parity(found, golden)


def test_features_by_a_stem_for_one_channel():
    golden = drawing.load("convnext_timm")

    features = apply(backbone(in_channels=1), weights(golden, channels=1))

    require_parity(arrays(str(goldens.SIZES[0]), features), golden)


@pytest.mark.parametrize("stride", goldens.STRIDES)
def test_dilated_features(stride):
    golden = drawing.load("convnext_timm")

    features = apply(backbone(), weights(golden), output_stride=stride)

    require_parity(arrays(f"stride{stride}", features), golden)


@pytest.mark.parametrize("remat", [False, True])
def test_branches_left_out(remat):
    golden = drawing.load("convnext_timm")

    features = apply(
        backbone(remat=remat),
        weights(golden),
        paths=jnp.asarray(goldens.factors())[:, None],
    )

    require_parity(arrays("paths", features), golden)


def test_rates_of_leaving_out():
    golden = drawing.load("convnext_timm")

    rates = stochastic_depth.rates(goldens.DROP_PATH, sum(goldens.DEPTHS))

    np.testing.assert_allclose(rates, golden.arrays["rates"][0], rtol=1e-6)


@pytest.mark.parametrize(
    ("library", "remat"), [*((name, False) for name in goldens.LIBRARIES), ("hf", True)]
)
def test_gradients(library, remat):
    """Also with activations computed again."""
    golden = drawing.load(f"convnext_{library}")
    body, variables = backbone(remat=remat), weights(golden)
    image = phantoms.images(goldens.BATCH, goldens.SIZES[0])

    @jax.jit
    @jax.grad
    def gradients(params):
        features, _ = body.apply(types.Variables(params, {}), image, train=True)
        return jnp.square(features.pooled - goldens.target()).mean() / 2

    tree = {"params": gradients(variables.params), "model_state": {}}
    name = {"hf_dinov3": "hf_dinov3_state"}.get(library, library)
    found, _ = layout_convnext.FAMILY.write(tree, name, channels=3)
    error = drawing.error(drawing.digest(found), golden.arrays["gradients"])
    assert error <= min(1e-4, SLACK * golden.rounding["gradients"])
