"""The class heads of a one-stage detector, found by what the graph does with their numbers.

From the class scores the way leads backwards through selection (NonMaxSuppression, TopK, Gather), activations and
moves of elements (Concat, Reshape, Transpose, Slice) to the convolutions that gave them. Then every element of these
convolutions gets a number, and the numbers walk forward through the moves alone (``elements``). Where they arrive says
it all, for any layout: elements that share a place and lie along one axis are classes, several such rows at a place
are anchors, what is multiplied in is objectness, and the class that nobody reads after a soft-max is the background.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import GraphError
from otx_xai.graph.axes import label_axes
from otx_xai.graph.elements import IntArray, Numbers, Way, order_of, passed_on, shape_of, way_back
from otx_xai.graph.labels import Labels
from otx_xai.graph.traits import (
    BINARY,
    CONVOLUTIONS,
    CUTS,
    PICKS,
    RESHAPES,
    SCORE_ACTIVATIONS,
    SCORE_PORTS,
)
from otx_xai.graph.view import Port, View, dimensions, kind, port_of

_ASSUMED_SIZE = 320
"""Height and width to read a model by that leaves them open; a multiple of all usual strides."""

_CANDIDATES = 24


@dataclass(frozen=True)
class Objectness:
    """What a head's class scores are multiplied by.

    Args:
        output: the tensor, one level of raw scores, in the viewed model.
        order: positions of its axes batch, channel, height and width.
        channels: for each anchor its channel, ``(A,)``.
    """

    output: ov.Output
    order: tuple[int, int, int, int]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class ClassHead:
    """The raw class scores of one level, before soft-max or sigmoid.

    Args:
        output: the tensor, in the viewed model.
        order: positions of its axes batch, channel, height and width.
        channels: for each anchor and class its channel, ``int64`` ``(A, L)``; the background is a class here.
        size: height and width; those of an assumed input where the model leaves them open.
        objectness: what multiplies the class scores, or ``None``.
    """

    output: ov.Output
    order: tuple[int, int, int, int]
    channels: NDArray[np.int64]
    size: tuple[int, int]
    objectness: Objectness | None = None

    @property
    def anchors(self) -> int:
        """Anchors a place."""
        return len(self.channels)


@dataclass(frozen=True)
class ClassHeads:
    """All levels of a detector.

    Args:
        levels: the finest first.
        activation: what turns raw scores into probabilities.
        background: number of the class that stands for nothing, or ``None``.
    """

    levels: tuple[ClassHead, ...]
    activation: Literal["sigmoid", "softmax"]
    background: int | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, the background left out."""
        return int(self.levels[0].channels.shape[1]) - (self.background is not None)


def find_class_heads(
    view: View,
    *,
    num_classes: int | None = None,
    target_layers: Sequence[str] | None = None,
    labels: dict[Port, Labels] | None = None,
) -> ClassHeads:
    """Find the convolutions that score the classes of a one-stage detector.

    A model with box selection is read from the scores of its detections. A model with raw outputs is read from these:
    among the numbers of one prediction the classes stand last, boxes are four numbers, and one number alone is
    objectness; where a single convolution gives boxes and scores, as in YOLO versions 3 to 7, objectness stands in
    front of the classes, unless ``num_classes`` says otherwise.

    Args:
        view: the detector.
        num_classes: number of classes, the background left out, where it is known.
        target_layers: the heads by friendly name or tensor name, one a level. Heads that the graph tells of are taken
            as it tells; of others the channels are read as anchors times ``num_classes``, classes varying fastest.
        labels: meaning of the axes in the view, where the caller knows it.

    Raises:
        GraphError: the graph cannot be read, or a named layer is no head; the message lists candidates with shapes.
    """
    static = _static(view)
    plan = _Plan(static, labels if static is view else None)
    try:
        heads = _from_scores(plan, num_classes) or _from_raw_outputs(plan, num_classes)
    except GraphError:
        if not target_layers:
            raise
        heads = None
    if target_layers:
        heads = _named(plan, heads, target_layers, num_classes)
    if heads is None:
        raise _unreadable(plan, "no convolution scores places of the image on the way to the outputs")
    if num_classes is not None and heads.num_classes != num_classes:
        raise _unreadable(plan, f"its heads score {heads.num_classes} classes where {num_classes} are expected")
    return _of_view(view, plan.view, heads)


