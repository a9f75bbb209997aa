"""Which builders of released sets there are, by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tfds_builders
from tfds_builders.releases import release
from tfds_builders.sources import files


def released() -> Mapping[str, type[release.ReleaseBuilder]]:
    """The builder of every released set, by name, in order.

    A set is a package of this room whose `Builder` derives from
    `release.ReleaseBuilder`.
    """
    found: dict[str, type[release.ReleaseBuilder]] = {}
    for name in tfds_builders.SETS:
        builder = getattr(getattr(tfds_builders, name), "Builder", None)
        if isinstance(builder, type) and issubclass(builder, release.ReleaseBuilder):
            found[name] = builder
    return dict(sorted(found.items()))


def choose(
    names: Iterable[str], known: Mapping[str, type[release.ReleaseBuilder]]
) -> Mapping[str, type[release.ReleaseBuilder]]:
    """The builders with these names; all where none is named.

    Raises:
      ValueError: If there is no such set; suggests the nearest name.
    """
    for name in names:
        if name not in known:
            longer = [candidate for candidate in known if name.lower() in candidate]
            hint = files.nearest(longer[0] if longer else name, known)
            raise ValueError(
                f"There is no set {name!r}.{hint} Sets: {', '.join(known)}."
            )
    return {name: known[name] for name in names} or known
