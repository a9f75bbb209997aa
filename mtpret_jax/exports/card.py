"""The model card, filled from the run: what it is, learnt from what, measured how."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Mapping

import jinja2

from mtpret_jax import config as schema
from mtpret_jax.exports import torch_layout, training
from mtpret_jax.inference import model as model_lib
from mtpret_jax.weights import layouts
from tfds_builders import whole

FILE = "README.md"
_HARMLESS = re.compile(r"([^\W_]|(?<=[^\W_])_(?=[^\W_])|[ .,:;%()/-])+")


def write(
    workdir: pathlib.Path,
    config: schema.ExperimentConfig,
    run: str,
    model: model_lib.Model,
    differences: Mapping[str, float],
    out: pathlib.Path,
) -> None:
    """Writes the card as Markdown, from `templates/card.md`.

    Args:
      workdir: The work folder of the training.
      config: The config of the training.
      run: The run that was exported.
      model: The model that was exported.
      differences: What was read again, less what the run gave, by file.
      out: The exported folder, whose files are listed.
    """
    read_for = training.purposes(config, run)
    with training.reading(workdir / training.SETS) as sets:
        made_of = {name: {**sets.get(name, {})} for name in read_for}
    with training.reading(workdir / training.VERSIONS) as found:
        versions = dict(found)
    facts = whole.read_json(out / torch_layout.FACTS)
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.iterdir())
        if path.name != whole.SUMS
    }
    content = (workdir / training.CONFIG).read_bytes()
    text = _template().render(
        run=run,
        described=model.description,
        tag=model.answers.tag,
        purpose=model.answers.purpose.format(", ".join(map(_name, model.classes))),
        classes=model.classes,
        outputs=len(layouts.LAYOUTS[model.kind].outputs(model.classes)),
        flips=bool(model.network.task and model.network.task.flip_at_test),
        library=facts.get("library", "torchvision"),
        is_torchvision="library" not in facts
        and layouts.LAYOUTS[model.kind].is_named(model.description.network),
        measured=training.measured(workdir, run) if model.task else None,
        read_for=read_for,
        recipe=training.recipe(config, run),
        made_of=made_of,
        outside=config.runs[training.lineage(config, run)[-1]].init_from,
        differences=differences,
        files=files,
        versions=versions,
        config_sha256=hashlib.sha256(content).hexdigest(),
    )
    whole.write(out / FILE, text)


def _template() -> jinja2.Template:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mtpret_jax.exports"),
        autoescape=False,  # Markdown; names go through these filters.
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"name": _name, "code": _code, "number": _number, "cell": _cell}
    return made.get_template("card.md")


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
