"""A trained network that takes X-rays: `mtpret_jax.load`.

    model = mtpret_jax.load("runs/demo/runs/mtpret_opacity")
    model.predict("chest.dcm")["boxes"]
    model.embed("chest.dcm")

Nothing that a loaded file holds is run, and the golden picture beside the weights is
tried before the first real one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mtpret_jax import types
from mtpret_jax.inference import answers, predictor, reading
from mtpret_jax.training import sharding


class Model:
    """A network with its own pre-processing.

    Attributes:
      kind: "classification", "segmentation", "detection", or "backbone": no head.
      task: Name of the task whose head it has; "" for a backbone.
      classes: Names of what it tells apart; of masks, the background first.
      preparation: What is done to a picture first.
      described: The description that came with the weights.
    """

    def __init__(
        self, tree: types.Tree, described: Mapping[str, Any], task: str
    ) -> None:
        """Made by `load`; `tree` as `predictor.Network` takes it."""
        self.task = task
        self.described = described
        self.preparation = predictor.preparation(described, task)
        self.kind: str = described["tasks"][task]["kind"] if task else "backbone"
        self.classes: list[str] = list(described["class_names"][task]) if task else []
        self.network = predictor.build(described, task)
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
        """Parameters and batch statistics, as `predictor.Network` takes them."""
        return self._tree

    @property
    def is_exclusive(self) -> bool:
        """Whether it classifies, and one class excludes the others."""
        row = self.described["tasks"].get(self.task, {})
        return self.kind == "classification" and row["exclusive"]

    def describe(self) -> dict[str, Any]:
        """What it is, for people and files: plain values."""
        about = {
            name: self.described.get(name)
            for name in ("run", "stage", "parent", "steps", "backbone", "width")
        }
        return {
            "kind": self.kind,
            "task": self.task,
            "classes": self.classes,
            "image_size": self.preparation.image_size,
            "fit": self.preparation.fit,
            "normalisation": self.described["normalisation"],
            "weights_sha256": self._digest,
            "made_by": f"mtpret_jax {self.described['mtpret_jax']}",
            **about,
        }

    def predict(self, image: reading.Picture) -> answers.Answer:
        """What the network says of one X-ray.

        Args:
          image: A file (PNG, JPEG, TIFF, BMP, DICOM), or uint8 or uint16 [H, W],
            bright where rays were stopped.

        Returns:
          `warnings`, and by kind: `probability` of each class, `predicted` where one
          excludes the others, `calibrated` and `decision` where validation was enough
          to fit them; `boxes`; or `mask`, uint8 [H, W], with the `share` of each class.
          See `answers`.

        Raises:
          ValueError: If the model has no head, or the file holds no usable picture.
          OSError: If the file can't be opened.
          TypeError: If an array is of another type or shape.
        """
        self.require_head()
        radiograph = reading.read(image, self.preparation)
        outputs = self.forward([radiograph])
        return self.answer({k: v[0] for k, v in outputs.items()}, radiograph)

    def embed(self, image: reading.Picture) -> np.ndarray:
        """Features of one X-ray, float32 [D]; errors as for `predict`."""
        radiograph = reading.read(image, self.preparation)
        return self.forward([radiograph], only="embedding")["embedding"][0]

    def require_head(self) -> None:
        """Raises ValueError if there is nothing to predict with."""
        if not self.task:
            heads = ", ".join(self.described["class_names"])
            advice = f"name its task: {heads}" if heads else "use embed"
            raise ValueError(
                f"Run '{self.described['run']}' of stage '{self.described['stage']}' "
                f"has no head to predict with: {advice}, or take a fine-tuned run."
            )

    def dispatch(
        self, radiographs: Sequence[reading.Radiograph], batch_size: int
    ) -> dict[str, jax.Array]:
        """Starts on a batch, filled up with blanks to `batch_size`; see `forward`."""
        shape = (batch_size, *radiographs[0].image.shape)
        batch = np.zeros(shape, np.float32)
        for place, radiograph in enumerate(radiographs):
            batch[place] = radiograph.image
        divides = batch_size % self._mesh.size == 0
        how = (sharding.divided if divides else sharding.replicated)(self._mesh)
        return self.compute(jax.device_put(batch, how))

    def compute(self, image: jax.Array) -> dict[str, jax.Array]:
        """Outputs of `predictor.Network` for normalised images [B, S, S, 1]."""
        return self._forward(self._tree, image)

    def forward(
        self, radiographs: Sequence[reading.Radiograph], only: str = ""
    ) -> dict[str, np.ndarray]:
        """Outputs of `predictor.Network`; `only` one of them, where named."""
        found = self.dispatch(radiographs, len(radiographs))
        wanted = {only: found[only]} if only else found
        return sharding.fetch(wanted)

    def answer(
        self, outputs: answers.Outputs, radiograph: reading.Radiograph
    ) -> answers.Answer:
        """Outputs of one X-ray as `predict` gives them."""
        if self.kind == "classification":
            answer = answers.classification(
                outputs,
                radiograph,
                self.classes,
                exclusive=self.is_exclusive,
                decisions=self.described["decisions"].get(self.task, {}),
            )
        elif self.kind == "segmentation":
            answer = answers.segmentation(outputs, radiograph, self.classes)
        else:
            answer = answers.detection(outputs, radiograph, self.classes)
        return {"kind": self.kind, **answer, "warnings": list(radiograph.warnings)}


def _digest(tree: types.Tree) -> str:
    """SHA-256 of all arrays, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
