"""The model card, filled from the run: what it is, learnt from what, measured how."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2

from mtpret_jax.export import torch_layout

Facts = Mapping[str, Any]

IMAGES_ALONE = ": images alone"
_WIDTH = 64  # of torchvision's ResNets
_HARMLESS = re.compile(r"([^\W_]|(?<=[^\W_])_(?=[^\W_])|[ .,:;%()/-])+")
_TAGS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "backbone": "image-feature-extraction",
}
_WHAT = {
    "backbone": "Features of X-rays, for other tasks to start from.",
    "classification": "Tells of an X-ray: {}.",
    "segmentation": "Draws on an X-ray: {}.",
    "detection": "Finds in an X-ray: {}.",
}


def write(
    workdir: pathlib.Path,
    run: str,
    facts: Facts,
    about: Facts,
    differences: Mapping[str, float],
    files: Mapping[str, str],
) -> str:
    """The card as Markdown, from `templates/card.md`.

    Args:
      workdir: The work folder of the training.
      run: The run that was exported.
      facts: What `config.json` of the export holds.
      about: What `Model.describe` gives.
      differences: What was read again, less what the run gave, by file.
      files: SHA-256 of each file.
    """
    kind, parent = facts["kind"], facts["origin"]["parent"] or "random weights"
    if isinstance(parent, Mapping):  # A file of weights.
        parent = f"{parent['file']} (SHA-256 {parent['sha256'][:16]})"
    is_usual = facts["torchvision"]["resnet"]["width"] == _WIDTH
    measured = _measured(workdir, run, facts.get("task", ""))
    sets, outside = _sets(workdir, run)
    with torch_layout.reading(workdir / "versions.json") as found:
        versions = ", ".join(f"{name} {value}" for name, value in found.items())
    digest = hashlib.sha256((workdir / "config.json").read_bytes()).hexdigest()
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mtpret_jax.export"),
        autoescape=False,  # Markdown; names go through these filters.
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"name": _name, "code": _code, "cell": _cell}
    card = made.get_template("card.md").render(
        run=run,
        facts=facts,
        tag=_TAGS[kind],
        what=_WHAT[kind].format(", ".join(map(_name, about["classes"]))),
        parent=parent,
        classes=about["classes"],
        is_torchvision=is_usual and kind in ("backbone", "classification"),
        measured=measured if isinstance(measured, Mapping) else None,
        why=measured,
        sets=sets,
        outside=outside,
        differences=differences,
        files=files,
        versions=versions,
        digest=digest,
    )
    return card + "\n"


def _measured(workdir: pathlib.Path, run: str, task: str) -> Facts | str:
    """The values of the run and of its arm over the seeds, or why there are none."""
    if not task:
        return "None of its own: a backbone is measured by what starts from it."
    for file in ("study.json", "report.json"):
        if (workdir / file).exists():
            with torch_layout.reading(workdir / file) as report:
                return _of_report(report, run, file)
    return "Not measured: the work folder has no report.json."


def _of_report(report: Facts, run: str, file: str) -> Facts | str:
    cell = next((cell for cell in report["cells"] if cell["run"] == run), None)
    if cell is None or run in report["unfinished"]:
        return f"Not measured: {file} has no such run."
    task = report["tasks"][cell["task"]]
    values = report["values"][cell["task"]][f"{cell['fraction']:g}"][cell["arm"]]
    return {
        "rows": [
            (
                _name(name),
                _number(v["by_seed"][v["seeds"].index(cell["seed"])]),
                _number(v["value"]),
                f"{_number(v['low'])} to {_number(v['high'])}",
            )
            for name, v in values.items()
        ],
        "file": file,
        "split": report["split"],
        "images": task["images"],
        "groups": task["groups"],
        "resamples": report["interval"]["resamples"],
        "arm": cell["arm"],
        "share": f"{100 * cell['fraction']:g}",
        "seeds": max(len(v["seeds"]) for v in values.values()),
    }


def _sets(workdir: pathlib.Path, run: str) -> tuple[list[tuple[str, ...]], str]:
    """A row for each set that was read, and the weights from elsewhere, if any."""
    with torch_layout.reading(workdir / "config.json") as config:
        chain = list(lineage(config["runs"], run))
        read_for = purposes(config, chain)
        outside = config["runs"][chain[-1]]["init_from"]
    with torch_layout.reading(workdir / "datasets.json") as known:
        rows = [
            _set(name, known.get(name, {}), reasons)
            for name, reasons in read_for.items()
        ]
    return rows, outside


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


def _name(text: str) -> str:
    """A name that a user gave; as code where Markdown would read more in it."""
    return text if _HARMLESS.fullmatch(text) else _code(text)


def _code(text: str) -> str:
    """A text as code, in a fence of more backticks than it has in a row."""
    text = text.replace("\n", " ")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _cell(value: str) -> str:
    """A text as a cell of a table, which bars and line ends would break."""
    return value.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
