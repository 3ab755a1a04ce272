"""Rules of convolutions, poolings and resizes against torch autograd and central differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from gradient_cases import Case, N, check
from openvino import opset13 as ops
from openvino import opset14

from otx_xai.graph.constants import evaluate

IMAGE = ((N, 4, 9, 7),)


def ints(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def torch_of(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values).double()


def convolution(
    kernel: tuple[int, int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
    same: str | None = None,
) -> Case:
    """``pads`` are top, left, bottom, right."""
    array = weights(6, 4 // groups, *kernel)

    def build(x: ov.Output) -> ov.Node:
        own = array if groups == 1 else array.reshape(groups, 6 // groups, 4 // groups, *kernel)
        make = ops.convolution if groups == 1 else ops.group_convolution
        return make(
            x, ops.constant(own), list(strides), list(pads[:2]), list(pads[2:]), list(dilations), same or "explicit"
        )

    def reference(x: torch.Tensor) -> torch.Tensor:
        around = same_pads(x.shape[2:], kernel, strides, dilations, same) if same and same != "valid" else pads
        x = F.pad(x, (around[1], around[3], around[0], around[2]))
        return F.conv2d(x, torch_of(array), None, tuple(strides), 0, tuple(dilations), groups)

    return Case(build, reference, IMAGE)


def same_pads(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], same: str):
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        begin = total // 2 if same == "same_upper" else total - total // 2
        begins.append(begin)
        ends.append(total - begin)
    return [*begins, *ends]


def transposed(
    strides: Sequence[int], pads: Sequence[int], extra: Sequence[int], groups: int = 1, dilation: int = 1
) -> Case:
    array = weights(4, 6 // groups, 3, 2)

    def build(x: ov.Output) -> ov.Node:
        own = array if groups == 1 else array.reshape(groups, 4 // groups, 6 // groups, 3, 2)
        make = ops.convolution_backprop_data if groups == 1 else ops.group_convolution_backprop_data
        return make(
            x,
            ops.constant(own),
            list(strides),
            pads_begin=list(pads),
            pads_end=list(pads),
            dilations=[dilation, dilation],
            auto_pad="explicit",
            output_padding=list(extra),
        )

    def reference(x: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose2d(
            x, torch_of(array), None, tuple(strides), tuple(pads), tuple(extra), groups, (dilation, dilation)
        )

    return Case(build, reference, IMAGE)


def transposed_to(shape: Sequence[int]) -> Case:
    """Cut to a size that OpenVINO pads for by itself."""
    array = weights(4, 6, 3, 3)

    def build(x: ov.Output) -> ov.Node:
        return ops.convolution_backprop_data(x, ops.constant(array), [2, 2], ints(*shape), auto_pad="same_upper")

    def reference(x: torch.Tensor) -> torch.Tensor:
        whole = F.conv_transpose2d(x, torch_of(array), None, 2)
        begins = [(full - size) // 2 for full, size in zip(whole.shape[2:], shape, strict=True)]
        return whole[:, :, begins[0] : begins[0] + shape[0], begins[1] : begins[1] + shape[1]]

    return Case(build, reference, IMAGE, open_sizes=False)


CONVOLUTIONS = {
    "1x1": convolution((1, 1)),
    "3x3": convolution((3, 3), pads=(1, 1, 1, 1)),
    "3x2, uneven pads": convolution((3, 2), (2, 3), (1, 0, 0, 2)),
    "stride beyond the last window": convolution((2, 2), (3, 4)),
    "1x1 with stride": convolution((1, 1), (2, 2)),
    "dilated": convolution((3, 2), (1, 2), (2, 1, 2, 1), (2, 3)),
    "same upper": convolution((3, 2), (2, 2), same="same_upper"),
    "same lower": convolution((2, 3), (2, 3), same="same_lower"),
    "same, dilated": convolution((3, 3), (2, 1), dilations=(2, 2), same="same_upper"),
    "valid": convolution((3, 3), (2, 2), same="valid"),
    "groups": convolution((3, 3), (2, 2), (1, 1, 1, 1), groups=2),
    "groups, same": convolution((3, 3), (2, 2), groups=2, same="same_upper"),
    "patches": convolution((4, 3), (4, 3)),
    "transposed": transposed((2, 3), (1, 0), (0, 0)),
    "transposed, output padding": transposed((2, 3), (1, 1), (1, 2)),
    "transposed, dilated": transposed((1, 2), (2, 1), (0, 1), dilation=2),
    "transposed, groups": transposed((2, 2), (1, 0), (1, 0), groups=2),
    "transposed to a size": transposed_to((17, 13)),
    "of rows": Case(
        lambda x: ops.convolution(x, ops.constant(weights(5, 4, 3)), [2], [1], [0], [1]),
        lambda x: F.conv1d(F.pad(x, (1, 0)), torch_of(weights(5, 4, 3)), None, 2),
        ((N, 4, 9),),
    ),
    "of volumes": Case(
        lambda x: ops.convolution(x, ops.constant(weights(2, 4, 2, 3, 2)), [1, 2, 2], [0] * 3, [0] * 3, [1] * 3),
        lambda x: F.conv3d(x, torch_of(weights(2, 4, 2, 3, 2)), None, (1, 2, 2)),
        ((N, 4, 3, 5, 4),),
    ),
}


def max_pooling(
    kernel: int, stride: int, pad: int, dilation: int = 1, rounding: str = "floor", version: int = 8
) -> Case:
    def build(x: ov.Output) -> ov.Output:
        if version == 14:
            made = opset14.max_pool(x, [stride] * 2, [dilation] * 2, [pad] * 2, [pad] * 2, [kernel] * 2, rounding)
        elif version == 1:
            from openvino import opset1

            made = opset1.max_pool(x, [stride] * 2, [pad] * 2, [pad] * 2, [kernel] * 2, rounding)
        else:
            made = ops.max_pool(x, [stride] * 2, [dilation] * 2, [pad] * 2, [pad] * 2, [kernel] * 2, rounding)
        return made.output(0)

    def reference(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, kernel, stride, pad, dilation, ceil_mode=rounding != "floor")

    return Case(build, reference, IMAGE)


def mean_pooling(
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: int,
    exclude: bool,
    rounding: str = "floor",
    open_sizes: bool = True,
) -> Case:
    def build(x: ov.Output) -> ov.Node:
        return opset14.avg_pool(x, list(stride), [pad] * 2, [pad] * 2, list(kernel), exclude, rounding)

    def reference(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, tuple(kernel), tuple(stride), pad, rounding != "floor", not exclude)

    return Case(build, reference, IMAGE, open_sizes=open_sizes)


POOLINGS = {
    "max 2": max_pooling(2, 2, 0),
    "max 3, overlapping": max_pooling(3, 2, 1),
    "max 5, stride 1": max_pooling(5, 1, 2),
    "max, dilated": max_pooling(3, 2, 1, 2),
    "max, ceil": max_pooling(3, 2, 0, rounding="ceil"),
    "max, ceil of torch": max_pooling(3, 2, 1, rounding="ceil_torch", version=14),
    "max, first version": max_pooling(3, 2, 1, version=1),
    "mean 2": mean_pooling((2, 2), (2, 2), 0, True),
    "mean of whole blocks": mean_pooling((3, 7), (3, 7), 0, True),
    "mean 3, padding counts": mean_pooling((3, 3), (2, 2), 1, False),
    "mean 3, padding does not": mean_pooling((3, 3), (1, 2), 1, True),
    "mean, ceil": mean_pooling((3, 2), (2, 2), 0, True, "ceil"),
    "mean, ceil of torch": mean_pooling((3, 2), (2, 2), 1, False, "ceil_torch"),
    "mean of all": mean_pooling((9, 7), (1, 1), 0, True, open_sizes=False),
    "adaptive mean": Case(
        lambda x: ops.adaptive_avg_pool(x, ints(4, 3)), lambda x: F.adaptive_avg_pool2d(x, (4, 3)), IMAGE
    ),
    "adaptive mean of all": Case(
        lambda x: ops.adaptive_avg_pool(x, ints(1, 1)), lambda x: F.adaptive_avg_pool2d(x, 1), IMAGE
    ),
    "adaptive max": Case(
        lambda x: ops.adaptive_max_pool(x, ints(4, 3), "i32").output(0),
        lambda x: F.adaptive_max_pool2d(x, (4, 3)),
        IMAGE,
    ),
}


def resize(mode: str, sizes: Sequence[int], *, where: str = "half_pixel", **options: object) -> Case:
    torch_mode = {"nearest": "nearest", "linear_onnx": "bilinear", "linear": "bilinear", "cubic": "bicubic"}[mode]
    corners = {} if mode == "nearest" else {"align_corners": where == "align_corners"}

    def build(x: ov.Output) -> ov.Node:
        return ops.interpolate(
            x, ints(*sizes), mode, "sizes", axes=ints(2, 3), coordinate_transformation_mode=where, **options
        )

    def reference(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, tuple(sizes), mode=torch_mode, **corners)

    return Case(build, reference, IMAGE, open_sizes=False)


def named_whole(mode: str, sizes: Sequence[int]) -> Case:
    """A resize that names images and channels, too, as exporters write it."""
    case = resize(mode, sizes)

    def build(x: ov.Output) -> ov.Node:
        where = "asymmetric" if mode == "nearest" else "half_pixel"
        whole = ops.concat([ops.slice(ops.shape_of(x), ints(0), ints(2), ints(1)), ints(*sizes)], 0)
        return ops.interpolate(
            x, whole, mode, "sizes", axes=ints(0, 1, 2, 3), coordinate_transformation_mode=where, nearest_mode="floor"
        )

    return replace(case, build=build)


def scaled(mode: str, factors: Sequence[float], where: str, nearest: str = "floor", smooth: bool = False) -> Case:
    """A resize whose reference is OpenVINO's own result for each pixel alone, since torch has none such."""

    def build(x: ov.Output) -> ov.Node:
        factor = ops.constant(np.array(factors, np.float32))
        return ops.interpolate(
            x,
            factor,
            mode,
            "scales",
            axes=ints(2, 3),
            coordinate_transformation_mode=where,
            nearest_mode=nearest,
            antialias=smooth,
        )

    def reference(x: torch.Tensor) -> torch.Tensor:
        image = ops.parameter([63, 1, 9, 7], np.float32)
        eye = np.eye(63, dtype=np.float32).reshape(63, 1, 9, 7)
        (pixels,) = evaluate([build(image.output(0)).output(0)], {image: eye})
        return torch.einsum("nci,iab->ncab", x.flatten(2), torch_of(pixels[:, 0]))

    return Case(build, reference, IMAGE)


