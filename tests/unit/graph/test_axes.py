from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.graph.axes import label_axes
from otx_xai.graph.cuts import Cut, cut_of
from otx_xai.graph.labels import Blocks, Labels, Rows, Tokens
from otx_xai.graph.reshapes import group_axes
from otx_xai.graph.view import View, port_of

Step = Callable[[ov.Output], ov.Node]


def ints(*values: int) -> ov.op.Constant:
    return ops.constant(np.array(values, np.int64))


END = ints(2**62)


def floats(*shape: int) -> ov.op.Constant:
    return ops.constant(np.ones(shape, np.float32))


def labels_of(node: ov.Node, image: ov.op.Parameter, layout: str | None = None) -> Labels:
    model = ov.Model([node], [image])
    output = model.get_results()[0].input_value(0)
    return label_axes(View(model), layout)[port_of(output)]


def image_of(*shape: int) -> ov.op.Parameter:
    return ops.parameter(list(shape or (2, 3, 8, 12)), np.float32)


def features_of(image: ov.op.Parameter, channels: int = 5) -> ov.Node:
    """(N, channels, 4, 6) of an image of 8 × 12 pixels."""
    return ops.convolution(image, floats(channels, 3, 2, 2), [2, 2], [0, 0], [0, 0], [1, 1])


def tokens_of(image: ov.op.Parameter) -> ov.Node:
    """(N, 24, 5)."""
    return ops.transpose(ops.reshape(features_of(image), ints(0, 5, -1), True), ints(0, 2, 1))


def mixed_places(tokens: ov.Output) -> ov.Node:
    """(N, 5, 24) of (N, 24, 5), by two linear layers along the places, as in MLP-Mixer."""
    return ops.matmul(
        ops.matmul(ops.transpose(tokens, ints(0, 2, 1)), floats(24, 9), False, False), floats(9, 24), False, False
    )


def every_second(x: ov.Output) -> ov.Node:
    return ops.strided_slice(x, ints(0, 0, 0, 0), ints(0, 0, 0, 0), ints(1, 1, 2, 2), [1] * 4, [1] * 4)


def plain(labels: Labels) -> list[object]:
    """Tokens as ``T<prefix>``, batch and tokens merged as ``NT``, blocks by the sizes of their digits."""

    def word(label: object) -> object:
        match label:
            case Tokens():
                return f"T{label.prefix}"
            case Rows():
                return "NT"
            case Blocks(digits):
                return "".join(f"{digit.axis}{digit.size}" for digit in digits)
        return label

    return [word(label) for label in labels]


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        ([2, 5, 4, 6], [2, 5, 24], [([0], [0]), ([1], [1]), ([2, 3], [2])]),
        ([2, 5, 24], [2, 5, 4, 6], [([0], [0]), ([1], [1]), ([2], [2, 3])]),
        ([None, 5, 4, 6], [None, 120], [([0], [0]), ([1, 2, 3], [1])]),
        ([None, 25, 24], [None, 25, 3, 8], [([0], [0]), ([1], [1]), ([2], [2, 3])]),
        ([None, 5, None, None], [None, 5, None], [([0], [0]), ([1], [1]), ([2, 3], [2])]),
        ([2, 5, 1, 1], [2, 5], [([0], [0]), ([1], [1]), ([2, 3], [])]),
        ([2, 5], [2, 5, 1, 1], [([0], [0]), ([1], [1]), ([], [2, 3])]),
        ([2, 24, 5], [48, 5], [([0, 1], [0]), ([2], [1])]),
        ([48, 5], [2, 24, 5], [([0], [0, 1]), ([1], [2])]),
        ([None, 24, 5], [None, 5], [([0, 1], [0]), ([2], [1])]),
        ([2, 6, 10], [4, 30], [([0, 1, 2], [0, 1])]),
        ([2, 3], [2, 3], [([0], [0]), ([1], [1])]),
    ],
)
def test_group_axes(before: list[int | None], after: list[int | None], groups: list[tuple[list[int], list[int]]]):
    assert group_axes(before, after) == groups


@pytest.mark.parametrize("seed", range(20))
def test_group_axes_pairs_equal_products(seed: int):
    """Any split and merge of adjacent axes: groups cover all axes in order and hold equally many elements."""
    rng = np.random.default_rng(seed)
    primes = rng.choice([2, 3, 5], size=6).tolist()
    sides = []
    for _ in range(2):
        ends = [*np.flatnonzero(rng.integers(0, 2, size=5)) + 1, 6]
        sides.append([int(np.prod(primes[a:b])) for a, b in zip([0, *ends], ends, strict=False)])
    before, after = sides
    groups = group_axes(before, after)
    assert groups is not None
    assert [axis for ins, _ in groups for axis in ins] == list(range(len(before)))
    assert [axis for _, outs in groups for axis in outs] == list(range(len(after)))
    for ins, outs in groups:
        assert np.prod([before[axis] for axis in ins]) == np.prod([after[axis] for axis in outs])


