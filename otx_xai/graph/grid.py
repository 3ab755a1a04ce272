"""Where the places of features lie in the network's input, read off the paddings and strides on the way there.

Place ``i`` of an axis looks at the input around ``start + i * step``, the centre of its receptive field; all that
leads from one tensor to the next is that its places lie at ``first, first + stride, …`` of those before. With a kernel
of ``k``, dilation ``d`` and ``p`` pixels of padding in front, ``first`` is ``d * (k - 1) / 2 - p``: torch's padded odd
kernels keep the first place on the first pixel, TensorFlow's SAME padding moves it by one, patches and 2×2 poolings
centre each place on what it covers. Only where all do the latter are maps an even grid over the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov

from otx_xai.graph.labels import Blocks, Labels, Tokens
from otx_xai.graph.traits import Window, trait
from otx_xai.graph.view import Port, View, constant_ints, dimensions, kind, port_of
from otx_xai.records import MapGrid

_STEP_SPREAD = 0.1
_START_SPREAD = 2

Extent = tuple[int | None, int | None]
"""Rows and columns of places, ``None`` where dynamic."""

Move = tuple[float, float]
"""Of one axis: position of the first place among those of the input, and from one place to the next."""

_STAY: Move = (0.0, 1.0)


@dataclass(frozen=True)
class _Axis:
    """Where the places of one axis lie, in continuous pixels of the input: pixel ``j`` covers ``[j, j + 1]``."""

    start: float
    step: float

    def moved(self, move: Move) -> _Axis:
        first, stride = move
        return _Axis(self.start + first * self.step, self.step * stride)


_Axes = tuple[_Axis, _Axis]
"""The vertical and the horizontal axis."""


def map_grids(view: View, labels: dict[Port, Labels], outputs: Iterable[ov.Output]) -> dict[Port, MapGrid]:
    """Find where the places lie, in the network's input, of ``outputs`` and of all tensors that they depend on.

    Where branches join (shortcuts, levels of a pyramid), those whose position is not known and those without places
    (gates) do not count; positions of the others are averaged, as they differ by fractions of a place.

    Args:
        view: the graph.
        labels: meaning of its axes, those of the image input included (``label_axes`` with a ``layout``).
        outputs: features, with axes for height and width, or tokens, or what depends on such.

    Returns:
        The grid of each tensor that has places, where every operation on the way to it can be followed.
    """
    known: dict[Port, _Axes] = {}
    for node in view.ordered(view.ancestors(outputs)):
        for port in node.outputs():
            axes = _axes_of(view, labels, known, node, port)
            if axes is not None:
                known[port_of(port)] = axes
    return {
        port: MapGrid((y.start, x.start), (y.step, x.step)) for port, (y, x) in known.items() if min(y.step, x.step) > 0
    }


def _axes_of(
    view: View, labels: dict[Port, Labels], known: dict[Port, _Axes], node: ov.Node, port: ov.Output
) -> _Axes | None:
    extent = _extent(labels, port)
    if extent is None:
        return None
    if kind(node) == "Parameter":
        return _Axis(0.5, 1.0), _Axis(0.5, 1.0)
    if kind(node) == "Concat" and _concatenates_places(labels, node):
        return None
    if trait(kind(node)).axes in ("broadcast", "concat"):
        return _joined(
            [
                known[port_of(value)]
                for value in view.data_inputs(node)
                if port_of(value) in known and _extent(labels, value) == extent
            ]
        )
    source = node.input_value(0)
    before = known.get(port_of(source))
    if before is None:
        return None
    if _blocks(labels, source) and trait(kind(node)).axes in ("cut", "image", "move"):
        before = _coarser(labels, source, before)
    moves = None if before is None else _moves(labels, node, extent)
    return None if before is None or moves is None else (before[0].moved(moves[0]), before[1].moved(moves[1]))


def _coarser(labels: dict[Port, Labels], source: ov.Output, axes: _Axes) -> _Axes | None:
    """Return where the places of a map lie that has parts of its rows and columns among its channels."""
    whole, coarse = _extent(labels, source), _axis_sizes(labels, source)
    if whole is None or coarse is None:
        return None
    rows, columns = (_regrouped(whole[i], coarse[i]) for i in range(2))
    return None if rows is None or columns is None else (axes[0].moved(rows), axes[1].moved(columns))


def _extent(labels: dict[Port, Labels], output: ov.Output) -> Extent | None:
    """Return rows and columns of places; ``None`` for a tensor without. Blocks count as what they are parts of."""
    whole = {digit.axis: digit.total for label in _blocks(labels, output) for digit in label.digits}
    rows, columns = _axis_sizes(labels, output) or (None, None)
    if "H" in whole or "W" in whole:
        rows, columns = whole.get("H", rows), whole.get("W", columns)
        return None if rows is None or columns is None else (rows, columns)
    return _axis_sizes(labels, output)


def _blocks(labels: dict[Port, Labels], output: ov.Output) -> list[Blocks]:
    return [label for label in labels.get(port_of(output), ()) if isinstance(label, Blocks)]


def _axis_sizes(labels: dict[Port, Labels], output: ov.Output) -> Extent | None:
    """Return the sizes of the axes of rows and columns, or of the grid of tokens, whatever other axes hold."""
    own, dims = labels.get(port_of(output), ()), dimensions(output)
    tokens = next((label for label in own if isinstance(label, Tokens)), None)
    if tokens is not None:
        return tokens.height, tokens.width
    if dims is None or "H" not in own or "W" not in own:
        return None
    return dims[own.index("H")], dims[own.index("W")]


def _concatenates_places(labels: dict[Port, Labels], node: ov.Node) -> bool:
    own = labels[port_of(node.output(0))]
    return own[int(node.get_attributes()["axis"]) % len(own)] in ("H", "W")


def _joined(found: Sequence[_Axes]) -> _Axes | None:
    if not found:
        return None
    rows, columns = (_mean(axes) for axes in zip(*found, strict=True))
    return None if rows is None or columns is None else (rows, columns)


def _mean(axes: Sequence[_Axis]) -> _Axis | None:
    """Average positions; ``None`` where they are those of different grids."""
    starts, steps = np.array([axis.start for axis in axes]), np.array([axis.step for axis in axes])
    step = float(steps.mean())
    if np.ptp(steps) > _STEP_SPREAD * step or np.ptp(starts) > _START_SPREAD * step:
        return None
    return _Axis(float(starts.mean()), step)


# --- operations: where their places lie among those of their input ----------------------------------------------------


def _moves(labels: dict[Port, Labels], node: ov.Node, after: Extent) -> tuple[Move, Move] | None:
    """Return the moves of both axes that an operation with one input makes."""
    own, source = trait(kind(node)), node.input_value(0)
    windowed = own.axes in ("cut", "image", "move")
    before = _axis_sizes(labels, source) if windowed else _extent(labels, source)
    if before is None:
        return None
    if own.window is not None:
        if labels[port_of(source)][2:] != ("H", "W"):
            return None
        found: list[Move | None] = [_window_move(node, own.window, i, (before[i], after[i])) for i in range(2)]
    elif own.axes == "reshape" or (not windowed and _blocks(labels, source)):
        found = [_regrouped(before[i], after[i]) for i in range(2)]
    elif windowed:
        places = _places(labels[port_of(source)])
        found = [_place_move(node, places[i] if places else None, (before[i], after[i])) for i in range(2)]
    else:  # what keeps its labels and its places works on each place, or leaves it where it is
        stays = _STAY if before == after else None
        found = [stays, stays]
    rows, columns = found
    return None if rows is None or columns is None else (rows, columns)


def _places(own: Labels) -> tuple[int, int] | None:
    return (own.index("H"), own.index("W")) if "H" in own and "W" in own else None


def _window_move(node: ov.Node, window: Window, i: int, sizes: Extent) -> Move | None:
    """Return the move along spatial axis ``i`` of an operation that is NCHW by definition."""
    attributes = node.get_attributes()
    before, after = sizes
    if window.shape == "adaptive":
        if before is None or after is None:
            return None
        return _spread(before / after)
    if window.shape == "block":
        block = float(attributes["block_size"])
        return _spread(block if kind(node) == "SpaceToDepth" else 1 / block)
    if window.weights is None:
        kernel = int(attributes["kernel"][i])
    else:
        weight = dimensions(node.input_value(window.weights))
        kernel = 0 if weight is None else weight[i - 2] or 0
        if not kernel:
            return None
    stride, dilation = attributes["strides"][i], attributes.get("dilations", (1, 1))[i]
    reach = (kernel - 1) * dilation / 2
    padding: float = attributes["pads_begin"][i]  # those of SAME too, once the size is known
    if (before is None or after is None) and attributes["auto_pad"].startswith("same"):
        if stride != 1:
            return None
        padding = reach if kernel % 2 else np.floor(reach) + (attributes["auto_pad"] == "same_lower")
    if window.shape == "transposed":
        return float(padding - reach) / stride, 1 / stride
    return float(reach - padding), float(stride)


def _spread(places: float) -> Move:
    """Return the move to places that lie at the centres of ``places`` places each (of parts of one where < 1)."""
    return (places - 1) / 2, places


def _regrouped(before: int | None, after: int | None) -> Move | None:
    """Return the move of a reshape that splits neighbours off: ``H`` becomes ``(H / k, k)``."""
    if before == after:
        return _STAY
    if not before or not after or before % after:
        return None
    return _spread(before / after)


def _place_move(node: ov.Node, axis: int | None, sizes: Extent) -> Move | None:
    """Return the move along ``axis`` of an operation whose inputs name axes; ``axis`` is ``None`` for tokens."""
    operation, rank = kind(node), len(dimensions(node.input_value(0)) or ())
    if operation in ("Slice", "StridedSlice"):
        return _slice_move(node, axis, sizes)
    if operation in ("Gather", "Roll"):
        touched = constant_ints(node.input_value(2))
        stays = touched is not None and sizes[0] == sizes[1] and axis not in [number % rank for number in touched]
        return _STAY if stays else None
    if axis is None:
        return None
    if operation == "Pad":
        begins = constant_ints(node.input_value(1))
        return None if begins is None else (-float(begins[axis]), 1.0)
    return _resize_move(node, axis, sizes)


def _slice_move(node: ov.Node, axis: int | None, sizes: Extent) -> Move | None:
    before, after = sizes
    if axis is None:  # tokens whose label survived: the prefix was cut off
        return _STAY if before == after else None
    values, attributes = [constant_ints(value) for value in node.input_values()[1:]], node.get_attributes()
    masks = [name for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask") if any(attributes.get(name) or ())]
    if any(value is None for value in values) or masks:
        return None
    begins, steps = values[0] or [], (values[2] if len(values) > 2 else None) or []
    axes: Sequence[int] = range(len(begins))
    if kind(node) == "Slice" and len(values) > 3:
        rank = len(dimensions(node.input_value(0)) or ())
        axes = [number % rank for number in values[3] or []]
    if axis not in axes:
        return _STAY
    place = list(axes).index(axis)
    begin, step = begins[place], steps[place] if steps else 1
    ignored = list(attributes.get("begin_mask") or ())
    if place < len(ignored) and ignored[place]:
        begin = 0
    if step < 1 or (begin < 0 and before is None):
        return None
    return float(begin if begin >= 0 else max(begin + (before or 0), 0)), float(step)


def _resize_move(node: ov.Node, axis: int, sizes: Extent) -> Move | None:
    """Return where a resize looks its places up, as a line: nearest neighbours on average."""
    before, after = sizes
    attributes = node.get_attributes()
    if any(attributes.get("pads_begin") or ()) or any(attributes.get("pads_end") or ()):
        return None
    if before is None or after is None or before == 1:  # one place, spread over all, has no position any more
        return None
    if before == after:
        return _STAY
    places, stride = np.arange(after, dtype=np.float64), before / after
    match attributes.get("coordinate_transformation_mode"):
        case "half_pixel" | "pytorch_half_pixel":
            positions = (places + 0.5) * stride - 0.5
        case "tf_half_pixel_for_nn":
            positions = (places + 0.5) * stride
        case "asymmetric":
            positions = places * stride
        case "align_corners" if after > 1:
            stride = (before - 1) / (after - 1)
            positions = places * stride
        case _:
            return None
    if attributes["mode"] == "nearest":
        rounded = {
            "round_prefer_floor": np.ceil(positions - 0.5),
            "round_prefer_ceil": np.floor(positions + 0.5),
            "floor": np.floor(positions),
            "ceil": np.ceil(positions),
            "simple": np.ceil(positions) if stride > 1 else np.floor(positions),
        }
        positions = np.clip(rounded[attributes["nearest_mode"]], 0, before - 1)
    return float(np.mean(positions - places * stride)), stride
