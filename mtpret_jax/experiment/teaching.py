"""Features of a frozen teacher for images of stage 1, computed once and kept.

They lie beside the prepared set, in `features/`, under a name that is a digest of the
teacher's weights, of how it has images prepared, and of the set's records.
"""

from __future__ import annotations

import hashlib
import json
import logging

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.experiment import workshop
from mtpret_jax.inference import loader, preprocessing
from mtpret_jax.inference import model as model_lib
from mtpret_jax.training import files
from tfds_builders import whole

_ROWS = 32  # images at a time, or the next multiple of the devices
_LOG = logging.getLogger(__name__)


def features(shop: workshop.Workshop, row: schema.RunConfig) -> dict[str, np.ndarray]:
    """What the teacher of a run of stage 1 tells of its images.

    Args:
      shop: What all runs share.
      row: Row of the run.

    Returns:
      For each set the features of all records of its train split, float32 [N, D];
      nothing where the run has no teacher.

    Raises:
      ValueError: If the teacher is no model, or its features have another width than
        the config says.
    """
    options = row.contrastive.distillation
    if not (row.options.datasets and options.teacher):
        return {}
    teacher = loader.load(epath.Path(options.teacher))
    found = {}
    for name in row.options.datasets:
        source = shop.open_set(name, "train")
        path = _place(shop, name, teacher)
        if jax.process_index() == 0 and not path.exists():
            _LOG.info("Features of %s by %s, once.", name, options.teacher)
        found[name] = _kept(path, teacher, source)
        width = found[name].shape[1]
        if width != options.features:
            raise ValueError(
                f"contrastive.distillation.features: {options.teacher} has {width}, "
                f"got {options.features}. Set it to {width}."
            )
    return found


def pools(row: schema.RunConfig) -> list[dict[str, str | None]]:
    """The pools that the teacher of a run learnt from, as `pool.lineage` has them."""
    options = row.contrastive.distillation
    if not (row.options.datasets and options.teacher):
        return []
    said = loader.load(epath.Path(options.teacher)).description
    unknown = {"run": said.run, "pool": "unknown"}
    unknown |= {"exclusions_sha256": None, "audit": None}
    found = [unknown] if said.pools is None else said.pools
    return [{**pool, "start": options.teacher} for pool in found]


def _place(shop: workshop.Workshop, name: str, teacher: model_lib.Model) -> epath.Path:
    """The file of a set's features."""
    folder = epath.Path(shop.folders[name])
    splits = shop.config.datasets[name].splits
    facts = [
        teacher.describe()["weights_sha256"],
        repr(teacher.preparation),
        repr(teacher.description.network),
        sources.describe(folder, splits)["records_sha256"],
        splits,
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return folder / "features" / f"train.{digest[:16]}.npz"


def _kept(
    path: epath.Path, teacher: model_lib.Model, source: sources.Source
) -> np.ndarray:
    """The file's features; made if it is not there, by all processes together."""
    if not files.agree(path.exists()):
        found = _compute(teacher, source)
        if jax.process_index() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole.write_arrays(path, {"feature": found})
        files.wait_for_all("features")
    return whole.read_arrays(path, "Remove it, and it is made again.")["feature"]


def _compute(teacher: model_lib.Model, source: sources.Source) -> np.ndarray:
    """Features of all records, float32 [N, D], each image prepared as for `predict`."""
    rows = teacher.devices * -(-_ROWS // teacher.devices)
    parts = []
    for first in range(0, len(source), rows):
        records = range(first, min(first + rows, len(source)))
        images = [
            preprocessing.read(source.image(record), teacher.preparation)
            for record in records
        ]
        feature = teacher.dispatch(images, rows)["embedding"]
        with jax.transfer_guard("allow"):
            told = multihost_utils.process_allgather(feature, tiled=True)
        parts.append(np.asarray(told)[: len(records)])
    return np.concatenate(parts).astype(np.float32)
