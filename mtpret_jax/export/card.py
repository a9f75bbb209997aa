"""The model card, filled from the run: what it is, learnt from what, measured how."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtpret_jax.export import torch_layout

Facts = Mapping[str, Any]

_WIDTH = 64  # of torchvision's ResNets
_HARMLESS = re.compile(r"([^\W_]|(?<=[^\W_])_(?=[^\W_])|[ .,:;%()/-])+")
IMAGES_ALONE = ": images alone"
_PYTORCH = """\
```python
import safetensors.torch
import torch
import torchvision

network = torchvision.models.{name}({options}){cut}
network.load_state_dict(safetensors.torch.load_file("model.safetensors"), strict=True)
```"""
_PREPARED = """\
In PyTorch, with pixels that `load_exported.py` of mtpret_jax's documents prepares:
`load_exported.prepare(pixels, "this folder")`, by `preprocessor_config.json`. Colours
normalised as ImageNet's give wrong answers."""
_OTHER_PYTORCH = """\
`load_exported.py` of mtpret_jax's documents builds the network from `config.json`:

```python
network = load_exported.load("this folder")  # strict, evaluation mode
```"""
_LIMITS = """\
Meant for research: to start other trainings from, and to compare with.

Research software: not a medical device, not validated for diagnosis, triage or any
other decision about a patient. The figures hold for pictures like those of its test
split; other hospitals, devices, ages and body parts may differ, and probabilities with
them. A data set's confounders (the hospital a class comes from, markers, tubes) may be
what it has learnt. Licences of the data may bind the weights: see the sets."""


def write(
    workdir: pathlib.Path,
    run: str,
    facts: Facts,
    about: Facts,
    differences: Mapping[str, float],
    files: Mapping[str, str],
) -> str:
    """The card as Markdown.

    Args:
      workdir: Of the training.
      run: That was exported.
      facts: What `config.json` of the export holds.
      about: What `Model.describe` gives.
      differences: Of what was read again.
      files: SHA-256 of each file.
    """
    return (
        "\n\n".join(
            [
                _head(facts),
                f"# {_name(run)}: {facts['backbone']} by mtpret_jax",
                _what(facts, about),
                "## Use\n\n" + _use(facts, about),
                "## Intended use and limits\n\n" + _LIMITS,
                "## Figures\n\n" + _figures(workdir, run, facts),
                "## Learnt from\n\n" + _data(workdir, run),
                "## Checked\n\n" + _checked(differences),
                "## Files\n\n"
                + _table(
                    ("file", "SHA-256"), [(n, f"`{h}`") for n, h in files.items()]
                ),
                "## Made by\n\n" + _made_by(workdir),
                "",
            ]
        ).rstrip()
        + "\n"
    )


def _head(facts: Facts) -> str:
    kinds = {
        "classification": "image-classification",
        "segmentation": "image-segmentation",
        "detection": "object-detection",
        "backbone": "image-feature-extraction",
    }
    return (
        f"---\nlibrary_name: mtpret_jax\npipeline_tag: {kinds[facts['kind']]}\n"
        "tags:\n- x-ray\n- radiography\n- jax\n---"
    )


def _what(facts: Facts, about: Facts) -> str:
    names = ", ".join(map(_name, about["classes"]))
    what = {
        "backbone": "Features of X-rays, for other tasks to start from.",
        "classification": f"Tells of an X-ray: {names}.",
        "segmentation": f"Draws on an X-ray: {names}.",
        "detection": f"Finds in an X-ray: {names}.",
    }[facts["kind"]]
    origin = facts["origin"]
    parent = origin["parent"] or "random weights"
    if isinstance(parent, Mapping):  # A file of weights.
        parent = f"{parent['file']} (SHA-256 {parent['sha256'][:16]})"
    return (
        f"{what} Run {_code(origin['run'])} of stage `{origin['stage']}`, "
        f"{origin['steps']} steps, started from {_code(parent)}. A re-implementation "
        "of the published idea of MTPret (IEEE TAI 2024), not its weights."
    )


def _use(facts: Facts, about: Facts) -> str:
    call = "embed" if facts["kind"] == "backbone" else "predict"
    lines = [
        "With mtpret_jax, which does the pre-processing, too:",
        "```python\nimport mtpret_jax\n\n"
        f'mtpret_jax.load("this folder").{call}("chest.dcm")\n```',
    ]
    lines.append(_PREPARED)
    is_usual = facts["torchvision"]["resnet"]["width"] == _WIDTH
    if is_usual and facts["kind"] in ("backbone", "classification"):
        options = f"num_classes={len(about['classes'])}" if about["classes"] else ""
        cut = "" if about["classes"] else "; network.fc = torch.nn.Identity()"
        lines.append(_PYTORCH.format(name=facts["backbone"], options=options, cut=cut))
    else:
        lines.append(_OTHER_PYTORCH)
    return "\n\n".join(lines)


def _figures(workdir: pathlib.Path, run: str, facts: Facts) -> str:
    if not facts.get("task"):
        return "None of its own: a backbone is measured by what starts from it."
    sources = {"study.json": _compared, "report.json": _measured}
    for name, tell in sources.items():
        if (workdir / name).exists():
            with torch_layout.reading(workdir / name) as found:
                return tell(found, run, facts["task"])
    return "Not measured: the work folder has no report.json."


