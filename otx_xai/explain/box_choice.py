"""The choice for models that find boxes: which classes of an image are explained, and what was found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError, LabelError, ModelError
from otx_xai.explain.targets import (
    PER_IMAGE,
    Choice,
    Wanted,
    constant_maps,
    map_warning,
    not_finite,
    require_finite,
)
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_detections
from otx_xai.postprocess import min_max
from otx_xai.postprocess.box_maps import box_maps
from otx_xai.records import (
    PER_IMAGE_TARGET,
    SALIENCY_MAP,
    XAI_OUTPUTS,
    Detections,
    FloatArray,
    InputGeometry,
    ModelFacts,
    Prediction,
    Size,
)

Placed = tuple[Size, InputGeometry]
"""Size of an image, and how it was fitted into the network's input."""


def find_boxes(outputs: Mapping[str, NDArray[Any]], image_size: Size, facts: ModelFacts, format: Found) -> Detections:
    """Read what a model has found in one image.

    Args:
        outputs: of one image, name → array, with the batch axis where the model gives one.
        image_size: ``(height, width)`` of the original image.
        facts: of the model.
        format: how the outputs are read.

    Raises:
        ModelError: the outputs do not belong together, or what should be scores is none.
        LabelError: a box has a label that the classes do not reach.
        ImageError: a box or score is NaN.
    """
    for name in outputs.keys() - XAI_OUTPUTS:
        if np.issubdtype(outputs[name].dtype, np.floating) and np.isnan(outputs[name]).any():
            raise ImageError(not_finite("boxes and scores"))
    found = read_detections(
        outputs,
        format,
        image_size,
        facts.geometry,
        threshold=facts.confidence_threshold,
        iou_threshold=facts.iou_threshold,
        first_label=facts.first_label,
    )
    if len(found) and int(found.labels.max()) >= len(facts.labels):
        raise LabelError(
            f"The model found a box of label {int(found.labels.max()) + facts.first_label}, and there are "
            f"{len(facts.labels)} classes, the first of which it calls {facts.first_label}. Pass --labels with one "
            "name for each class, and 'background' in front if its label 0 stands for nothing."
        )
    return found


def choose_boxes(
    outputs: Mapping[str, NDArray[Any]],
    found: Detections,
    labels: Sequence[str],
    wanted: Wanted,
    *,
    placed: Placed | None = None,
    first_label: int = 0,
    scaled: bool,
) -> Choice:
    """Choose the targets of one image and take their maps.

    Args:
        outputs: ``saliency_map``, ``(1, K', h, w)`` or ``(1, h, w)``, as the graph gives it. ``K'`` is the number of
            classes, or of the wanted ones.
        found: what the model has found in the image.
        labels: class names.
        wanted: what to explain. The predicted classes are those of boxes from its threshold, best first; the class of
            the best box where none reaches it; none where there is no box. Of boxes by themselves all are explained.
        placed: size of the image, and how it was fitted in, which maps of boxes need.
        first_label: what the model calls class 0; its own maps may begin there.
        scaled: the graph has scaled the maps to [0, 255].

    Returns:
        The boxes as predictions, targets with the score of their best box (0 without any), and their maps.

    Raises:
        ImageError: the maps are not finite.
    """
    predictions = predictions_of(found, labels)
    best: dict[int, Prediction] = {}
    for prediction in predictions:  # they come best first
        best.setdefault(prediction.target, prediction)
    maps = _single(outputs[SALIENCY_MAP])
    require_finite(maps, "saliency maps")
    if maps.ndim == 3 and len(maps) == len(labels) + first_label:
        maps = maps[first_label:]
    if wanted.per_box and placed is not None:
        targets = tuple(one for one in predictions if one.score >= wanted.least_box)  # the first ones: best first
        each = maps if maps.ndim == 3 else np.broadcast_to(maps, (len(labels), *maps.shape))
        maps, scaled = box_maps(each, found, *placed)[: len(targets)], False
    elif maps.ndim == 2:
        targets = (PER_IMAGE,)
        maps = maps[None]
    else:
        if wanted.indices is not None:
            indices = list(wanted.indices)
        else:
            indices = [i for i, p in best.items() if p.score >= wanted.threshold] or list(best)[:1]
        targets = tuple(Prediction(i, labels[i], best[i].score if i in best else 0.0) for i in indices)
        if len(maps) == len(labels):
            maps = maps[indices]
    shown = maps / np.float32(255) if scaled else min_max(maps)
    warnings = classes_without_box(
        targets, predictions, "the map explains next to nothing", "the maps explain next to nothing"
    )
    return Choice(predictions, targets, shown, found, doubts(found) + warnings + constant_maps(targets, shown))


def doubts(found: Detections) -> tuple[str, ...]:
    """Return a warning of boxes that seem to be misread; mostly nothing."""
    return (found.doubt,) if found.doubt else ()


def classes_without_box(
    targets: Sequence[Prediction], predictions: Sequence[Prediction], one: str, several: str
) -> tuple[str, ...]:
    """Return a warning of classes that are to be explained, and none of whose boxes counts; mostly nothing.

    Args:
        targets: what is to be explained of an image.
        predictions: its boxes, from the confidence threshold.
        one: what follows for a single class.
        several: for more.
    """
    found = {prediction.target for prediction in predictions} | {PER_IMAGE_TARGET}
    return map_warning(
        [target for target in targets if target.target not in found],
        f"no box of the class reaches the confidence threshold: {one}",
        f"no box of these classes reaches the confidence threshold: {several}",
    )


def classes_without_map(predictions: Sequence[Prediction], wanted: Wanted, labels: Sequence[str]) -> tuple[str, ...]:
    """Return a warning of classes that were chosen, unless all were, and that have no box to explain."""
    if wanted.indices is None or len(wanted.indices) == len(labels):
        return ()
    chosen = [Prediction(i, labels[i], 0.0) for i in wanted.indices]
    return classes_without_box(chosen, predictions, "there is no map of it", "there are no maps of them")


def predictions_of(found: Detections, labels: Sequence[str]) -> tuple[Prediction, ...]:
    """Return each detection as a prediction, in their order."""
    return tuple(
        Prediction(int(label), labels[label], float(score), _corners(box), number)
        for number, (box, label, score) in enumerate(zip(found.boxes, found.labels, found.scores, strict=True))
    )


def _corners(box: FloatArray) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def _single(maps: NDArray[Any]) -> FloatArray:
    """Take the batch axis off the maps of one image."""
    if len(maps) != 1 or maps.ndim not in (3, 4):
        raise ModelError(
            f"The model's {SALIENCY_MAP} is {list(maps.shape)} for one image; expected [1, classes, h, w] or [1, h, w]."
        )
    return np.asarray(maps[0], np.float32)
