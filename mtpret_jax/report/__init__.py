"""The report of a work folder: `report.json`, and `report.html` in a single file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from mtpret_jax.report import collect, html
from tfds_builders import whole

__all__ = ["collect", "html", "write"]


def write(workdir: epath.PathLike, report: Mapping[str, Any]) -> None:
    """Writes `report.json` and `report.html` into the work folder.

    Args:
      workdir: The work folder; sample pictures are read from its runs.
      report: What `collect.build` made.
    """
    folder = epath.Path(workdir)
    text = json.dumps(collect.without_nan(report), indent=1, allow_nan=False)
    page = html.render(folder, report)
    for name, content in (("report.html", page), ("report.json", text + "\n")):
        whole.write(folder / name, content)
