"""The page of a report, from templates: one file that needs no other."""

from __future__ import annotations

import json
from typing import Any

import jinja2
from etils import epath

from mtpret_jax.audit import findings
from mtpret_jax.report import (
    figures,
    free_response,
    monitors,
    parts,
    sentences,
    view,
    words,
)

NOT_CLINICAL = (
    "For research only. Not a medical device, not for clinical use: do not use these "
    "models or images to diagnose or treat anyone."
)
_FILTERS = ("number", "signed", "p_value", "share", "percent", "metric")


def render(
    workdir: epath.PathLike, report: parts.Report, template: str = "page.html"
) -> str:
    """The page as text; every name in it is escaped.

    Args:
      workdir: The work folder; sample images are read from its runs.
      report: What `contents.build` made.
      template: A file of `templates/`: the page, or one of its sections.
    """
    shown = view.View(epath.Path(workdir), report)
    return fill(template, report=report, view=shown)


def fill(template: str, **values: Any) -> str:
    """A file of `templates/` with these values as text; every name is escaped."""
    return _environment().get_template(template).render(values)


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mtpret_jax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,  # A name misspelt is an error.
    )
    made.filters |= {name: getattr(words, name) for name in _FILTERS}
    made.filters["json"] = lambda tree: json.dumps(tree, indent=2, ensure_ascii=False)
    made.globals |= {"words": words, "sentences": sentences, "figures": figures}
    made.globals |= {"free_response": free_response, "monitors": monitors}
    made.globals |= {"not_clinical": NOT_CLINICAL, "risk": findings.RISK}
    return made
