"""A score of every class and a box for each of a fixed number of queries: DETR and its relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import openvino as ov

from otx_xai.graph.columns import Piece, origin_of
from otx_xai.graph.spans import span_of
from otx_xai.graph.traits import LAYERS
from otx_xai.graph.view import dimensions, kind
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.dense import Chosen, Dense, proposals_of, require_shares
from otx_xai.postprocess.box_coding import BoxCoding, decoded
from otx_xai.postprocess.proposals import Proposals
from otx_xai.postprocess.scores import sigmoid, softmax
from otx_xai.records import FloatArray, ScoreOrigin, Size, Task

Activation = Literal["sigmoid", "softmax"]

_BOX_NAMES = ("pred_boxes", "boxes", "bboxes", "dets")
_LOGIT_NAMES = ("logits", "pred_logits", "labels", "scores", "cls_logits")
_MASK_NAMES = ("pred_masks", "masks")
_SHARES = BoxCoding("cxcywh", shares=True)
_LITTLE = 2.0
"""Shares of the image are below, pixels above."""

_PAIRS = 100
"""Pairs of query and class that architectures of few queries give at most."""

_ACTIVATIONS: Mapping[str, Activation] = {
    "detr": "softmax",
    "table_transformer": "softmax",
    "yolos": "softmax",
    "conditional_detr": "sigmoid",
    "dab_detr": "sigmoid",
    "deformable_detr": "sigmoid",
    "deta": "sigmoid",
    "rt_detr": "sigmoid",
    "rt_detr_v2": "sigmoid",
    "rtdetr": "sigmoid",
    "d_fine": "sigmoid",
    "deim": "sigmoid",
    "deimv2": "sigmoid",
    "rf_detr": "sigmoid",
    "rfdetr": "sigmoid",
    "lw_detr": "sigmoid",
}
"""How the architectures that Hugging Face names score their classes."""

_OF_SIGMOIDS = frozenset({"GridSample", "TopK"})
"""Deformable attention, and the choice of queries among places: who has it scores each class by itself."""


@dataclass(frozen=True)
class Queries:
    """Outputs of the same queries.

    Args:
        logits: ``(1, Q, K)`` or ``(1, Q, K + 1)``.
        boxes: ``(1, Q, 4)``, centre and size in 0 to 1.
        masks: ``(1, Q, h, w)`` over the whole input; ``None`` of a detector.
    """

    logits: OutputPort
    boxes: OutputPort
    masks: OutputPort | None = None


def find_queries(outputs: DetectorOutputs) -> Queries | None:
    """Return the outputs of queries; ``None`` where they are others."""
    real = [port for port in outputs.ports if not port.is_integer and _lone_batch(port)]
    rows = [port for port in real if len(port.shape) == 3]
    boxes = _only([port for port in rows if port.shape[2] == 4], _BOX_NAMES)
    if boxes is None:
        return None
    beside = [port for port in rows if port is not boxes and port.may_have((1, boxes.shape[1], None))]
    logits = _only([port for port in beside if port.shape[2] is not None], _LOGIT_NAMES)
    if logits is None:
        logits = _only([port for port in beside if _may_be_logits(outputs, port)], ())
    if logits is None or boxes.shape[1] != logits.shape[1]:
        return None
    masks = [port for port in real if port.may_have((1, boxes.shape[1], None, None)) and port.names & {*_MASK_NAMES}]
    return Queries(logits, boxes, masks[0] if len(masks) == 1 else None)


def _lone_batch(port: OutputPort) -> bool:
    return bool(port.shape) and port.shape[0] in (None, 1)


def _only(ports: Sequence[OutputPort], names: Sequence[str]) -> OutputPort | None:
    """Return the only output, or of several the one with the first of ``names`` that is known."""
    if len(ports) == 1:
        return ports[0]
    named = (port for name in names for port in ports if name in port.names)
    return next(named, None)


def _may_be_logits(outputs: DetectorOutputs, port: OutputPort) -> bool:
    """Whether a linear layer, or what makes scores of its numbers, gives an output: features are normalised last."""
    origin = origin_of(outputs.view, outputs.output(port))
    return (origin.is_raw and kind(_biased(origin)) in LAYERS) or origin.activation is not None


def _biased(piece: Piece) -> ov.Node:
    """Return the layer whose numbers a piece holds, with its bias or without."""
    node = piece.leaf.get_node()
    return next((value.get_node() for value in node.input_values() if kind(value.get_node()) in LAYERS), node)


# --- whether they are queries, and how they are scored ----------------------------------------------------------------


def _match(outputs: DetectorOutputs, activation: Activation) -> Match | None:
    found = find_queries(outputs)
    if found is None:
        return None
    shares = _are_shares(outputs, found)
    if shares is False or (shares is None and not outputs.declared):
        return None
    origin = origin_of(outputs.view, outputs.output(found.logits))
    told = _told_activation(outputs, found, origin)
    if told not in (None, activation):
        return None
    width = found.logits.shape[2]
    spare = activation == "softmax" and not _cut_off(origin, width)
    roles = {"logits": found.logits.name, "boxes": found.boxes.name}
    if found.masks is not None:
        roles["masks"] = found.masks.name
    return Match(
        f"{found.boxes} holds centre and size of a box for each query of {found.logits}, scored by {activation}",
        roles,
        Task.DETECTION if found.masks is None else Task.INSTANCE_SEGMENTATION,
        num_classes=None if width is None else width - spare,
        details={"activation": activation, "activated": origin.activation is not None, "spare": spare},
        sure=bool(shares and told is not None),
    )


def _are_shares(outputs: DetectorOutputs, found: Queries) -> bool | None:
    """Whether boxes are shares of the image: names, the exporter or a sigmoid say so; large constants deny it."""
    origin = origin_of(outputs.view, outputs.output(found.boxes))
    least, most = span_of(outputs.view, origin)
    if max(abs(least), abs(most)) > _LITTLE:
        return False
    named = bool(found.boxes.names & {"pred_boxes", "dets"}) or _model_type(outputs) in _ACTIVATIONS
    return True if named or "Sigmoid" in origin.kinds else None


def _told_activation(outputs: DetectorOutputs, found: Queries, origin: Piece) -> Activation | None:
    """Tell how classes are scored: by the graph's own activation, the exporter, the architecture, the class names."""
    if origin.activation is not None:
        return "softmax" if "Softmax" in origin.activation else "sigmoid"
    if _model_type(outputs) in _ACTIVATIONS:
        return _ACTIVATIONS[_model_type(outputs)]
    before = outputs.view.ancestors([outputs.output(found.boxes)])
    if any(kind(node) in _OF_SIGMOIDS for node in outputs.view.ordered(before)):
        return "sigmoid"
    width = found.logits.shape[2]
    if outputs.num_names is not None and width is not None:
        by_names: Mapping[int, Activation] = {0: "sigmoid", 1: "softmax"}
        return by_names.get(width - outputs.num_names)
    return None


