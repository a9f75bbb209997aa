"""A trained network that takes X-rays: `mtpret_jax.load`.

    model = mtpret_jax.load("runs/demo/runs/mtpret_opacity")
    model.predict("chest.dcm")["boxes"]
    model.embed("chest.dcm")

Nothing that a loaded file holds is run, and the golden image beside the weights is
tried before the first real one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mtpret_jax import types
from mtpret_jax.inference import answers, networks, preprocessing
from mtpret_jax.inference import description as description_lib
from mtpret_jax.training import sharding


class Model:
    """A network with its own pre-processing.

    Attributes:
      kind: The kind of its task; `description.NO_HEAD` of a backbone.
      task: Name of the task whose head it has; "" for a backbone.
      classes: Names of what it tells apart; of masks, the background first.
      answers: What its outputs become for a person.
      preparation: What is done to an image first.
      description: What came with the weights.
    """

    def __init__(
        self, tree: types.Tree, description: description_lib.Description, task: str
    ) -> None:
        """Made by `load`; `tree` as `networks.Network` takes it."""
        self.task = task
        self.description = description
        self.preparation = preprocessing.Preparation.of(description, task)
        self.kind = description.kind(task)
        self.classes = list(description.class_names[task]) if task else []
        self.answers = answers.of_model(description, task)
        self.network = networks.build(description, task)
        self._mesh = sharding.make_mesh()
        self._digest = _digest(tree)
        self._tree = jax.device_put(tree, sharding.replicated(self._mesh))
        self._forward = jax.jit(
            self.network, compiler_options=sharding.compiler_options(self._mesh)
        )

    @property
    def devices(self) -> int:
        """How many devices share a batch that is a multiple of it."""
        return self._mesh.size

    @property
    def tree(self) -> types.Tree:
        """Parameters and batch statistics, as `networks.Network` takes them."""
        return self._tree

    def describe(self) -> dict[str, Any]:
        """What it is, for people and files: plain values."""
        said = self.description
        return {
            "kind": self.kind,
            "task": self.task,
            "classes": self.classes,
            "image_size": self.preparation.image_size,
            "fit": self.preparation.fit,
            "normalisation": said.normalisation,
            "weights_sha256": self._digest,
            "made_by": f"mtpret_jax {said.mtpret_jax}",
            "run": said.run,
            "stage": said.stage,
            "parent": said.parent,
            "steps": said.steps,
            "backbone": said.network.name,
            "width": said.network.width,
        }

    @property
    def second(self) -> tuple[str, ...]:
        """Classes of what it can be told beside an image, such as a sex; often none."""
        scale = self.answers.scale
        return scale.second if scale else ()

    def second_place(self, name: str, where: str = "second") -> int:
        """Index of one of these classes; -1 for "", not known.

        Raises:
          ValueError: If it is another; begins with `where`.
        """
        if not name:
            return -1
        if name not in self.second:
            raise ValueError(
                f"{where}: {name!r} is not one of {list(self.second)}, which this "
                "model can be told beside an image."
            )
        return self.second.index(name)

    def predict(self, image: preprocessing.Image, second: str = "") -> answers.Answer:
        """What the network says of one X-ray.

        Args:
          image: A file (PNG, JPEG, TIFF, BMP, DICOM), or uint8 or uint16 [H, W],
            bright where rays were stopped.
          second: What is told beside it, one of the classes `second`; "": not known.

        Returns:
          `warnings`, and by kind: `probability` of each class, `predicted` where one
          excludes the others, `calibrated` and `decision` where validation was enough
          to fit them; `boxes`; `mask`, uint8 [H, W], with the `share` of each class; or
          `value`. See `answers`.

        Raises:
          ValueError: If the model has no head, the file holds no usable image, or
            `second` is no class of it.
          OSError: If the file can't be opened.
          TypeError: If an array is of another type or shape.
        """
        self.require_head()
        place = self.second_place(second)
        radiograph = preprocessing.read(image, self.preparation)
        radiograph = dataclasses.replace(radiograph, second=place)
        outputs = self.forward([radiograph])
        return self.answer({k: v[0] for k, v in outputs.items()}, radiograph)

    def embed(self, image: preprocessing.Image) -> np.ndarray:
        """Features of one X-ray, float32 [D]; errors as for `predict`."""
        radiograph = preprocessing.read(image, self.preparation)
        return self.forward([radiograph], only="embedding")["embedding"][0]

    def require_head(self) -> None:
        """Raises ValueError if there is nothing to predict with."""
        if not self.task:
            heads = ", ".join(self.description.class_names)
            advice = f"name its task: {heads}" if heads else "use embed"
            raise ValueError(
                f"Run '{self.description.run}' of stage '{self.description.stage}' "
                f"has no head to predict with: {advice}, or take a fine-tuned run."
            )

    def dispatch(
        self, radiographs: Sequence[preprocessing.Radiograph], batch_size: int
    ) -> dict[str, jax.Array]:
        """Starts on a batch, filled up with blanks to `batch_size`; see `forward`."""
        shape = (batch_size, *radiographs[0].image.shape)
        batch = np.zeros(shape, np.float32)
        for place, radiograph in enumerate(radiographs):
            batch[place] = radiograph.image
        second = np.full(batch_size, -1, np.int32)
        second[: len(radiographs)] = [each.second for each in radiographs]
        divides = batch_size % self._mesh.size == 0
        how = (sharding.divided if divides else sharding.replicated)(self._mesh)
        told = jax.device_put(second, how) if self.second else None
        return self.compute(jax.device_put(batch, how), told)

    def compute(
        self, image: jax.Array, second: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Outputs of `networks.Network` for normalised images [B, S, S, C].

        `second` is what is told beside each; None: nothing is known.
        """
        return self._forward(self._tree, image, second)

    def forward(
        self, radiographs: Sequence[preprocessing.Radiograph], only: str = ""
    ) -> dict[str, np.ndarray]:
        """Outputs of `networks.Network`; `only` one of them, where named."""
        found = self.dispatch(radiographs, len(radiographs))
        wanted = {only: found[only]} if only else found
        return sharding.fetch(wanted)

    def answer(
        self, outputs: answers.Outputs, radiograph: preprocessing.Radiograph
    ) -> answers.Answer:
        """Outputs of one X-ray as `predict` gives them."""
        answer = self.answers.answer(outputs, radiograph)
        return {"kind": self.kind, **answer, "warnings": list(radiograph.warnings)}


def _digest(tree: types.Tree) -> str:
    """SHA-256 of all arrays, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
