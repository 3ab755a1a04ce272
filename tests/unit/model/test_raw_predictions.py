"""Raw predictions of detectors are told from maps and tokens that only have as many axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from doors import find_logits, looks_like
from openvino import opset13 as ops

from otx_xai.errors import TaskError
from otx_xai.model.formats.evidence import raw_evidence

Convolve = Callable[..., ov.Node]


def model(*outputs: Callable[[Convolve], ov.Node]) -> ov.Model:
    """Outputs computed from maps that ``convolve(channels, stride)`` gives: of 32 / stride places a side."""
    image = ops.parameter([1, 3, 32, 32], np.float32)

    def convolve(channels: int, stride: int = 4) -> ov.Node:
        kernel = ops.constant(np.ones((channels, 3, 1, 1), np.float32))
        raw = ops.convolution(image, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1])
        return ops.add(raw, ops.constant(np.zeros((1, channels, 1, 1), np.float32)))

    return ov.Model([ops.result(output(convolve)) for output in outputs], [image])


def rows(maps: ov.Node) -> ov.Node:
    """``(1, C, h, w)`` to ``(1, h·w, C)``."""
    flat = ops.reshape(maps, ops.constant(np.array([0, 0, -1])), special_zero=True)
    return ops.transpose(flat, ops.constant(np.array([0, 2, 1])))


def resized(maps: ov.Node) -> ov.Node:
    size, axes = ops.constant(np.array([32, 32])), ops.constant(np.array([2, 3]))
    return ops.interpolate(maps, size, "linear_onnx", "sizes", axes=axes)


def with_class_token(convolve: Convolve) -> ov.Node:
    token = ops.constant(np.ones((1, 1, 16), np.float32))
    return ops.concat([ops.multiply(token, ops.reduce_mean(rows(convolve(16)), 1, True)), rows(convolve(16))], 1)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        # FastestDet
        (
            [
                lambda conv: ops.concat([ops.sigmoid(conv(1)), conv(4), ops.softmax(conv(80), 1)], 1),
            ],
            "parts of 1, 4 and 80 numbers",
        ),
        # YOLO version 8: along the last axis
        ([lambda conv: ops.transpose(ops.concat([rows(conv(4)), rows(conv(3))], 2), [0, 2, 1])], "4 and 3 numbers"),
        # YOLOX without decoding: levels first become rows
        (
            [lambda conv: rows(ops.concat([conv(4), ops.sigmoid(conv(1)), ops.sigmoid(conv(3))], 1))],
            "parts of 4, 1 and 3 numbers",
        ),
        # undecoded heads that one convolution a level gives
        ([lambda conv: ops.concat([rows(conv(8, stride)) for stride in (4, 8, 16)], 1)], "64, 16 and 4 places"),
        # boxes and scores by themselves
        ([lambda conv: rows(conv(4)), lambda conv: rows(conv(21))], "four numbers for each place of another output"),
        # anchors as an axis
        (
            [lambda conv: ops.reshape(conv(24), ops.constant(np.array([1, 3, 8, 8, 8])), special_zero=False)],
            "an axis more than maps have",
        ),
    ],
)
def test_boxes_and_scores(outputs: list, reason: str) -> None:
    told = raw_evidence(model(*outputs).outputs)
    assert told is not None
    assert reason in told


@pytest.mark.parametrize(
    "output",
    [
        lambda conv: ops.softmax(conv(21), 1),
        lambda conv: resized(conv(21)),
        lambda conv: ops.sigmoid(resized(conv(1))),
        lambda conv: ops.relu(conv(85)),
        lambda conv: rows(ops.softmax(conv(21), 1)),
        # features of several branches, and of a transformer
        lambda conv: ops.concat([ops.relu(conv(8)), ops.relu(conv(16)), ops.relu(conv(24))], 1),
        with_class_token,
    ],
    ids=["softmax", "logits", "depth", "features", "tokens", "branches", "class token"],
)
def test_maps_of_something_else(output: Callable[[Convolve], ov.Node]) -> None:
    other = model(output)
    assert looks_like(other)[0] is None
    with pytest.raises(TaskError, match=r"\[N, classes\], and it is no detector.*--task detection.*postprocess_fn"):
        find_logits(other)


def test_several_segmentations_of_one_image() -> None:
    """Deep supervision: the same classes in several sizes."""
    assert looks_like(model(lambda conv: conv(9), lambda conv: conv(9, 8)))[0] is None