def score_way(view: View) -> Way:
    """Return what lies in front of the scores of a model that selects boxes; nothing where it selects none."""
    plan = _Plan(view)
    return way_back(view, plan.labels, _score_starts(plan))


class _Plan:
    """A static model with the meaning of its axes and the ways that class scores can take.

    Args:
        view: a model whose dense part is static.
        labels: meaning of its axes, where it is known.
    """

    def __init__(self, view: View, labels: dict[Port, Labels] | None = None) -> None:
        self.view = view
        self._labels = labels

    @cached_property
    def labels(self) -> dict[Port, Labels]:
        return label_axes(self.view) if self._labels is None else self._labels


def _static(view: View) -> View:
    """Return the view of a clone for one image of a fixed size where the model leaves anything open."""
    model = view.model
    if all(port.get_partial_shape().is_static for port in model.inputs):
        return view
    clone = model.clone()
    shapes = {}
    for port in clone.inputs:
        dims = dimensions(port)
        if dims is None:
            raise GraphError(f"The model's input {port} has no known rank; expected a batch of images.")
        shapes[port] = ov.PartialShape([dims[0] or 1, *(size or _ASSUMED_SIZE for size in dims[1:])])
    try:
        clone.reshape(shapes)
    except RuntimeError as error:
        raise GraphError(
            f"The detector cannot take an input of {[str(shape) for shape in shapes.values()]}: "
            f"{str(error).strip().splitlines()[-1]}. Give the size that it was trained on by --input.size."
        ) from error
    return View(clone, view.left_out)


def _of_view(view: View, plan: View, heads: ClassHeads) -> ClassHeads:
    """Translate heads of the static clone into those of the viewed model."""
    if view is plan:
        return heads

    def back(output: ov.Output) -> ov.Output:
        return view.nodes[plan.position[output.get_node().get_name()]].output(output.get_index())

    levels = []
    for head in heads.levels:
        objectness = head.objectness
        if objectness is not None:
            objectness = replace(objectness, output=back(objectness.output))
        levels.append(replace(head, output=back(head.output), objectness=objectness))
    return replace(heads, levels=tuple(levels))


# --- detections -------------------------------------------------------------------------------------------------------


def _score_starts(plan: _Plan) -> list[ov.Output]:
    """Return the scores of detections, or what the final box selection reads as scores."""
    view = plan.view
    if not any(_is_selection(node) for node in view.nodes):
        return []
    found = [column for output in plan.view.outputs if (column := _score_column(plan, output)) is not None]
    if found:
        return found
    selections = [node for node in view.nodes if kind(node) in SCORE_PORTS and node.get_name() in view.data]
    earlier = {name for node in selections for name in view.ancestors(node.input_values())}
    return [node.input_value(SCORE_PORTS[kind(node)]) for node in selections if node.get_name() not in earlier]


def _is_selection(node: ov.Node) -> bool:
    return kind(node) in SCORE_PORTS or kind(node) in ("TopK", "NonZero", "If", "Loop")


def _score_column(plan: _Plan, output: ov.Output) -> ov.Output | None:
    """Return the scores in an output of detections: all of it, or the last of five columns."""
    dims = dimensions(output)
    if dims is None or not output.get_element_type().is_real() or not plan.view.is_data(output):
        return None
    wide = [size for size in dims if size != 1]
    if len(wide) <= 1 and dims[-1:] not in ([4], [5], [1]):
        return output
    if len(dims) not in (2, 3) or dims[-1] != 5:
        return None
    while True:  # back to where the columns were joined
        node = output.get_node()
        operation = kind(node)
        rank = len(dimensions(output) or ())
        if operation == "Concat" and int(node.get_attributes()["axis"]) in (-1, rank - 1):
            return node.input_value(len(node.inputs()) - 1)
        if operation not in CUTS | RESHAPES | PICKS | {"Convert"} or (dimensions(output) or [None])[-1] != 5:
            return None
        output = node.input_value(0)


