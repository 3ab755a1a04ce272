"""How many classes a detector knows, read off its graph."""

from __future__ import annotations

from dataclasses import dataclass

import openvino as ov

from otx_xai.graph.class_heads import ClassHeads
from otx_xai.graph.cuts import cut_of
from otx_xai.graph.detector_heads import score_way
from otx_xai.graph.traits import COPIES, CUTS, RESHAPES, names_with
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
    """Whether what reads a soft-max leaves its first class out, perhaps behind cuts that leave all classes in."""
    todo, count = [scores], (dimensions(scores) or [None])[-1]
    while todo:
        for reader, _ in view.consumers.get(port_of(todo.pop()), ()):
            is_cut = kind(reader) in CUTS
            cut = cut_of(reader) if is_cut else None
            if cut is not None and cut.begin == 1 and not cut.drops:
                return True
            if kind(reader) in _PASSES or (is_cut and (dimensions(reader.output(0)) or [None])[-1] == count):
                todo += reader.outputs()
    return False
