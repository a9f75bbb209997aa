"""What stage 1 read and what was kept from it: sentences and a section of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtpret_jax.audit import exclusions
from mtpret_jax.audit import words as audit_words
from mtpret_jax.report import markup

Report = Mapping[str, Any]

_RISK = (
    "The audit compares every two pictures of all sets and splits of this "
    f"configuration. {audit_words.RISK}"
)
_PAPER = (
    "training images that a validation or test split holds again, as copies or by the "
    "same patient, were not removed. Arms that start from it may have seen test "
    "images, without their labels, and their figures may be too good."
)
_STARTS = {
    "paper": f"which reproduces the published pool (contrastive.pool: paper): {_PAPER}",
    "clean": "whose pool was kept from the evaluation images of that folder's sets. "
    "Whether it holds test images of this configuration was not examined.",
    "unknown": "which did not say what it was pre-trained on. Whether it has seen test "
    "images of this configuration is not known.",
}


def opening(report: Report) -> list[str]:
    """A warning for each run of stage 1 that was not kept from images of evaluation."""
    own = [
        f"Run {name} reproduces the published pool (contrastive.pool: paper): {_PAPER}"
        for name, run in report["audit"]["pools"].items()
        if run["pool"] == "paper"
    ]
    return own + _starts(report) + _met_again(report)


def _met_again(report: Report) -> list[str]:
    """A warning for each set whose training images validation or test holds again."""
    audit = report["audit"]["findings"] or {}
    found: dict[str, list[str]] = {}
    for row in audit.get("overlaps", ()):
        here, there = row["split"], row["other_split"]
        is_one_set = row["dataset"] == row["other_dataset"]
        if not is_one_set or here == there or row["kind"] == exclusions.SAME_PATIENT:
            continue
        pairs = f"{row['pairs']} pair{'s' if row['pairs'] != 1 else ''}"
        told = f"{pairs} of {here} and {there} ({row['kind']})"
        found.setdefault(row["dataset"], []).append(told)
    if (report["config"] or {}).get("exclude_copies"):
        end = "The training images among them were left out of all stages."
    else:
        end = (
            "Stages 2 and 3 train on such images, so its figures may be too good; "
            "exclude_copies leaves them out."
        )
    return [
        f"Caution: the audit found copies across splits of {name}: {', '.join(rows)}. "
        + end
        for name, rows in found.items()
    ]


def _starts(report: Report) -> list[str]:
    """The same for runs that start from a backbone of another work folder."""
    found: dict[tuple[str, str, str], list[str]] = {}
    audit = report["audit"]["findings"] or {}
    for name, run in report["runs"].items():
        for pool in run.get("pools", ()):
            is_same = pool["pool"] == "clean" and pool["audit"] == audit.get("key")
            if "start" in pool and not is_same:
                place = (pool["start"], pool["run"], pool["pool"])
                found.setdefault(place, []).append(name)
    return [
        f"{', '.join(names)}: the backbone that {'this run' if len(names) == 1 else ''}"
        f"{'these runs' if len(names) > 1 else ''} started from ({start}) was made by "
        f"run {run} of another work folder, {_STARTS[pool]}"
        for (start, run, pool), names in found.items()
    ]


def section(report: Report) -> str:
    """The section "Audit"; empty where there was none."""
    pools = report["audit"]["pools"]
    if not pools and report["audit"]["findings"] is None:
        return ""
    parts = ["<h2>Audit</h2>"]
    for name, run in pools.items():
        parts.append(f"<h3>{markup.text(name)}</h3>{_pool(run)}")
    findings = report["audit"]["findings"]
    if findings is None:
        return "".join([*parts, "<p>The sets were not audited.</p>"])
    if findings["excluded"]:
        names = ("set", "reason", "met again in", "split", "training images")
        rows = [
            (
                *(row["dataset"], row["reason"], row["other_dataset"]),
                _place(row["other_split"]),
                row["images"],
            )
            for row in findings["excluded"]
        ]
        parts.append("<p>Excluded, by the closest reason:</p>")
        parts.append(markup.plain_table(names, rows))
    for row in findings["nestings"]:
        found = row["copies_found"]
        outer, inner = markup.text(row["outer"]), markup.text(row["inner"])
        parts.append(
            f"<p>Documented: {outer} contains images of {inner} "
            f"({markup.text(row['extent'])}); {found or 'no'} "
            f"pair{'' if found == 1 else 's'} of copies found.</p>"
        )
    parts.append(_overlaps(findings["overlaps"]))
    return "".join([*parts, f'<p class="soft">{_RISK}</p>'])


def _place(split: str) -> str:
    """Where an excluded image is met again; in train, only an excluded one counts."""
    return "train, itself excluded" if split == "train" else split


def _pool(run: Mapping[str, Any]) -> str:
    """What each set of a pool had and lost."""
    if run["pool"] == "paper":
        total = sum(one["images"] for one in run["sets"].values())
        return f"<p><b>The published pool:</b> all {total} training images.</p>"
    rows = [
        (name, one["images"], one["removed"], one["images"] - one["removed"])
        for name, one in run["sets"].items()
    ]
    removed = sum(row[2] for row in rows)
    said = (
        f"{removed} were removed, since a validation or test split holds them, or "
        "their patient, again, or since they are copies, or of the patient, of removed "
        "ones."
        if removed
        else "None of them is met again in a validation or test split."
    )
    names = ("set", "training images", "removed", "read")
    total = sum(row[1] for row in rows)
    table = markup.plain_table(names, rows)
    return f"<p>{total} training images. {said}</p>{table}"


def _overlaps(found: list[Mapping[str, Any]]) -> str:
    """Every overlap, also those that exclude nothing."""
    if not found:
        return "<p>No image and no patient was found twice.</p>"
    names = ("kind", "set", "split", "images", "set", "split", "images", "pairs")
    rows = [
        (
            row["kind"],
            *(row["dataset"], row["split"], row["images"]),
            *(row["other_dataset"], row["other_split"], row["other_images"]),
            row["pairs"],
        )
        for row in found
    ]
    return (
        "<details><summary>All images and patients found twice, also within one "
        f"split</summary>{markup.plain_table(names, rows)}</details>"
    )
