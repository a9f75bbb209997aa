"""What a run starts from: an earlier run, a backbone folder, or a file of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.config import rules
from mtpret_jax.inference import description
from mtpret_jax.metrics import regression
from mtpret_jax.training import checkpoint, trees
from mtpret_jax.weights import conversion, files


@dataclasses.dataclass(frozen=True)
class Weights:
    """What is said of a file of weights that a run starts from.

    Attributes:
      file: Its name.
      sha256: Digest of its bytes, hexadecimal.
      stem: What was done to the first convolution, in words.
      left_out: Names in the file that are no part of the backbone.
    """

    file: str
    sha256: str
    stem: str
    left_out: tuple[str, ...]


def check(config: schema.ExperimentConfig) -> dict[str, Weights]:
    """Looks at every start that lies outside the work folder, and at images' sides.

    Returns:
      Each file of weights, by `init_from`, and by the encoder of runs that have one.

    Raises:
      FileNotFoundError: If a start is missing.
      ValueError: If it is damaged or does not fit the config's backbone, or the
        backbone does not take the side of a run's images.
    """
    _check_sides(config)
    found: dict[str, Weights] = {}
    for name, row in config.runs.items():
        teacher = row.contrastive.distillation.teacher
        if teacher and not epath.Path(teacher).is_dir():
            raise FileNotFoundError(
                f"config.runs.{name}.contrastive.distillation.teacher: no folder "
                f"'{teacher}'. Name a model that is there: of a run, or an export."
            )
        if rules.is_weights(row.init_from):
            if (key := _key(row)) not in found:  # Many runs start from one file.
                _, found[key] = _read_weights(config, name)
        elif "/" in row.init_from:
            checkpoint.read_description(
                row.init_from, description.architecture(config.of(row))
            )
    return found


def _check_sides(config: schema.ExperimentConfig) -> None:
    """Refuses sides of images that a backbone cannot take, before anything runs."""
    for name, row in config.runs.items():
        sides = {
            f"config.tasks.{task}.image_size": config.tasks[task].image_size
            for task in row.tasks
        }
        if not sides:
            path, stage = f"config.runs.{name}.contrastive", row.contrastive
            sides[f"{path}.image_size"] = stage.image_size
            if stage.local_views:
                sides[f"{path}.local_size"] = stage.local_size
        network = config.of(row).backbone
        smallest, unit = models.build_backbone(network).sides
        for path, side in sides.items():
            if side < smallest or side % unit:
                whole = max(-(-side // unit) * unit, smallest)
                many = f", a multiple of {unit}" if unit > 1 else ""
                raise ValueError(
                    f"{path}: '{network.name}' takes {smallest} pixels and "
                    f"more{many}, such as {whole}; got {side}."
                )


def carry(
    config: schema.ExperimentConfig,
    name: str,
    state: types.TrainState,
    *,
    runs: epath.Path,
    weights: Mapping[str, Weights],
) -> types.TrainState:
    """Puts what run `name` starts from into its fresh state.

    Args:
      config: The whole config.
      name: Name of the run; it has an `init_from`.
      state: State as the stage's `init` gave it.
      runs: Folder of all runs.
      weights: What `check` gave.

    Returns:
      The state with the start's backbone and, where asked for, heads and memory.

    Raises:
      FileNotFoundError: If the start is missing.
      ValueError: If it does not fit, or the file has changed since `check`.
    """
    row = config.runs[name]
    where = _where(config, name)
    if rules.is_weights(row.init_from):
        tree, found = _read_weights(config, name, state)
        if found.sha256 != weights[_key(row)].sha256:
            raise ValueError(f"{where}: the file has changed since the command began.")
    else:
        folder = epath.Path(row.init_from)
        if "/" not in row.init_from:
            folder = runs / row.init_from / "backbone"
        tree, _ = checkpoint.load_backbone(
            folder, description.architecture(config.of(row))
        )
    parts = ["backbone"]
    carried_memory = row.options.carry_memory
    params, model_state = dict(state.params), dict(state.model_state)
    if row.options.carries_head or carried_memory:
        parts.append("heads")
        tree["heads"] = {
            kind: {task: trees[task] for task in state.params["heads"] if task in trees}
            for kind, trees in tree["heads"].items()
        }
    for part in parts:
        loaded = tree[part]
        params[part] = trees.graft(params[part], loaded["params"], where)
        statistics = loaded.get("model_state", {})
        model_state[part] = trees.graft(model_state[part], statistics, where)
    state = state.replace(params=params, model_state=model_state)
    if carried_memory:
        current = {name: getattr(state.memory, name) for name in vars(state.memory)}
        memory = trees.graft(current, tree.get("memory", {}), where)
        state = state.replace(memory=state.memory.replace(**memory))
    return state


def check_head(
    config: schema.ExperimentConfig, name: str, state: types.TrainState
) -> None:
    """Refuses a file of weights whose head a run cannot carry on.

    Args:
      config: The whole config.
      name: Name of the run, which carries on the head of a file.
      state: State as the stage's `init` gives it, or its shapes.

    Raises:
      ValueError: If names or shapes of the head do not fit.
    """
    _read_weights(config, name, state)


def check_classes(
    config: schema.ExperimentConfig,
    name: str,
    class_names: Sequence[str],
    scale: regression.Scale | None = None,
) -> None:
    """Refuses a backbone folder whose head tells other things apart.

    Args:
      config: The whole config.
      name: Name of the run, which carries on the head of a backbone folder.
      class_names: Classes of the run's task, in order.
      scale: What its numbers are worth, if it learns some.

    Raises:
      ValueError: If the folder has no head of the task, or one of other classes, of
        the same in another order, or of numbers that are worth something else.
    """
    row = config.runs[name]
    (task,), where = row.tasks, _where(config, name)
    metadata = checkpoint.read_description(
        row.init_from, description.architecture(config.of(row))
    )
    known = metadata["class_names"]
    if task not in known:
        raise ValueError(
            f"{where}: finetune.head is 'carried', but it has no head of task "
            f"'{task}', only of {sorted(known)}."
        )
    if list(known[task]) != list(class_names):
        raise ValueError(
            f"{where}: its head of task '{task}' tells {known[task]} apart, the run's "
            f"set {list(class_names)}. Give the set the same classes in the same "
            "order, or set finetune.head to 'new'."
        )
    then = metadata.get("scales", {}).get(task)
    now = scale and schema.as_dict(scale)
    if then != now:
        raise ValueError(
            f"{where}: the numbers of its head of task '{task}' are worth {then}, by "
            f"the run's set {now}. Give it the same set, or set finetune.head to 'new'."
        )


def parent(row: schema.RunConfig, weights: Mapping[str, Weights]) -> Any:
    """What a backbone's description says of its start; None for random weights."""
    if _key(row) in weights:
        return dataclasses.asdict(weights[_key(row)])
    return row.init_from or None


