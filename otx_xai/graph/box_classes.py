"""How many classes a detector knows, read off its graph."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.class_heads import ClassHeads, find_class_heads, score_way
from otx_xai.graph.cuts import cut_of
from otx_xai.graph.shared_features import pooled_features
from otx_xai.graph.traits import COPIES, RESHAPES, names_with
from otx_xai.graph.view import View, dimensions, kind, port_of

_PASSES = COPIES | RESHAPES | names_with(lambda own: own.axes in ("split", "transpose"))


@dataclass(frozen=True)
class BoxClasses:
    """What the graph of a detector tells of its classes.

    Args:
        count: their number, the one that stands for nothing left out; ``None`` where the graph does not tell.
        background_first: class 0 of its scores stands for nothing.
    """

    count: int | None = None
    background_first: bool = False


def read_box_classes(
    model: ov.Model,
    *,
    num_classes: int | None = None,
    target_layers: Sequence[str] = (),
    left_out: Set[str] = frozenset(),
) -> BoxClasses:
    """Tell the number of classes of a detector or instance segmentation model, and whether class 0 means nothing.

    One-stage detectors tell by their class heads; of two-stage ones the soft-max in front of the scores does.

    Args:
        model: the detector.
        num_classes: number of names that the user gives, which decides where raw outputs can be read in two ways; where
            they cannot, the number of the graph is told.
        target_layers: class heads that the user names, one a level.
        left_out: names of outputs that are none of the detector's own.

    Returns:
        What the graph tells; nothing where the scores of a two-stage detector come from elsewhere.

    Raises:
        GraphError: the class heads of a one-stage detector cannot be read off.
    """
    view = View(model, left_out)
    if not pooled_features(view):
        heads = find_class_heads(view, target_layers=target_layers, num_classes=num_classes if target_layers else None)
        if num_classes not in (None, heads.num_classes):
            with suppress(GraphError):  # where there is no other reading, the number of names is wrong
                heads = find_class_heads(view, num_classes=num_classes)
        return classes_of_heads(heads)
    return classes_of_regions(view)


def classes_of_heads(heads: ClassHeads) -> BoxClasses:
    """Return what the class heads of a one-stage detector tell of its classes."""
    return BoxClasses(heads.num_classes, background_first=heads.background == 0)


def classes_of_regions(view: View) -> BoxClasses:
    """Read the last activation of class scores that come from a linear layer, as those of two-stage detectors do."""
    for node in reversed(score_way(view).nodes):
        if kind(node) not in ("Softmax", "Sigmoid"):
            continue
        count = (dimensions(node.output(0)) or [None])[-1]
        if count is None or count < 2:
            return BoxClasses()
        if kind(node) == "Sigmoid":
            return BoxClasses(count)
        return BoxClasses(count - 1, background_first=_skips_first(view, node.output(0)))
    return BoxClasses()


def _skips_first(view: View, scores: ov.Output) -> bool:
    """Whether what reads a soft-max leaves its first class out."""
    todo = [scores]
    while todo:
        for reader, _ in view.consumers.get(port_of(todo.pop()), ()):
            cut = cut_of(reader) if kind(reader) in ("Gather", "Slice", "StridedSlice") else None
            if cut is not None and cut.begin == 1 and not cut.drops:
                return True
            if kind(reader) in _PASSES:
                todo += reader.outputs()
    return False
