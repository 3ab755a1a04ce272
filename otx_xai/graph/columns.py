"""Where the columns of a tensor come from: which of them share an origin, and what happened to their values.

A detector joins boxes, scores, labels and more into rows. Followed backwards, the columns of an output part where they
were joined, so that each :class:`Piece` tells by its operations what it holds: integers are labels, what passes a
sigmoid is a score, what a layer gives untouched is raw. Places beside one another are taken to be treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import openvino as ov

from otx_xai.graph.cuts import cut_of
from otx_xai.graph.traits import (
    BINARY,
    CUTS,
    LAYERS,
    PICKS,
    REDUCTIONS,
    RESHAPES,
    SCORE_ACTIVATIONS,
    UNARY,
    names_with,
)
from otx_xai.graph.view import View, constant_ints, dimensions, kind, port_of

_COPIES = names_with(lambda own: own.is_copy)
_PASSED = UNARY | names_with(lambda own: own.activation == "scores")
_ROUNDS = names_with(lambda own: own.rounds)
_WEIGHS = names_with(lambda own: own.weighs)

Sizes = Sequence[int | None]


@dataclass(frozen=True)
class Piece:
    """Columns that lie side by side, come from one tensor, and are treated alike.

    Args:
        begin: the first of them in the output.
        end: the one behind the last.
        passed: the operations that change their values, from the output backwards; moves are left out.
        leaf: where the way ends: what a layer gives with its bias, integers, or what nobody can see through.
    """

    begin: int
    end: int
    passed: tuple[ov.Node, ...]
    leaf: ov.Output

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.end - self.begin

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operations that change values, from the output backwards, without mere copies."""
        return tuple(name for name in map(kind, self.passed) if name not in _COPIES)

    @property
    def is_index(self) -> bool:
        """Whether the values are whole numbers: indices of classes or images."""
        return not self.leaf.get_element_type().is_real() or bool(_ROUNDS & set(self.kinds))

    @property
    def activation(self) -> str | None:
        """The operation that makes scores of raw numbers, where nothing but products with other scores follows."""
        for name in self.kinds:
            if name in SCORE_ACTIVATIONS:
                return name
            if name not in _WEIGHS:
                return None
        return None

    @property
    def is_raw(self) -> bool:
        """Whether the values are those that a layer gives."""
        return not self.kinds and kind(self.leaf.get_node()) not in ("Parameter", "Constant")


@dataclass(frozen=True)
class _Place:
    """Some columns of a tensor on the way back.

    Args:
        output: the tensor.
        axis: of the columns; ``None`` where they are no axis of their own there.
        first: the first of them along this axis.
        width: their number.
        period: in a flat tensor of rows, the length of a row.
    """

    output: ov.Output
    axis: int | None
    first: int
    width: int
    period: int | None = None


def pieces_of(view: View, output: ov.Output, axis: int) -> tuple[Piece, ...]:
    """Return where the columns of a tensor come from, in their order; nothing where their number is open.

    Args:
        view: the graph.
        output: the tensor.
        axis: the axis of its columns; negative ones count from the last.
    """
    dims = dimensions(output)
    if dims is None or dims[axis] is None:
        return ()
    width = dims[axis] or 0
    found = _walk(view, _Place(output, axis % len(dims), 0, width), (), 0)
    return tuple(_merged(list(found)))


def origin_of(view: View, output: ov.Output) -> Piece:
    """Return where a tensor as a whole comes from; of joined parts, the first that carries image content."""
    return next(_walk(view, _Place(output, None, 0, 1), (), 0))


def within(pieces: Sequence[Piece], begin: int, end: int) -> tuple[Piece, ...]:
    """Return the pieces of some columns, cut at their ends."""
    cut = (
        replace(piece, begin=max(piece.begin, begin), end=min(piece.end, end))
        for piece in pieces
        if piece.begin < end and piece.end > begin
    )
    return tuple(cut)


def _merged(pieces: list[Piece]) -> Iterator[Piece]:
    """Join neighbours that have the same origin and passed the same operations."""
    if not pieces:
        return
    current = pieces[0]
    for before, piece in pairwise(pieces):
        alike = port_of(before.leaf) == port_of(piece.leaf) and _names(before.passed) == _names(piece.passed)
        if alike:
            current = replace(current, end=piece.end)
        else:
            yield current
            current = piece
    yield current


def _names(nodes: Sequence[ov.Node]) -> list[str]:
    return [node.get_name() for node in nodes]


def _walk(view: View, place: _Place, passed: tuple[ov.Node, ...], begin: int) -> Iterator[Piece]:
    """Yield the pieces behind a place; ``begin`` is its first column in the output where the way began."""
    while True:
        node = place.output.get_node()
        if kind(node) == "Concat" and place.axis is not None and _joins(node) == place.axis:
            yield from _parts(view, node, place, passed, begin)
            return
        following = None if _ends(view, place.output) else _before(view, node, place)
        if following is None:
            yield Piece(begin, begin + place.width, passed, place.output)
            return
        if kind(node) in _PASSED | BINARY | REDUCTIONS | {"Select", "TopK"}:
            passed = (*passed, node)
        place = following


