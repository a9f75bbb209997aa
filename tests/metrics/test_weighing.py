"""Intervals by weights are those of a plain bootstrap: one resampled set at a time.

The plain way below shares nothing with the package but the matching of boxes: whole
groups are drawn, the records of their images are laid one after the other, and every
value is counted from these.
"""

import contextlib
import io
import itertools

import numpy as np
import pytest

from mtpret_jax.metrics import classification, detection, intervals, segmentation

OPTIONS = {"resamples": 150, "seed": 4}


def _plain(values, records, groups, *, resamples, seed):
    """Draws of `values(records)`, whole groups at a time."""
    names = sorted(set(groups.tolist()))
    rows = {name: np.flatnonzero(groups == name) for name in names}
    rng = np.random.default_rng(seed)
    whole, drawn = values(records), []
    for _ in range(resamples):
        chosen = rng.integers(len(names), size=len(names))
        index = np.concatenate([rows[names[g]] for g in chosen])
        found = values({name: array[index] for name, array in records.items()})
        for name in whole:
            parent, _, part = name.partition("/")
            if part and np.isnan(found[name]) and not np.isnan(whole[name]):
                found[parent] = np.nan
        drawn.append(found)
    return {name: np.array([one[name] for one in drawn]) for name in whole}


def _mean(values):
    values = [value for value in values if not np.isnan(value)]
    return sum(values) / len(values) if values else np.nan


def _share(part, whole):
    return part.sum() / whole.sum() if whole.sum() else np.nan


def _auroc(score, positive, weight):
    """Pair by pair."""
    above, below = score[positive, None], score[None, ~positive]
    pair = weight[positive, None] * weight[None, ~positive]
    won = (above > below) + 0.5 * (above == below)
    return (pair * won).sum() / pair.sum() if pair.sum() else np.nan


def _kappa(truth, decided, weight):
    """From classes, not from one-hot rows."""
    if len(set(truth[weight > 0].tolist())) < 2:
        return np.nan
    total = weight.sum()
    agreed = weight[truth == decided].sum() / total
    chance = sum(
        weight[truth == c].sum() * weight[decided == c].sum() / total**2
        for c in set(truth.tolist())
    )
    return (agreed - chance) / (1 - chance)


def _classified(metric):
    """The plain values of a classification task."""
    names, exclusive = metric.class_names, metric.exclusive

    def values(records):
        score, truth = records["probability"], records["label"] > 0.5
        known = records["label_known"]
        decided = score >= 0.5
        if exclusive:
            known = np.repeat(known.all(axis=1)[:, None], len(names), axis=1)
            decided = np.eye(len(names), dtype=bool)[score.argmax(axis=1)]
        columns = range(len(names))
        rows = [np.flatnonzero(known[:, c]) for c in columns]
        area = [
            _auroc(score[r, c], truth[r, c], np.ones(len(r)))
            for c, r in zip(columns, rows, strict=True)
        ]
        found = [
            (_share((truth & decided)[r, c], truth[r, c]))
            for c, r in zip(columns, rows, strict=True)
        ]
        spared = [
            (_share((~truth & ~decided)[r, c], ~truth[r, c]))
            for c, r in zip(columns, rows, strict=True)
        ]
        if exclusive:
            r = rows[0]
            side = truth[r].argmax(axis=1), decided[r].argmax(axis=1)
            accuracy = _share(side[0] == side[1], np.ones(len(r)))
            kappa = _kappa(*side, np.ones(len(r)))
        else:
            pairs = [(truth[r, c], decided[r, c]) for c, r in enumerate(rows)]
            accuracy = _mean([_share(t == d, np.ones(len(t))) for t, d in pairs])
            kappa = _mean([_kappa(t, d, np.ones(len(t))) for t, d in pairs])
        if exclusive and len(names) == 2:
            area, found, spared = area[1:], found[1:], spared[1:]
        values = {
            "auroc": _mean(area),
            "accuracy": accuracy,
            "sensitivity": _mean(found),
            "specificity": _mean(spared),
            "kappa": kappa,
        }
        if len(area) > 1:
            pairs = zip(names, area, strict=True)
            values |= {f"auroc/{name}": a for name, a in pairs}
        return values

    return values


