"""How many masks a head takes at a time."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.graph.view import View, port_of
from otx_xai.methods import heads


def branches(count: int) -> tuple[View, ov.Output, ov.Output]:
    """``count`` branches of 100 values each, all read from 10 values and added up at the end."""
    start = ops.relu(ops.parameter([1, 10], np.float32))
    weight = ops.constant(np.ones((10, 100), np.float32))
    arms = [ops.matmul(start, weight, False, False) for _ in range(count)]
    end = ops.concat(arms, axis=1)
    return View(ov.Model([end], [start.input_value(0).get_node()], "branches")), start.output(0), end.output(0)


@pytest.mark.parametrize("count", [2, 5])
def test_peak_counts_what_waits_in_other_branches(count: int):
    view, start, end = branches(count)
    nodes = view.ordered(view.between([start], [end]))
    sizes = {port_of(output): heads._size(output) or 0 for output in [start, *(node.output(0) for node in nodes)]}
    # the arms, their sum, and the arms once more as the sum's own copies
    assert heads._peak(nodes, sizes) == 3 * count * 100


def test_size_of_one_batch():
    assert heads._size(ops.parameter([-1, 3, 4], np.float32).output(0)) == 12
    assert heads._size(ops.parameter([2, 3, 4], np.float32).output(0)) == 24
    assert heads._size(ops.parameter([2, -1, 4], np.float32).output(0)) is None


def test_at_least_one_piece_fits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads, "MEMORY_LIMIT", 400)
    assert heads.fitting(50) == 2
    assert heads.fitting(1000) == 1
