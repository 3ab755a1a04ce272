"""From the outputs of a detector to boxes on the original image. Pure functions on arrays, one image at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ModelError
from otx_xai.postprocess.geometry import Placement, place
from otx_xai.postprocess.overlaps import suppress
from otx_xai.postprocess.scores import sigmoid
from otx_xai.records import XAI_OUTPUTS, Detections, FloatArray, InputGeometry, IntArray, Size

BoolArray = NDArray[np.bool_]
Window = tuple[int, int, int, int]
Outputs = Mapping[str, NDArray[Any]]

_CANDIDATES = 3000
"""Boxes of raw outputs that enter non-maximum suppression at most, the best ones."""

_SLACK = 0.02
"""How far scores may lie outside of [0, 1]: 8-bit numbers go in steps."""

_SOFTMAX_SLACK = 0.15
"""How far the sum of a soft-max may lie from 1: 8-bit numbers lose many small scores."""

_NOT_RAW = (
    "If the model is no detector, it has no boxes to be explained; else export it with its non-maximum suppression, or "
    "read its boxes by a postprocess_fn of your own in Python."
)


def read_detections(
    outputs: Outputs,
    image_size: Size,
    geometry: InputGeometry,
    *,
    num_classes: int | None = None,
    threshold: float = 0.5,
    iou_threshold: float = 0.5,
    first_label: int = 0,
) -> Detections:
    """Read the outputs of a detector or instance segmenter for one image.

    Outputs are told apart by rank, shape and type:

    - boxes ``[1, N, 5]`` (x1, y1, x2, y2, score) or ``[1, N, 4]`` with scores ``[1, N]``, in pixels of the network's
      input, with integer labels ``[1, N]`` and, for instances, masks ``[1, N, h, w]``; all of them also without the
      batch;
    - ``[1, 1, N, 7]`` of DetectionOutput (image, label, score, x1, y1, x2, y2 in [0, 1]);
    - one raw output: ``[1, 5 + K, h, w]`` of FastestDet, ``[1, 4 + K, P]`` of YOLO version 8 and later, and
      ``[1, P, 5 + K]`` of decoded YOLO heads with objectness; they need ``num_classes``, and non-maximum suppression
      happens here.

    Args:
        outputs: name → array. XAI outputs are passed over.
        image_size: ``(H, W)`` of the original image.
        geometry: how it was fitted into the network's input.
        num_classes: ``K``, which raw outputs are told apart by.
        threshold: score from which a box counts.
        iou_threshold: overlap above which the lesser one of two boxes of a class is dropped, in raw outputs.
        first_label: what the model calls class 0: 1 where labels start with one for "nothing".

    Raises:
        ModelError: the outputs are of no known convention, or what should be their scores is none.
    """
    arrays = {name: np.asarray(value) for name, value in outputs.items() if name not in XAI_OUTPUTS}
    labelled = [value for value in arrays.values() if _is_labels(value)]
    masks = None
    if len(arrays) == 1:
        (only,) = arrays.values()
        if only.ndim == 4 and only.shape[:2] == (1, 1) and only.shape[3] == 7:
            boxes, labels, scores = _detection_output(only, geometry.size)
        else:
            candidates = _raw_candidates(only, num_classes, geometry.size)
            if candidates is None:
                raise _unknown(arrays, num_classes)
            boxes, labels, scores = _best_candidates(*candidates, threshold, iou_threshold)
            first_label = 0
    elif len(labelled) == 1:
        labels = labelled[0].reshape(-1).astype(np.int64)
        rest = [value for value in arrays.values() if value is not labelled[0]]
        boxes, scores, masks = _boxes_scores_masks(rest, len(labels), arrays)
    else:
        raise _unknown(arrays, num_classes)
    labels = labels - first_label
    kept = np.flatnonzero((scores >= threshold) & (labels >= 0))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return _on_image(
        boxes[kept], labels[kept], scores[kept], None if masks is None else masks[kept], image_size, geometry
    )


def boxes_on_image(boxes: FloatArray, image_size: Size, geometry: InputGeometry) -> FloatArray:
    """Map boxes ``(M, 4)`` from pixels of the network's input to pixels of the original image, unclipped."""
    placement = place(image_size, geometry)
    offset, scale = _xyxy(placement)
    result: FloatArray = ((boxes - offset) / scale).astype(np.float32)
    return result


def boxes_on_input(boxes: FloatArray, image_size: Size, geometry: InputGeometry) -> FloatArray:
    """Map boxes ``(M, 4)`` from pixels of the original image to pixels of the network's input, unclipped."""
    offset, scale = _xyxy(place(image_size, geometry))
    result: FloatArray = (boxes * scale + offset).astype(np.float32)
    return result