@pytest.mark.parametrize(
    ("step", "labels"),
    [
        (lambda x: x, ["N", "C", "H", "W"]),
        (ops.relu, ["N", "C", "H", "W"]),
        (lambda x: ops.pad(x, ints(0, 0, 1, 1), ints(0, 0, 1, 1), "constant"), ["N", "C", "H", "W"]),
        (lambda x: ops.roll(x, ints(1, 1), ints(2, 3)), ["N", "C", "H", "W"]),
        (lambda x: ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]), ["N", "C", "H", "W"]),
        (lambda x: ops.transpose(x, ints(0, 2, 3, 1)), ["N", "H", "W", "C"]),
        (lambda x: ops.transpose(x, ints(3, 1, 0, 2)), ["W", "C", "N", "H"]),
        (lambda x: ops.add(x, floats(1, 5, 1, 1)), ["N", "C", "H", "W"]),
        (lambda x: ops.multiply(x, ops.sigmoid(ops.reduce_mean(x, ints(2, 3), True))), ["N", "C", "H", "W"]),
        (lambda x: ops.reduce_mean(x, ints(2, 3), False), ["N", "C"]),
        (lambda x: ops.reduce_mean(x, ints(-1, -2), True), ["N", "C", "H", "W"]),
        (lambda x: ops.reduce_max(x, ints(1), False), ["N", "H", "W"]),
        (lambda x: ops.reshape(x, ints(0, 5, -1), True), ["N", "C", "T0"]),
        (lambda x: ops.reshape(ops.transpose(x, ints(0, 2, 3, 1)), ints(0, -1, 5), True), ["N", "T0", "C"]),
        (lambda x: ops.reshape(ops.transpose(x, ints(0, 3, 2, 1)), ints(0, -1, 5), True), ["N", "W6H4", "C"]),
        (lambda x: ops.reshape(ops.transpose(x, ints(0, 2, 3, 1)), ints(-1, 5), False), ["NT", "C"]),
        (lambda x: ops.reshape(x, ints(0, -1), True), ["N", None]),
        (lambda x: ops.unsqueeze(x, ints(0)), [None, "N", "C", "H", "W"]),
        (lambda x: ops.squeeze(ops.reduce_mean(x, ints(2), True), ints(2)), ["N", "C", "W"]),
        (lambda x: ops.concat([x, x], 1), ["N", "C", "H", "W"]),
        (lambda x: ops.split(x, ops.constant(np.int64(1)), 5).output(2), ["N", "C", "H", "W"]),
        (
            lambda x: ops.strided_slice(x, ints(0, 0, 0, 0), ints(0, 0, 0, 0), ints(1, 1, 2, 2), [1] * 4, [1] * 4),
            ["N", "C", "H", "W"],
        ),
        (lambda x: ops.slice(x, ints(1), ints(3), ints(1), ints(2)), ["N", "C", "H", "W"]),
        (lambda x: ops.gather(x, ops.constant(np.int64(0)), ops.constant(np.int64(2))), ["N", "C", "W"]),
        (lambda x: ops.matmul(ops.transpose(x, ints(0, 2, 3, 1)), floats(5, 9), False, False), ["N", "H", "W", "C"]),
        (lambda x: ops.matmul(x, floats(6, 9), False, False), ["N", "C", "H", None]),
        (lambda x: ops.matmul(x, x, False, True), ["N", "C", "H", "H"]),
        (lambda x: ops.softmax(x, 1), ["N", "C", "H", "W"]),
        (lambda x: ops.cum_sum(x, ops.constant(np.int64(1))), [None] * 4),
    ],
)
def test_rules_for_maps(step: Step, labels: list[object]):
    image = image_of()
    result = step(features_of(image))
    assert plain(labels_of(result, image)) == labels


