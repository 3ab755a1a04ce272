"""Rules of what reads features at computed places against torch autograd and central differences."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
import torchvision
from gradient_cases import Case, N, check
from openvino import opset13 as ops
from openvino import opset15

SAMPLED = ((N, 3, 5, 4), (N, 2, 3, 2))


def ints(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def sampled(mode: str, padding: str, corners: bool, points: str = "f32") -> Case:
    return Case(
        lambda x, grid: ops.grid_sample(
            x, ops.convert(grid, points), {"mode": mode, "padding_mode": padding, "align_corners": corners}
        ),
        lambda x, grid: F.grid_sample(x, grid, mode, padding, corners),
        SAMPLED,
        -1.3,
        1.3,
        tolerance=1e-4,
        smooth=mode == "bilinear",
    )


REGIONS = np.array([[0, 0, 7, 9], [2.3, 1.1, 6.2, 4.7], [-3, 5, 12, 20.5]], np.float32)


def regions(aligned: str) -> Case:
    """Two points along each side of a bin."""

    def build(x: ov.Output) -> ov.Node:
        return ops.roi_align(
            x, ops.constant(REGIONS), ints(0, 0, 0), 2, 3, 2, np.float32(0.5), "avg", aligned_mode=aligned
        )

    def reference(x: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([torch.zeros(3, 1), torch.tensor(REGIONS) + 0.5 * (aligned == "half_pixel")], 1).double()
        return torchvision.ops.roi_align(x, rows, (2, 3), 0.5, 2, aligned != "asymmetric")

    return Case(build, reference, ((1, 3, 7, 6),))


CASES = {
    f"grid of points, {mode}, {padding}, {corners}": sampled(mode, padding, corners)
    for mode in ("bilinear", "nearest")
    for padding in ("zeros", "border")
    for corners in (True, False)
} | {
    "grid of precise points": sampled("bilinear", "zeros", False, "f64"),
    "grid of precise points, nearest": sampled("nearest", "zeros", False, "f64"),
    "regions": regions("asymmetric"),
    "regions, aligned": regions("half_pixel_for_nn"),
    "regions, aligned twice": regions("half_pixel"),
    "overlapping windows": Case(
        lambda x: opset15.col2im(x, ints(6, 5), ints(3, 2), [2, 1], [1, 2], [1, 0], [0, 1]),
        lambda x: F.fold(x, (7, 6), (3, 2), (1, 2), 0, (2, 1))[:, :, 1:, :5],
        ((N, 12, 12),),
        open_sizes=False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sampling_gradient(name: str) -> None:
    check(CASES[name])