def _labels(classes, *, exclusive, count=90, seed=0):
    """Records with ties, unknown labels and a rare last class; groups of any size."""
    rng = np.random.default_rng(seed)
    if exclusive:
        odds = np.array([0.6, 0.37, 0.03][:classes])
        label = np.eye(classes)[rng.choice(classes, count, p=odds / odds.sum())]
        known = np.repeat(rng.random((count, 1)) < 0.9, classes, axis=1)
    else:
        label = rng.random((count, classes)) < np.linspace(0.5, 0.03, classes)
        known = rng.random((count, classes)) < 0.8
    score = np.round(rng.random((count, classes)) + 0.3 * label, 1) + 0.01
    score /= score.sum(axis=1, keepdims=True) if exclusive else 1.5
    records = {
        "probability": score.astype(np.float32),
        "label": label.astype(np.float32),
        "label_known": known,
        "record": np.arange(count, dtype=np.int32),
    }
    sizes = np.repeat(np.arange(count), rng.integers(1, 12, count))[:count]
    return records, np.array([f"patient {g}" for g in rng.permutation(sizes)])


def _same(metric, values, records, groups):
    """Compares draw by draw, NaN where NaN; returns the draws."""
    summary = metric.summarise(records)
    drawn = intervals.draws(metric, summary, groups, **OPTIONS)
    expected = _plain(values, records, groups, **OPTIONS)
    assert drawn.keys() == expected.keys()
    for name, one in drawn.items():
        np.testing.assert_allclose(one, expected[name], rtol=0, atol=1e-12)
        ends = intervals.interval(one), intervals.interval(expected[name])
        np.testing.assert_allclose(*ends, rtol=0, atol=1e-12)
    return drawn


@pytest.mark.parametrize(
    ("classes", "exclusive"), [(2, True), (3, True), (1, False), (4, False)]
)
def test_classification_as_the_plain_bootstrap(classes, exclusive):
    metric = classification.ClassificationMetric(
        tuple("abcd"[:classes]), exclusive=exclusive
    )
    records, groups = _labels(classes, exclusive=exclusive)

    drawn = _same(metric, _classified(metric), records, groups)

    if classes > 2:  # The rare class is missing from some resamples.
        assert 0 < np.isnan(drawn["auroc"]).mean() < 1


def test_a_label_that_is_never_there_as_the_plain_bootstrap():
    metric = classification.ClassificationMetric(("a", "b"), exclusive=False)
    records, groups = _labels(2, exclusive=False)
    records["label"][:, 1] = 0

    drawn = _same(metric, _classified(metric), records, groups)

    assert np.isnan(drawn["auroc/b"]).all()
    assert np.isfinite(drawn["auroc"]).all()


def test_studies_as_the_plain_bootstrap():
    metric = classification.ClassificationMetric(("a", "b"), exclusive=True)
    records, groups = _labels(2, exclusive=True)
    codes = {name: code for code, name in enumerate(sorted(set(groups)))}
    patient = np.array([codes[name] for name in groups])
    # Two studies of each patient; one of some images alone.
    study = 2 * patient + np.arange(len(groups)) % 2
    records["study"] = np.where(np.arange(len(groups)) % 7, study, -1).astype(np.int32)
    parts = [
        ("study_rank", "rank"),
        ("study_positive", "truth"),
        ("study_decided", "decided"),
        ("study_weight", "weight"),
    ]
    summary = metric.summarise(records)
    joined = {name: summary[key][:, 1] for key, name in parts}
    plain = _classified(metric)

    def values(resampled):
        here = {name: x[resampled["record"]] for name, x in joined.items()}
        return plain(resampled) | {
            "auroc_study": _auroc(here["rank"], here["truth"], here["weight"]),
            "kappa_study": _kappa(here["truth"], here["decided"], here["weight"]),
        }

    _same(metric, values, records, groups)


