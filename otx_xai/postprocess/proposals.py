"""From the outputs of a detector to all that it proposes, doubtful or not: what D-RISE compares boxes with.

Pure functions on arrays, one image at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.postprocess.detections import corners, fastestdet_boxes, read_detections
from otx_xai.records import XAI_OUTPUTS, FloatArray, InputGeometry, IntArray, Size


@dataclass(frozen=True)
class Proposals:
    """What a detector proposes, on the network's input.

    Args:
        boxes: ``float32`` ``(P, 4)``, xyxy in pixels of the network's input.
        classes: ``float32`` ``(P, K)``: class scores.
        objectness: ``float32`` ``(P,)`` in [0, 1]: how sure the network is that there is something.
    """

    boxes: FloatArray
    classes: FloatArray
    objectness: FloatArray

    def __len__(self) -> int:
        return len(self.boxes)


def read_proposals(
    outputs: Mapping[str, NDArray[Any]],
    size: Size,
    num_classes: int,
    *,
    threshold: float = 0.05,
    first_label: int = 0,
) -> Proposals:
    """Read all that a detector proposes, without non-maximum suppression where it is not part of the model.

    Raw outputs give class scores in full; of those without objectness (YOLO version 8) the best class score stands for
    it. Outputs of boxes with a label and a score (after non-maximum suppression) know one class only: its class scores
    are 1 for that label and 0 elsewhere, and the score stands for the objectness.

    Args:
        outputs: name → array, as for :func:`~otx_xai.postprocess.detections.read_detections`.
        size: of the network's input.
        num_classes: ``K``.
        threshold: objectness from which a proposal counts.
        first_label: what the model calls class 0.

    Raises:
        ModelError: the outputs are of no known convention.
    """
    arrays = [np.asarray(value) for name, value in outputs.items() if name not in XAI_OUTPUTS]
    if len(arrays) == 1 and arrays[0].shape[:1] == (1,):
        single = arrays[0][0].astype(np.float32, copy=False)
        if single.ndim == 3 and single.shape[0] == 5 + num_classes:
            flat = single.reshape(len(single), -1)
            kept = np.flatnonzero(flat[0] >= threshold)
            return Proposals(fastestdet_boxes(single, size, kept), flat[5:, kept].T, flat[0, kept])
        if single.ndim == 2 and single.shape[0] == 4 + num_classes:
            best = single[4:].max(axis=0)
            kept = np.flatnonzero(best >= threshold)
            return Proposals(corners(single[:4, kept].T), single[4:, kept].T, best[kept])
        if single.ndim == 2 and single.shape[1] == 5 + num_classes:
            rows = single[single[:, 4] >= threshold]
            return Proposals(corners(rows[:, :4]), rows[:, 5:], rows[:, 4])
    found = read_detections(
        outputs, size, InputGeometry(size), num_classes=num_classes, threshold=threshold, first_label=first_label
    )
    known = found.labels < num_classes
    return Proposals(found.boxes[known], one_hot(found.labels[known], num_classes), found.scores[known])


def one_hot(labels: IntArray, num_classes: int) -> FloatArray:
    """Return class scores ``float32`` ``(P, K)`` that are 1 for each label and 0 elsewhere."""
    return np.asarray(labels[:, None] == np.arange(num_classes), np.float32)
