"""The class heads of a one-stage detector, found by what the graph does with their numbers.

From the class scores the way leads backwards through selection (NonMaxSuppression, TopK, Gather), activations and
moves of elements (Concat, Reshape, Transpose, Slice) to the convolutions that gave them. Then every element of these
convolutions gets a number, and the numbers walk forward through the moves alone (``elements``). Where they arrive says
it all, for any layout: elements that share a place and lie along one axis are classes, several such rows at a place
are anchors, what is multiplied in is objectness, and the class that nobody reads after a soft-max is the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.class_heads import ClassHeads, ScoreColumns
from otx_xai.graph.elements import Way, way_back
from otx_xai.graph.head_search import HeadSearch, unreadable
from otx_xai.graph.labels import Labels
from otx_xai.graph.named_heads import named_heads
from otx_xai.graph.raw_predictions import from_raw_outputs
from otx_xai.graph.selected_scores import from_scores, score_starts
from otx_xai.graph.told_columns import from_told_columns
from otx_xai.graph.view import Port, View, dimensions

_ASSUMED_SIZE = 320
"""Height and width to read a model by that leaves them open; a multiple of all usual strides."""


def find_class_heads(
    view: View,
    *,
    num_classes: int | None = None,
    target_layers: Sequence[str] | None = None,
    labels: dict[Port, Labels] | None = None,
    told: ScoreColumns | None = None,
) -> ClassHeads:
    """Find the convolutions that score the classes of a one-stage detector.

    A model with box selection is read from the scores of its detections. A model with raw outputs is read from the
    columns that its format tells; where it tells none, from conventions: among the numbers of one prediction the
    classes stand last, boxes are four numbers, and one number alone is objectness; where a single convolution gives
    boxes and scores, as in YOLO versions 3 to 7, objectness stands in front of the classes, unless ``num_classes``
    says otherwise.

    Args:
        view: the detector.
        num_classes: number of classes, the background left out, where it is known.
        target_layers: the heads by friendly name or tensor name, one a level. Heads that the graph tells of are taken
            as it tells; of others the channels are read as anchors times ``num_classes``, classes varying fastest.
        labels: meaning of the axes in the view, where the caller knows it.
        told: where class scores stand in an output, where its format tells.

    Raises:
        GraphError: the graph cannot be read, or a named layer is no head; the message lists candidates with shapes.
    """
    static = _static(view)
    search = HeadSearch(static, labels if static is view else None)
    try:
        heads = _graph_heads(search, num_classes, told)
    except GraphError:
        if not target_layers:
            raise
        heads = None
    if target_layers:
        heads = named_heads(search, heads, target_layers, num_classes)
    if heads is None:
        raise unreadable(search, "no convolution scores places of the image on the way to the outputs")
    if num_classes is not None and heads.num_classes != num_classes:
        raise unreadable(search, f"its heads score {heads.num_classes} classes where {num_classes} are expected")
    return _of_view(view, static, heads)


def _graph_heads(search: HeadSearch, num_classes: int | None, told: ScoreColumns | None) -> ClassHeads | None:
    """Read the heads off the graph, from what is surest on."""
    heads = None if told is None or told.chosen else from_told_columns(search, told)
    return heads or from_scores(search, num_classes, told) or from_raw_outputs(search, num_classes)


def score_way(view: View) -> Way:
    """Return what lies in front of the scores of a model that selects boxes; nothing where it selects none."""
    search = HeadSearch(view)
    return way_back(view, search.labels, score_starts(search))


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


def _of_view(view: View, static: View, heads: ClassHeads) -> ClassHeads:
    """Translate heads of the static clone into those of the viewed model."""
    if view is static:
        return heads

    def back(output: ov.Output) -> ov.Output:
        return view.nodes[static.position[output.get_node().get_name()]].output(output.get_index())

    levels = []
    for head in heads.levels:
        objectness = head.objectness
        if objectness is not None:
            objectness = replace(objectness, output=back(objectness.output))
        levels.append(replace(head, output=back(head.output), objectness=objectness))
    return replace(heads, levels=tuple(levels))
