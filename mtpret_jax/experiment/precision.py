"""What a work folder computes in: by its first device, and the same ever after."""

from __future__ import annotations

import dataclasses
import logging

from etils import epath
from jax.sharding import Mesh

from mtpret_jax import config as schema
from tfds_builders import whole

VERSIONS, ENTRY = "versions.json", "compute_dtype"
_LOG = logging.getLogger(__name__)


def platform(mesh: Mesh) -> str:
    """What the devices of a mesh are, real or of a topology: cpu, gpu, tpu."""
    return mesh.devices.flat[0].platform


def settle(
    config: schema.ExperimentConfig, platform: str, workdir: epath.Path | None = None
) -> schema.ExperimentConfig:
    """The config with the `compute_dtype` that "auto" stands for.

    Args:
      config: The whole config.
      platform: What the devices are; they compute in bfloat16 unless CPUs.
      workdir: Work folder, which keeps what it was begun in.
    """
    if config.backbone.compute_dtype != "auto":
        return config
    dtype = own = "float32" if platform == "cpu" else "bfloat16"
    path = workdir / VERSIONS if workdir is not None else None
    if path is not None and path.exists():
        begun = whole.read_json(path)
        dtype = begun.get(ENTRY, own)
        if dtype != own:
            _LOG.info(
                "Computes in %s, as this folder was begun on '%s'; a new one on '%s' "
                "would in %s.",
                dtype,
                begun.get("platform"),
                platform,
                own,
            )
    backbone = dataclasses.replace(config.backbone, compute_dtype=dtype)
    return dataclasses.replace(config, backbone=backbone)
