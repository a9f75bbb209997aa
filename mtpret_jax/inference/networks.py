"""A trained network as a function of normalised images."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from mtpret_jax import models, tasks, types
from mtpret_jax.data import kinds
from mtpret_jax.inference import description


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A backbone, perhaps with the head of one task, in evaluation mode.

    Attributes:
      backbone: Images to features.
      task: The head; None for features alone.
    """

    backbone: types.Backbone
    task: types.Task | None

    def __call__(
        self, tree: types.Tree, image: jax.Array, second: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features, and what the task predicts from them.

        Args:
          tree: `{"backbone": .., "head": ..}`, each with `params` and `model_state`.
          image: Normalised, float32 [B, H, W, 1] or [B, H, W, in_channels].
          second: What is told beside it, where the task asks for that; see `types`.
            None: nothing is known.

        Returns:
          `embedding`, float32 [B, D], the mean of the last level, and the outputs of
          `types.Task.predict`.
        """
        see = functools.partial(
            self.backbone.apply,
            _variables(tree["backbone"]),
            train=False,
            output_stride=self.task.output_stride if self.task else 0,
        )
        features = see(image)[0].replace(second=second)
        outputs = {"embedding": features.pooled.astype(jnp.float32)}
        if self.task is not None:
            mirrored = None
            if self.task.flip_at_test:
                mirrored = see(image[:, :, ::-1])[0].replace(second=second)
            outputs |= self.task.predict(_variables(tree["head"]), features, mirrored)
        return outputs

    def shapes(self, image_size: int) -> types.Tree:
        """The tree that a call takes, leaves with `shape` and `dtype`."""

        def init(key: jax.Array) -> types.Tree:
            image = jnp.zeros((1, image_size, image_size, 1))
            stride = self.task.output_stride if self.task else 0
            body = self.backbone.init(key, image)
            tree = {"backbone": _parts(body)}
            if self.task is not None:
                features, _ = self.backbone.apply(
                    body, image, train=False, output_stride=stride
                )
                tree["head"] = _parts(self.task.init(key, features))
            return tree

        return jax.eval_shape(init, jax.random.key(0))


def build(described: description.Description, task: str) -> Network:
    """The network that a description tells of.

    Args:
      described: What the model is.
      task: The task whose head it gets; "" for the backbone alone.
    """
    body = models.build_backbone(described.network)
    if not task:
        return Network(body, None)
    row = described.tasks[task]
    names = kinds.KINDS[row.kind].metadata(row, described.class_names[task])
    names["scales"] = dict(described.scales)
    dtype = jnp.dtype(described.network.dtype)
    built = tasks.build_tasks({task: row}, {row.dataset: names}, dtype=dtype)
    return Network(body, built[task])


def whole(network: types.Tree, task: str) -> types.Tree:
    """The inverse of `part`: where `types.Stage.hand_over` has what `Network` takes."""
    head = network.get("head", {})
    heads = {"heads": {kind: {task: head[kind]} for kind in head}}
    return {"backbone": network["backbone"]} | (heads if head else {})


def part(tree: types.Tree, task: str) -> types.Tree:
    """What `Network` takes, of what `types.Stage.hand_over` gives."""
    if not task:
        return {"backbone": tree["backbone"]}
    heads = tree["heads"]
    head = {kind: heads[kind].get(task, {}) for kind in ("params", "model_state")}
    return {"backbone": tree["backbone"], "head": head}


def _variables(tree: types.Tree) -> types.Variables:
    return types.Variables(tree["params"], tree["model_state"])


def _parts(variables: types.Variables) -> types.Tree:
    return {"params": variables.params, "model_state": variables.model_state}
