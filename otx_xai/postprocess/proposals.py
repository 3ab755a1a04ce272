"""From the outputs of a detector to all that it proposes, doubtful or not: what D-RISE compares boxes with.

Pure functions on arrays, one image at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otx_xai.records import FloatArray, IntArray


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


def one_hot(labels: IntArray, num_classes: int) -> FloatArray:
    """Return class scores ``float32`` ``(P, K)`` that are 1 for each label and 0 elsewhere."""
    return np.asarray(labels[:, None] == np.arange(num_classes), np.float32)