@pytest.mark.parametrize(
    ("step", "labels"),
    [
        (lambda x: x, ["N", "T0", "C"]),
        (lambda x: ops.mvn(x, ints(-1), True, 1e-6, "inside_sqrt"), ["N", "T0", "C"]),
        (lambda x: ops.concat([floats(2, 1, 5), x], 1), ["N", "T1", "C"]),
        (lambda x: ops.concat([floats(2, 1, 5), floats(2, 4, 5), x], 1), ["N", "T5", "C"]),
        (lambda x: ops.concat([floats(2, 1, 5), ops.concat([floats(2, 4, 5), x], 1)], 1), ["N", "T5", "C"]),
        (lambda x: ops.concat([x, floats(2, 1, 5)], 1), ["N", None, "C"]),
        (lambda x: ops.pad(x, ints(0, 0, 0), ints(0, 8, 0), "constant"), ["N", None, "C"]),
        (lambda x: ops.roll(x, ints(1), ints(1)), ["N", None, "C"]),
        (
            lambda x: ops.slice(ops.concat([floats(2, 5, 5), x], 1), ints(4), ints(2**62), ints(1), ints(1)),
            ["N", "T1", "C"],
        ),
        (
            lambda x: ops.slice(ops.concat([floats(2, 5, 5), x], 1), ints(6), ints(2**62), ints(1), ints(1)),
            ["N", None, "C"],
        ),
        (lambda x: ops.slice(x, ints(0), ints(23), ints(1), ints(1)), ["N", None, "C"]),
        (lambda x: ops.gather(x, ops.constant(np.int64(0)), ops.constant(np.int64(1))), ["N", "C"]),
        (lambda x: ops.reshape(x, ints(2, 4, 6, 5), False), ["N", "H", "W", "C"]),
        (lambda x: ops.reshape(x, ints(2, 6, 4, 5), False), ["N", None, None, "C"]),
        (lambda x: ops.reshape(x, ints(48, 5), False), ["NT", "C"]),
        (lambda x: ops.reshape(ops.reshape(x, ints(48, 5), False), ints(2, 24, 5), False), ["N", "T0", "C"]),
        (lambda x: ops.matmul(x, floats(5, 7), False, False), ["N", "T0", "C"]),
        (lambda x: ops.matmul(x, floats(24, 9), True, False), ["N", "C", None]),
        (mixed_places, ["N", "C", None]),
        (lambda x: ops.transpose(mixed_places(x), ints(0, 2, 1)), ["N", None, "C"]),
        (lambda x: ops.add(x, ops.transpose(mixed_places(x), ints(0, 2, 1))), ["N", "T0", "C"]),
        (lambda x: ops.matmul(x, x, False, True), ["N", "T0", "T0"]),
        (lambda x: ops.split(x, ops.constant(np.int64(1)), 4).output(0), ["N", None, "C"]),
        (lambda x: ops.scaled_dot_product_attention(x, x, x), ["N", "T0", None]),
    ],
)
def test_rules_for_tokens(step: Step, labels: list[object]):
    image = image_of()
    assert plain(labels_of(step(tokens_of(image)), image)) == labels


def test_tokens_know_their_grid_and_where_it_came_from():
    image = image_of()
    features = features_of(image)
    result = ops.reshape(features, ints(0, 5, -1), True)
    label = labels_of(result, image)[2]
    assert label == Tokens(4, 6, port_of(features.output(0)), (2, 3))


def test_tokens_of_dynamic_images_have_an_open_grid():
    image = image_of(-1, 3, -1, -1)
    label = labels_of(ops.reshape(features_of(image), ints(0, 5, -1), True), image)[2]
    assert isinstance(label, Tokens)
    assert (label.height, label.width) == (None, None)


@pytest.mark.parametrize(("layout", "labels"), [(None, [None] * 4), ("NHWC", list("NHWC"))])
def test_images_are_labelled_by_their_layout_alone(layout: str | None, labels: list[object]):
    image = image_of(2, 8, 12, 3)
    assert list(labels_of(ops.relu(image), image, layout)) == labels


def test_sizes_alone_say_nothing():
    """A square image cut into patches by reshaping, without a convolution and without a layout."""
    image = image_of(1, 3, 8, 8)
    assert set(labels_of(ops.reshape(image, ints(1, 3, 64), False), image)) == {None}


FIRST = {"begin_mask": [1, 0], "end_mask": [1, 0]}


