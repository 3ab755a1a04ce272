"""The class heads of a model that gives every prediction: what it says of them by itself.

Two conventions that no graph proves are trusted: classes stand last, and a single number beside them is objectness.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.graph.class_heads import ClassHeads
from otx_xai.graph.elements import ElementNumbers, Numbers, Way, way_back
from otx_xai.graph.head_search import HeadSearch, unreadable
from otx_xai.graph.head_tables import Tables, activation_of, heads_of, only_of
from otx_xai.graph.labels import is_map
from otx_xai.graph.traits import BINARY, SCORE_ACTIVATIONS
from otx_xai.graph.view import kind, port_of


@dataclass(frozen=True)
class _Group:
    """Numbers of a prediction that come from the same convolutions and pass the same activations.

    Args:
        rows: their numbers, ``(R, l)``, one row a prediction.
        heads: the raw heads that they come from; none where they are computed from several elements.
        activated: whether they pass a sigmoid or a soft-max.
    """

    rows: ElementNumbers
    heads: frozenset[int]
    activated: bool

    @property
    def size(self) -> int:
        """Numbers a prediction."""
        return int(self.rows.shape[1])


def from_raw_outputs(search: HeadSearch, num_classes: int | None) -> ClassHeads | None:
    """Read the heads of a model that gives every prediction; ``None`` where no head is on the way.

    Args:
        search: the model.
        num_classes: number of classes, the background left out, where it is known.

    Raises:
        GraphError: which of the numbers are class scores is open.
    """
    outputs = [output for output in search.view.outputs if output.get_element_type().is_real()]
    way = way_back(search.view, search.labels, outputs)
    if not way.raw:
        return None
    numbers = Numbers(search.view, search.labels, way)
    whole, joined = _read_outputs(way, numbers, outputs)
    if whole and len(whole) == len(outputs) and _hold_boxes(way, numbers, whole, num_classes):
        if any(is_map(search.labels.get(port_of(output), ())) for output in outputs):
            raise unreadable(search, f"nothing tells boxes from classes among the {whole[0].size} channels of its maps")
        whole, joined = [], [[group] for group in whole]
    if joined:
        parts = [_parts(search, numbers, groups, num_classes) for groups in joined]
        classes, factors = [scores for scores, _ in parts], [factor for _, found in parts for factor in found]
    elif whole:
        classes, factors = _roles(search, whole, num_classes)
    else:
        return None
    tables = {
        head: only_of(numbers, group.rows, head) for group in classes for head in sorted(group.heads) if group.size
    }
    return _raw_heads(way, numbers, tables, factors, num_classes) if tables else None


def _read_outputs(way: Way, numbers: Numbers, outputs: Sequence[ov.Output]) -> tuple[list[_Group], list[list[_Group]]]:
    """Return the outputs that hold one kind of number, and the groups of those that hold several."""
    activated = _passing(way, numbers, SCORE_ACTIVATIONS)
    computed = _passing(way, numbers, BINARY | {"Exp"})
    whole: list[_Group] = []
    joined: list[list[_Group]] = []
    for output in outputs:
        part = numbers.at.get(port_of(output))
        if part is None:
            continue
        rows = numbers.rows(part)
        groups = _groups(numbers, part.reshape(-1, 1) if rows is None else rows, activated, computed)
        if len(groups) == 1 and not _holds_boxes(numbers, groups[0]):
            whole += groups
        else:
            joined.append(groups)
    return whole, joined


def _hold_boxes(way: Way, numbers: Numbers, whole: Sequence[_Group], num_classes: int | None) -> bool:
    """Whether outputs of one kind hold boxes beside classes, since nothing else does."""
    heads = sorted({head for group in whole for head in group.heads})
    if len({group.size for group in whole}) > 1 or activation_of(way, numbers, heads) == "softmax":
        return False
    return num_classes is None or whole[0].size > num_classes + 1


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
    numbers: Numbers, rows: ElementNumbers, activated: NDArray[np.bool_], computed: NDArray[np.bool_]
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
    table = only_of(numbers, group.rows, head)
    channels = numbers.shapes[head][numbers.orders[head][1]]
    return int(channels // len(table) - table.shape[1])


def _parts(
    search: HeadSearch, numbers: Numbers, groups: list[_Group], num_classes: int | None
) -> tuple[_Group, list[_Group]]:
    """Tell classes and objectness among the numbers of a prediction."""
    scores, before = groups[-1], groups[:-1]
    if not scores.heads:
        raise unreadable(search, "the last numbers of its predictions are no elements of a convolution's output")
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
        raise unreadable(search, f"{len(single)} of the numbers of a prediction could be its objectness")
    return scores, single


def _roles(search: HeadSearch, whole: list[_Group], num_classes: int | None) -> tuple[list[_Group], list[_Group]]:
    """Tell classes and objectness among outputs that hold one kind of number each."""
    if num_classes is not None:
        classes = [group for group in whole if group.size in (num_classes, num_classes + 1)]
    else:
        classes = [group for group in whole if group.size not in (1, 4)]
    if len({group.size for group in classes}) > 1 or not classes:
        classes = [group for group in classes or whole if group.activated]
    if len({group.size for group in classes}) != 1:
        sizes = sorted({group.size for group in whole})
        raise unreadable(search, f"its outputs hold {sizes} numbers a prediction, and which are classes is open")
    # one number a prediction: the outputs of objectness and of a single class are told apart by nothing
    heads = {head for group in classes for head in group.heads}
    factors = [group for group in whole if group.size == 1 and not group.heads & heads]
    return classes, factors


def _raw_heads(
    way: Way,
    numbers: Numbers,
    tables: Tables,
    factors: list[_Group],
    num_classes: int | None,
) -> ClassHeads:
    """Pair each head with the objectness of its level: the one whose map has the same size."""

    def size(head: int) -> tuple[int, int]:
        order, shape = numbers.orders[head], numbers.shapes[head]
        return shape[order[2]], shape[order[3]]

    paired: Tables = {}
    for head in tables:
        for group in factors:
            for other in sorted(group.heads):
                if size(other) == size(head) and head not in paired:
                    paired[head] = only_of(numbers, group.rows, other)[:, 0]
    activation = activation_of(way, numbers, tables)
    width = next(iter(tables.values())).shape[1]
    # where there is objectness, it stands for what a background would
    background = 0 if activation == "softmax" and not factors and num_classes == width - 1 else None
    return heads_of(way, numbers, tables, activation, paired, background)