def _from_scores(plan: _Plan, num_classes: int | None) -> ClassHeads | None:
    """Read the heads of a model that selects boxes; ``None`` where it selects none."""
    starts = _score_starts(plan)
    if not starts:
        return None
    way = way_back(plan.view, plan.labels, starts)
    if not way.raw:
        raise _unreadable(plan, _why_not(plan, way))
    numbers = Numbers(plan.view, plan.labels, way)
    read = _read_elements(plan, way, numbers)
    scored = sorted({int(head) for part in read for head in numbers.heads_in(part)} - {-1})
    if not scored:
        raise _unreadable(plan, "its class scores are computed by operations that are no moves of elements")
    tables = _tables(way, numbers, scored)
    used = np.zeros(len(numbers.head), bool)
    for part in read:
        used[part.reshape(-1)] = True
    used[-1] = False
    if len({table.shape[1] for table in tables.values()}) > 1:  # boxes or masks are selected beside classes
        tables = {head: table for head, table in tables.items() if table.shape[1] == num_classes}
        if not tables:
            raise _unreadable(plan, "what it selects comes from layers of different kinds")
    columns = np.any([used[table].any(axis=0) for table in tables.values()], axis=0)
    activation = _activation(way, numbers, scored)
    background = None
    if activation == "softmax" and (~columns).sum() == 1:
        background = int(np.flatnonzero(~columns)[0])
    elif not columns.all():
        tables = {head: table[:, columns] for head, table in tables.items()}
    return _heads(way, numbers, tables, activation, background)


def _read_elements(plan: _Plan, way: Way, numbers: Numbers) -> list[IntArray]:
    """Return the numbers of what selection reads: tensors that go on by something else than moves."""
    passed = {node.get_name() for node in way.nodes}
    ends = {port_of(start) for start in way.starts}
    found = []
    for node in (*way.nodes, *(output.get_node() for output in way.raw)):
        for output in node.outputs():
            part = numbers.at.get(port_of(output))
            if part is None:
                continue
            readers = [
                reader
                for reader, index in plan.view.consumers.get(port_of(output), ())
                if reader.get_name() in passed
                and any(port_of(v) == port_of(output) for v in passed_on(plan.view, reader))
            ]
            if port_of(output) in ends or any(
                all(port_of(result) not in numbers.at for result in reader.outputs()) for reader in readers
            ):
                found.append(part)
    return found


def _tables(way: Way, numbers: Numbers, scored: Sequence[int]) -> dict[int, IntArray]:
    """Return for each head the numbers ``(A, L)`` at its first place, by anchor and class."""
    tensors = [
        numbers.at[port_of(output)] for node in way.nodes for output in node.outputs() if port_of(output) in numbers.at
    ]
    tables: dict[int, IntArray] = {}
    together = [part for part in tensors if len(numbers.heads_in(part) & set(scored)) > 1]
    for part in (*together, *([] if together else tensors[::-1])):
        missing = (numbers.heads_in(part) & set(scored)) - tables.keys()
        rows = numbers.rows(part) if missing else None
        if rows is None:
            continue
        for head in missing:
            table = numbers.first_rows(rows, head)
            tables[head] = table[:, (numbers.head[table] == head).all(axis=0)]
    for head in scored:
        if head not in tables:  # one class: every channel is an anchor
            offset = numbers.offsets[head]
            tables[head] = np.arange(offset, numbers.offsets[head + 1], dtype=np.int32)[
                numbers.place[offset : numbers.offsets[head + 1]] == 0
            ].reshape(-1, 1)
    return tables


def _activation(way: Way, numbers: Numbers, scored: Sequence[int]) -> Literal["sigmoid", "softmax"]:
    for node in way.nodes:
        if kind(node) in ("Softmax", "LogSoftmax"):
            part = numbers.at.get(port_of(node.output(0)))
            if part is not None and numbers.heads_in(part) & set(scored):
                return "softmax"
    return "sigmoid"


def _heads(
    way: Way,
    numbers: Numbers,
    tables: dict[int, IntArray],
    activation: Literal["sigmoid", "softmax"],
    background: int | None,
    factors: dict[int, IntArray] | None = None,
) -> ClassHeads:
    """Make records of number tables; ``factors`` holds the numbers ``(A,)`` of objectness where it is no product."""
    levels = []
    for head, table in tables.items():
        factor = factors.get(head) if factors is not None else _factor(numbers, table)
        objectness = None
        if factor is not None:
            source = int(numbers.head[factor[0]])
            objectness = Objectness(
                way.raw[source],
                numbers.orders[source],
                tuple(int(channel) for channel in numbers.channel[factor]),
            )
        order, shape = numbers.orders[head], numbers.shapes[head]
        levels.append(
            ClassHead(
                way.raw[head],
                order,
                numbers.channel[table].astype(np.int64),
                (shape[order[2]], shape[order[3]]),
                objectness,
            )
        )
    levels.sort(key=lambda level: -level.size[0] * level.size[1])
    return ClassHeads(tuple(levels), activation, background)


