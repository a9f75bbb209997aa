"""Views of stage 1 made on the device: what `augmentation` compares ours with.

Does what `data.augment.draw_view` and `ops.views.normalise` do to a picture half
as large again as the view, by the same draws.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import augment, transforms

_TAPS = 4  # of the blur, on either side: those of OpenCV for a deviation of 1 pixel
_DRAWS = 8  # of `augment.change_intensity`


def draw(
    rng: np.random.Generator, settings: schema.AugmentConfig, side: int
) -> dict[str, np.ndarray]:
    """What `view` needs of chance: the draws of `augment.draw_view`.

    Returns:
      `matrix`, square to picture, float32 [2, 3], of pixels' centres; `draws` [8].
    """
    size = side * 2 // 3
    fitted = transforms.fit(side, side, size=size, mode="pad")
    warp = augment.draw_warp(rng, settings, content=fitted.content, size=size)
    matrix = np.linalg.inv(warp @ fitted.matrix)[:2]
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    return {
        "matrix": matrix.astype(np.float32),
        "draws": rng.random(_DRAWS).astype(np.float32),
    }


def view(
    picture: jax.Array,
    matrix: jax.Array,
    draws: jax.Array,
    settings: schema.AugmentConfig,
) -> jax.Array:
    """A normalised view by the draws of `draw`, float32 [size, size, 1]."""
    side = picture.shape[0]
    size = side * 2 // 3
    row, column = jnp.mgrid[:size, :size]
    x = matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]
    y = matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]
    inside = (jnp.minimum(x, y) >= -0.5) & (jnp.maximum(x, y) < side - 0.5)
    intensity = picture.astype(jnp.float32) / 65_535.0
    image = jax.scipy.ndimage.map_coordinates(intensity, [y, x], 1, "nearest")
    shift, factor, exponent, is_blurred, width, strength, across, down = draws
    count = jnp.maximum(inside.sum(), 1)
    if settings.brightness or settings.contrast:
        slope = 1 + settings.contrast * (2 * factor - 1)
        mean = jnp.where(inside, image, 0).sum() / count
        offset = mean * (1 - slope) + settings.brightness * (2 * shift - 1)
        image = jnp.clip(image * slope + offset, 0, 1)
    if settings.gamma:
        image = image ** ((1 + settings.gamma) ** (2 * exponent - 1))
    if settings.blur_probability:
        sigma = 0.1 + width * (settings.blur_sigma - 0.1)
        sigma = jnp.where(is_blurred < settings.blur_probability, sigma, 0.05)
        image = _blur(_blur(image, sigma).T, sigma).T
    if settings.noise:
        field = jnp.asarray(augment._noise_field(512 + size, 512 + size))
        start = jnp.floor(512 * jnp.stack([down, across])).astype(jnp.int32)
        grain = jax.lax.dynamic_slice(field, start, (size, size))
        image = jnp.clip(image + grain * strength * settings.noise, 0, 1)
    mean = jnp.where(inside, image, 0).sum() / count
    normal = jnp.where(inside, image - mean, 0)
    deviation = jnp.sqrt((normal**2).sum() / count)
    return (normal / (deviation + 1e-6))[..., None]


def _blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """Blurs along the rows; the border repeats."""
    place = jnp.arange(-_TAPS, _TAPS + 1)
    weights = jax.nn.softmax(-(place**2) / (2 * sigma**2))
    padded = jnp.pad(image, ((_TAPS, _TAPS), (0, 0)), mode="edge")
    parts = [weights[i] * padded[i : i + image.shape[0]] for i in range(len(place))]
    return jnp.stack(parts).sum(0)


def expand(batch: types.Batch, settings: schema.AugmentConfig) -> types.Batch:
    """A batch of pictures and draws to the one that the step takes, on the device."""
    arrays = dict(batch.arrays)
    picture, found = arrays.pop("picture"), {}
    change = jax.vmap(functools.partial(view, settings=settings))
    for which in ("query", "positive"):
        matrix, draws = (arrays.pop(f"{which}_{name}") for name in ("matrix", "draws"))
        found[which] = change(picture, matrix, draws)
    return batch.replace(arrays=arrays | found)