def test_segmentation_as_the_plain_bootstrap():
    metric = segmentation.SegmentationMetric(("background", "lung", "heart"))
    rng = np.random.default_rng(1)
    counts = {name: rng.integers(0, 400, (50, 3)) for name in ("tp", "fp", "fn")}
    for name in ("tp", "fn"):  # Images without foreground, and a rare class.
        counts[name][::5, 1:] = 0
        counts[name][3:, 2] = 0
    counts["fp"][3:, 2] = 0
    counts["fp"][::10] = 0
    apart = rng.uniform(0, 9, (50, 2))
    apart[rng.random(apart.shape) < 0.3] = np.nan
    records = counts | {"record": np.arange(50, dtype=np.int32), "hd95": apart}

    def dice(tp, fp, fn):
        return 2 * tp / (2 * tp + fp + fn) if 2 * tp + fp + fn else np.nan

    def values(resampled):
        images = list(zip(*(resampled[k] for k in ("tp", "fp", "fn")), strict=True))
        tp, fp, fn = (np.sum([image[i] for image in images], axis=0) for i in range(3))
        each = [dice(tp[c], fp[c], fn[c]) for c in (1, 2)]
        overlap = [
            t / n if n else np.nan for t, n in zip(tp, tp + fp + fn, strict=True)
        ]
        per_image = [
            _mean([dice(t[c], p[c], n[c]) for c in (1, 2) if t[c] + n[c]])
            for t, p, n in images
        ]
        outline = [_mean(row) for row in resampled["hd95"]]
        shown = np.stack([(t + n)[1:] > 0 for t, _, n in images])
        said = np.stack([(t + p)[1:] > 0 for t, p, _ in images])
        return {
            "dice": _mean(each),
            "mean_iou": _mean(overlap),
            "dice_per_image": _mean(per_image),
            "hd95": _mean(outline),
            "masks_missed": _share(shown & ~said, shown),
            "masks_made_up": _share(~shown & said, ~shown),
            "dice/lung": each[0],
            "dice/heart": each[1],
        }

    _same(metric, values, records, np.arange(50) // 4)


def _free_response(evaluation, category, images):
    """Mean sensitivity, one detection after the other."""
    boxes = [e for e in evaluation.evalImgs if e and e["category_id"] == category]
    truth = sum(len(entry["gtIds"]) for entry in boxes)
    found = [
        pair
        for entry in boxes
        for pair in zip(entry["dtScores"], entry["dtMatches"][0] > 0, strict=True)
    ]
    if not truth:
        return np.nan
    values = []
    for rate in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
        hits = false = 0
        for _, hit in sorted(found, key=lambda pair: -pair[0]):
            hits, false = hits + hit, false + (not hit)
            if false > rate * images:
                break
        values.append(hits / truth)
    return _mean(values)


def test_detection_as_coco_on_each_resampled_set():
    metric = detection.DetectionMetric(2, ("nodule", "mass"))
    rng = np.random.default_rng(2)
    images, slots, boxes = 24, 6, 3
    corner = rng.uniform(0, 0.6, (images, boxes, 2))
    truth = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, corner.shape)], 2)
    found = np.concatenate([truth, truth], 1)
    found = found + rng.normal(scale=0.03, size=found.shape)
    records = {
        "box": found.astype(np.float32),
        # No two alike, whose order the plain way would leave to the draw.
        "score": rng.permutation(images * slots).reshape(images, slots) / 200,
        "class": rng.integers(0, 2, (images, slots)),
        "valid": rng.random((images, slots)) < 0.8,
        "truth_box": truth.astype(np.float32),
        # Of one class in one group alone, so that some resamples lack it.
        "truth_class": np.repeat(np.arange(images)[:, None] < 2, boxes, 1).astype(int),
        "truth_valid": rng.random((images, boxes)) < 0.6,
        "record": np.arange(images, dtype=np.int32),
    }

    def values(resampled):
        evaluation = detection.evaluate(resampled, num_classes=2)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        # [overlap, recall, class, area, detections]; -1 without ground truth.
        precision = evaluation.eval["precision"][:, :, :, 0, 0]
        precision = np.where(precision < 0, np.nan, precision).mean(axis=1)
        ap50 = {
            f"ap50/{name}": precision[0, c] for c, name in enumerate(metric.class_names)
        }
        froc = [_free_response(evaluation, c, images) for c in (1, 2)]
        parts = zip(metric.class_names, froc, strict=True)
        return {
            "ap50": _mean(precision[0]),
            "coco_ap": _mean(precision.ravel()),
            "froc": _mean(froc),
            **ap50,
            **{f"froc/{name}": value for name, value in parts},
        }

    drawn = _same(metric, values, records, np.arange(images) // 2)

    assert 0 < np.isnan(drawn["ap50"]).mean() < 1


def test_weights_need_not_be_drawn_in_one_block(monkeypatch):
    metric = classification.ClassificationMetric(("a", "b"), exclusive=True)
    records, groups = _labels(2, exclusive=True)
    summary = metric.summarise(records)
    drawn = []
    for at_once, size in itertools.product((7, 128), (1, 2**25)):
        monkeypatch.setattr(intervals, "_AT_ONCE", at_once)
        monkeypatch.setattr(intervals, "_BLOCK_BYTES", size)
        drawn.append(intervals.draws(metric, summary, groups, **OPTIONS)["kappa"])

    for other in drawn[1:]:
        np.testing.assert_allclose(other, drawn[0], rtol=0, atol=1e-14)
