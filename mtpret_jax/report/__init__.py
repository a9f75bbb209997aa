"""The report of a work folder: a file for machines, and a page beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etils import epath

from mtpret_jax.report import contents, page
from tfds_builders import whole

__all__ = ["contents", "page", "write"]


def write(path: epath.Path, report: Mapping[str, Any]) -> None:
    """Writes a report, and the page, which has the same name and ends in `.html`.

    Args:
      path: The file for machines, in the work folder, from whose runs sample pictures
        are read.
      report: What `contents.build` made.
    """
    plain = contents.without_nan(report)
    whole.write(path.with_suffix(".html"), page.render(path.parent, plain))
    whole.write_json(path, plain)
