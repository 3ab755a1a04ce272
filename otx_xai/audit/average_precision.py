"""Average precision of a detector as COCO defines it, by pycocotools (Lin et al. 2014, arXiv 1405.0312)."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.records import FloatArray


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """How well a detector finds objects, each in [0, 1]; NaN where no object is annotated.

    Args:
        mean: over IoU thresholds of 0.5 to 0.95 and classes (mAP).
        at_half: at an IoU of 0.5.
        at_three_quarters: at an IoU of 0.75.
        each: of each class over all thresholds, ``float32`` ``(K,)``; NaN of a class without objects.
    """

    mean: float
    at_half: float
    at_three_quarters: float
    each: FloatArray


def coco_results(evidence: Evidence) -> list[dict[str, Any]]:
    """Return the boxes that were found as entries of a COCO results file; none of a classifier.

    ``image_id`` is the row of the image, ``category_id`` the class, both from 0; ``bbox`` is left, top, width and
    height in pixels of the image. Boxes with a score that is NaN are left out.
    """
    return _entries(evidence.found)


def average_precision(evidence: Evidence) -> AveragePrecision:
    """Return the average precision of a detector.

    Args:
        evidence: with all boxes that were found, also those with a low score: the more there are, the higher it is.
            Without annotated boxes, or of a classifier, all numbers are NaN.

    Returns:
        As pycocotools reckons it; it prints nothing.
    """
    count = len(evidence.labels)
    nothing = AveragePrecision(math.nan, math.nan, math.nan, np.full(count, np.nan, np.float32))
    if evidence.found is None or evidence.objects is None or not len(evidence.objects):
        return nothing
    with contextlib.redirect_stdout(io.StringIO()):
        table = _precision(evidence)
    if table is None:
        each = np.where(np.bincount(evidence.objects.target, minlength=count)[:count] > 0, 0, np.nan)
        return AveragePrecision(0.0, 0.0, 0.0, each.astype(np.float32))
    table = np.where(table > -1, table, np.nan)  # (thresholds, recalls, classes)
    known = ~np.isnan(table).all(axis=(0, 1))
    each = np.full(count, np.nan, np.float32)
    each[known] = table[:, :, known].mean(axis=(0, 1))
    if not known.any():
        return nothing
    over = table[:, :, known].mean(axis=(1, 2))
    return AveragePrecision(float(over.mean()), float(over[0]), float(over[5]), each)


def _precision(evidence: Evidence) -> Any:
    """Return pycocotools' table of precisions for all sizes of objects; ``None`` where no box was found."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = coco_results(evidence)
    if not results:
        return None
    truth = COCO()
    annotations = _entries(evidence.objects)
    for number, entry in enumerate(annotations, 1):  # to pycocotools an annotation 0 is one without a match
        entry.update(id=number, iscrowd=0, area=entry["bbox"][2] * entry["bbox"][3])
    truth.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(len(evidence))],
        "categories": [{"id": number} for number in range(len(evidence.labels))],
        "annotations": annotations,
    }
    truth.createIndex()
    judge = COCOeval(truth, truth.loadRes(results), "bbox")
    judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], judge.params.areaRngLbl[:1]
    judge.params.maxDets = [100]
    judge.evaluate()
    judge.accumulate()
    return judge.eval["precision"][:, :, :, 0, 0]


def _entries(table: BoxTable | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    sizes = np.maximum(table.xyxy[:, 2:] - table.xyxy[:, :2], 0)  # pycocotools ignores areas below 0
    boxes = np.concatenate([table.xyxy[:, :2], sizes], axis=1).astype(np.float64).tolist()
    rows = zip(table.image.tolist(), table.target.tolist(), boxes, table.score.tolist(), strict=True)
    return [
        {"image_id": image, "category_id": target, "bbox": box, "score": score}
        for image, target, box, score in rows
        if math.isfinite(score)
    ]