def _model_type(outputs: DetectorOutputs) -> str:
    return outputs.said.get("model_type", "").strip().lower().replace("-", "_")


def _cut_off(origin: Piece, width: int | None) -> bool:
    """Whether a soft-max in the graph scored more classes than the output has: the one for nothing is left out."""
    soft = next((node for node in origin.passed if kind(node) == "Softmax"), None)
    scored = None if soft is None else (dimensions(soft.output(0)) or [None])[-1]
    return scored is not None and width is not None and scored == width + 1


# --- reading ----------------------------------------------------------------------------------------------------------


def _decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
    dense = _dense(outputs, match, size)
    places, labels = _pairs(dense.classes, match, threshold)
    logits, masks = outputs[match.roles["logits"]], dense.masks
    return Candidates(
        boxes=dense.boxes(places),
        labels=labels.astype(np.int64),
        scores=dense.classes[places, labels],
        masks=None if masks is None else lambda chosen: masks(places[chosen]),
        masks_fill_boxes=False,
        origins=(ScoreOrigin(match.roles["logits"], places * np.asarray(logits).shape[-1] + labels),),
    )


def _pairs(scores: FloatArray, match: Match, threshold: float) -> tuple[Chosen, Chosen]:
    """Return queries and classes that reach the threshold, as many as there are queries at most, or a hundred.

    A soft-max gives a query to one class; with sigmoids each pair counts by itself.
    """
    if match.details["activation"] == "softmax":
        labels = scores.argmax(axis=1)
        places = np.flatnonzero(scores[np.arange(len(scores)), labels] >= threshold)
        return places, labels[places]
    places, labels = np.nonzero(scores >= threshold)
    best = np.argsort(-scores[places, labels], kind="stable")[: max(len(scores), _PAIRS)]
    return places[best], labels[best]


def _proposals(outputs: Arrays, match: Match, size: Size, threshold: float) -> Proposals:
    return proposals_of(_dense(outputs, match, size), threshold)


def _dense(outputs: Arrays, match: Match, size: Size) -> Dense:
    boxes = np.asarray(outputs[match.roles["boxes"]][0], np.float32)
    masks = outputs[match.roles["masks"]][0] if "masks" in match.roles else None
    return Dense(
        classes=_scores(np.asarray(outputs[match.roles["logits"]][0], np.float32), match),
        boxes=lambda chosen: decoded(boxes[chosen], _SHARES, size),
        masks=None if masks is None else lambda chosen: sigmoid(masks[chosen]),
    )


def _scores(logits: FloatArray, match: Match) -> FloatArray:
    """Return class scores ``(Q, K)`` without the class for nothing, which stands last."""
    if match.details["activated"]:
        require_shares(logits, "class scores")
    elif match.details["activation"] == "softmax":
        logits = softmax(logits)
    else:
        logits = sigmoid(logits)
    return logits[:, :-1] if match.details["spare"] else logits


def _format(name: str, activation: Activation, classes: str) -> BoxFormat:
    meaning = f"logits [1,Q,{classes} and boxes [1,Q,4] with centre, width and height in 0 to 1"
    return BoxFormat(name, meaning, lambda outputs: _match(outputs, activation), _decode, _proposals)


SIGMOID = _format("queries", "sigmoid", "K], each class scored by itself,")
SOFTMAX = _format("queries_softmax", "softmax", "K+1], scored by a soft-max whose last class is nothing,")
FORMATS = (SIGMOID, SOFTMAX)
