"""Whatever computes an index of a class tells among how many it chooses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from otx_xai.graph.class_indices import count_of_classes

I64 = np.int64


def scores(classes: int = 7) -> ov.Node:
    return ops.parameter([1, 20, classes], np.float32)


def best(axis: int = 2) -> ov.Output:
    return ops.topk(scores(), I64(1), axis, "max", "value", "i64").output(1)


def places_times_classes() -> ov.Output:
    flat = ops.reshape(scores(), np.array([1, 140]), False)
    return ops.topk(flat, I64(10), 1, "max", "value", "i64").output(1)


def suppressed() -> ov.Node:
    boxes = ops.parameter([1, 20, 4], np.float32)
    by_class = ops.transpose(scores(), np.array([0, 2, 1]))
    found = ops.non_max_suppression(boxes, by_class, I64(10), np.float32(0.5), np.float32(0.1))
    return ops.gather(found.output(0), I64(1), I64(1))


def rest() -> ov.Node:
    """``index - index / 7 * 7``."""
    index = places_times_classes()
    return ops.subtract(index, ops.multiply(ops.divide(index, I64(7)), I64(7)))


COUNTED: dict[str, Callable[[], ov.Node | ov.Output]] = {
    "best of each place": best,
    "moved": lambda: ops.gather(ops.squeeze(best(), I64(2)), np.array([2, 5]), I64(1)),
    "as real numbers": lambda: ops.floor(ops.convert(best(), "f32")),
    "remainder": lambda: ops.mod(places_times_classes(), I64(7)),
    "floored remainder": lambda: ops.floor_mod(ops.convert(places_times_classes(), "f32"), np.float32(7)),
    "rest": rest,
    "suppression": suppressed,
}


@pytest.mark.parametrize("name", COUNTED)
def test_number_of_classes(name: str) -> None:
    found = COUNTED[name]()
    assert count_of_classes(found if isinstance(found, ov.Output) else found.output(0)) == 7


@pytest.mark.parametrize("silent", [places_times_classes, lambda: ops.abs(scores()).output(0)])
def test_nothing_tells(silent: Callable[[], ov.Output]) -> None:
    assert count_of_classes(silent()) is None
