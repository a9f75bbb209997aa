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
    kind, task = facts["kind"], facts.get("task", "")
    with torch_layout.reading(workdir / "config.json") as config:
        chain = list(lineage(config["runs"], run))
        read_for = purposes(config, chain)
        outside = config["runs"][chain[-1]]["init_from"]
    with torch_layout.reading(workdir / "datasets.json") as sets:
        made_of = {name: {**sets.get(name, {})} for name in read_for}
    with torch_layout.reading(workdir / "versions.json") as found:
        versions = dict(found)
    is_usual = facts["torchvision"]["resnet"]["width"] == _WIDTH
    return _template().render(
        run=run,
        facts=facts,
        tag=_TAGS[kind],
        what=_WHAT[kind].format(", ".join(map(_name, about["classes"]))),
        classes=about["classes"],
        is_torchvision=is_usual and kind in ("backbone", "classification"),
        measured=_measured(workdir, run) if task else None,
        read_for=read_for,
        made_of=made_of,
        outside=outside,
        differences=differences,
        files=files,
        versions=versions,
        config_sha256=hashlib.sha256(
            (workdir / "config.json").read_bytes()
        ).hexdigest(),
    )


def _template() -> jinja2.Template:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mtpret_jax.export"),
        autoescape=False,  # Markdown; names go through these filters.
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"name": _name, "code": _code, "number": _number, "cell": _cell}
    return made.get_template("card.md")


def _measured(workdir: pathlib.Path, run: str) -> dict[str, Any]:
    """What the report of the work folder says of a run; only `file` if nothing."""
    files = [f for f in ("study.json", "report.json") if (workdir / f).exists()]
    for file in files[:1]:
        with torch_layout.reading(workdir / file) as report:
            tasks = report["tasks"]
            for cell in report.get("cells", ()):  # None in those of earlier versions.
                by_share = report["values"].get(cell["task"], {})
                values = by_share.get(f"{cell['fraction']:g}", {}).get(cell["arm"])
                if cell["run"] == run and values:
                    return {
                        **{"file": file, "cell": cell, "values": values},
                        "task": tasks[cell["task"]],
                        "split": report["split"],
                        "resamples": report["interval"]["resamples"],
                    }
            return {"file": file, "values": {}}
    return {"file": ""}


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


def _cell(value: object) -> str:
    """A text as a cell of a table, which bars and line ends would break."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
