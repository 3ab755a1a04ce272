"""The tables of the page: what questions measured, in the terms of ``audit.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from otx_xai.audit.average_precision import AveragePrecision
from otx_xai.audit.box_annotations import AnnotationErrors
from otx_xai.audit.box_drift import BoxDrift
from otx_xai.audit.box_errors import BoxErrors, box_results
from otx_xai.audit.calibration import Calibration
from otx_xai.audit.certainty import class_results, confusions
from otx_xai.audit.drift import Drift
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Effect, Unit
from otx_xai.audit.label_errors import LabelErrors
from otx_xai.audit.object_focus import ObjectFocus, class_focus
from otx_xai.audit.shortcut_candidates import Candidate
from otx_xai.audit.slices import Slice
from otx_xai.audit.statistics import mean_effect, share
from otx_xai.audit.wording import examples
from otx_xai.records import IntArray

NO_TABLES: dict[str, Any] = {
    "confusion": None,
    "per_class": [],
    "calibration": None,
    "slices": [],
    "drift": None,
    "clusters": [],
    "average_precision": None,
}
"""The tables of the page, where a question was not asked."""

_REVIEWED = 500
"""Labels that are listed for review at most."""

_SLICES = 100
"""Groups of images that are listed at most."""


def confusion_table(evidence: Evidence) -> dict[str, Any]:
    """Return which classes are taken for which."""
    return {"pairs": [[one.given, one.predicted, len(one.images)] for one in confusions(evidence)]}


def calibration_table(found: Calibration) -> dict[str, Any] | None:
    """Return the curve of reliability; ``None`` without predictions."""
    if not found.bins:
        return None
    bins = [
        {"low": one.low, "high": one.high, "confidence": one.score, "accuracy": one.right.value, "n": one.right.n}
        for one in found.bins
    ]
    return {"ece": found.error.content(), "bins": bins}


_SHARED = {(True, False): "place", (False, True): "pixels", (False, False): "content"}


def cluster_table(evidence: Evidence, shared: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the places and contents that images of a class share, with the mean of their maps."""
    rows = []
    for one in shared:
        label, what = evidence.labels[one.target], _SHARED[one.is_place, one.is_copy]
        images = np.array(one.images, np.int64)
        maps = evidence.maps.rows(np.full(len(evidence), one.target))[images]
        mean = np.asarray(evidence.maps.grids[maps[maps >= 0]], np.float64).mean(axis=0) / 255
        rows.append(
            {
                "name": f"{label}: the same {what}",
                "kind": "maps" if one.is_place else "pixels" if one.is_copy else "features",
                "class": one.target,
                "images": list(examples(evidence, images)),
                "size": len(images),
                "share": one.frequency.content(),
                "elsewhere": one.elsewhere.content(),
                "stability": round(one.stability, 4),
                "mean": np.round(mean, 4).tolist(),
            }
        )
    return rows


def drift_table(moved: Drift) -> dict[str, Any]:
    """Return what changed between two models."""
    lost = int((moved.labelled & moved.right_before & ~moved.right_after).sum())
    won = int((moved.labelled & ~moved.right_before & moved.right_after).sum())
    return {
        "distance": mean_effect(moved.distance, Unit.DISTANCE).content(),
        "noise": moved.floor,
        "changed": int(moved.moved.sum()),
        "other_class": int((~moved.same_class).sum()),
        "silent": int(moved.silent.sum()),
        "lost": lost,
        "won": won,
        "mcnemar_p": float(stats.binomtest(lost, lost + won).pvalue) if lost + won else None,
        "top1_agreement": share(moved.same_class).content(),
    }


def box_drift_table(moved: BoxDrift) -> dict[str, Any]:
    """Return what changed between two detectors."""
    lost, won = len(moved.objects_lost), len(moved.objects_won)
    table = {
        "box_agreement": moved.agreement.content(),
        "objects_lost": lost,
        "objects_won": won,
        "mcnemar_p": float(stats.binomtest(lost, lost + won).pvalue) if lost + won else None,
        "boxes_lost": len(moved.lost),
        "boxes_new": len(moved.new),
    }
    if not moved.compared.any():
        return table
    return table | {
        "distance": mean_effect(moved.distance, Unit.DISTANCE).content(),
        "noise": moved.floor,
        "changed": int(moved.moved.sum()),
        "silent": int((moved.moved & moved.right).sum()),
    }


