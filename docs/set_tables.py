"""The tables of tfds_builders/README.md, made from the builders themselves.

Run:     python docs/set_tables.py
"""

from __future__ import annotations

import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfds_builders import fetch, xray_features
from tfds_builders.releases import catalogue, release

README = pathlib.Path(__file__).parents[1] / "tfds_builders" / "README.md"
# Body part and licence, in few words; each set's own README says more.
_FACTS: Mapping[str, tuple[str, str]] = {
    "chest_xray_masks": ("chest", "cite, do not pass on; masks CC BY-NC-SA 4.0"),
    "covid_chestxray": ("chest", "each image its own"),
    "fracatlas": ("hand, leg, hip, shoulder", "CC BY 4.0"),
    "grazpedwri_dx": ("wrist of children", "CC BY 4.0"),
    "indiana_cxr": ("chest", "CC BY-NC-ND 4.0"),
    "kermany_pneumonia": ("chest of children", "CC BY 4.0"),
    "montgomery_cxr": ("chest", "cite, do not pass on"),
    "mura": ("arm, from finger to shoulder", "Stanford's agreement: non-commercial"),
    "nih_chest_xray14": ("chest", "free with attribution"),
    "panoramic_mandible": ("jaws", "see its page; perhaps CC BY-NC 3.0"),
    "rsna_bone_age": ("hand of children", "RSNA's terms: research and education"),
    "shenzhen_cxr": ("chest", "cite, do not pass on"),
    "tbx11k": ("chest", "CC BY-NC-SA: non-commercial research"),
}


def filled(text: str) -> str:
    """The README with its tables written anew.

    Raises:
      ValueError: If the place of a table is missing.
    """
    for name, table in _TABLES.items():
        start, end = (
            f"<!-- {name}: made by set_tables.py -->",
            f"<!-- end of {name} -->",
        )
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{README} lacks the lines {start!r} and {end!r}.")
        block = f"{start}\n\n{table()}\n\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def _sets() -> str:
    rows = [["set", "images", "body part", "labels", "licence", "fetch"]]
    for name, builder in catalogue.released().items():
        body, licence = _FACTS[name]
        rows.append(
            [
                f"[`{name}`]({name}/README.md)",
                f"{builder.EXPECTED['images']:,}",
                body,
                _labels(_layout(builder)),
                licence,
                "yes" if name in fetch.SETS else "by hand",
            ]
        )
    return _table(rows)


def _layout(builder: type[release.ReleaseBuilder]) -> xray_features.Layout:
    with tempfile.TemporaryDirectory() as nowhere:
        return builder(
            data_dir=nowhere, config=builder.BUILDER_CONFIGS[0].name
        ).layout()


def _labels(layout: xray_features.Layout) -> str:
    """Label columns with their number of classes, values, masks, boxes, the rest."""
    parts = [f"{c} ({len(names)})" for c, names in layout.label_names.items()]
    parts += [f"value: {column}" for column in layout.values]
    if layout.mask_names:
        parts.append(f"masks: {', '.join(layout.mask_names)}")
    if layout.object_names:
        parts.append(f"boxes ({len(layout.object_names)})")
    return "; ".join([*parts, ", ".join(layout.about)]).strip("; ")


def _features() -> str:
    lines = (xray_features.__doc__ or "").splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


_TABLES: Mapping[str, Callable[[], str]] = {
    "features": _features,
    "sets": _sets,
}


def _table(rows: Sequence[Sequence[Any]]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
