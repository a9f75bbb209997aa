"""The report of a work folder: a file for machines, and a page beside it."""

from __future__ import annotations

from typing import Any

from etils import epath

from mtpret_jax.report import contents, page, parts
from tfds_builders import whole

__all__ = ["contents", "page", "parts", "write"]


def write(path: epath.Path, report: parts.Report) -> Any:
    """Writes a report, and the page, which has the same name and ends in `.html`.

    Args:
      path: The file for machines, in the work folder, from whose runs sample images
        are read.
      report: What `contents.build` made.

    Returns:
      What the file for machines holds.
    """
    whole.write(path.with_suffix(".html"), page.render(path.parent, report))
    whole.write_json(path, content := contents.plain(report))
    return content