def slice_table(compared: Sequence[Slice]) -> list[dict[str, Any]]:
    """Return groups of images, the worst difference first, with p-values corrected for their number."""
    p_values = [1.0 if math.isnan(one.p_value) else one.p_value for one in compared]
    corrected = stats.false_discovery_control(p_values).tolist() if p_values else []
    return [
        {
            "column": one.column,
            "value": one.value,
            "range": None if one.range is None else [float(end) for end in one.range],
            "n": len(one.images),
            "accuracy": one.accuracy.content(),
            "difference": one.difference.content(),
            "p_value": p_value,
            "corrected": own,
        }
        for one, p_value, own in list(zip(compared, p_values, corrected, strict=True))[:_SLICES]
    ]


def slice_images(compared: Sequence[Slice]) -> tuple[IntArray, ...]:
    """Return the images of the groups that :func:`slice_table` lists, in its order."""
    return tuple(one.images for one in compared[:_SLICES])


def class_table(evidence: Evidence, focus: ObjectFocus, threshold: float) -> list[dict[str, Any]]:
    """Return a row a class that occurs."""
    energy = {one.target: one.excess for one in class_focus(focus, len(evidence.labels))} if len(focus.image) else {}
    given = evidence.given[evidence.given != NO_CLASS]
    number = np.bincount(given, minlength=len(evidence.labels)) if len(given) else np.zeros(len(evidence.labels), int)
    rows = []
    for one in class_results(evidence, threshold):
        if not number[one.target] and not one.precision.n:
            continue
        values = {"recall": one.recall.content(), "precision": one.precision.content()}
        if one.target in energy and energy[one.target].n:
            values["energy_above_chance"] = energy[one.target].content()
        rows.append({"class": one.target, "images": int(number[one.target]), "values": values})
    return rows


def box_class_table(evidence: Evidence, errors: BoxErrors, focus: ObjectFocus) -> list[dict[str, Any]]:
    """Return a row a class that is annotated or found."""
    energy = {one.target: one.excess for one in class_focus(focus, len(evidence.labels))} if len(focus.image) else {}
    rows = []
    for one in box_results(evidence, errors):
        if not one.recall.n and not one.precision.n:
            continue
        values = {"recall": one.recall.content(), "precision": one.precision.content()}
        if one.target in energy and energy[one.target].n:
            values["energy_above_chance"] = energy[one.target].content()
        objects = evidence.objects
        images = 0 if objects is None else len(np.unique(objects.image[objects.target == one.target]))
        rows.append({"class": one.target, "images": images, "values": values})
    return rows


def precision_table(precision: AveragePrecision) -> dict[str, Any] | None:
    """Return average precision; ``None`` where no object is annotated."""
    numbers = {"ap": precision.mean, "ap50": precision.at_half, "ap75": precision.at_three_quarters}
    if not math.isfinite(precision.mean):
        return None
    return {name: Effect(value, math.nan, math.nan, 0).content() for name, value in numbers.items()}


def review_table(evidence: Evidence, errors: LabelErrors) -> list[dict[str, Any]]:
    """Return the labels in doubt, the likeliest to be wrong first."""
    rows = zip(
        errors.image[:_REVIEWED].tolist(),
        errors.given[:_REVIEWED].tolist(),
        errors.suggested[:_REVIEWED].tolist(),
        errors.confidence[:_REVIEWED].tolist(),
        strict=True,
    )
    return [
        {
            "image": evidence.names[image],
            "given": given,
            "suggested": suggested,
            "confidence": round(confidence, 4),
            "reason": "missing" if given == NO_CLASS else "absent" if suggested == NO_CLASS else "swapped",
        }
        for image, given, suggested, confidence in rows
    ]


def box_review_table(evidence: Evidence, errors: AnnotationErrors) -> list[dict[str, Any]]:
    """Return the annotated boxes in doubt, the likeliest to be wrong first; ``box`` is what the model found."""
    rows = []
    for row in range(min(len(errors), _REVIEWED)):
        assert evidence.found is not None
        box = evidence.found.xyxy[errors.found[row]].tolist()
        rows.append(
            {
                "image": evidence.names[int(errors.image[row])],
                "given": int(errors.given[row]),
                "suggested": int(errors.suggested[row]),
                "confidence": round(float(errors.confidence[row]), 4),
                "reason": str(errors.error[row]),
                "box": " ".join(f"{side:.1f}" for side in box),
            }
        )
    return rows