class TestCuts:
    """Of a tensor of 2 × 25 × 7."""

    @staticmethod
    def cut(step: Step) -> Cut | None:
        return cut_of(step(ops.parameter([2, 25, 7], np.float32)))

    @pytest.mark.parametrize(
        ("index", "cut"),
        [
            (np.int64(0), Cut(1, 0, 1, drops=True)),
            (np.int64(3), Cut(1, 3, 4, drops=True)),
            (np.int64(-1), Cut(1, 24, 25, drops=True)),
            (np.array([2]), Cut(1, 2, 3)),
            (np.array([2, 3]), None),
        ],
    )
    def test_gather(self, index: np.ndarray, cut: Cut | None):
        assert self.cut(lambda x: ops.gather(x, ops.constant(index), ops.constant(np.int64(1)))) == cut
        assert self.cut(lambda x: ops.gather(x, ops.constant(index), ops.constant(np.int64(-2)))) == cut

    @pytest.mark.parametrize(
        ("bounds", "cut"),
        [
            ((0, 1, 1, 1), Cut(1, 0, 1)),
            ((1, 2**62, 1, 1), Cut(1, 1, None)),
            ((1, 25, 1, -2), Cut(1, 1, None)),
            ((-3, -1, 1, 1), Cut(1, 22, 24)),
            ((-24, 2**62, 1, 1), Cut(1, 1, None)),
            ((0, 25, 1, 1), Cut(0, 0, None)),
            ((0, 25, 2, 1), None),
            ((24, 0, -1, 1), None),
        ],
    )
    def test_slice(self, bounds: tuple[int, int, int, int], cut: Cut | None):
        assert self.cut(lambda x: ops.slice(x, *(ints(number) for number in bounds))) == cut

    def test_slice_without_axes_counts_them_from_the_first(self):
        assert self.cut(lambda x: ops.slice(x, ints(0, 1), ints(2, 5), ints(1, 1))) == Cut(1, 1, 5)
        assert self.cut(lambda x: ops.slice(x, ints(1, 1), ints(2, 5), ints(1, 1))) is None

    @pytest.mark.parametrize(
        ("begin", "end", "masks", "cut"),
        [
            ([0, 0], [0, 1], {"begin_mask": [1, 1], "end_mask": [1, 0]}, Cut(1, 0, 1)),
            ([0, 5], [0, 0], {"begin_mask": [1, 0], "end_mask": [1, 1]}, Cut(1, 5, None)),
            ([0, 5], [0, 0], {"begin_mask": [1, 1], "end_mask": [1, 1]}, Cut(0, 0, None)),
            ([0, -2], [0, -1], {"begin_mask": [1, 0], "end_mask": [1, 0]}, Cut(1, 23, 24)),
            (
                [0, 0],
                [0, 1],
                {"begin_mask": [1, 0], "end_mask": [1, 0], "shrink_axis_mask": [0, 1]},
                Cut(1, 0, 1, drops=True),
            ),
            (
                [0, -1],
                [0, 0],
                {"begin_mask": [1, 0], "end_mask": [1, 0], "shrink_axis_mask": [0, 1]},
                Cut(1, 24, None, drops=True),
            ),
            ([0, 0, 0], [0, 0, 1], {"begin_mask": [1, 1, 1], "end_mask": [1, 1, 0], "new_axis_mask": [0, 1, 0]}, None),
            ([0, 0], [0, 1], {"begin_mask": [1, 0], "end_mask": [1, 0], "ellipsis_mask": [1, 0]}, None),
            ([1, 1], [2, 2], {"begin_mask": [0, 0], "end_mask": [0, 0]}, None),
        ],
    )
    def test_strided_slice(self, begin: list[int], end: list[int], masks: dict[str, list[int]], cut: Cut | None):
        masks = {"begin_mask": [], "end_mask": [], **masks}
        ones = ints(*[1] * len(begin))
        assert self.cut(lambda x: ops.strided_slice(x, ints(*begin), ints(*end), ones, **masks)) == cut

    def test_of_a_dynamic_axis(self):
        x = ops.parameter([-1, -1, 7], np.float32)
        assert cut_of(ops.slice(x, ints(0), ints(1), ints(1), ints(1))) == Cut(1, 0, 1)
        assert cut_of(ops.slice(x, ints(1), ints(2**62), ints(1), ints(1))) == Cut(1, 1, None)
        assert cut_of(ops.slice(x, ints(-1), ints(2**62), ints(1), ints(1))) is None
        assert cut_of(ops.slice(x, ints(0), ints(-1), ints(1), ints(1))) is None

    def test_bounds_that_are_computed_from_constants_count(self):
        def step(x: ov.Output) -> ov.Node:
            axes = ops.range(ops.constant(np.int64(1)), ops.constant(np.int64(2)), ops.constant(np.int64(1)), "i64")
            return ops.slice(x, ops.broadcast(ops.constant(np.int64(3)), ints(1)), ints(5), ints(1), axes)

        assert self.cut(step) == Cut(1, 3, 5)

    def test_nothing_else_cuts(self):
        assert self.cut(ops.relu) is None
