"""Rules of `config.study` and `config.encoders`, checked before runs are made."""

from __future__ import annotations

from collections.abc import Sequence

from mtpret_jax.config import rules, schema

# What each means, changes and needs: `study.arms`.
ARMS = (
    "scratch",
    "contrastive_single",
    "contrastive",
    "joint_supervised",
    "continual_plain",
    "mtpret",
    "control",
    "control_updates",
    "memorization_only",
    "schedule_only",
    "anchor_previous_only",
    "anchor_pretrained_only",
    "head_carried",
    "unetplusplus",
)
# Anchors without which an arm would be another one.
_NEEDED = {
    "memorization_only": ("anchor_previous", "anchor_pretrained", "feature_memory"),
    "schedule_only": ("anchor_previous", "anchor_pretrained", "feature_memory"),
    "anchor_previous_only": ("anchor_previous",),
    "anchor_pretrained_only": ("anchor_pretrained",),
}
_SEPARATOR = " - "


def check(config: schema.ExperimentConfig) -> None:
    """Checks the encoders, and the study, if there is one.

    Raises:
      ValueError: If something is missing, unknown or set in vain.
    """
    for name, row in config.encoders.items():
        if wrong := sorted(set(name) & set("./[]\\")):
            raise ValueError(
                f"config.encoders: '{name}' has {' and '.join(wrong)}, but names arms "
                "and their runs. Give it another name."
            )
        _check_encoder(row, f"config.encoders.{name}")
    study = config.study
    if not study.tasks:
        if study.arms:
            raise ValueError("config.study.tasks: name at least one task.")
        return
    _check_names(study.tasks, list(config.tasks), "tasks", "task")
    known = (*ARMS, *config.encoders)
    _check_names(study.arms, known, "arms", "arm")
    if not study.arms:
        raise ValueError(f"config.study.arms: name at least one of {list(known)}.")
    _check_names(study.hold_out, study.tasks, "hold_out", "task of config.study.tasks")
    for option in ("finetune_steps", "learning_rates"):
        _check_names(list(getattr(study, option)), study.tasks, option, "task")
    for task, steps in study.finetune_steps.items():
        if steps < 1:
            raise ValueError(
                f"config.study.finetune_steps.{task}: expected at least 1, got {steps}."
            )
    kinds = {config.tasks[task].kind for task in study.tasks}
    if study.frozen and "classification" not in kinds:
        raise ValueError(
            "config.study.frozen: expected a task of classification, which alone it "
            f"measures, got tasks of {sorted(kinds)}. Leave it out."
        )
    _check_held_out(config)
    _check_grid(study)
    _check_templates(study)
    _check_arms(config)
    claims(study)


def _check_encoder(row: schema.EncoderConfig, path: str) -> None:
    """Refuses options that all runs share, which would be set in vain."""
    for part, names in schema.SHARED.items():
        for name in names:
            value, default = (
                getattr(getattr(table, part), name) for table in (row, type(row))
            )
            if value != default:
                raise ValueError(
                    f"{path}.{part}.{name}: got {value!r}, but all runs share that of "
                    f"config.{part}. Leave it out."
                )


def _check_names(
    names: Sequence[str], known: Sequence[str], option: str, what: str
) -> None:
    """Refuses names that are unknown or come twice."""
    for name in names:
        rules.require_known(name, known, f"{what} in config.study.{option}")
    if len(set(names)) < len(names):
        raise ValueError(f"config.study.{option}: a name comes twice: {list(names)}.")


def _check_held_out(config: schema.ExperimentConfig) -> None:
    """Refuses to hold out a task but not another one of the same set."""
    study = config.study
    held = {config.tasks[task].dataset: task for task in study.hold_out}
    for task in study.tasks:
        dataset = config.tasks[task].dataset
        if task not in study.hold_out and dataset in held:
            raise ValueError(
                f"config.study.hold_out: '{held[dataset]}' is held out, but task "
                f"'{task}' reads the same set '{dataset}' and would be pre-trained "
                "on. Hold out both, or leave one out of config.study.tasks."
            )


def _check_grid(study: schema.StudyConfig) -> None:
    """Checks fractions and their numbers of seeds."""
    if len(study.fractions) != len(study.seeds) or not study.fractions:
        raise ValueError(
            "config.study.seeds: expected one number for each of "
            f"config.study.fractions {list(study.fractions)}, got {list(study.seeds)}."
        )
    if len(set(study.fractions)) < len(study.fractions):
        raise ValueError(
            f"config.study.fractions: one comes twice: {list(study.fractions)}."
        )
    if not all(0 < fraction <= 1 for fraction in study.fractions):
        raise ValueError(
            "config.study.fractions: expected numbers above 0 and up to 1, got "
            f"{list(study.fractions)}."
        )
    if min(study.seeds) < 1:
        raise ValueError(
            f"config.study.seeds: expected at least 1 each, got {list(study.seeds)}."
        )


def _check_templates(study: schema.StudyConfig) -> None:
    """Refuses, in what all runs share, what differs from run to run."""
    for stage in ("contrastive", "continual", "finetune"):
        row, path = getattr(study, stage), f"config.study.{stage}"
        if row.stage != stage:
            raise ValueError(f"{path}.stage: expected '{stage}', got '{row.stage}'.")
        varied = ["arm", "seed", "label_fraction", "encoder"]
        # Stage 1 may start from weights, which then are the start of every run of it.
        varied += ["init_from"] if stage != "contrastive" else []
        for option in varied:
            if getattr(row, option) != getattr(type(row), option):
                raise ValueError(
                    f"{path}.{option}: the study sets it for each run. Leave it out."
                )
    stage = study.finetune.finetune
    if stage.task or stage.head != "new" or stage.frozen:
        raise ValueError(
            "config.study.finetune.finetune: the study sets task and head of each run, "
            "and frozen by config.study.frozen. Leave them out."
        )


def _check_arms(config: schema.ExperimentConfig) -> None:
    """Checks that every arm has what it needs."""
    study = config.study
    for name, row in config.encoders.items():
        if name in ARMS:
            raise ValueError(
                f"config.encoders.{name}: an arm of every study has this name. Give "
                "it another."
            )
        if name in study.arms and not rules.is_weights(row.weights):
            raise ValueError(
                f"config.encoders.{name}.weights: arm '{name}' needs a file of weights "
                f"(.safetensors, .pth or .pt), got '{row.weights}'. Name one, or leave "
                "the arm out."
            )
    for arm, options in _NEEDED.items():
        stage = study.continual.continual
        if arm in study.arms and not any(getattr(stage, name) for name in options):
            raise ValueError(
                f"config.study.continual.continual: arm '{arm}' needs "
                f"{' or '.join(options)} above 0. Set it, or leave the arm out."
            )


def claims(study: schema.StudyConfig) -> tuple[tuple[str, str], ...]:
    """Pairs of arms whose difference, first less second, is to be judged.

    Raises:
      ValueError: If one is no difference of two arms of the study.
    """
    found = []
    for claim in study.claims:
        pair = tuple(claim.split(_SEPARATOR))
        if len(pair) != 2:
            raise ValueError(
                f"config.study.claims: expected 'arm{_SEPARATOR}arm', got '{claim}'."
            )
        for arm in pair:
            rules.require_known(arm, study.arms, "arm in config.study.claims")
        found.append(pair)
    return tuple(found)
