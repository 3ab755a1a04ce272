"""The choice for detectors whose boxes are explained one by one in a second pass: maps of boxes or of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.explain.box_choice import Placed, classes_without_map, doubts, predictions_of
from otx_xai.explain.targets import Choice, Wanted, map_warning, require_finite
from otx_xai.methods.spec import BoxesAsked, SecondPass
from otx_xai.postprocess import min_max
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.records import Detections, Prediction
from otx_xai.runtime import Session


def choose_with_gradients(
    starts: Mapping[str, NDArray[Any]],
    found: Detections,
    placed: Placed,
    labels: Sequence[str],
    wanted: Wanted,
    second_pass: SecondPass,
    session: Session,
) -> Choice:
    """Explain boxes of one image, each by itself, or classes by the boxes that were found of them.

    The map of a class is the pixelwise maximum of the maps of its boxes, each in [0, 1]: what is not found is not lit.

    Args:
        starts: what the second pass starts from, by name.
        found: what the model has found in the image.
        placed: size of the image, and how it was fitted into the network's input.
        labels: class names.
        wanted: what to explain. The predicted classes are those of boxes from its threshold, the class of the best box
            where none reaches it. Of classes that are chosen, those without a box get no map.
        second_pass: what makes the maps.
        session: the model of the first pass, compiled.

    Raises:
        ImageError: the maps are not finite.
    """
    predictions = predictions_of(found, labels)
    missing = doubts(found) + classes_without_map(predictions, wanted, labels)
    classes = wanted_classes(predictions, wanted)
    numbers = numbers_of(predictions, classes, wanted)
    if not numbers:
        return Choice(predictions, (), np.zeros((0, 1, 1), np.float32), found, missing)
    asked = boxes_asked(found, numbers, placed, of_classes=not wanted.per_box)
    maps = second_pass.maps(session, dict(starts), asked)
    require_finite(maps, "gradients")
    targets = tuple(predictions[i] for i in numbers)
    if not wanted.per_box:  # beside boxes that something raises, what lowers others of their class counts for nothing
        raised = np.isin(asked.found.labels, asked.found.labels[(maps > 0).any(axis=(1, 2))])
        maps = np.where(raised[:, None, None], np.maximum(maps, 0), maps)
    lowered = [target for target, one in zip(targets, maps, strict=True) if (one < 0).any()]
    choice = Choice(predictions, targets, min_max(np.abs(maps)), found, missing)
    if not wanted.per_box:
        choice = merged_by_class(choice, classes)
        lowered = [target for target in choice.targets if target.target in {box.target for box in lowered}]
    return replace(choice, warnings=missing + _without_gradient(choice) + _only_lowered(lowered))


def merged_by_class(choice: Choice, classes: Sequence[int]) -> Choice:
    """Turn maps of boxes, each in [0, 1], into maps of classes: the pixelwise maximum over the boxes of a class."""
    own = [[i for i, box in enumerate(choice.targets) if box.target == target] for target in classes]
    own = [numbers for numbers in own if numbers]
    best = [choice.targets[numbers[0]] for numbers in own]
    return replace(
        choice,
        targets=tuple(Prediction(box.target, box.label, box.score) for box in best),
        maps=np.stack([choice.maps[numbers].max(axis=0) for numbers in own]),
    )


def numbers_of(predictions: Sequence[Prediction], classes: Sequence[int], wanted: Wanted) -> list[int]:
    """Return the numbers of the boxes of some classes that are to be explained."""
    return [i for i, one in enumerate(predictions) if one.target in classes and one.score >= wanted.least_box]


def wanted_classes(predictions: Sequence[Prediction], wanted: Wanted) -> list[int]:
    """Return the classes that are explained and have boxes, in the order of their maps."""
    present = list(dict.fromkeys(prediction.target for prediction in predictions))  # they come best first
    if wanted.indices is not None:
        return [target for target in wanted.indices if target in present]
    if wanted.per_box:
        return present
    sure = {prediction.target for prediction in predictions if prediction.score >= wanted.threshold}
    return [target for target in present if target in sure] or present[:1]


def boxes_asked(found: Detections, numbers: Sequence[int], placed: Placed, *, of_classes: bool = False) -> BoxesAsked:
    """Return what a second pass is to explain: some boxes, without their masks.

    Args:
        found: all boxes of an image.
        numbers: of those to be explained.
        placed: size of the image, and how it was fitted into the network's input.
        of_classes: their maps become maps of classes.
    """
    kept = np.array(numbers, np.intp)
    origins = tuple(origin.of(kept) for origin in found.origins)
    some = Detections(found.boxes[kept], found.labels[kept], found.scores[kept], origins=origins)
    return BoxesAsked(some, boxes_on_input(some.boxes, *placed), of_classes)


def _without_gradient(choice: Choice) -> tuple[str, ...]:
    """Return a warning of targets whose maps are all zeros; mostly nothing."""
    dead = [target for target, one in zip(choice.targets, choice.maps, strict=True) if not one.any()]
    why = "no place of the features raises the score: it is saturated, or lies behind an activation that gives 0"
    return map_warning(dead, f"the map is empty, since {why}", f"the maps are empty, since {why}")


def _only_lowered(targets: Sequence[Prediction]) -> tuple[str, ...]:
    """Return a warning of targets whose scores nothing raises; mostly nothing."""
    what = "no place of the features raises the score over that of an empty image; what is lit lowers it"
    return map_warning(targets, what, what)
