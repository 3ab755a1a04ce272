"""The class scores of a classifier, as a place in its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import openvino as ov

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Logits:
    """The raw class scores of a classifier.

    Args:
        port: the scores before soft-max or sigmoid, in the model's own graph: ``[N, K]``, or the same with axes of
            length 1 added, as ``[N, K, 1, 1]``. Real numbers even where the model's output is quantised to 8 bit.
        result_index: which output of the model they lead to.
        activation: what the model itself applies to them on the way to that output. ``softmax`` stands for
            log-soft-max, too.
        num_classes: K.
    """

    port: ov.Output
    result_index: int
    activation: Activation | None
    num_classes: int
