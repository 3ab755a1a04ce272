"""What gradients of single numbers need of a graph: where numbers come from, where stages end, and the part behind."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from detectors import SIZE, case

from otx_xai.gradients.tail import tail_of
from otx_xai.graph.axes import label_axes
from otx_xai.graph.backbone_stages import stage_ends
from otx_xai.graph.leaves import leaves_of
from otx_xai.graph.view import View, kind
from otx_xai.openvino_core import core


def values_of(model: ov.Model, *outputs: ov.Output) -> list[np.ndarray]:
    """The values of some tensors of a model for a random input."""
    asked = ov.Model([ops.result(output) for output in outputs], model.get_parameters())
    shape = model.inputs[0].get_shape()
    results = core().compile_model(asked, "CPU")(np.random.default_rng(0).random(shape, np.float32))
    return [np.array(results[i]) for i in range(len(outputs))]


def test_numbers_are_followed_to_their_layers() -> None:
    """Through joins, splits, slices, turns and reshapes; a sigmoid only where it is allowed."""
    image = ops.parameter([1, 4, 6, 8], np.float32)
    first, second = ops.exp(image), ops.negative(image)
    left, right = ops.split(first, ops.constant(np.int64(3)), 2).outputs()
    turned = ops.transpose(ops.concat([right, left], 3), np.array([0, 2, 3, 1]))
    cut = ops.slice(second, np.array([1]), np.array([3]), np.array([1]), np.array([1]))
    rows = ops.reshape(ops.sigmoid(cut), np.array([1, 48, 2]), False)
    output = ops.concat([ops.reshape(turned, np.array([1, 48, 4]), False), rows], 2).output(0)
    model = ov.Model([ops.result(output)], [image])
    view = View(model)
    for passed, kinds in ((frozenset(), {"Exp", "Sigmoid"}), (frozenset({"Sigmoid"}), {"Exp", "Negative"})):
        leaves = leaves_of(view, output, passed)
        assert {kind(leaf.output.get_node()) for leaf in leaves} == kinds
        whole, *parts = values_of(model, output, *(leaf.output for leaf in leaves))
        owners = np.zeros(whole.size, int)
        for leaf, part in zip(leaves, parts, strict=True):
            assert leaf.elements is not None
            known = leaf.elements >= 0
            owners += known
            same = part.reshape(-1)[leaf.elements[known]]
            if kind(leaf.output.get_node()) == "Negative":
                same = 1 / (1 + np.exp(-same))
            np.testing.assert_allclose(whole.reshape(-1)[known], same, rtol=1e-5)
        assert (owners == 1).all()


def test_numbers_of_open_sizes_are_not_followed() -> None:
    image = ops.parameter(ov.PartialShape([1, -1]), np.float32)
    output = ops.concat([ops.exp(image), ops.negative(image)], 1).output(0)
    model = ov.Model([ops.result(output)], [image])
    (leaf,) = leaves_of(View(model), output)
    assert leaf.output == output
    assert leaf.elements is None


@pytest.mark.parametrize("name", ["yolov8", "rtmdet"])
def test_a_part_gives_what_the_whole_gives(name: str) -> None:
    """The part behind the ends of the stages, fed with what they give; and nothing that has no gradient is in it."""
    model = case(name).model
    view = View(model)
    end = model.get_results()[0].input_value(0)
    ends = stage_ends(view, label_axes(view), SIZE, [end])
    assert [features.grid for features in ends] == [(24, 32), (12, 16), (6, 8), (3, 4)]
    assert {kind(features.output.get_node()) for features in ends} == {"Relu"}
    tail = tail_of(view, [end], [features.output for features in ends])
    part = ov.Model([ops.result(output) for output in tail.ends], list(tail.parameters))
    kinds = {kind(node) for node in part.get_ordered_ops()}
    assert not kinds & {"NonMaxSuppression", "NonZero"}
    whole, *given = values_of(model, end, *tail.starts)
    results = core().compile_model(part, "CPU")(given)
    np.testing.assert_allclose(results[0], whole, rtol=1e-4, atol=1e-4)


def test_what_is_cut_out_of_an_image_is_no_stage_of_the_backbone() -> None:
    """Regions of 7 × 7 that are convolved again, as in Faster R-CNN, where they are gathered and not pooled."""
    rng = np.random.default_rng(0)

    def convolved(value: ov.Node, before: int, after: int, stride: int) -> ov.Node:
        weights = rng.normal(size=(after, before, 3, 3)).astype(np.float32)
        return ops.relu(ops.convolution(value, weights, [stride] * 2, [1, 1], [1, 1], [1, 1]))

    image = ops.parameter([1, 3, 112, 112], np.float32)
    fine = convolved(convolved(image, 3, 4, 2), 4, 4, 2)
    coarse = convolved(fine, 4, 4, 2)
    rows = ops.squeeze(ops.transpose(ops.reshape(coarse, [1, 4, 14, 2, 7], False), [0, 2, 3, 1, 4]), ops.constant([0]))
    regions = ops.transpose(ops.reshape(rows, [4, 7, 4, 7], False), [0, 2, 1, 3])
    pooled = ops.reduce_mean(convolved(regions, 4, 4, 1), np.array([2, 3]), False)
    end = ops.matmul(pooled, rng.normal(size=(4, 5)).astype(np.float32), False, False)
    view = View(ov.Model([ops.result(end)], [image]))
    found = stage_ends(view, label_axes(view), (112, 112), [end.output(0)])
    assert [features.grid for features in found] == [(28, 28), (14, 14)]
