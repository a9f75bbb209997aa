"""Which images stage 1 may read: the audit's list, made once and kept.

A run whose `contrastive.pool` is "clean" reads no training image that is met again in
a validation or test split, as a copy or as the same patient; "paper" reads them all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.audit import exclusions, overlaps, words
from mtpret_jax.data import sources
from mtpret_jax.training import files

CLEAN = "clean"
FOLDER, COUNTS = "audit", "pool.json"
_LOG = logging.getLogger(__name__)


def find(
    config: schema.ExperimentConfig,
    workdir: epath.Path,
    folders: Mapping[str, epath.PathLike],
) -> overlaps.Findings | None:
    """Audits the prepared sets, or reads what an earlier call found; writes nothing.

    Returns:
      None if no run asks for a clean pool.

    Raises:
      ValueError: If the work folder holds another list.
    """
    rows = config.runs.values()
    if not any(r.stage == "contrastive" and r.contrastive.pool == CLEAN for r in rows):
        return None
    sets = {
        name: overlaps.Set(folders[name], row.splits)
        for name, row in config.datasets.items()
    }
    # The first process keeps the signatures, which the others then read.
    if jax.process_index() == 0:
        found = _find(workdir / FOLDER, sets)
    files.wait_for_all("audit")
    if jax.process_index() != 0:
        found = _find(workdir / FOLDER, sets)
    return found


def _find(
    folder: epath.Path, sets: Mapping[str, overlaps.Set]
) -> overlaps.Findings | None:
    kept = overlaps.read(folder)
    if kept is not None and kept.report["key"] == overlaps.key(sets):
        return kept
    found = overlaps.audit(sets)
    if kept is not None and found.excluded != kept.excluded:
        gone = len(set(kept.excluded) - set(found.excluded))
        new = len(set(found.excluded) - set(kept.excluded))
        raise ValueError(
            f"{folder / exclusions.FILE} differs from what the audit finds now: {new} "
            f"images more, {gone} fewer. Stage 1 would read other images than it began "
            "with. Use another --workdir, or give the same config and data."
        )
    return found


def write(
    config: schema.ExperimentConfig,
    workdir: epath.Path,
    folders: Mapping[str, epath.PathLike],
    findings: overlaps.Findings | None,
) -> None:
    """Writes, once, what was found and what each pool lost by it."""
    folder = workdir / FOLDER
    pools = counts(config, folders, findings)
    if not pools or (folder / COUNTS).exists():
        return
    if findings is not None:
        for line in words.excluded(findings.report):
            _LOG.info("Audit: %s", line.strip())
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        if findings is not None:
            overlaps.write(folder, findings)
        files.write_json(folder / COUNTS, pools)


def counts(
    config: schema.ExperimentConfig,
    folders: Mapping[str, epath.PathLike],
    findings: overlaps.Findings | None,
) -> dict[str, Any]:
    """For each run of stage 1 its kind of pool, and what each set has and lost."""
    result: dict[str, Any] = {}
    for run, row in config.runs.items():
        if row.stage != "contrastive":
            continue
        leaves = excluded(row, findings)
        sets = {}
        for name in row.contrastive.datasets:
            splits = config.datasets[name].splits
            source = sources.open_prepared(folders[name], overlaps.TRAIN, splits)
            sets[name] = {
                "images": len(source),
                "removed": sum(
                    r["image_id"] in leaves.get(name, ()) for r in source.index
                ),
            }
        result[run] = {"pool": row.contrastive.pool, "sets": sets}
    return result


def excluded(
    row: schema.RunConfig, findings: overlaps.Findings | None
) -> Mapping[str, frozenset[str]]:
    """Identifiers, by set, of the images that a run of stage 1 must not read."""
    if row.contrastive.pool != CLEAN or findings is None:
        return {}
    return exclusions.by_dataset(findings.excluded)
