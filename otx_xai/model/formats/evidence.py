"""What says that a model finds boxes, whatever format they have: operations, names, and how its outputs are joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, permutations, takewhile

import openvino as ov

from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.traits import names_with
from otx_xai.graph.view import View, is_unit
from otx_xai.model.formats.box_format import DetectorOutputs, OutputPort

BOX_NAMES = frozenset({"bboxes", "boxes"})
_BOX_SIDES = 4
_DETECTION_OUTPUT = (1, 1, -1, 7)
_PASSES = names_with(lambda own: own.passes)
"""What boxes are decoded and put together with; whatever computes them begins behind anything else."""

_PICKS_BOXES = names_with(lambda own: own.selects_boxes)


def box_evidence(outputs: DetectorOutputs) -> str | None:
    """Tell why a model finds boxes, in words to follow "and"; ``None`` where nothing says so.

    It finds boxes where an output is called so, where its graph holds an operation that picks boxes, and where its
    outputs are raw predictions.
    """
    named = [port for port in outputs.ports if port.names & BOX_NAMES]
    if named:
        return f"{describe_outputs([outputs.model_output(named[0])])} holds boxes"
    beside = next((port for port in outputs.ports if _lies_beside_labels(port, outputs.ports)), None)
    if beside is not None:
        return f"{describe_outputs([outputs.model_output(beside)])} holds boxes beside labels"
    kinds = picking_operations(outputs.view)
    if kinds:
        return f"its graph holds {', '.join(kinds)}"
    return raw_evidence([outputs.model_output(port) for port in outputs.ports])


def _lies_beside_labels(port: OutputPort, ports: Sequence[OutputPort]) -> bool:
    """Whether an output holds four or five numbers for each label of a batch in another."""
    labels = (other.shape for other in ports if other.is_integer and len(other.shape) == 2)
    return not port.is_integer and any(port.shape in ((*axes, 4), (*axes, 5)) for axes in labels)


def picking_operations(view: View) -> list[str]:
    """Return the operations of a graph that stand in models that find boxes, and only there."""
    return sorted({str(node.get_type_name()) for node in view.nodes} & _PICKS_BOXES)


def raw_evidence(outputs: Sequence[ov.Output]) -> str | None:
    """Tell why the outputs of a model are raw predictions, in words to follow "and"; ``None`` where nothing says so."""
    if not outputs or any(_rank(output) <= 2 or _wide(output) <= 1 for output in outputs):
        return None
    if len(outputs) == 1 and _rank(outputs[0]) == 4:
        shape = outputs[0].get_partial_shape()
        seven = shape[3].is_static and shape[3].get_length() == _DETECTION_OUTPUT[-1]
        if seven and shape.compatible(ov.PartialShape(list(_DETECTION_OUTPUT))):
            return f"{describe_outputs(outputs)} holds seven numbers for each box"
    return predictions_in(outputs)


def predictions_in(outputs: Sequence[ov.Output]) -> str | None:
    """Tell why outputs are raw predictions of a detector, in words to follow "and"; ``None`` where nothing says so.

    Predictions are put together: on the way from the last layers to an output, boxes (four numbers, or one of
    objectness and four) stand beside scores, or the places of maps of different sizes in one row. Else one output holds
    four numbers for each place of another, or has an axis of anchors. A map or the tokens of a single layer are none,
    however many numbers they hold: such are the outputs of semantic segmentation, of depth, and bare features.

    Args:
        outputs: of a model, XAI outputs left out.
    """
    for output in outputs:
        for node in _last_operations(output):
            if node.get_type_name() == "Concat":
                reason = _joined(node)
                if reason is not None:
                    return reason
    anchored = [output for output in outputs if _rank(output) > 4]
    if anchored:
        return f"{describe_outputs(anchored[:1])} has an axis more than maps have, as one of anchors"
    pairs = permutations(outputs, 2)
    boxes = next((boxes for boxes, scores in pairs if _hold_boxes_beside(boxes, scores)), None)
    return f"{describe_outputs([boxes])} holds four numbers for each place of another output" if boxes else None


def _last_operations(output: ov.Output) -> Iterator[ov.Node]:
    """Walk back from an output to the layers that compute its numbers, and yield what lies between."""
    node = output.get_node()
    todo = [node.input_value(0).get_node() if node.get_type_name() == "Result" else node]
    seen: set[str] = set()
    while todo:
        node = todo.pop()
        if node.get_name() in seen or node.get_type_name() not in _PASSES:
            continue
        seen.add(node.get_name())
        yield node
        todo += [value.get_node() for value in node.input_values() if value.get_element_type().is_real()]


def _joined(concat: ov.Node) -> str | None:
    """Say what a concatenation joins, where it is boxes and scores, or places of several maps."""
    shape = concat.output(0).get_partial_shape()
    if shape.rank.is_dynamic or shape.rank.get_length() < 3:
        return None
    rank = int(shape.rank.get_length())
    axis = int(concat.get_attributes()["axis"]) % rank
    parts = [value.get_partial_shape()[axis] for value in concat.input_values()]
    sizes = [int(part.get_length()) if part.is_static else None for part in parts]
    ahead = _bounds(sizes)
    if _BOX_SIDES in ahead or {1, 1 + _BOX_SIDES} <= ahead:
        return f"it joins parts of {_listed(parts)} numbers, as boxes and scores are joined"
    # flattened maps: a single one gives rows of equal length, and tokens that stand for no place come one by one
    differ = set(sizes) == {None} or (len(set(sizes)) == len(sizes) and not {None, 1} & set(sizes))
    if rank == 3 and len(sizes) > 1 and differ:
        return f"it joins {_listed(parts)} places, as those of maps of several sizes are joined"
    return None


def _bounds(sizes: Sequence[int | None]) -> set[int]:
    """Return where parts but the first begin, as far as their sizes are known."""
    known = list(takewhile(lambda size: size is not None, sizes[:-1]))
    return set(accumulate(size for size in known if size is not None))


def _hold_boxes_beside(boxes: ov.Output, scores: ov.Output) -> bool:
    """Whether an output holds rows of four numbers, one for each row of another."""
    sides, classes = boxes.get_partial_shape(), scores.get_partial_shape()
    if sides.rank.is_dynamic or sides.rank != classes.rank or sides.rank.get_length() < 3:
        return False
    last = int(sides.rank.get_length()) - 1
    four = sides[last].is_static and sides[last].get_length() == _BOX_SIDES
    return bool(four and sides[last] != classes[last] and list(sides)[:last] == list(classes)[:last])


def _rank(output: ov.Output) -> int:
    rank = output.get_partial_shape().rank
    return int(rank.get_length()) if rank.is_static else 0


def _wide(output: ov.Output) -> int:
    """Return the number of axes behind the first that may be longer than 1."""
    return sum(not is_unit(size) for size in list(output.get_partial_shape())[1:])


def _listed(parts: Sequence[ov.Dimension]) -> str:
    return f"{', '.join(str(part) for part in parts[:-1])} and {parts[-1]}"
