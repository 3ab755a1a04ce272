"""The constants that boxes are computed with tell pixels from shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from otx_xai.graph.columns import pieces_of
from otx_xai.graph.spans import span_of
from otx_xai.graph.view import View

GRID = np.arange(12, dtype=np.float32).reshape(1, 3, 4)

DECODED: dict[str, tuple[Callable[[ov.Node], ov.Node], tuple[float, float]]] = {
    "nothing": (lambda raw: raw, (0, 0)),
    "shares": (ops.sigmoid, (0.5, 0.5)),
    "grid in strides": (lambda raw: ops.multiply(ops.add(raw, GRID), np.float32(8)), (0, 88)),
    "sizes": (lambda raw: ops.multiply(ops.exp(raw), np.array([8, 16, 32, 64], np.float32)), (8, 64)),
    "from the other side": (lambda raw: ops.subtract(GRID, raw), (0, 11)),
    "divided": (lambda raw: ops.divide(ops.add(raw, GRID), np.float32(11)), (0, 1)),
    "clamped": (lambda raw: ops.clamp(ops.add(raw, GRID), 2.0, 5.0), (2, 5)),
    "mirrored": (lambda raw: ops.negative(ops.add(raw, GRID)), (-11, 0)),
    "version 5": (
        lambda raw: ops.power(ops.multiply(ops.sigmoid(raw), np.float32(2)), np.float32(2)),
        (1, 1),
    ),
    "bounded": (lambda raw: ops.minimum(ops.add(raw, GRID), np.float32(4)), (0, 4)),
    "computed grid": (
        lambda raw: ops.add(
            raw, ops.reshape(ops.range(np.float32(0), np.float32(12), np.float32(1), "f32"), [1, 3, 4], False)
        ),
        (0, 11),
    ),
}


@pytest.mark.parametrize("name", DECODED)
def test_span(name: str) -> None:
    decode, span = DECODED[name]
    raw = ops.parameter([1, 3, 4], np.float32)
    view = View(ov.Model([ops.result(decode(ops.tanh(raw)))], [raw]))
    (piece,) = pieces_of(view, view.outputs[0], -1)
    assert span_of(view, piece) == pytest.approx(span)


def test_what_the_size_decides_may_be_large() -> None:
    raw = ops.parameter([1, -1, 4], np.float32)
    places = ops.convert(ops.gather(ops.shape_of(raw), np.int64(1), np.int64(0)), "f32")
    view = View(ov.Model([ops.result(ops.multiply(ops.add(ops.tanh(raw), np.float32(1)), places))], [raw]))
    (piece,) = pieces_of(view, view.outputs[0], -1)
    assert span_of(view, piece)[1] > 1000