def _factor(numbers: Numbers, table: IntArray) -> IntArray | None:
    """Return the numbers ``(A,)`` of what multiplies the scores of a table."""
    for scores, factor in numbers.products:
        flat, wanted = scores.reshape(-1), table[:, -1]
        positions = np.flatnonzero(np.isin(flat, wanted))
        if positions.size:
            found = dict(zip(flat[positions].tolist(), factor.reshape(-1)[positions].tolist(), strict=True))
            if all(int(number) in found for number in wanted):
                return np.array([found[int(number)] for number in wanted], np.int32)
    return None


# --- raw outputs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Numbers of a prediction that come from the same convolutions and pass the same activations.

    Args:
        rows: their numbers, ``(R, l)``, one row a prediction.
        heads: the raw heads that they come from; none where they are computed from several elements.
        activated: whether they pass a sigmoid or a soft-max.
    """

    rows: IntArray
    heads: frozenset[int]
    activated: bool

    @property
    def size(self) -> int:
        """Numbers a prediction."""
        return int(self.rows.shape[1])


def _from_raw_outputs(plan: _Plan, num_classes: int | None) -> ClassHeads | None:
    """Read the heads of a model that gives every prediction; ``None`` where no head is on the way."""
    outputs = [output for output in plan.view.outputs if output.get_element_type().is_real()]
    way = way_back(plan.view, plan.labels, outputs)
    if not way.raw:
        return None
    numbers = Numbers(plan.view, plan.labels, way)
    activated = _passing(way, numbers, SCORE_ACTIVATIONS)
    computed = _passing(way, numbers, BINARY | {"Exp"})
    classes: list[_Group] = []
    factors: list[_Group] = []
    whole: list[_Group] = []
    for output in outputs:
        part = numbers.at.get(port_of(output))
        if part is None:
            continue
        rows = numbers.rows(part)
        groups = _groups(numbers, part.reshape(-1, 1) if rows is None else rows, activated, computed)
        if len(groups) == 1 and not _holds_boxes(numbers, groups[0]):
            whole += groups
        else:
            scores, factor = _parts(plan, numbers, groups, num_classes)
            classes.append(scores)
            factors += factor
    alike = len(whole) == len(outputs) and len({group.size for group in whole}) == 1
    scored = alike and _activation(way, numbers, sorted({head for group in whole for head in group.heads})) == "softmax"
    if whole and alike and not scored and (num_classes is None or whole[0].size > num_classes + 1):
        # nothing else holds the boxes
        if any(set(plan.labels.get(port_of(output), ())) == set("NCHW") for output in outputs):
            raise _unreadable(plan, f"nothing tells boxes from classes among the {whole[0].size} channels of its maps")
        for group in whole:
            scores, factor = _parts(plan, numbers, [group], num_classes)
            classes.append(scores)
            factors += factor
    elif whole and not classes:
        classes, factors = _roles(plan, whole, num_classes)
    if not classes:
        return None
    tables = {
        head: _only_of(numbers, group.rows, head) for group in classes for head in sorted(group.heads) if group.size
    }
    return _raw_heads(way, numbers, tables, factors, num_classes) if tables else None


def _passing(way: Way, numbers: Numbers, operations: Set[str]) -> NDArray[np.bool_]:
    """Return for each number whether it passes one of these operations, products with objectness aside."""
    passed = np.zeros(len(numbers.head), bool)
    for node in way.nodes:
        part = numbers.at.get(port_of(node.output(0)))
        if kind(node) in operations and part is not None and not any(part is scores for scores, _ in numbers.products):
            passed[part.reshape(-1)] = True
    passed[-1] = False
    return passed


def _groups(
    numbers: Numbers, rows: IntArray, activated: NDArray[np.bool_], computed: NDArray[np.bool_]
) -> list[_Group]:
    """Divide predictions ``(R, L)`` into runs of the same origin and treatment."""
    signs = []
    for column in range(rows.shape[1]):
        values = rows[:, column]
        heads = frozenset(numbers.heads_in(values))
        signs.append((heads, bool(activated[values].any()), bool(computed[values].any())))
    bounds = [0, *(i for i in range(1, len(signs)) if signs[i] != signs[i - 1]), len(signs)]
    return [_Group(rows[:, low:high], *signs[low][:2]) for low, high in pairwise(bounds)]


def _holds_boxes(numbers: Numbers, group: _Group) -> bool:
    """Whether a convolution of this group gives other numbers of a prediction, too: its boxes."""
    return any(_others(numbers, group, head) for head in group.heads)


def _others(numbers: Numbers, group: _Group, head: int) -> int:
    """Return how many numbers of a prediction a head gives beside those of a group."""
    table = _only_of(numbers, group.rows, head)
    channels = numbers.shapes[head][numbers.orders[head][1]]
    return int(channels // len(table) - table.shape[1])


def _parts(plan: _Plan, numbers: Numbers, groups: list[_Group], num_classes: int | None) -> tuple[_Group, list[_Group]]:
    """Tell classes and objectness among the numbers of a prediction."""
    scores, before = groups[-1], groups[:-1]
    if not scores.heads:
        raise _unreadable(plan, "the last numbers of its predictions are no elements of a convolution's output")
    single = [group for group in before if group.size == 1 and group.heads]
    if len(groups) == 1 and not _holds_boxes(numbers, scores):  # boxes and scores pass the very same operations
        before = [_Group(scores.rows[:, :4], scores.heads, scores.activated)]
        scores = _Group(scores.rows[:, 4:], scores.heads, scores.activated)
    shared = any(group.heads & scores.heads for group in before) or _holds_boxes(numbers, scores)
    if shared and not single and scores.size > 1 and scores.size != num_classes:
        first, rest = scores.rows[:, :1], scores.rows[:, 1:]
        single = [_Group(first, scores.heads, scores.activated)]
        scores = _Group(rest, scores.heads, scores.activated)
    if len(single) > 1:
        raise _unreadable(plan, f"{len(single)} of the numbers of a prediction could be its objectness")
    return scores, single


def _roles(plan: _Plan, whole: list[_Group], num_classes: int | None) -> tuple[list[_Group], list[_Group]]:
    """Tell classes and objectness among outputs that hold one kind of number each."""
    if num_classes is not None:
        classes = [group for group in whole if group.size in (num_classes, num_classes + 1)]
    else:
        classes = [group for group in whole if group.size not in (1, 4)]
    if len({group.size for group in classes}) > 1 or not classes:
        classes = [group for group in classes or whole if group.activated]
    if len({group.size for group in classes}) != 1:
        sizes = sorted({group.size for group in whole})
        raise _unreadable(plan, f"its outputs hold {sizes} numbers a prediction, and which are classes is open")
    # one number a prediction: the outputs of objectness and of a single class are told apart by nothing
    heads = {head for group in classes for head in group.heads}
    factors = [group for group in whole if group.size == 1 and not group.heads & heads]
    return classes, factors


def _only_of(numbers: Numbers, rows: IntArray, head: int) -> IntArray:
    """Return the numbers ``(A, L)`` at the first place of a head."""
    table = numbers.first_rows(rows, head)
    return table[:, (numbers.head[table] == head).all(axis=0)]


def _raw_heads(
    way: Way,
    numbers: Numbers,
    tables: dict[int, IntArray],
    factors: list[_Group],
    num_classes: int | None,
) -> ClassHeads:
    """Pair each head with the objectness of its level: the one whose map has the same size."""

    def size(head: int) -> tuple[int, int]:
        order, shape = numbers.orders[head], numbers.shapes[head]
        return shape[order[2]], shape[order[3]]

    paired: dict[int, IntArray] = {}
    for head in tables:
        for group in factors:
            for other in sorted(group.heads):
                if size(other) == size(head) and head not in paired:
                    paired[head] = _only_of(numbers, group.rows, other)[:, 0]
    activation = _activation(way, numbers, list(tables))
    width = next(iter(tables.values())).shape[1]
    # where there is objectness, it stands for what a background would
    background = 0 if activation == "softmax" and not factors and num_classes == width - 1 else None
    return _heads(way, numbers, tables, activation, background, paired)


# --- named layers and errors ------------------------------------------------------------------------------------------


def _named(plan: _Plan, heads: ClassHeads | None, target_layers: Sequence[str], num_classes: int | None) -> ClassHeads:
    """Return the heads that the user names."""
    outputs = [_named_output(plan, name) for name in target_layers]
    if heads is not None:
        known = {port_of(level.output): level for level in heads.levels}
        if all(port_of(output) in known for output in outputs):
            levels = sorted((known[port_of(o)] for o in outputs), key=lambda level: -level.size[0] * level.size[1])
            return replace(heads, levels=tuple(levels))
    levels = []
    for name, output in zip(target_layers, outputs, strict=True):
        order, shape = order_of(plan.labels[port_of(output)]), shape_of(output)
        channels = shape[order[1]]
        count = channels if num_classes is None else num_classes
        if channels % count:
            raise _unreadable(
                plan, f"--target_layer {name!r} has {channels} channels, which are no multiple of {count} classes"
            )
        table = np.arange(channels, dtype=np.int64).reshape(-1, count)
        levels.append(ClassHead(output, order, table, (shape[order[2]], shape[order[3]])))
    if len({level.channels.shape[1] for level in levels}) > 1:
        raise _unreadable(plan, "the named layers have different numbers of channels; tell the classes by --labels")
    levels.sort(key=lambda level: -level.size[0] * level.size[1])
    return ClassHeads(tuple(levels), "sigmoid")


def _named_output(plan: _Plan, name: str) -> ov.Output:
    output = plan.view.by_layer_name.get(name)
    if output is None:
        raise _unreadable(plan, f"--target_layer {name!r} is no layer or tensor of it")
    readers = plan.view.consumers.get(port_of(output), [])
    if kind(output.get_node()) in CONVOLUTIONS and _is_biased(plan.view, readers):
        output = readers[0][0].output(0)
    own = plan.labels.get(port_of(output), ())
    if len(own) != 4 or set(own) != {"N", "C", "H", "W"}:
        raise _unreadable(plan, f"--target_layer {name!r} of shape {output.get_partial_shape()} is no map of places")
    return output


def _is_biased(view: View, readers: Sequence[tuple[ov.Node, int]]) -> bool:
    """Whether the one reader of a convolution adds its bias."""
    return len(readers) == 1 and kind(readers[0][0]) == "Add" and len(view.data_inputs(readers[0][0])) == 1


def _why_not(plan: _Plan, way: Way) -> str:
    linear = [node for node in way.nodes if kind(node) == "MatMul"]
    if linear:
        return (
            f"its class scores come from the linear layer {linear[-1].get_friendly_name()!r}, as in two-stage "
            f"detectors and transformers, which have no class scores for places"
        )
    lost = [node for node in way.nodes if not passed_on(plan.view, node)]
    where = ", ".join(f"{kind(node)} {node.get_friendly_name()!r}" for node in lost[:3]) or "nothing"
    return f"the way back from its class scores ends at {where}"


def _unreadable(plan: _Plan, reason: str) -> GraphError:
    return GraphError(
        f"The class heads of detector {plan.view.model.get_friendly_name()!r} cannot be read off its graph: {reason}. "
        f"Expected convolutions that score classes at every place. Name them by --target_layer a,b,c, one a level; "
        f"candidates with shapes: {_candidates(plan)}."
    )


def _candidates(plan: _Plan) -> str:
    view = plan.view
    found = {port_of(output): output for output in way_back(plan.view, plan.labels, plan.view.outputs).raw}
    earlier: set[str] = set()
    for node in reversed(view.nodes):
        if kind(node) in CONVOLUTIONS and node.get_name() in view.data and node.get_name() not in earlier:
            earlier |= view.ancestors(node.input_values())
            readers = view.consumers.get(port_of(node.output(0)), [])
            output = readers[0][0].output(0) if _is_biased(view, readers) else node.output(0)
            found.setdefault(port_of(output), output)
    ordered = sorted(found.values(), key=lambda output: view.position[output.get_node().get_name()])
    names = [f"{o.get_node().get_friendly_name()!r} {o.get_partial_shape()}" for o in ordered[-_CANDIDATES:]]
    more = len(ordered) - len(names)
    return (", ".join(names) or "none") + (f" and {more} earlier ones" if more > 0 else "")
