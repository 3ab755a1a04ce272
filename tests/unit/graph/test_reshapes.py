"""Labels behind reshapes are compared with where numbered places really go."""

from __future__ import annotations

from math import prod

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.graph.axes import label_axes
from otx_xai.graph.labels import Blocks, Label, Labels, Rows, Tokens
from otx_xai.graph.view import View, port_of

ROWS, COLUMNS, CHANNELS = 8, 12, 5
Step = tuple[str, tuple[int, ...]]


def walk(rng: np.random.Generator, shape: tuple[int, ...], length: int, *, dynamic: bool) -> list[Step]:
    """Random transposes, and reshapes that split one axis in two or merge two neighbours; a dynamic one stays first."""
    steps: list[Step] = []
    for _ in range(length):
        choice = rng.integers(3)
        if choice == 0:
            moved = rng.permutation(np.arange(int(dynamic), len(shape)))
            order = (*range(int(dynamic)), *(int(axis) for axis in moved))
            steps.append(("transpose", order))
            shape = tuple(shape[axis] for axis in order)
            continue
        axis = int(rng.integers(len(shape)))
        if choice == 1 and axis + 1 < len(shape):
            shape = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
        else:
            divisors = [number for number in range(2, shape[axis]) if shape[axis] % number == 0] or [1]
            inner = int(rng.choice(divisors))
            shape = (*shape[:axis], shape[axis] // inner, inner, *shape[axis + 1 :])
        steps.append(("reshape", shape))
    return steps


def taken(steps: list[Step], images: int, *, dynamic: bool) -> tuple[Labels, NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels, and the row and the column of every element, after steps from an NCHW map."""
    image = ops.parameter([-1 if dynamic else images, CHANNELS, ROWS, COLUMNS], np.float32)
    node = ops.max_pool(image, [1, 1], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
    shape = (images, CHANNELS, ROWS, COLUMNS)
    rows = np.broadcast_to(np.arange(ROWS)[:, None], shape)
    columns = np.broadcast_to(np.arange(COLUMNS), shape)
    for kind, numbers in steps:
        if kind == "transpose":
            node = ops.transpose(node, np.array(numbers)).output(0)
            rows, columns = rows.transpose(numbers), columns.transpose(numbers)
        else:
            pattern = np.array([-1 if dynamic else numbers[0], *numbers[1:]])
            node = ops.reshape(node, pattern, special_zero=False).output(0)
            rows, columns = rows.reshape(numbers), columns.reshape(numbers)
    model = ov.Model([node], [image])
    end = model.get_results()[0].input_value(0)
    return label_axes(View(model))[port_of(end)], rows, columns


def claimed(label: Label, size: int) -> dict[str, NDArray[np.int64]] | None:
    """Return how row and column change along an axis with this label, as far as it says so."""
    match label:
        case "H" | "W":
            total = ROWS if label == "H" else COLUMNS
            still = np.zeros(size, np.int64)
            return {"H": still, "W": still, label: np.arange(size) * (total // size)}
        case "C" | "N":
            return {"H": np.zeros(size, np.int64), "W": np.zeros(size, np.int64)} if label == "N" else None
        case Tokens(height, width):
            assert height
            assert width
            assert height * width == size
            grid = np.indices((height, width)).reshape(2, -1)
            return {"H": grid[0] * (ROWS // height), "W": grid[1] * (COLUMNS // width)}
        case Rows(tokens):
            assert tokens.height
            assert tokens.width
            inner = claimed(tokens, tokens.height * tokens.width)
            assert inner is not None
            return {axis: np.tile(moves, size // len(moves)) for axis, moves in inner.items()}
        case Blocks(digits):
            places = {axis: np.zeros(size, np.int64) for axis in "HWN"}
            known = prod(digit.size or 1 for digit in digits)
            sizes = [digit.size or size // known for digit in digits]
            assert prod(sizes) == size
            for digit, index in zip(digits, np.indices(sizes), strict=True):
                places[digit.axis] += index.reshape(-1) * digit.step
            return {axis: places[axis] for axis in "HW"}
    return None


@pytest.mark.parametrize(("images", "dynamic"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("seed", range(60))
def test_labels_tell_where_places_go(seed: int, images: int, dynamic: bool) -> None:
    rng = np.random.default_rng(seed)
    steps = walk(rng, (images, CHANNELS, ROWS, COLUMNS), length=6, dynamic=dynamic)
    labels, rows, columns = taken(steps, images, dynamic=dynamic)
    for axis, label in enumerate(labels):
        moves = claimed(label, rows.shape[axis])
        if moves is None:
            continue
        for truth, letter in ((rows, "H"), (columns, "W")):
            along = np.moveaxis(truth, axis, 0).reshape(rows.shape[axis], -1)
            assert (along - along[0] == moves[letter][:, None]).all(), (steps, labels)


def unrolled(images: int, *, dynamic: bool) -> tuple[ov.op.Parameter, ov.Output]:
    """Tokens of a map, moved twice so that blocks of 2 × 2 places are neighbours, as in Hiera: (N, 96, C)."""
    image = ops.parameter([-1 if dynamic else images, CHANNELS, ROWS, COLUMNS], np.float32)
    node = ops.max_pool(image, [1, 1], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
    node = ops.transpose(node, np.array([0, 2, 3, 1])).output(0)
    for height, width in ((4, 6), (2, 3)):
        node = ops.reshape(node, np.array([-1, height, 2, width, 2, CHANNELS]), False).output(0)
        node = ops.transpose(node, np.array([0, 2, 4, 1, 3, 5])).output(0)
        node = ops.reshape(node, np.array([-1, height, width, CHANNELS]), False).output(0)
    return image, ops.reshape(node, np.array([-1, ROWS * COLUMNS, CHANNELS]), False).output(0)


@pytest.mark.parametrize(("images", "dynamic"), [(1, False), (2, False), (1, True)])
def test_what_is_left_of_unrolled_tokens_is_a_coarser_grid(images: int, dynamic: bool) -> None:
    image, node = unrolled(images, dynamic=dynamic)
    for size in (24, 6):
        split = ops.reshape(node, np.array([-1, 4, size, CHANNELS]), False)
        node = ops.reduce_max(split, np.array([1]), keep_dims=False).output(0)
        model = ov.Model([node], [image])
        labels = label_axes(View(model))[port_of(model.get_results()[0].input_value(0))]
        height, width = (4, 6) if size == 24 else (2, 3)
        assert labels[1:] == ((Tokens(2, 3), "C") if size == 6 else (labels[1], "C"))
        assert labels[0] == ("N" if images > 1 or dynamic else None)
        assert isinstance(labels[1], Tokens if size == 6 else Blocks), (height, width)


def test_places_within_windows_are_not_those_of_the_image() -> None:
    image = ops.parameter([-1, CHANNELS, ROWS, COLUMNS], np.float32)
    node = ops.max_pool(image, [1, 1], [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
    node = ops.reshape(ops.transpose(node, np.array([0, 2, 3, 1])), np.array([-1, 2, 4, 3, 4, CHANNELS]), False)
    node = ops.transpose(node, np.array([0, 1, 3, 2, 4, 5]))
    windows = ops.reshape(node, np.array([-1, 16, CHANNELS]), False)
    back = ops.reshape(windows, np.array([-1, 2, 3, 4, 4, CHANNELS]), False)
    back = ops.transpose(back, np.array([0, 1, 3, 2, 4, 5]))
    back = ops.reshape(back, np.array([-1, ROWS, COLUMNS, CHANNELS]), False)
    model = ov.Model([windows, back], [image])
    found = label_axes(View(model))
    inside, whole = (found[port_of(result.input_value(0))] for result in model.get_results())
    assert isinstance(inside[0], Rows)
    assert isinstance(inside[1], Blocks)
    assert whole == ("N", "H", "W", "C")


def test_a_cut_breaks_blocks_up_only_where_it_takes_places_away() -> None:
    image, node = unrolled(1, dynamic=False)
    split = ops.reshape(node, np.array([1, 4, 24, 1, CHANNELS]), False)
    last, first = (ops.gather(split, ops.constant(index), ops.constant(axis)) for index, axis in ((0, 3), (0, 1)))
    model = ov.Model([last, first], [image])
    found = label_axes(View(model))
    kept, broken = (found[port_of(result.input_value(0))] for result in model.get_results())
    assert [type(label) for label in kept[1:3]] == [Blocks, Blocks]
    assert [type(label) for label in broken[1:]] == [type(None), type(None), str]
