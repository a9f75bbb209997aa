"""Whether the tasks held out are external: nothing of their sets was pre-trained on."""

from __future__ import annotations

from mtpret_jax import config as schema
from mtpret_jax.audit import overlaps


def check(config: schema.ExperimentConfig, findings: overlaps.Findings | None) -> None:
    """Refuses to call a task external that is not.

    What an audit cannot find, and what is in weights from elsewhere, stays unknown.

    Args:
      config: Expanded.
      findings: What an audit of all its sets found; needed where a task is held out.

    Raises:
      ValueError: If stage 1 or 2 of any run reads the set of a task held out, or an
        image or patient of it, in any split, is met again in what they read.
    """
    held = {task: config.tasks[task].dataset for task in config.study.hold_out}
    if not held:
        return
    if findings is None:
        raise ValueError(
            "config.study.hold_out: an audit must show that a task is external, but "
            "none was done. Give `check` what `pool.find` returns."
        )
    read = pretraining_sets(config)
    for task, dataset in held.items():
        if dataset in read:
            raise ValueError(
                f"config.study.hold_out: task '{task}' is not external: run "
                f"'{read[dataset]}' is pre-trained on its set '{dataset}'."
            )
        found = _met_again(findings, dataset, list(read))
        if found:
            raise ValueError(
                f"config.study.hold_out: task '{task}' is not external: pre-training "
                f"meets images of its set '{dataset}' again: {'; '.join(found)}. "
                "`mtpret_jax data audit --config=... --data_dir=... --out=FOLDER` "
                "lists the copies in FOLDER/copies.csv. Hold out the tasks of those "
                "sets too, leave those without a task out of stage 1, or take "
                f"'{task}' out of hold_out."
            )


def pretraining_sets(config: schema.ExperimentConfig) -> dict[str, str]:
    """Sets whose train split stage 1 or 2 reads, and the first run that does."""
    read: dict[str, str] = {}
    for name, row in config.runs.items():
        for dataset in () if row.options.is_tested else config.datasets_of(row):
            read.setdefault(dataset, name)
    return read


def _met_again(findings: overlaps.Findings, dataset: str, read: list[str]) -> list[str]:
    """What of a set, in any split, the training images of others hold again."""
    found = []
    for row in findings.report.overlaps:
        sides = [
            (row.dataset, row.split, row.images),
            (row.other_dataset, row.other_split, row.other_images),
        ]
        for (ours, split, images), (theirs, their_split, _) in (sides, sides[::-1]):
            if ours == dataset and theirs in read and their_split == overlaps.TRAIN:
                found.append(
                    f"{images} of split '{split}' ({row.kind}) in split "
                    f"'{their_split}' of '{theirs}'"
                )
    return found