def _joins(concat: ov.Node) -> int:
    return int(concat.get_attributes()["axis"]) % len(dimensions(concat.output(0)) or (1,))


def _parts(view: View, concat: ov.Node, place: _Place, passed: tuple[ov.Node, ...], begin: int) -> Iterator[Piece]:
    """Yield the pieces of what a concatenation joins, as far as the sizes of its parts are known."""
    axis, start, end = place.axis, 0, place.first + place.width
    assert axis is not None
    sizes = [(dimensions(value) or [])[axis] for value in concat.input_values()]
    if None in sizes:
        yield Piece(begin, begin + place.width, passed, place.output)
        return
    for value, size in zip(concat.input_values(), sizes, strict=True):
        low, high = max(place.first, start), min(end, start + (size or 0))
        if low < high:
            part = _Place(value, axis, low - start, high - low)
            yield from _walk(view, part, passed, begin + low - place.first)
        start += size or 0


def _ends(view: View, output: ov.Output) -> bool:
    """Whether a tensor is where the way ends: a layer with its bias, integers, or no image content at all."""
    node = output.get_node()
    if kind(node) in LAYERS or not output.get_element_type().is_real() or not view.is_data(output):
        return True
    if kind(node) != "Add":
        return False
    data = view.data_inputs(node)
    return len(data) == 1 and kind(_uncopied(data[0]).get_node()) in LAYERS


def _uncopied(output: ov.Output) -> ov.Output:
    while kind(output.get_node()) in _COPIES:
        output = output.get_node().input_value(0)
    return output


def _before(view: View, node: ov.Node, place: _Place) -> _Place | None:
    """Return the same columns in front of an operation; ``None`` where it cannot be seen through."""
    operation = kind(node)
    if operation == "Concat":
        return _onto(view, next(iter(view.data_inputs(node))), place, place.axis)
    if operation in _PASSED:
        return replace(place, output=node.input_value(0))
    if operation in BINARY:
        return _operand(view, view.data_inputs(node), place)
    if operation == "Select":
        values = [value for value in node.input_values()[1:] if view.is_data(value)]
        return _operand(view, values or node.input_values()[1:2], place)
    if operation == "Transpose":
        order = constant_ints(node.input_value(1))
        axis = None if order is None or place.axis is None else order[place.axis]
        return replace(place, output=node.input_value(0), axis=axis)
    if operation in RESHAPES:
        return _flat(view, node, place) or _onto(view, node.input_value(0), place, _unreshaped(node, place.axis))
    if operation == "Pad" and place.period is not None:
        return replace(place, output=node.input_value(0))
    if operation in CUTS:
        return _uncut(view, node, place)
    if operation in REDUCTIONS:
        return _reduced(view, node, place)
    if operation in PICKS | {"Pad"}:
        return _picked(view, node, place)
    return None


def _onto(view: View, output: ov.Output, place: _Place, axis: int | None) -> _Place | None:
    """Go on at an input, with the columns along one of its axes where that has as many."""
    if not view.is_data(output):
        return None
    if axis is not None and place.axis is not None:
        before, after = dimensions(output) or [], dimensions(place.output) or []
        if axis >= len(before) or before[axis] != after[place.axis]:
            axis = None
    return _Place(output, axis, place.first if axis is not None else 0, place.width)


def _operand(view: View, values: Sequence[ov.Output], place: _Place) -> _Place | None:
    """Go on at the operand that has the columns."""
    if not values:
        return None
    rank = len(dimensions(place.output) or ())

    def aligned(value: ov.Output) -> int | None:
        own = None if place.axis is None else place.axis - rank + len(dimensions(value) or ())
        return own if own is not None and own >= 0 else None

    moved = [_onto(view, value, place, aligned(value)) for value in values]
    with_axis = [there for there in moved if there is not None and there.axis is not None]
    return with_axis[0] if with_axis else moved[0]


def _flat(view: View, node: ov.Node, place: _Place) -> _Place | None:
    """Go on in front of a reshape that makes rows of one flat axis, or the other way round.

    Exporters flatten rows to pad them with further ones.
    """
    source, after = node.input_value(0), dimensions(node.output(0))
    before = dimensions(source)
    if not before or not after or not view.is_data(source):
        return None
    if place.period is not None:
        if len(before) == 1:
            return replace(place, output=source)
        rows = before[-1] == place.period
        return _Place(source, len(before) - 1, place.first, place.width) if rows else None
    if len(before) == 1 < len(after) and place.axis == len(after) - 1:
        return replace(place, output=source, axis=None, period=after[-1])
    return None