def parent_name(row: schema.RunConfig, weights: Mapping[str, Weights]) -> str | None:
    """The same in words, as the report shows it."""
    if _key(row) in weights:
        found = weights[_key(row)]
        return f"{found.file} (sha256 {found.sha256[:12]})"
    return row.init_from or None


def _key(row: schema.RunConfig) -> str:
    """By what a file is known: another network may read it otherwise."""
    return f"{row.encoder}: {row.init_from}" if row.encoder else row.init_from


def _where(config: schema.ExperimentConfig, name: str) -> str:
    return f"config.runs.{name}.init_from ({config.runs[name].init_from})"


def _read_weights(
    config: schema.ExperimentConfig, name: str, state: types.TrainState | None = None
) -> tuple[types.Tree, Weights]:
    """A file's weights as a run hands them over, and what is to be said of it.

    With a head where the run carries one on; its shapes are those of `state`.
    """
    row, where = config.runs[name], _where(config, name)
    network = config.of(row).backbone
    expected: Any = {"backbone": models.backbone_shapes(network)}
    task, kind = "", description.NO_HEAD
    if state is not None and row.options.carries_head:
        (task,) = row.tasks
        kind = config.tasks[task].kind
        expected["head"] = {
            part: getattr(state, part)["heads"][task]
            for part in ("params", "model_state")
        }
    try:
        found = files.read(row.init_from)
    except (FileNotFoundError, ValueError) as error:
        error.add_note(f"Asked for by config.runs.{name}.init_from.")
        raise
    converted = conversion.read(found.tensors, expected, kind, network, where)
    tree: Any = {"backbone": converted.tree["backbone"]}
    if "head" in converted.tree:
        head = converted.tree["head"]
        tree["heads"] = {part: {task: head[part]} for part in head}
    return tree, Weights(found.name, found.sha256, converted.stem, converted.left_out)
