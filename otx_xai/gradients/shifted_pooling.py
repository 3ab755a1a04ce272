"""The way back of a MaxPool whose window moves by single places, by comparisons of shifted copies.

OpenVINO tells which places are the largest by a reference kernel only, which takes longer than all convolutions of a
detector. Here the first largest of rows is looked for, then the first of columns among them, so that a window costs
twice its side in operations that are fast; of equal numbers the first in row-major order gets the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from otx_xai.gradients.convolution_rules import ends_of, geometry
from otx_xai.gradients.formulas import add, choose, equal, number
from otx_xai.gradients.relocation_rules import padded
from otx_xai.gradients.step import Step, rank
from otx_xai.graph.surgery import cut


@dataclass(frozen=True)
class _Line:
    """A window along one axis.

    Args:
        axis: counted from the last one, -1.
        length: how many places it looks at.
        gap: from one of them to the next.
        begin: padding in front.
        end: padding behind.
    """

    axis: int
    length: int
    gap: int
    begin: int
    end: int

    @property
    def reach(self) -> int:
        """From its first place to its last one."""
        return (self.length - 1) * self.gap


def shifted_pooling(step: Step) -> ov.Output | None:
    """Return the gradient of the input of a MaxPool; ``None`` where its window does not move by single places."""
    kernel = list(map(int, step.node.get_attributes()["kernel"]))
    moves = geometry(step.node, kernel)
    if len(kernel) != 2 or set(moves.strides) != {1} or moves.begins is None:
        return None
    down, across = (
        _Line(axis - 2, kernel[axis], moves.dilations[axis], moves.begins[axis], ends_of(step.node, 2)[axis])
        for axis in range(2)
    )
    largest, column = _first_largest(step.x, across)
    _, row = _first_largest(largest, down)
    return _sent_back(_sent_back(step.up, row, down), column, across)


def _first_largest(value: ov.Output, line: _Line) -> tuple[ov.Output, ov.Output]:
    """Return the largest number in each window, and the number of its first place there, of the same type."""
    axis = rank(value) + line.axis
    wide = padded(value, axis, line.begin, line.end, -np.inf)
    looks = [cut(wide, axis, place * line.gap, (place * line.gap - line.reach) or None) for place in range(line.length)]
    # by a pooling, since OpenVINO fails to compile some chains of maxima and choices
    window = [line.length if i == line.axis else 1 for i in (-2, -1)]
    one, none = [1, 1], [0, 0]
    gaps = [line.gap if i == line.axis else 1 for i in (-2, -1)]
    largest = ops.max_pool(wide, one, gaps, none, none, window).output(0)
    first = number(line.length - 1, value)
    for place, look in reversed(list(enumerate(looks[:-1]))):
        first = choose(equal(look, largest), number(place, value), first)
    return largest, first


def _sent_back(up: ov.Output, first: ov.Output, line: _Line) -> ov.Output:
    """Add gradients of windows up at the places that are the largest of each."""
    axis, total = rank(up) + line.axis, None
    for place in range(line.length):
        part = choose(equal(first, float(place)), up, number(0, up)) if line.length > 1 else up
        part = padded(part, axis, place * line.gap, line.reach - place * line.gap, 0)
        total = part if total is None else add(total, part)
    return cut(total, axis, line.begin, -line.end or None)