def _unreshaped(node: ov.Node, axis: int | None) -> int | None:
    """Return the axis in front of a reshape that it leaves whole; ``None`` where it splits, merges or makes it."""
    before, after = dimensions(node.input_value(0)), dimensions(node.output(0))
    if axis is None or before is None or after is None:
        return None
    for own, size in enumerate(before):
        if size != after[axis] or size is None:
            continue
        if _same_number(before[:own], after[:axis]) or _same_number(before[own + 1 :], after[axis + 1 :]):
            return own
    return None


def _same_number(first: Sizes, second: Sizes) -> bool:
    """Whether axes surely hold equally many elements."""
    known = [size for size in first if size is not None], [size for size in second if size is not None]
    open_axes = len(first) - len(known[0]), len(second) - len(known[1])
    return prod(known[0]) == prod(known[1]) and open_axes[0] == open_axes[1] and open_axes[0] <= 1


def _uncut(view: View, node: ov.Node, place: _Place) -> _Place | None:
    """Return the columns in front of a slice or split along some axis."""
    source = node.input_value(0)
    if kind(node) in ("Split", "VariadicSplit"):
        return _unsplit(node, place)
    cut = cut_of(node)
    if cut is None:
        return _gathered(view, node, place) if kind(node) == "Gather" else _onto(view, source, place, place.axis)
    if place.axis is None:
        return replace(place, output=source)
    axis = place.axis + (cut.drops and cut.axis <= place.axis)
    shift = cut.begin if cut.axis == axis and not cut.drops else 0
    return _Place(source, axis, place.first + shift, place.width)


def _unsplit(node: ov.Node, place: _Place) -> _Place:
    axes, source = constant_ints(node.input_value(1)), node.input_value(0)
    rank = len(dimensions(source) or ())
    if axes is None or place.axis is None or axes[0] % rank != place.axis:
        return replace(place, output=source)
    earlier = [(dimensions(output) or [])[place.axis] for output in node.outputs()[: place.output.get_index()]]
    if None in earlier:
        return _Place(source, None, 0, place.width)
    return _Place(source, place.axis, place.first + sum(size or 0 for size in earlier), place.width)


def _gathered(view: View, node: ov.Node, place: _Place) -> _Place | None:
    """Return the columns in front of a Gather of several, or of unknown, entries of one axis."""
    axes, source = constant_ints(node.input_value(2)), node.input_value(0)
    if axes is None or place.axis is None:
        return _onto(view, source, place, None)
    rank = len(dimensions(source) or ())
    axis, more = axes[0] % rank, len(dimensions(node.input_value(1)) or ()) - 1
    indices = constant_ints(node.input_value(1))
    if place.axis < axis:
        return _onto(view, source, place, place.axis)
    if place.axis > axis + more:
        return _onto(view, source, place, place.axis - more)
    chosen = (indices or [])[place.first : place.first + place.width]
    if more or not chosen or chosen != list(range(chosen[0], chosen[0] + len(chosen))) or chosen[0] < 0:
        return _onto(view, source, place, None)
    return _Place(source, axis, chosen[0], place.width)


def _picked(view: View, node: ov.Node, place: _Place) -> _Place | None:
    """Return the columns in front of an operation that passes some elements on."""
    source = node.input_value(0)
    if kind(node) == "TopK" and place.output.get_index() == 1:
        return None
    if kind(node).startswith("Scatter") and not view.is_data(source):
        source = node.input_value(2)
    if place.period is not None and kind(node).startswith("Scatter"):
        return replace(place, output=source)
    if kind(node) == "TopK" and place.width == 1 and constant_ints(node.input_value(1)) == [1]:
        axis = int(node.get_attributes()["axis"]) % len(dimensions(source) or (1,))
        return _Place(source, axis, 0, 1) if view.is_data(source) else None
    before, after = dimensions(source), dimensions(node.output(0))
    if place.axis is None or before is None or after is None:
        return _onto(view, source, place, None)
    from_last = place.axis - len(after)
    return _onto(view, source, place, len(before) + from_last if len(before) + from_last >= 0 else None)


def _reduced(view: View, node: ov.Node, place: _Place) -> _Place | None:
    """Return the columns in front of a reduction; of a single one that is reduced over others, the first of them."""
    source, axis = node.input_value(0), _unreduced(node, place.axis)
    reduced, before = constant_ints(node.input_value(1)), dimensions(source)
    if axis is None and place.width == 1 and reduced and before and len(reduced) == 1 and view.is_data(source):
        return _Place(source, reduced[0] % len(before), 0, 1)
    return _onto(view, source, place, axis)


def _unreduced(node: ov.Node, axis: int | None) -> int | None:
    """Return the axis in front of a reduction; ``None`` where it is the reduced one."""
    reduced, before = constant_ints(node.input_value(1)), dimensions(node.input_value(0))
    if axis is None or reduced is None or before is None:
        return None
    gone = {value % len(before) for value in reduced}
    kept = list(range(len(before)))
    if not node.get_attributes()["keep_dims"]:
        kept = [value for value in kept if value not in gone]
    return kept[axis] if axis < len(kept) and kept[axis] not in gone else None