def _compared(study: Facts, run: str, task: str) -> str:
    """Of a run of a study: its own values and those of its arm over the seeds."""
    if run not in study["runs"]:
        return "Not measured: study.json has no such run."
    cell = study["runs"][run]
    fraction = cell["labels"][task]["train"]["fraction"]
    values = study["values"][task][f"{fraction:g}"][cell["arm"]]
    rows = [
        (
            _name(name),
            _number(v["by_seed"][v["seeds"].index(cell["seed"])]),
            _number(v["value"]),
            f"{_number(v['low'])} to {_number(v['high'])}",
        )
        for name, v in values.items()
    ]
    about = study["tasks"][task]
    told = (
        f"On the split `{study['split']}`: {about['images']} images of "
        f"{about['groups']} groups (patients, where they are known), of which the "
        f"intervals of the mean (95 %) draw {study['interval']['resamples']} times. "
        f"Arm {_code(cell['arm'])}, {100 * fraction:g} % of the labels; study.json "
        "compares it with the others."
    )
    head = ("metric", "this run", "mean over seeds", "interval")
    return _table(head, rows) + f"\n\n{told}"


def _measured(report: Facts, run: str, task: str) -> str:
    arms = report["tasks"].get(task, {}).get("arms", {})
    arm = next((arm for arm in arms.values() if arm["run"] == run), None)
    if arm is None:
        return "Not measured: report.json has no such run."
    rows = [
        (
            _name(name),
            _number(v["value"]),
            f"{_number(v['low'])} to {_number(v['high'])}",
        )
        for name, v in arm["values"].items()
    ]
    told = (
        f"On the split `{report['split']}`: {arm['images']} images of {arm['groups']} "
        "groups (patients, where they are known), of which the intervals (95 %) draw "
        f"{report['interval']['resamples']} times. One seed: they say nothing of "
        "another training."
    )
    return _table(("metric", "value", "interval"), rows) + f"\n\n{told}"


def _data(workdir: pathlib.Path, run: str) -> str:
    with torch_layout.reading(workdir / "config.json") as config:
        chain = list(lineage(config["runs"], run))
        read_for = purposes(config, chain)
        outside = config["runs"][chain[-1]]["init_from"]
    with torch_layout.reading(workdir / "datasets.json") as known:
        rows = [
            _set(name, known.get(name, {}), reasons)
            for name, reasons in read_for.items()
        ]
    head = ("set", "builder", "for", "training images", "splits", "files")
    more = f"\n\nThe first of its runs started from {_code(outside)}."
    more = more if outside else ""
    return (
        _table(head, rows)
        + "\n\nHashes are of the lists of splits and of the names, sizes and ends of "
        "the files. `training.csv`, where it is there, names every image." + more
    )


def _set(name: str, made: Facts, reasons: list[str]) -> tuple[str, ...]:
    """A row of the table of sets; `made` is its `preparation.json`."""
    in_use = made.get("splits_in_use", {})
    return (
        _name(name),
        made.get("builder", "?"),
        "; ".join(map(_name, reasons)),
        str(in_use.get("images", made.get("splits", {})).get("train", "?")),
        f"{in_use.get('name', '?')} `{in_use.get('sha256', '?')[:12]}`",
        f"`{made.get('fingerprint', '?')[:16]}`",
    )


def lineage(runs: Facts, run: str) -> Iterator[str]:
    """The run and those it started from, itself first."""
    while run in runs:
        yield run
        run = runs[run]["init_from"]


def purposes(config: Facts, chain: list[str]) -> dict[str, list[str]]:
    """What each set was read for, by set; `chain` as `lineage` gives it."""
    found: dict[str, list[str]] = {}
    for name in chain:
        row = config["runs"][name]
        if row["stage"] == "contrastive":
            for dataset in row["contrastive"]["datasets"]:
                found.setdefault(dataset, []).append(f"{name}{IMAGES_ALONE}")
            continue
        named = row["continual"]["tasks"]
        if row["stage"] == "finetune":
            named = [row["finetune"]["task"]]
        share = row["label_fraction"]
        part = "" if share == 1 else f" ({share:.0%} of the labels)"
        for task in named:
            dataset = config["tasks"][task]["dataset"]
            found.setdefault(dataset, []).append(f"{name}: {task}{part}")
    return found


def _checked(differences: Mapping[str, float]) -> str:
    rows = [(name, f"{value:.1e}") for name, value in differences.items()]
    return (
        "Each file was read again and given the golden picture (a simulated chest, in "
        "`golden.npz` with what the run made of it). Largest difference of its "
        "features, over the largest feature:\n\n" + _table(("file", "difference"), rows)
    )


def _made_by(workdir: pathlib.Path) -> str:
    with torch_layout.reading(workdir / "versions.json") as versions:
        told = ", ".join(f"{name} {value}" for name, value in versions.items())
    digest = hashlib.sha256((workdir / "config.json").read_bytes()).hexdigest()
    return f"{told}. SHA-256 of the work folder's config.json: `{digest}`."


def _name(text: str) -> str:
    """A name that a user gave; as code where Markdown would read more in it."""
    return text if _HARMLESS.fullmatch(text) else _code(text)


def _code(text: str) -> str:
    """A text as code, in a fence of more backticks than it has in a row."""
    text = text.replace("\n", " ")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = []
    for row in (head, tuple("---" for _ in head), *rows):
        # Bars and line ends would break the table.
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
