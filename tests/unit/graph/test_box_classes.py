"""The number of classes is the one of the graph wherever the graph tells it."""

from __future__ import annotations

from collections.abc import Callable

import detectors
import numpy as np
import openvino as ov
import pytest
from doors import looks_like, read_box_classes
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.box_classes import BoxClasses, classes_of_regions
from otx_xai.graph.view import View
from otx_xai.model.formats.evidence import raw_evidence
from otx_xai.records import Task


@pytest.mark.parametrize("names", [None, 5, 4, 6, 3, 77])
@pytest.mark.parametrize("family", ["fastestdet", "yolov8"])
def test_names_do_not_change_what_the_graph_tells(family: str, names: int | None) -> None:
    """One name less than channels of a soft-max is no background where there is objectness."""
    assert read_box_classes(detectors.case(family).model, num_classes=names) == BoxClasses(detectors.CLASSES)


@pytest.mark.parametrize("family", ["fastestdet", "yolox", "yolov8", "yolov5", "classes_first"])
def test_raw_outputs_of_every_family_are_seen(family: str) -> None:
    model = detectors.case(family).model
    assert raw_evidence(model.outputs) is not None
    assert looks_like(model)[0] is Task.DETECTION


def one_map(channels: int, activate: Callable[[ov.Node], ov.Node] = lambda maps: maps) -> ov.Model:
    image = ops.parameter([1, 3, 32, 32], np.float32)
    kernel = ops.constant(np.ones((channels, 3, 3, 3), np.float32))
    return ov.Model([activate(ops.convolution(image, kernel, [4, 4], [1, 1], [1, 1], [1, 1]))], [image])


@pytest.mark.parametrize("channels", [1, 21])
def test_one_map_tells_nothing(channels: int) -> None:
    with pytest.raises(GraphError, match=rf"nothing tells boxes from classes among the {channels} channels"):
        read_box_classes(one_map(channels))


def test_a_soft_max_over_a_map_is_over_classes() -> None:
    assert read_box_classes(one_map(21, lambda maps: ops.softmax(maps, 1))).count == 21


@pytest.mark.parametrize("cut_rows", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_classes_of_regions_behind_a_cut_of_rows(first: int, cut_rows: bool) -> None:
    """A trace of torchvision takes the rows of its one image, however many, before it leaves the background out."""

    def ints(*numbers: int) -> ov.Node:
        return ops.constant(np.array(numbers, np.int64))

    image, count = ops.parameter([7, 12], np.float32), ops.parameter([1], np.int64)
    scores = ops.softmax(ops.matmul(image, ops.constant(np.ones((12, 6), np.float32)), False, False), 1)
    if cut_rows:
        scores = ops.slice(scores, ints(0), count, ints(1), ints(0))
    chosen = ops.slice(scores, ints(first), ints(6), ints(1), ints(1))
    table = ops.unsqueeze(ops.transpose(chosen, ints(1, 0)), ints(0))
    boxes = ops.constant(np.zeros((1, 7, 4), np.float32))
    kept = ops.non_max_suppression(boxes, table, ops.constant(np.int64(3)))
    view = View(ov.Model([kept.output(0)], [image, count]))
    assert classes_of_regions(view) == BoxClasses(5, background_first=first == 1)
