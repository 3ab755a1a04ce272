"""Rules of what moves, picks and copies elements against torch autograd and central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from gradient_cases import Case, N, check
from openvino import opset13 as ops
from openvino import opset15

IMAGE = ((N, 4, 6, 5),)
FIXED = ((2, 4, 6, 5),)


def ints(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def place(value: int) -> ov.Node:
    return ops.constant(np.int64(value))


def cut(starts: Sequence[int], stops: Sequence[int], steps: Sequence[int], axes: Sequence[int]) -> Case:
    def reference(x: torch.Tensor) -> torch.Tensor:
        for start, stop, step, axis in zip(starts, stops, steps, axes, strict=True):
            length = x.shape[axis]
            chosen = range(length)[slice(start, None if stop < -length else stop, step)]
            x = x.index_select(axis, torch.tensor(list(chosen)))
        return x

    return Case(lambda x: ops.slice(x, ints(*starts), ints(*stops), ints(*steps), ints(*axes)), reference, IMAGE)


def strided(
    begin: Sequence[int], end: Sequence[int], steps: Sequence[int], want: Callable, **masks: Sequence[int]
) -> Case:
    none = [0] * len(begin)
    given = {
        "begin_mask": none,
        "end_mask": none,
        "new_axis_mask": none,
        "shrink_axis_mask": none,
        "ellipsis_mask": none,
    }
    given |= {name: list(mask) for name, mask in masks.items()}
    return Case(lambda x: ops.strided_slice(x, ints(*begin), ints(*end), ints(*steps), **given), want, FIXED)


def computed(x: ov.Output, *values: int) -> ov.Output:
    """Return whole numbers that the graph cannot know beforehand."""
    zero = ops.convert(ops.multiply(ops.reduce_max(x, ints(0, 1, 2, 3), False), ops.constant(np.float32(0))), "i64")
    return ops.add(ints(*values), zero).output(0)


CUTS = {
    "slice": cut([1], [3], [1], [1]),
    "slice of two axes": cut([1, -4], [2**31, -1], [1, 1], [2, 3]),
    "every other": cut([1, 0], [2**31, 5], [2, 2], [2, 3]),
    "backwards": cut([-1], [-(2**31)], [-1], [3]),
    "backwards, every other": cut([4], [0], [-2], [2]),
    "slice of images": Case(lambda x: ops.slice(x, ints(0), ints(1), ints(1), ints(0)), lambda x: x[:1], FIXED),
    "slice by computed bounds": Case(
        lambda x: ops.slice(x, computed(x, 1), computed(x, 4), ints(1), ints(2)), lambda x: x[:, :, 1:4], IMAGE
    ),
    "strided slice, masks": strided(
        [0, 1, 0, 1],
        [0, 3, 0, 5],
        [1, 1, 2, 2],
        lambda x: x[:, 1:3, ::2, 1:5:2],
        begin_mask=[1, 0, 1, 0],
        end_mask=[1, 0, 1, 0],
    ),
    "strided slice that drops an axis": strided(
        [0, 2], [0, 3], [1, 1], lambda x: x[:, 2], begin_mask=[1, 0], end_mask=[1, 0], shrink_axis_mask=[0, 1]
    ),
    "strided slice that adds an axis": strided(
        [0, 0, 1],
        [0, 0, 3],
        [1, 1, 1],
        lambda x: x[:, None, 1:3],
        begin_mask=[1, 1, 0],
        end_mask=[1, 1, 0],
        new_axis_mask=[0, 1, 0],
    ),
    "strided slice, ellipsis and backwards": strided(
        [0, 3], [0, 0], [1, -1], lambda x: x[..., 1:4].flip(-1), ellipsis_mask=[1, 0]
    ),
    "gather one": Case(lambda x: ops.gather(x, place(2), place(1)), lambda x: x[:, 2], IMAGE),
    "gather in order": Case(
        lambda x: ops.gather(x, ints(3, 0, -1 - 1, 1), place(1)), lambda x: x[:, [3, 0, 2, 1]], IMAGE
    ),
    "gather some": Case(lambda x: ops.gather(x, ints(4, 0), place(2)), lambda x: x[:, :, [4, 0]], IMAGE),
    "gather twice the same": Case(
        lambda x: ops.gather(x, ints(4, 0, 4), place(2)), lambda x: x[:, :, [4, 0, 4]], IMAGE
    ),
    "gather a table": Case(
        lambda x: ops.gather(x, ops.constant(np.array([[0, 1], [3, 2]])), place(1)),
        lambda x: x[:, [[0, 1], [3, 2]]],
        IMAGE,
    ),
    "gather computed": Case(
        lambda x: ops.gather(x, computed(x, 3, 3, 1), place(-1)), lambda x: x[..., [3, 3, 1]], IMAGE
    ),
    "gather images": Case(lambda x: ops.gather(x, ints(1, 0), place(0)), lambda x: x[[1, 0]], FIXED),
    "split": Case(lambda x: ops.multiply(*ops.split(x, place(1), 2).outputs()), lambda x: x[:, :2] * x[:, 2:], IMAGE),
    "split, one part used": Case(lambda x: ops.split(x, place(2), 3).output(1), lambda x: x[:, :, 2:4], IMAGE),
    "split of images": Case(lambda x: ops.split(x, place(0), 2).output(1), lambda x: x[1:], FIXED),
    "split into uneven parts": Case(
        lambda x: ops.concat([ops.exp(ops.variadic_split(x, place(-1), ints(2, -1)).output(i)) for i in (1, 0)], -1),
        lambda x: torch.cat([x[..., 2:].exp(), x[..., :2].exp()], -1),
        IMAGE,
    ),
    "concat": Case(
        lambda a, b: ops.concat([a, b, ops.sin(a)], 1),
        lambda a, b: torch.cat([a, b, a.sin()], 1),
        ((N, 2, 3), (N, 4, 3)),
    ),
    "concat of images": Case(lambda a, b: ops.concat([a, b], 0), lambda a, b: torch.cat([a, b]), ((1, 3), (1, 3))),
    "concat with a constant": Case(
        lambda x: ops.concat([ops.constant(np.ones((2, 1, 6, 5), np.float32)), x], 1),
        lambda x: torch.cat([torch.ones(2, 1, 6, 5).double(), x], 1),
        FIXED,
    ),
}

INDICES = np.random.default_rng(1).integers(0, 6, (2, 4, 3, 5))
POINTS = np.array([[0, 1], [1, 3], [0, 0]])
UPDATES = ((2, 4, 6, 5), (2, 4, 3, 5))
ROWS = torch.tensor(INDICES)


def written(x: torch.Tensor, rows: Sequence[int], y: torch.Tensor) -> torch.Tensor:
    return x.index_copy(2, torch.tensor(rows), y)


def points(x: torch.Tensor, y: torch.Tensor, add: bool = False) -> torch.Tensor:
    return x.index_put(tuple(torch.tensor(POINTS).T), y, accumulate=add)


MOVES = {
    "reshape": Case(lambda x: ops.reshape(x, ints(0, 2, -1), True), lambda x: x.reshape(len(x), 2, -1), IMAGE),
    "reshape that joins images": Case(lambda x: ops.reshape(x, ints(-1, 5), False), lambda x: x.reshape(-1, 5), IMAGE),
    "flatten": Case(lambda x: ops.reshape(x, ints(-1), False), lambda x: x.reshape(-1), IMAGE),
    "squeeze and unsqueeze": Case(
        lambda x: ops.exp(ops.unsqueeze(ops.sin(ops.squeeze(x, ints(1))), ints(2))),
        lambda x: x[:, 0].sin()[:, :, None].exp(),
        ((N, 1, 3, 2),),
    ),
    "squeeze of the image": Case(lambda x: ops.sin(ops.squeeze(x, ints(0))), lambda x: x[0].sin(), ((1, 3, 2),)),
    "transpose": Case(lambda x: ops.transpose(x, ints(0, 2, 3, 1)), lambda x: x.permute(0, 2, 3, 1), IMAGE),
    "transpose of images": Case(lambda x: ops.transpose(x, ints(2, 0, 3, 1)), lambda x: x.permute(2, 0, 3, 1), IMAGE),
    "windows": Case(
        lambda x: ops.reshape(
            ops.transpose(ops.reshape(x, ints(-1, 4, 2, 3, 1, 5), False), ints(0, 2, 4, 3, 5, 1)),
            ints(-1, 15, 4),
            False,
        ),
        lambda x: x.reshape(-1, 4, 2, 3, 1, 5).permute(0, 2, 4, 3, 5, 1).reshape(-1, 15, 4),
        IMAGE,
    ),
    "depth to space": Case(lambda x: ops.depth_to_space(x, "depth_first", 2), lambda x: F.pixel_shuffle(x, 2), IMAGE),
    "depth to space, blocks first": Case(
        lambda x: ops.depth_to_space(x, "blocks_first", 2),
        lambda x: x.reshape(-1, 2, 2, 1, 6, 5).permute(0, 3, 4, 1, 5, 2).reshape(-1, 1, 12, 10),
        IMAGE,
    ),
    "space to depth": Case(
        lambda x: ops.space_to_depth(x, "depth_first", 2), lambda x: F.pixel_unshuffle(x, 2), ((N, 2, 4, 6),)
    ),
    "shuffle channels": Case(
        lambda x: ops.shuffle_channels(x, 1, 3),
        lambda x: x.reshape(-1, 3, 2, 4).transpose(1, 2).reshape(-1, 6, 4),
        ((N, 6, 4),),
        open_sizes=False,
    ),
    "roll": Case(lambda x: ops.roll(x, ints(2, -1), ints(2, -1)), lambda x: x.roll((2, -1), (2, 3)), IMAGE),
    "tile": Case(lambda x: ops.tile(x, ints(1, 2, 1, 3)), lambda x: x.repeat(1, 2, 1, 3), IMAGE),
    "tile of images": Case(lambda x: ops.tile(x, ints(3, 1, 2)), lambda x: x.repeat(3, 1, 2), ((1, 2, 3),)),
    "tile with more axes": Case(lambda x: ops.tile(x, ints(2, 1, 2)), lambda x: x.repeat(2, 1, 2), ((2, 3),)),
    "broadcast": Case(
        lambda x: ops.broadcast(x, ints(2, 4, 3, 5)), lambda x: x.expand(2, 4, 3, 5), ((2, 4, 1, 5),), open_sizes=False
    ),
    "broadcast of one image": Case(
        lambda x: ops.broadcast(x, ints(3, 4, 5)), lambda x: x.expand(3, 4, 5), ((1, 1, 5),), open_sizes=False
    ),
    "broadcast to more axes": Case(
        lambda x: ops.broadcast(x, ints(3, 4, 5)), lambda x: x.expand(3, 4, 5), ((4, 1),), open_sizes=False
    ),
    "broadcast both ways": Case(
        lambda x: ops.broadcast(x, ints(3, 1, 5), broadcast_spec="BIDIRECTIONAL"),
        lambda x: x.expand(3, 4, 5),
        ((1, 4, 1),),
        open_sizes=False,
    ),
    "pad with a constant": Case(
        lambda x: ops.pad(x, ints(0, 0, 1, 2), ints(0, 1, 0, 3), "constant", ops.constant(np.float32(7))),
        lambda x: F.pad(x, (2, 3, 1, 0, 0, 1), value=7),
        IMAGE,
    ),
    "pad by less than nothing": Case(
        lambda x: ops.pad(x, ints(0, 0, -1, 0), ints(0, 0, 0, -2), "constant", ops.constant(np.float32(0))),
        lambda x: x[:, :, 1:, :-2],
        IMAGE,
    ),
    "pad with edges": Case(
        lambda x: ops.pad(x, ints(0, 0, 1, 2), ints(0, 0, 0, 3), "edge"),
        lambda x: F.pad(x, (2, 3, 1, 0), mode="replicate"),
        IMAGE,
    ),
    "pad with a reflection": Case(
        lambda x: ops.pad(x, ints(0, 0, 1, 2), ints(0, 0, 2, 3), "reflect"),
        lambda x: F.pad(x, (2, 3, 1, 2), mode="reflect"),
        IMAGE,
    ),
    "pad symmetrically": Case(
        lambda x: ops.pad(x, ints(0, 0, 0, 2), ints(0, 0, 0, 1), "symmetric"),
        lambda x: torch.cat([x[..., [1, 0]], x, x[..., [-1]]], -1),
        IMAGE,
    ),
    "best": Case(lambda x: ops.topk(x, place(2), 2, "max", "value").output(0), lambda x: x.topk(2, 2).values, IMAGE),
    "least of images": Case(
        lambda x: ops.topk(x, place(1), 0, "min", "value").output(0), lambda x: x.topk(1, 0, False).values, FIXED
    ),
    "gather elements": Case(
        lambda x: ops.gather_elements(x, ops.constant(INDICES), 2), lambda x: x.gather(2, ROWS), FIXED
    ),
    "gather points": Case(
        lambda x: ops.gather_nd(x, ops.constant(POINTS)), lambda x: x[tuple(torch.tensor(POINTS).T)], FIXED
    ),
    "write rows": Case(
        lambda x, y: ops.scatter_update(x, ints(4, 0, 1), y, place(2)), lambda x, y: written(x, [4, 0, 1], y), UPDATES
    ),
    "add to elements": Case(
        lambda x, y: opset15.scatter_elements_update(x, ops.constant(INDICES), y, place(2), reduction="sum"),
        lambda x, y: x.scatter_add(2, ROWS, y),
        UPDATES,
    ),
    "write elements": Case(
        lambda x, y: ops.scatter_elements_update(x, ops.constant(INDICES[:, :, :1]), y, place(2)),
        lambda x, y: x.scatter(2, ROWS[:, :, :1], y),
        ((2, 4, 6, 5), (2, 4, 1, 5)),
    ),
    "write points": Case(
        lambda x, y: ops.scatter_nd_update(x, ops.constant(POINTS), y), points, ((2, 4, 6, 5), (3, 6, 5))
    ),
    "add to points": Case(
        lambda x, y: opset15.scatter_nd_update(x, ops.constant(POINTS), y, "sum"),
        lambda x, y: points(x, y, add=True),
        ((2, 4, 6, 5), (3, 6, 5)),
    ),
}

CASES = CUTS | MOVES


@pytest.mark.parametrize("name", CASES)
def test_places_gradient(name: str) -> None:
    check(CASES[name])
