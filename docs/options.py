"""The options of a config, read from the schema, as Markdown for the page of options.

Names, types and defaults are those of the dataclasses in `mtpret_jax/config/`; the
explanations are the comments behind their fields, so neither can differ from the code.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import math
import tokenize
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.config import parts
from mtpret_jax.stages import optimizer
from mtpret_jax.study import arms

# What a row of a table is called in a path.
_ROWS = {
    "encoders": "<encoder>",
    "datasets": "<set>",
    "tasks": "<task>",
    "runs": "<run>",
}
# Names that are looked up in a table when the run is built, not in `CHOICES`.
_TABLES: Mapping[tuple[type, str], typing.Iterable[str]] = {
    (schema.BackboneConfig, "name"): models.BACKBONES,
    (schema.OptimizerConfig, "name"): optimizer.OPTIMIZERS,
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option, in words.

    Attributes:
      path: As it is written on the command line: `config.runs.<run>.steps`.
      type: Of its value.
      default: As it is written in Python.
      values: What it may be, where not every value of its type is allowed.
      text: Its meaning and unit.
      section: The dataclass that has its options, where it is a table of them.
    """

    path: str
    type: str
    default: str
    values: str
    text: str
    section: type | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """The options of one dataclass of the schema.

    Attributes:
      schema: The dataclass.
      paths: Where they stand in a config; the options are given for the first one.
      text: What they are.
      options: In the order of the schema.
    """

    schema: type
    paths: tuple[str, ...]
    text: str
    options: tuple[Option, ...]


def sections() -> tuple[Section, ...]:
    """All options, each once, in the order of the schema."""
    places: dict[type, list[str]] = {}
    for path, one in _places("config", schema.ExperimentConfig):
        places.setdefault(one, []).append(path)
    return tuple(
        Section(
            schema=one,
            paths=tuple(paths),
            text=" ".join((inspect.getdoc(one) or "").split()),
            options=tuple(_options(paths[0], one)),
        )
        for one, paths in places.items()
    )


def _places(path: str, one: type) -> Iterator[tuple[str, type]]:
    """Where each dataclass stands; runs within a study are explained as runs."""
    yield path, one
    for field in dataclasses.fields(one):
        place, inner = _inner(path, field.name, typing.get_type_hints(one)[field.name])
        if inner is schema.RunConfig and one is schema.StudyConfig:
            yield place, inner
        elif inner:
            yield from _places(place, inner)


def _inner(path: str, name: str, hint: Any) -> tuple[str, type | None]:
    """Path and dataclass of an option, where it is a table of options or of rows."""
    place = f"{path}.{name}"
    arguments = typing.get_args(hint)
    if arguments and dataclasses.is_dataclass(arguments[-1]):
        return f"{place}.{_ROWS[name]}", arguments[-1]
    return place, hint if dataclasses.is_dataclass(hint) else None


def _options(path: str, one: type) -> Iterator[Option]:
    hints, found = typing.get_type_hints(one), sources(one)
    for field in dataclasses.fields(one):
        written, comment = found[field.name]
        place, inner = _inner(path, field.name, hints[field.name])
        yield Option(
            path=place,
            type=_type(hints[field.name]),
            default="{}" if "default_factory" in written else written,
            values=_values(one, field.name, hints[field.name]),
            text=comment or (_first_sentence(inner) if inner else ""),
            section=inner,
        )


def sources(one: type) -> dict[str, tuple[str, str]]:
    """Default as written, and comment, of each field of a dataclass."""
    lines = inspect.getsource(one)
    body = typing.cast(ast.ClassDef, ast.parse(lines).body[0]).body
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(lines).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            continue
        end = following.lineno if following else len(lines.splitlines()) + 1
        said = [comments[line] for line in range(node.lineno, end) if line in comments]
        name = ast.unparse(node.target)
        found[name] = ast.unparse(node.value).replace("'", '"'), " ".join(said)
    return found


def _type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return f"list of {_type(arguments[0])}"
    if arguments:
        inner = arguments[-1]
        rows = "rows" if dataclasses.is_dataclass(inner) else _type(inner)
        return f"table of {rows}, by name"
    if dataclasses.is_dataclass(hint):
        return "options"
    return "any value" if hint is Any else hint.__name__


def _values(one: type, name: str, hint: Any) -> str:
    known = schema.CHOICES.get((one, name)) or _TABLES.get((one, name))
    if (one, name) == (schema.StudyConfig, "arms"):
        known = [*arms.ARMS, "a row of config.encoders"]
    if known:
        return "one of " + ", ".join(f'`"{value}"`' for value in known)
    if hint is bool:
        return (
            "or `True`" if not one.__dataclass_fields__[name].default else "or `False`"
        )
    low, high = parts.bounds(one, name)
    if math.isinf(low):
        return ""
    return f"{low:g} or more" if math.isinf(high) else f"{low:.10g} to {high:.10g}"


def _first_sentence(one: type) -> str:
    return (inspect.getdoc(one) or "").split("\n\n")[0].replace("\n", " ")


def markdown() -> str:
    """The text of the page: a section for each dataclass, an entry for each option."""
    return "\n".join(_section(section) for section in sections())


def _section(section: Section) -> str:
    lines = [f"({_label(section.schema)})=", f"## `{section.paths[0]}`", ""]
    lines += [section.text, ""]
    if len(section.paths) > 1:
        others = ", ".join(f"`{path}`" for path in section.paths[1:])
        lines += [f"The same options: {others}.", ""]
    for option in section.options:
        lines += [f":::{{confval}} {option.path}", *_entry(option), ":::", ""]
    return "\n".join(lines)


def _entry(option: Option) -> list[str]:
    if option.section:
        link = f"[Options](#{_label(option.section)})"
        is_plain = option.default in ("{}", f"{option.section.__name__}()")
        default = "" if is_plain else f" · default `{option.default}`"
        return [f"{option.text} {link}{default}"]
    facts = [option.type, f"default `{option.default}`", option.values]
    return [option.text, "", " · ".join(fact for fact in facts if fact)]


def _label(section: type) -> str:
    """What links to the section of a dataclass."""
    return f"options-{section.__name__.lower()}"


def presets() -> str:
    """A table of what the presets of augmentation are."""
    names = [field.name for field in dataclasses.fields(schema.AugmentConfig)]
    rows = [["option", *(f'`"{preset}"`' for preset in schema.AUGMENT_PRESETS)]]
    rows.append(["---"] * len(rows[0]))
    for name in names:
        values = [getattr(one, name) for one in schema.AUGMENT_PRESETS.values()]
        rows.append([f"`{name}`", *(f"{value:g}" for value in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def study_arms() -> str:
    """A list of the arms of a study."""
    return "\n".join(f"- `{name}`: {arm.meaning}." for name, arm in arms.ARMS.items())