RESIZES = {
    "nearest, doubled": resize("nearest", (18, 14), where="asymmetric", nearest_mode="floor"),
    "nearest, odd": resize("nearest", (13, 5), where="asymmetric", nearest_mode="floor"),
    "linear_onnx": resize("linear_onnx", (13, 16)),
    "linear_onnx, corners": resize("linear_onnx", (5, 16), where="align_corners"),
    "linear, smaller and smooth": scaled("linear", (0.5, 0.7), "half_pixel", smooth=True),
    "cubic": resize("cubic", (13, 16)),
    "cubic, corners": resize("cubic", (5, 12), where="align_corners"),
    "nearest, all axes named": named_whole("nearest", (18, 14)),
    "linear_onnx, all axes named": named_whole("linear_onnx", (13, 16)),
    "nearest by factors": scaled("nearest", (2, 2), "asymmetric"),
    "nearest by uneven factors": scaled("nearest", (1.5, 0.7), "half_pixel", "round_prefer_ceil"),
    "nearest, ceil": scaled("nearest", (1.7, 2), "tf_half_pixel_for_nn", "ceil"),
    "linear_onnx by factors": scaled("linear_onnx", (1.6, 2.3), "pytorch_half_pixel"),
    "linear by factors": scaled("linear", (1.6, 0.6), "asymmetric"),
    "cubic by factors": scaled("cubic", (2, 1.5), "half_pixel"),
    "channels last": Case(
        lambda x: ops.interpolate(
            x, ints(7, 11), "linear_onnx", "sizes", axes=ints(1, 2), coordinate_transformation_mode="half_pixel"
        ),
        lambda x: F.interpolate(x.permute(0, 3, 1, 2), (7, 11), mode="bilinear").permute(0, 2, 3, 1),
        ((N, 5, 4, 3),),
        open_sizes=False,
    ),
}

CASES = CONVOLUTIONS | POOLINGS | RESIZES


@pytest.mark.parametrize("name", CASES)
def test_window_gradient(name: str) -> None:
    check(CASES[name])


def coarse(x: ov.Output) -> ov.Output:
    """Return the largest of few different numbers; quantisers are passed straight through."""
    low, high = ops.constant(np.float32(-2)), ops.constant(np.float32(2))
    few = ops.fake_quantize(x, low, high, low, high, 3)
    return ops.max_pool(few, [1, 1], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)


def test_of_equal_numbers_the_first_is_the_largest() -> None:
    """As in torch, and as zeros behind a ReLU need."""
    check(Case(coarse, lambda x: F.max_pool2d(x + (torch.round(x / 2) * 2 - x).detach(), 2, 1), IMAGE, smooth=False))
