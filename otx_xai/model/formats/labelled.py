"""Boxes beside integer labels, as OTX, Geti, torchvision and mmdeploy export them, with masks or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.evidence import BOX_NAMES
from otx_xai.model.formats.four_outputs import find_counted
from otx_xai.postprocess.box_coding import CORNERS, BoxCoding, decoded
from otx_xai.records import FloatArray, ScoreOrigin, Size, Task

_BOX_COLUMNS = (4, 5)
_SHARES = BoxCoding(shares=True)


@dataclass(frozen=True)
class Labelled:
    """Outputs that belong to the same detections.

    Args:
        boxes: ``(N, 4)``, xyxy in pixels of the network's input, or ``(N, 5)`` with the score in the last column.
        labels: integers ``(N,)``.
        scores: ``(N,)``; ``None``: they are the last column of ``boxes``.
        masks: ``(N, h, w)`` or ``(N, 1, h, w)``; ``None`` of a detector.
        has_batch: all of them have one axis more in front, of length 1.
    """

    boxes: OutputPort
    labels: OutputPort
    scores: OutputPort | None
    masks: OutputPort | None
    has_batch: bool


def find_labelled(ports: Sequence[OutputPort]) -> Labelled | None:
    """Tell the outputs of labelled boxes apart by rank, shape and element type; ``None`` where they are others.

    Labels are the integers; scores have as many axes as labels, boxes one more, masks two more (three, where each has
    a channel axis of length 1). Names decide only between outputs that could be the same.
    """
    labels = _one([port for port in ports if _may_be_labels(port)], {"labels"})
    if labels is None:
        return None
    beside = _beside(labels, ports)
    boxes, scores = _one(beside.boxes, BOX_NAMES), _one(beside.scores, {"scores"})
    if boxes is None or (scores is None and boxes.shape[-1] == min(_BOX_COLUMNS)):
        return None
    if beside.has_batch and not all(port.shape[0] in (None, 1) for port in (boxes, labels)):
        return None
    return Labelled(boxes, labels, scores, _one(beside.masks, {"masks"}), beside.has_batch)


def _matches(outputs: DetectorOutputs) -> Match | None:
    found = find_labelled(outputs.ports)
    if found is None or find_counted(outputs.ports) is not None:
        return None
    named = bool(found.boxes.names & BOX_NAMES)
    # two axes may also be the scores of a classifier of four or five classes, beside the best class
    if not (named or found.has_batch or found.scores is not None or outputs.declared):
        return None
    roles = {"boxes": found.boxes.name, "labels": found.labels.name}
    if found.scores is not None:
        roles["scores"] = found.scores.name
    if found.masks is not None:
        roles["masks"] = found.masks.name
    what = "boxes" if found.masks is None else "boxes and masks"
    task = Task.DETECTION if found.masks is None else Task.INSTANCE_SEGMENTATION
    return Match(
        f"{found.boxes} beside the labels {found.labels} holds {what}", roles, task, details={"coding": CORNERS}
    )


def _matches_shares(outputs: DetectorOutputs) -> Match | None:
    """Match where somebody says that it finds boxes: neither names nor shapes tell shares from pixels."""
    match = _matches(outputs) if outputs.declared else None
    return None if match is None else replace(match, details={"coding": _SHARES}, sure=False)


# --- what counts as labels, boxes, scores and masks -------------------------------------------------------------------


@dataclass(frozen=True)
class _Beside:
    """Outputs that could be boxes, scores and masks of the same detections; see :class:`Labelled`."""

    boxes: list[OutputPort]
    scores: list[OutputPort]
    masks: list[OutputPort]
    has_batch: bool


def _may_be_labels(port: OutputPort) -> bool:
    return port.is_integer and len(port.shape) in (1, 2)


def _beside(labels: OutputPort, ports: Sequence[OutputPort]) -> _Beside:
    """Return the outputs whose axes begin with those of labels, by what comes behind."""
    axes = labels.shape
    real = [port for port in ports if not port.is_integer]
    others = [port for port in ports if port is not labels]
    return _Beside(
        boxes=[port for port in real if any(port.may_have((*axes, columns)) for columns in _BOX_COLUMNS)],
        scores=[port for port in real if port.may_have(axes)],
        masks=[port for port in others if any(port.may_have((*axes, *more, None, None)) for more in ((), (1,)))],
        has_batch=len(axes) == 2,
    )


def _one(candidates: list[OutputPort], names: frozenset[str] | set[str]) -> OutputPort | None:
    """Return the only candidate, or of several the only one with one of ``names``."""
    if len(candidates) > 1:
        candidates = [port for port in candidates if port.names & names]
    return candidates[0] if len(candidates) == 1 else None


# --- reading ----------------------------------------------------------------------------------------------------------


def _decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
    labels = np.asarray(outputs[match.roles["labels"]]).reshape(-1).astype(np.int64)
    boxes = _single(outputs, match, "boxes", len(labels), 2)
    columns = boxes.shape[1]
    if columns not in _BOX_COLUMNS or ("scores" not in match.roles and columns == min(_BOX_COLUMNS)):
        raise _unlike(outputs, match)
    apart = "scores" in match.roles
    scores = _single(outputs, match, "scores", len(labels), 1) if apart else boxes[:, 4]
    masks, numbers = _masks(outputs, match, len(labels)), np.arange(len(labels))
    return Candidates(
        boxes=decoded(boxes[:, :4], match.details.get("coding", CORNERS), size),
        labels=labels,
        scores=scores,
        masks=None if masks is None else _chosen(masks),
        masks_fill_boxes=masks is None or masks.shape[1:] != size,
        origins=(
            ScoreOrigin(match.roles["scores"], numbers)
            if apart
            else ScoreOrigin(match.roles["boxes"], numbers * columns + 4),
        ),
    )


def _chosen(masks: NDArray[Any]) -> Callable[[NDArray[np.intp]], FloatArray]:
    return lambda places: masks[places].astype(np.float32, copy=False)


def _masks(outputs: Arrays, match: Match, count: int) -> NDArray[Any] | None:
    """Return the masks ``(N, h, w)``, without the axes of batch and channel."""
    if "masks" not in match.roles:
        return None
    masks = np.asarray(outputs[match.roles["masks"]])
    if masks.shape[:-2] not in ((count,), (1, count), (count, 1), (1, count, 1)):
        raise _unlike(outputs, match)
    return masks.reshape(count, *masks.shape[-2:])


def _single(outputs: Arrays, match: Match, role: str, count: int, rank: int) -> FloatArray:
    """Return what belongs to ``count`` detections without its batch axis, of so many axes."""
    value = np.asarray(outputs[match.roles[role]])
    single = value[0] if value.ndim == rank + 1 and len(value) == 1 else value
    if single.ndim != rank or len(single) != count:
        raise _unlike(outputs, match)
    return single.astype(np.float32, copy=False)


def _unlike(outputs: Arrays, match: Match) -> ModelError:
    return ModelError(
        f"The model gives {_listed(outputs, match.roles)}, which do not belong together; expected {FORMAT.meaning}."
    )


def _listed(outputs: Arrays, roles: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {list(outputs[name].shape)}" for name in roles.values())


FORMAT = BoxFormat(
    "labelled",
    "boxes [1,N,5] (x1, y1, x2, y2, score) or boxes [1,N,4] and scores [1,N], in pixels of the network's input, "
    "integer labels [1,N], and masks [1,N,h,w] of an instance segmenter, all of them with or without the batch axis",
    _matches,
    _decode,
)
SHARES = BoxFormat(
    "labelled_shares",
    "boxes [1,N,5] or [1,N,4] as labelled has them, with corners in 0 to 1",
    _matches_shares,
    _decode,
)
FORMATS = (FORMAT, SHARES)
