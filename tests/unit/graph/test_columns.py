"""Columns are followed back to where they were joined, through whatever exporters put in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from otx_xai.graph.columns import Piece, origin_of, pieces_of, within
from otx_xai.graph.view import View, kind

I64 = np.int64


def layer(channels: int) -> ov.Node:
    """A layer ``(1, 6, channels)`` of its own input."""
    image = ops.parameter([1, 3, 2, 3], np.float32)
    raw = ops.convolution(image, np.ones((channels, 3, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    biased = ops.add(raw, np.ones((1, channels, 1, 1), np.float32))
    return ops.transpose(ops.reshape(biased, np.array([1, channels, 6]), False), np.array([0, 2, 1]))


def joined() -> ov.Node:
    """Two columns that are multiplied, one score, three raw ones and an index: ``(1, 6, 7)``."""
    scores = ops.sigmoid(layer(1))
    best = ops.topk(ops.softmax(layer(5), 2), I64(1), 2, "max", "value", "i64").output(1)
    parts = [ops.multiply(layer(2), np.float32(8)), scores, layer(3), ops.convert(best, "f32")]
    return ops.concat(parts, 2)


def view_of(output: ov.Node) -> View:
    inputs, todo = {}, [output]
    while todo:
        node = todo.pop()
        todo += [value.get_node() for value in node.input_values()]
        if kind(node) == "Parameter":
            inputs[node.get_name()] = node
    return View(ov.Model([ops.result(output)], list(inputs.values())))


def pieces(output: ov.Node, axis: int = -1) -> tuple[Piece, ...]:
    view = view_of(output)
    return pieces_of(view, view.outputs[0], axis)


def flattened(rows: ov.Node) -> ov.Node:
    """Rows made flat, padded by two of them, and cut again, as torch pads."""
    flat = ops.reshape(rows, np.array([-1]), False)
    return ops.reshape(ops.pad(flat, np.array([0]), np.array([14]), "constant"), np.array([1, 8, 7]), False)


def scattered(rows: ov.Node) -> ov.Node:
    """Rows written into zeros, element by element."""
    flat = ops.reshape(rows, np.array([-1]), False)
    places = np.arange(42)[:, None]
    written = ops.scatter_nd_update(np.zeros(42, np.float32), places, flat)
    return ops.reshape(written, np.array([1, 6, 7]), False)


MOVES: dict[str, Callable[[ov.Node], ov.Node]] = {
    "nothing": lambda rows: rows,
    "copies": lambda rows: ops.convert(ops.convert(rows, "f16"), "f32"),
    "picked rows": lambda rows: ops.gather(rows, np.array([3, 0, 1]), I64(1)),
    "sorted rows": lambda rows: ops.gather_nd(ops.squeeze(rows, I64(0)), np.array([[2], [0]])),
    "one image": lambda rows: ops.squeeze(rows, I64(0)),
    "image of a batch": lambda rows: ops.gather(rows, np.array(0), I64(0)),
    "padded rows": lambda rows: ops.pad(rows, np.array([0, 0, 0]), np.array([0, 2, 0]), "constant"),
    "more levels": lambda rows: ops.concat([rows, ops.abs(rows)], 1),
    "new axes": lambda rows: ops.reshape(rows, np.array([1, 1, 6, 7]), False),
    "flattened": flattened,
    "scattered": scattered,
    "joined halves": lambda rows: ops.concat(ops.split(rows, I64(1), 2).outputs(), 1),
}


@pytest.mark.parametrize("name", MOVES)
def test_columns_part_where_they_were_joined(name: str) -> None:
    found = pieces(MOVES[name](joined()))
    assert [(piece.begin, piece.end) for piece in found] == [(0, 2), (2, 3), (3, 6), (6, 7)]
    assert [piece.kinds for piece in found] == [("Multiply",), ("Sigmoid",), (), ()]
    assert [piece.activation for piece in found] == [None, "Sigmoid", None, None]
    assert [piece.is_raw for piece in found] == [False, False, True, True]
    assert [piece.is_index for piece in found] == [False, False, False, True]


def test_columns_along_another_axis() -> None:
    first = ops.transpose(joined(), np.array([0, 2, 1]))
    assert [piece.begin for piece in pieces(first, 1)] == [0, 2, 3, 6]
    assert len(pieces(first, 2)) == 1


def test_parts_of_the_columns() -> None:
    cut = ops.slice(joined(), np.array([1]), np.array([5]), np.array([1]), np.array([2]))
    assert [(piece.begin, piece.end) for piece in pieces(cut)] == [(0, 1), (1, 2), (2, 4)]
    split = ops.variadic_split(joined(), I64(2), np.array([3, 4]))
    back = ops.concat([split.output(1), split.output(0)], 2)
    assert [(piece.begin, piece.end) for piece in pieces(back)] == [(0, 3), (3, 4), (4, 6), (6, 7)]


def test_parts_that_are_treated_alike_belong_together() -> None:
    rows = layer(6)
    split = ops.split(rows, I64(2), 3)
    assert len(pieces(ops.concat(split.outputs(), 2))) == 1
    apart = ops.concat([ops.sigmoid(split.output(0)), split.output(1), ops.sigmoid(split.output(2))], 2)
    assert [(piece.begin, piece.end) for piece in pieces(apart)] == [(0, 2), (2, 4), (4, 6)]


def test_products_of_scores_are_scores() -> None:
    product = ops.multiply(ops.sigmoid(layer(3)), ops.sigmoid(layer(1)))
    (piece,) = pieces(product)
    assert piece.activation == "Sigmoid"
    (shifted,) = pieces(ops.add(ops.sigmoid(layer(3)), ops.sigmoid(layer(1))))
    assert shifted.activation is None


@pytest.mark.parametrize("pick", ["max", "top"])
def test_the_best_of_some_columns_is_one_of_them(pick: str) -> None:
    rows = ops.concat([ops.multiply(layer(4), np.float32(8)), ops.sigmoid(layer(3))], 2)
    scores = ops.slice(rows, np.array([4]), np.array([7]), np.array([1]), np.array([2]))
    best = ops.reduce_max(scores, np.array([-1]), False)
    if pick == "top":
        best = ops.squeeze(ops.topk(scores, I64(1), -1, "max", "none", "i64").output(0), I64(2))
    found = pieces(ops.concat([ops.abs(layer(1)), ops.unsqueeze(best, I64(2))], 2))
    assert found[1].activation == "Sigmoid"


def test_an_open_number_of_columns_tells_nothing() -> None:
    rows = ops.parameter([1, 6, -1], np.float32)
    assert pieces(ops.abs(rows)) == ()


def test_where_a_whole_tensor_comes_from() -> None:
    view = view_of(ops.reduce_max(ops.sigmoid(layer(4)), np.array([2]), False))
    origin = origin_of(view, view.outputs[0])
    assert origin.kinds == ("ReduceMax", "Sigmoid")
    assert origin.activation == "Sigmoid"
    best = ops.topk(layer(5), I64(1), 2, "max", "value", "i64").output(1)
    view = view_of(ops.squeeze(ops.convert(best, "f32"), I64(2)))
    assert origin_of(view, view.outputs[0]).is_index


def test_pieces_are_cut_at_the_ends() -> None:
    found = within(pieces(joined()), 1, 4)
    assert [(piece.begin, piece.end) for piece in found] == [(1, 2), (2, 3), (3, 4)]
