"""Which images stage 1 may read: the audit's list, made once and kept.

A run whose `contrastive.pool` is "clean" reads no training image that is met again in
a validation or test split, as a copy or as the same patient; "paper" reads them all.
With `exclude_copies` stages 2 and 3 do not read them either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.audit import exclusions, overlaps
from mtpret_jax.config import rules
from mtpret_jax.experiment import teaching, workshop
from mtpret_jax.training import checkpoint, files
from tfds_builders import whole

FOLDER, COUNTS = "audit", "pool.json"
_DIGEST = "exclusions_sha256"
_LOG = logging.getLogger(__name__)


def find(
    config: schema.ExperimentConfig,
    workdir: epath.Path,
    folders: Mapping[str, epath.PathLike],
) -> overlaps.Findings | None:
    """Audits the prepared sets, or reads what an earlier call found; writes nothing.

    Returns:
      None if no run asks for a clean pool or to exclude copies, and no task of a study
      is held out.

    Raises:
      ValueError: If the work folder holds another list, or has lost its own.
    """
    rows = config.runs.values()
    clean = any(row.options.pool == workshop.CLEAN for row in rows)
    if not (clean or config.exclude_copies or config.study.hold_out):
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
    _check_began(folder, kept)
    if kept is not None and kept.report.key == overlaps.key(sets):
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


def _check_began(folder: epath.Path, kept: overlaps.Findings | None) -> None:
    """Refuses a folder whose runs began with a list that is there no more."""
    path = folder / COUNTS
    if not path.exists():
        return
    digest = None if kept is None else kept.report.exclusions_sha256
    for name, row in whole.read_json(path).items():
        began = row[_DIGEST]
        if row["pool"] == workshop.CLEAN and (kept is None or began != digest):
            raise ValueError(
                f"{path} says that run {name!r} began with the list of exclusions of "
                f"sha256 {began}, but {folder / overlaps.REPORT} "
                f"{'is missing' if kept is None else f'is of {digest}'}. Restore it "
                f"and {exclusions.FILE}, or use another --workdir."
            )


def write(shop: workshop.Workshop) -> None:
    """Writes, once, what was found and what each pool lost by it."""
    folder, findings = shop.workdir / FOLDER, shop.findings
    pools = counts(shop)
    if (findings is None and not pools) or (folder / COUNTS).exists():
        return
    if findings is not None:
        for line in findings.report.exclusions():
            _LOG.info("Audit: %s", line.strip())
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        kept = overlaps.read(folder)
        if findings is not None and (kept is None or kept.report != findings.report):
            overlaps.write(folder, findings)
        whole.write_json(folder / COUNTS, pools)


def counts(shop: workshop.Workshop) -> dict[str, Any]:
    """For each run of stage 1 its kind of pool, and what each set has and lost."""
    result: dict[str, Any] = {}
    for run, row in shop.config.runs.items():
        if not row.options.datasets:
            continue
        leaves = shop.excluded(row)
        sets = {}
        for name in row.options.datasets:
            source = shop.open_set(name, overlaps.TRAIN)
            sets[name] = {
                "images": len(source),
                "removed": sum(
                    r["image_id"] in leaves.get(name, ()) for r in source.index
                ),
            }
        result[run] = {**_kind(row, shop.findings), "sets": sets}
    return result


def _kind(
    row: schema.RunConfig, findings: overlaps.Findings | None
) -> dict[str, str | None]:
    """The kind of pool, and the list of exclusions that it obeys."""
    pool = row.options.pool
    if pool != workshop.CLEAN or findings is None:
        return {"pool": pool, _DIGEST: None}
    return {"pool": pool, _DIGEST: findings.report.exclusions_sha256}


def lineage(
    config: schema.ExperimentConfig,
    run: str,
    runs: epath.Path,
    findings: overlaps.Findings | None,
) -> list[dict[str, str | None]]:
    """The pools that a run and all it descends from were pre-trained on.

    Args:
      config: The whole config.
      run: Name of the run.
      runs: Folder of all runs.
      findings: What the audit found.

    Returns:
      For each pool, the oldest first: `run`; `pool`, "clean", "paper" or "unknown";
      `exclusions_sha256`; `audit`, its key, as in `audit.json`; and for those of
      another work folder `start`, the `init_from` that led there.
    """
    row, pools = config.runs[run], []
    if row.init_from and not rules.is_weights(row.init_from):
        is_path = "/" in row.init_from
        folder = epath.Path(row.init_from)
        folder = folder if is_path else runs / row.init_from / "backbone"
        pools = _of_parent(checkpoint.read_description(folder, {}))
        if is_path:
            pools = [{**pool, "start": row.init_from} for pool in pools]
    if row.options.datasets:
        pools += teaching.pools(row)
        kind = _kind(row, findings)
        audit = findings.report.key if findings is not None else None
        pools.append({"run": run, **kind, "audit": audit})
    return pools


def _of_parent(description: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """The pools in a backbone's description; "unknown" where that does not tell."""
    if "pools" in description:
        return description["pools"]
    run = description.get("run", "?")
    return [{"run": run, "pool": "unknown", _DIGEST: None, "audit": None}]