def pasted_mask(
    detections: Detections, index: int, image_size: Size, geometry: InputGeometry, window: Window | None = None
) -> FloatArray:
    """Return the mask of one detection over the original image, ``float32`` ``(H, W)`` in [0, 1].

    One at a time, since all masks of an image in full size may not fit into memory.

    Args:
        detections: what was found.
        index: which of them.
        image_size: ``(H, W)`` of the original image.
        geometry: how it was fitted into the network's input.
        window: ``(top, left, bottom, right)`` of the part of the image that is wanted, in pixels; all of it by default.

    Raises:
        ValueError: the detections have no masks.
    """
    if detections.masks is None or detections.mask_boxes is None:
        raise ValueError("These detections have no masks; expected those of an instance segmentation model.")
    mask = detections.masks[index]
    if detections.masks_fill_boxes:
        left, top, right, bottom = (float(value) for value in detections.mask_boxes[index])
    else:
        whole = np.array([[0, 0, geometry.size[1], geometry.size[0]]], np.float32)
        left, top, right, bottom = (float(value) for value in boxes_on_image(whole, image_size, geometry)[0])
    first_row, first_column, last_row, last_column = window or (0, 0, *image_size)
    height, width = last_row - first_row, last_column - first_column
    sizes = mask.shape[1] / max(right - left, 1e-6), mask.shape[0] / max(bottom - top, 1e-6)
    # pixel centres lie half a pixel inside; outside of the box the mask is 0
    shift = [(0.5 + first_column - left) * sizes[0] - 0.5, (0.5 + first_row - top) * sizes[1] - 0.5]
    inverse = np.array([[sizes[0], 0, shift[0]], [0, sizes[1], shift[1]]], np.float64)
    pasted: FloatArray = cv2.warpAffine(
        mask.astype(np.float32), inverse, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return pasted


def _xyxy(placement: Placement) -> tuple[FloatArray, FloatArray]:
    (scale_y, scale_x), (offset_y, offset_x) = placement.scale, placement.offset
    offset = np.array([offset_x, offset_y, offset_x, offset_y], np.float32)
    return offset, np.array([scale_x, scale_y, scale_x, scale_y], np.float32)


def _on_image(
    boxes: FloatArray,
    labels: IntArray,
    scores: FloatArray,
    masks: FloatArray | None,
    image_size: Size,
    geometry: InputGeometry,
) -> Detections:
    """Bring detections onto the image and drop those of which nothing lies there."""
    height, width = image_size
    exact = boxes_on_image(boxes, image_size, geometry)
    clipped = np.clip(exact, 0, np.array([width, height, width, height], np.float32))
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    return Detections(
        boxes=clipped[inside],
        labels=labels[inside],
        scores=np.clip(scores[inside], 0, 1).astype(np.float32),
        masks=None if masks is None else masks[inside],
        mask_boxes=None if masks is None else exact[inside],
        masks_fill_boxes=masks is None or masks.shape[1:] != geometry.size,
    )


def _is_labels(value: NDArray[Any]) -> bool:
    return bool(np.issubdtype(value.dtype, np.integer)) and value.ndim in (1, 2) and value.size == value.shape[-1]


def _boxes_scores_masks(
    arrays: list[NDArray[Any]], count: int, everything: Outputs
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Tell boxes, scores and masks of ``count`` detections apart, and take the batch off."""
    by_rank: dict[int, FloatArray] = {}
    for value in arrays:
        rest = value.shape[1:] if value.shape[:1] == (1,) and value.shape[1:2] == (count,) else value.shape
        if rest[:1] == (count,):
            by_rank[len(rest)] = value.reshape(rest).astype(np.float32, copy=False)
    boxes, scores = by_rank.get(2), by_rank.get(1)
    columns = 0 if boxes is None else int(boxes.shape[1])
    if boxes is not None and scores is None and columns == 5:
        scores = boxes[:, 4]
    if boxes is None or scores is None or columns not in (4, 5):
        raise _unknown(everything, None)
    return boxes[:, :4], scores, by_rank.get(3)


def _detection_output(output: NDArray[Any], size: Size) -> tuple[FloatArray, IntArray, FloatArray]:
    """Read rows of (image, label, score, x1, y1, x2, y2); a negative image number ends them."""
    rows = output.reshape(-1, 7).astype(np.float32)
    ends = np.flatnonzero(rows[:, 0] < 0)
    rows = rows[: ends[0]] if ends.size else rows
    height, width = size
    boxes = rows[:, 3:] * np.array([width, height, width, height], np.float32)
    return boxes, rows[:, 1].astype(np.int64), rows[:, 2]


def _best_candidates(
    boxes: FloatArray, scores: FloatArray, threshold: float, iou_threshold: float
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Return boxes, labels and scores of what non-maximum suppression leaves; a box stands for its best class."""
    labels, best = scores.argmax(axis=1), scores.max(axis=1)
    chosen = np.flatnonzero(best >= threshold)
    chosen = chosen[np.argsort(-best[chosen], kind="stable")[:_CANDIDATES]]
    chosen = chosen[suppress(boxes[chosen], labels[chosen], best[chosen], iou_threshold=iou_threshold)]
    return boxes[chosen], labels[chosen].astype(np.int64), best[chosen]


def _raw_candidates(output: NDArray[Any], num_classes: int | None, size: Size) -> tuple[FloatArray, FloatArray] | None:
    """Decode a raw output into boxes ``(P, 4)`` on the input and scores ``(P, K)``; ``None`` for no known family."""
    if num_classes is None or not output.shape or output.shape[0] != 1:
        return None
    single = output[0].astype(np.float32, copy=False)
    if single.ndim == 3 and single.shape[0] == 5 + num_classes:
        decoded = _fastestdet(single, size)
    elif single.ndim == 2 and single.shape[0] == 4 + num_classes:
        decoded = corners(single[:4].T), single[4:].T
    elif single.ndim == 2 and single.shape[1] == 5 + num_classes:
        decoded = corners(single[:, :4]), single[:, 4:5] * single[:, 5:]
    else:
        return None
    _require_shares(decoded[1], "class scores")
    return decoded


def _require_shares(values: FloatArray, what: str) -> None:
    """Raise ``ModelError`` unless all values are in [0, 1], up to the steps of 8-bit numbers; NaN passes."""
    if (values < -_SLACK).any() or (values > 1 + _SLACK).any():
        raise ModelError(
            f"The output of the detector was read as raw predictions, but what should be its {what} is from "
            f"{np.nanmin(values):.3g} to {np.nanmax(values):.3g}; expected 0 to 1. {_NOT_RAW}"
        )


def _fastestdet(output: FloatArray, size: Size) -> tuple[FloatArray, FloatArray]:
    """Decode ``(5 + K, h, w)``: objectness, offsets and logarithmic sizes of boxes, class scores."""
    _require_shares(output[:1], "objectness")
    _require_shares(output[5:], "class scores")
    total = float(output[5:].sum(axis=0).mean())
    if abs(total - 1) > _SOFTMAX_SLACK:
        raise ModelError(
            f"The output of the detector was read as FastestDet's [1,5+K,h,w], but its class scores add up to "
            f"{total:.3g}; expected 1, by a soft-max over the last {len(output) - 5} channels. {_NOT_RAW}"
        )
    # weights of the authors' own post-processing
    positive: FloatArray = np.maximum(output, np.float32(0))
    scores = positive[:1] ** 0.6 * positive[5:] ** 0.4
    everywhere = np.arange(output.shape[1] * output.shape[2])
    return fastestdet_boxes(output, size, everywhere), scores.reshape(len(scores), -1).T


def fastestdet_boxes(output: FloatArray, size: Size, places: IntArray) -> FloatArray:
    """Decode the boxes ``(P, 4)`` of FastestDet on the input of ``size``.

    Args:
        output: ``(5 + K, h, w)``.
        size: of the network's input.
        places: numbers ``(P,)`` of the places that are decoded, row by row.
    """
    (rows, columns), (height, width) = output.shape[1:], size
    chosen = output[1:5].reshape(4, -1)[:, places]
    centre_x = (np.tanh(chosen[0]) + (places % columns).astype(np.float32)) * (width / columns)
    centre_y = (np.tanh(chosen[1]) + (places // columns).astype(np.float32)) * (height / rows)
    sizes = sigmoid(chosen[2:]) * np.array([width, height], np.float32)[:, None]
    return corners(np.stack([centre_x, centre_y, sizes[0], sizes[1]], axis=-1))


def corners(boxes: FloatArray) -> FloatArray:
    """Turn centres and sizes ``(P, 4)`` into corners."""
    half = boxes[:, 2:] / 2
    result: FloatArray = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return result


def _unknown(outputs: Outputs, num_classes: int | None) -> ModelError:
    found = ", ".join(f"{name} {list(value.shape)} {value.dtype}" for name, value in outputs.items())
    classes = "an unknown number of classes" if num_classes is None else f"{num_classes} classes"
    fix = "Give the labels by --labels, or export the model with its non-maximum suppression."
    return ModelError(
        f"The outputs of the detector are of no known convention: {found}, with {classes}. Expected boxes [1,N,5] and "
        f"integer labels [1,N] (and scores [1,N], masks [1,N,h,w]), DetectionOutput's [1,1,N,7], or a raw output "
        f"[1,5+K,h,w], [1,4+K,P] or [1,P,5+K] of K classes. {fix if num_classes is None else _NOT_RAW}"
    )
