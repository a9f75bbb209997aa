"""What may be said of encoders, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtpret_jax.comparison import findings, lists
from mtpret_jax.metrics import comparison
from mtpret_jax.report import words


def say(
    family: Sequence[findings.Compared],
    leaks: Mapping[str, Mapping[str, lists.Leak]],
    encoders: Mapping[str, findings.Described],
) -> list[str]:
    """A sentence for each comparison, and one for each encoder that hides something."""
    found = []
    for row in family:
        pair = f"{row.encoder} and {row.baseline}"
        ends = words.signed_span(row.low, row.high)
        if words.is_known(row.low_retrained):
            both = words.signed_span(row.low_retrained, row.high_retrained)
            ends += f"; with other training patients {both}"
        told = f"{words.metric(row.metric)} {words.signed(row.difference)} ({ends})"
        holm = f"Holm p = {words.p_value(row.p_corrected)}".replace("= <", "<")
        if row.verdict == findings.SEEN:
            blame = [n for n in (row.encoder, row.baseline) if _told(leaks, row, n)]
            counts = "; ".join(f"{n}: {_told(leaks, row, n)}" for n in blame)
            found.append(
                f"Nothing is said of {pair} on {row.task}: the test split was seen "
                f"in training ({counts})."
            )
        elif row.verdict == comparison.UNDECIDED:
            least = ""
            if words.is_known(row.detectable):
                least = (
                    "; a true difference has to be about "
                    f"{words.number(row.detectable)} to be found in four of five "
                    "such comparisons"
                )
            found.append(
                f"Nothing was shown of {pair} on {row.task}: {told}, {holm}{least}."
            )
        else:
            found.append(
                f"{row.encoder} is {row.verdict} than {row.baseline} on {row.task}: "
                f"{told}, {holm}."
            )
    for name, one in encoders.items():
        if one.unknown:
            found.append(
                f"Whether {name} learnt from test images is not known: {one.unknown}."
            )
    return found


def _told(
    leaks: Mapping[str, Mapping[str, lists.Leak]], row: findings.Compared, name: str
) -> str:
    """What an encoder has seen of the test split of a comparison's task; or ""."""
    leak = leaks[row.task].get(name)
    return seen(leak) if leak is not None and leak.found else ""


def seen(leak: lists.Leak) -> str:
    """What of a test split was learnt from, in words."""
    return (
        f"{words.plural(leak.images, 'image')} of the test split, and in all from "
        f"images of {leak.groups} of its groups (patients)"
    )
