"""A training step of each plain network, as one writes it with Optax.

Each function returns a step, from state and batch to the next state and the loss, and
the shapes of both: to be lowered for any device; nothing is run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.plain import networks

Step = Callable[[Any, Any], tuple[Any, jax.Array]]


def _optimizer() -> optax.GradientTransformation:
    """SGD with momentum, decay and clipping, on a cosine."""
    return optax.chain(
        optax.clip_by_global_norm(10.0),
        optax.add_decayed_weights(1e-4),
        optax.sgd(optax.cosine_decay_schedule(0.03, 10_000), momentum=0.9),
    )


def _shapes(model: nn.Module, images: jax.ShapeDtypeStruct) -> Any:
    def init(image: jax.Array) -> Any:
        return model.init(jax.random.key(0), image, train=False)

    return jax.eval_shape(init, images)


def contrastive(
    batch_size: int, image_size: int, negatives: int, dtype: str
) -> tuple[Step, Any, Any]:
    """MoCo v2 on one device: no shuffling, one group of BatchNorm."""
    model, optimizer = networks.Embedding(128, jnp.dtype(dtype)), _optimizer()

    def embed(params: Any, stats: Any, image: jax.Array) -> Any:
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, image, train=True, mutable=["batch_stats"])

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        slow = jax.tree.map(
            lambda old, new: 0.999 * old + 0.001 * new, state["slow"], state["params"]
        )
        keys, slow_stats = embed(slow, state["slow_stats"], batch["positive"])

        def loss(params: Any) -> Any:
            query, stats = embed(params, state["stats"], batch["query"])
            agreement = jnp.sum(query * keys, -1, keepdims=True)
            logits = jnp.concatenate([agreement, query @ state["queue"].T], -1) / 0.2
            labels = jnp.zeros(batch_size, jnp.int32)
            entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return entropy.mean(), stats

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
        updates, opt_state = optimizer.update(
            grads, state["opt_state"], state["params"]
        )
        start = state["pointer"]
        return {
            "params": optax.apply_updates(state["params"], updates),
            "stats": stats["batch_stats"],
            "slow": slow,
            "slow_stats": slow_stats["batch_stats"],
            "opt_state": opt_state,
            "queue": jax.lax.dynamic_update_slice(state["queue"], keys, (start, 0)),
            "pointer": (start + batch_size) % negatives,
        }, value

    images = jax.ShapeDtypeStruct((batch_size, image_size, image_size, 1), jnp.float32)
    variables = _shapes(model, images)
    state = {
        "params": variables["params"],
        "stats": variables["batch_stats"],
        "slow": variables["params"],
        "slow_stats": variables["batch_stats"],
        "opt_state": jax.eval_shape(optimizer.init, variables["params"]),
        "queue": jax.ShapeDtypeStruct((negatives, 128), jnp.float32),
        "pointer": jax.ShapeDtypeStruct((), jnp.int32),
    }
    return step, state, {"query": images, "positive": images}


def _supervised(
    model: nn.Module,
    images: jax.ShapeDtypeStruct,
    labels: jax.ShapeDtypeStruct,
) -> tuple[Step, Any, Any]:
    """Cross-entropy of exclusive classes: of the image, or of each pixel."""
    optimizer = _optimizer()

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        key = jax.random.fold_in(jax.random.key(0), state["step"])

        def loss(params: Any) -> Any:
            logits, stats = model.apply(
                {"params": params, "batch_stats": state["stats"]},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            labels = batch["label"]
            entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return entropy.mean(), stats

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
        updates, opt_state = optimizer.update(
            grads, state["opt_state"], state["params"]
        )
        return {
            "params": optax.apply_updates(state["params"], updates),
            "stats": stats["batch_stats"],
            "opt_state": opt_state,
            "step": state["step"] + 1,
        }, value

    variables = _shapes(model, images)
    state = {
        "params": variables["params"],
        "stats": variables["batch_stats"],
        "opt_state": jax.eval_shape(optimizer.init, variables["params"]),
        "step": jax.ShapeDtypeStruct((), jnp.int32),
    }
    return step, state, {"image": images, "label": labels}


def classification(
    batch_size: int, image_size: int, classes: int, dtype: str
) -> tuple[Step, Any, Any]:
    """A label for each image."""
    images = jax.ShapeDtypeStruct((batch_size, image_size, image_size, 1), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return _supervised(networks.Classifier(classes, jnp.dtype(dtype)), images, labels)


def segmentation(
    batch_size: int,
    image_size: int,
    classes: int,
    dtype: str,
    *,
    rates: tuple[int, ...],
    output_stride: int,
    dropout: float,
) -> tuple[Step, Any, Any]:
    """A label for each pixel."""
    images = jax.ShapeDtypeStruct((batch_size, image_size, image_size, 1), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size, image_size, image_size), jnp.int32)
    model = networks.DeepLabV3(classes, rates, output_stride, dropout, jnp.dtype(dtype))
    return _supervised(model, images, labels)
