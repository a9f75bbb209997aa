"""Parity of momentum contrast with a plain PyTorch version of the published algorithm.

In float64, as test_resnet.py says. The orders of the keys are the golden script's.
"""

import drawing
import jax
import jax.numpy as jnp
import make_contrastive_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, objectives, types
from mtpret_jax.ops import losses
from mtpret_jax.stages import contrastive, optimizer
from mtpret_jax.weights import resnet

EXACT = 2e-7  # rounding to float32 of the stored numbers and of ours


def stage():
    config = schema.ContrastiveConfig(
        batch_size=goldens.BATCH,
        queue_size=goldens.QUEUE,
        embedding_size=goldens.WIDTH,
        momentum=goldens.MOMENTUM,
        temperature=goldens.TEMPERATURE,
        batch_norm_rows=goldens.BATCH // goldens.GROUPS,
    )
    constant = schema.OptimizerConfig(
        learning_rate=goldens.RATE,
        final_learning_rate=goldens.RATE,
        momentum=goldens.SGD_MOMENTUM,
        weight_decay=goldens.WEIGHT_DECAY,
        clip_norm=goldens.CLIP,
    )
    backbone = models.build_backbone(
        schema.BackboneConfig(name="resnet18", compute_dtype="float64")
    )
    return contrastive.ContrastiveStage(
        backbone=backbone,
        objective=objectives.build(config, backbone),
        config=config,
        optimizer=optimizer.build_optimizer(constant, goldens.STEPS),
        steps=goldens.STEPS,
    )


def batch(step):
    query, positive = (x.astype(np.float64) for x in goldens.views(step))
    order = goldens.order(step)
    arrays = {"query": query, "positive": positive[order]}
    arrays["partner"] = np.argsort(order).astype(np.int32)
    owner = (step * goldens.BATCH + np.arange(goldens.BATCH)).astype(np.int32)
    arrays |= {"query_owner": owner, "positive_owner": owner[order]}
    return types.Batch(arrays, contrastive.TASK)


def first_state(stage, golden):
    """Drawn weights in the query encoder, and the drawn queue."""
    weights = drawing.draw(golden.shapes)
    shapes = jax.eval_shape(stage.init, jax.random.key(0), {contrastive.TASK: batch(0)})
    expected = {
        "params": shapes.params["backbone"],
        "model_state": shapes.model_state["backbone"],
    }
    body = {name: x for name, x in weights.items() if not name.startswith("fc.")}
    tree = resnet.from_torchvision(body, expected, "golden").tree
    head = {
        f"fc_{n}": {
            "kernel": weights[f"fc.{n}.weight"].T,
            "bias": weights[f"fc.{n}.bias"],
        }
        for n in (0, 2)
    }
    pair = {"backbone": tree["params"], "head": head}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = zeros.replace(
        params={"backbone": tree["params"], "heads": {contrastive.TASK: head}},
        model_state={"backbone": tree["model_state"], "heads": {}},
        opt_state=stage.optimizer.direction.init(pair),
        memory=zeros.memory.replace(
            queue=goldens.first_queue(), owner=zeros.memory.owner - 1
        ),
    )

    def widen(leaf):
        return jnp.asarray(leaf, leaf.dtype if leaf.dtype == jnp.int32 else jnp.float64)

    return stage.begin(jax.tree.map(widen, state), contrastive.TASK)


def record_logits(monkeypatch):
    """A list that gets the logits of each step, from what the loss is given."""
    found, original = [], losses.info_nce

    def info_nce(query, positive, negatives, *, temperature, excluded):
        pairs = jnp.sum(query * positive, -1, keepdims=True)
        logits = jnp.concatenate([pairs, query @ negatives.T], -1) / temperature
        jax.debug.callback(lambda x: found.append(np.asarray(x)), logits, ordered=True)
        return original(
            query, positive, negatives, temperature=temperature, excluded=excluded
        )

    monkeypatch.setattr(losses, "info_nce", info_nce)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.usefixtures("float64")
def test_steps_until_the_queue_begins_anew(monkeypatch):
    golden = drawing.load("moco_resnet18")
    ours = stage()
    state = first_state(ours, golden)
    logits = record_logits(monkeypatch)
    step = jax.jit(ours.step)

    scalars = []
    # Our queue holds keys as they were encoded, the golden one in the queries' order.
    places, seen = np.arange(goldens.QUEUE), []
    for number in range(goldens.STEPS):
        seen.append(np.concatenate([[0], 1 + places]))
        start = int(state.memory.pointer)
        state, values = step(state, batch(number))
        places[start : start + goldens.BATCH] = start + np.argsort(
            goldens.order(number)
        )
        scalars.append(values)
    jax.effects_barrier()

    memory = state.memory
    query = {
        "backbone": state.params["backbone"],
        "head": state.params["heads"][contrastive.TASK],
    }
    found = {
        "logits": np.array([each[:, n] for each, n in zip(logits, seen, strict=True)]),
        "losses": np.array([values["loss"] for values in scalars]),
        "gradient_norms": np.array([values["gradient_norm"] for values in scalars]),
        "query_weights": weights_digest(query),
        "key_weights": weights_digest(memory.key_params),
        "query_statistics": statistics_digest(state.model_state["backbone"]),
        "key_statistics": statistics_digest(memory.key_state),
        "queue": np.asarray(memory.queue)[places],
        "pointer": np.array([memory.pointer]),
    }
    errors = {key: drawing.error(x, golden.arrays[key]) for key, x in found.items()}
    assert found.keys() == golden.arrays.keys()
    assert max(errors.values()) <= EXACT, errors


def weights_digest(pair):
    tree = {"params": pair["backbone"], "model_state": {}}
    tensors = resnet.to_torchvision(tree)
    for name, layer in pair["head"].items():
        name = name.replace("_", ".")
        tensors[f"{name}.weight"] = np.asarray(layer["kernel"]).T
        tensors[f"{name}.bias"] = layer["bias"]
    return drawing.digest(tensors)


def statistics_digest(model_state):
    tree = {"params": {}, "model_state": model_state}
    return drawing.digest(resnet.to_torchvision(tree))
