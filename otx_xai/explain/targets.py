"""Which classes of an image are explained: the user's words, the graph's share of the choice, and the choice itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError, TargetError
from otx_xai.explain.class_names import ALL, ClassNames
from otx_xai.postprocess import min_max, predict
from otx_xai.postprocess.scores import NO_SCORE, are_alike
from otx_xai.records import (
    FEATURE_VECTOR,
    PER_IMAGE_TARGET,
    SALIENCY_MAP,
    SALIENCY_TARGETS,
    SCORES,
    ClassAnswer,
    Detections,
    FloatArray,
    Prediction,
    Targets,
)

logger = logging.getLogger("otx_xai")

PREDICTED = "predicted"
BOXES = "boxes"
_MEANING = {ALL: "all classes", PREDICTED: "the classes that an image shows", BOXES: "each box by itself"}
"""Words that are no classes, and what they mean."""

THRESHOLD = 0.3
"""Score from which a class counts as predicted where nobody says another."""

_NAMED = 5
"""Maps of an image that one warning names at most."""

_NO_FEATURES = np.zeros(0, np.float32)

PER_IMAGE = Prediction(PER_IMAGE_TARGET, "", 1.0)
"""The target of a map that knows no classes."""


@dataclass(frozen=True)
class Wanted:
    """What to explain of every image.

    Args:
        indices: class indices in the user's order, each once; ``None``: the predicted classes.
        threshold: score in [0, 1] from which a class counts as predicted.
        per_box: one map for each box that is found, rather than one a class.
        best: explain so many classes of the best scores, whatever these are; ``None``: ``threshold`` says which.
        least_box: score from which a box by itself has a map; those that are listed below it have none.
    """

    indices: tuple[int, ...] | None
    threshold: float
    per_box: bool = False
    best: int | None = None
    least_box: float = 0.0

    def classes(self, count: int, *, exclusive: bool) -> int | tuple[int, ...] | None:
        """Say what the graph has to explain so that every wanted map is there.

        Of exclusive classes, whose scores sum up to 1, at most ``1 / threshold`` can reach the threshold.

        Args:
            count: number of classes of the model.
            exclusive: whether the scores of an image sum up to 1.

        Returns:
            The given classes, a number of best classes, or ``None`` for all of them in the order of classes.
        """
        if self.indices is not None:
            return None if len(self.indices) == count else self.indices
        if self.best is not None:
            return None if self.best >= count else self.best
        if not exclusive or self.threshold * count <= 1:
            return None
        return max(1, int(1 / self.threshold))


def resolve_wanted(targets: Targets, labels: Sequence[str], threshold: float, *, has_boxes: bool) -> Wanted:
    """Turn what users write into what is wanted.

    Args:
        targets: see :func:`resolve_targets`; of a model that finds boxes also ``"boxes"``: each box by itself.
        labels: class names in order.
        threshold: score from which a class counts as predicted.
        has_boxes: whether the model finds boxes.

    Raises:
        TargetError: a target is no class, a word that must stand alone does not, or boxes are wanted of a classifier.
    """
    if targets is None:
        return Wanted(None, threshold)
    names = ClassNames(labels, (PREDICTED, BOXES))
    items = _items(targets, names)
    if not has_boxes:
        if any(names.word(item) == BOXES for item in items):
            raise TargetError("targets 'boxes' asks for a map of each box; a classifier has none. Leave it out.")
        names = ClassNames(labels, (PREDICTED,))
    if _only_word(items, names) == BOXES:
        return Wanted(None, threshold, per_box=True)
    return Wanted(_indices(items, names), threshold)


def resolve_targets(targets: Targets, labels: Sequence[str]) -> tuple[int, ...] | None:
    """Turn what users write into class indices, in their order and without repeats.

    A number is an index. A text is a class name, read without regard to case and with ``_`` for a space, or an index.
    A text that is no class name may list several of both, with commas between.

    Args:
        targets: ``"predicted"`` (or ``None``) or ``-1`` for all classes, each by itself; an index, a name, ``"a,b"``,
            or a sequence or array of indices and names.
        labels: class names in order.

    Returns:
        Class indices, or ``None`` for the predicted classes.

    Raises:
        TargetError: a target is no class, or a word that must stand alone does not.

    >>> resolve_targets("dog, 0", ["cat", "dog"])
    (1, 0)
    """
    if targets is None:
        return None
    names = ClassNames(labels, (PREDICTED,))
    return _indices(_items(targets, names), names)


def _items(targets: Targets, names: ClassNames) -> list[Any]:
    if isinstance(targets, str):
        text = targets.strip()
        if names.find(text) is not None:  # names may hold commas
            return [text]
        return [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if isinstance(targets, np.ndarray):
        return list(targets.reshape(-1))
    return list(targets) if isinstance(targets, Iterable) else [targets]


def _only_word(items: Sequence[Any], names: ClassNames) -> str | None:
    """Return the word that stands in the place of classes; ``None`` where classes are listed.

    Raises:
        TargetError: a word stands beside others, or beside classes.
    """
    words = [names.word(item) for item in items]
    word = next(filter(None, words), None)
    if word is None or set(words) == {word}:
        return word
    raise TargetError(
        f"targets lists {', '.join(map(str, items))}; {word!r} means {_MEANING[word]}, and must stand alone. Expected "
        f"{word!r} by itself, or classes only."
    )


def _indices(items: Sequence[Any], names: ClassNames) -> tuple[int, ...] | None:
    """Return the classes that are listed, or that a word stands for; ``None``: the predicted ones."""
    word = _only_word(items, names)
    if word == PREDICTED:
        return None
    return names.everything() if word == ALL else tuple(dict.fromkeys(names.index(item) for item in items))


@dataclass(frozen=True)
class Choice:
    """What is explained of one image.

    Args:
        predictions: what the model predicts, best first.
        targets: what is explained, as many as there are maps.
        maps: ``float32`` ``(M, h, w)`` in [0, 1].
        detections: what a detector found; ``None`` of a classifier.
        warnings: what speaks against single maps, in words; mostly nothing.
        answer: of a classifier, what else it says of the image.
    """

    predictions: tuple[Prediction, ...]
    targets: tuple[Prediction, ...]
    maps: FloatArray
    detections: Detections | None = None
    warnings: tuple[str, ...] = ()
    answer: ClassAnswer | None = None


def map_names(targets: Sequence[Prediction]) -> list[str]:
    """Return what to call the maps of these targets of an image in messages; boxes are numbered as predictions are."""
    return [
        "the map of the image"
        if target.target == PER_IMAGE_TARGET
        else f"class {target.label!r}" + ("" if target.number is None else f", box {target.number}")
        for target in targets
    ]


def constant_maps(targets: Sequence[Prediction], maps: FloatArray) -> tuple[str, ...]:
    """Return a warning of maps in [0, 1] that are the same everywhere, and so were scaled to zeros; mostly nothing."""
    flat = np.flatnonzero(~maps.any(axis=(1, 2)))
    return map_warning(
        [targets[int(i)] for i in flat],
        "the map is constant, and says nothing about any place",
        "the maps are constant, and say nothing about any place",
    )


def targets_without_score(targets: Sequence[Prediction]) -> tuple[str, ...]:
    """Return a warning of targets of an image whose score is practically 0; mostly nothing."""
    low = [target for target in targets if not target.score > NO_SCORE]
    best = max((target.score for target in low), default=0.0)
    return map_warning(
        low,
        f"the score of the target is {best:.3g} in the image: the map explains next to nothing",
        f"the scores of the targets are at most {best:.3g} in the image: the maps explain next to nothing",
    )


def map_warning(targets: Sequence[Prediction], one: str, several: str) -> tuple[str, ...]:
    """Return what speaks against the maps of some targets of an image: one line, however many they are.

    Args:
        targets: those that it speaks against; nothing is said where there are none.
        one: what to say of a single map.
        several: of more.
    """
    names = map_names(targets[:_NAMED])
    if len(targets) < 2:
        return tuple(f"{name}: {one}" for name in names)
    more = f" and {len(targets) - _NAMED} more" if len(targets) > _NAMED else ""
    return (f"{'; '.join(names)}{more}: {several}",)


def equal_scores(scores: FloatArray) -> tuple[str, ...]:
    """Return what speaks against a model that scores all classes of an image alike, or nothing.

    Args:
        scores: of all classes, ``(K,)``.
    """
    if not are_alike(scores):
        return ()
    return (
        f"all {len(scores)} classes have the same score, {scores[0]:.3g}: the model does not tell this image from any "
        "other. Check that the checkpoint holds trained weights, and the pre-processing (normalisation, value range)",
    )


def choose(outputs: Mapping[str, NDArray[Any]], labels: Sequence[str], wanted: Wanted, *, scaled: bool) -> Choice:
    """Choose the targets of one classified image and take their maps.

    Args:
        outputs: of one image: ``saliency_scores`` ``(K,)``, ``saliency_map`` ``(K', h, w)`` or ``(h, w)``, and
            ``saliency_targets`` ``(K',)`` where the graph chose the classes. ``K'`` is the number of classes, or of
            those that :meth:`Wanted.classes` gave.
        labels: class names.
        wanted: what to explain.
        scaled: the graph has scaled the maps to [0, 255].

    Raises:
        ImageError: the model's outputs are not finite.
    """
    scores = outputs[SCORES]
    require_finite(scores, "class scores")
    predictions = predict(scores, labels, wanted.threshold)
    maps = np.asarray(outputs[SALIENCY_MAP], dtype=np.float32)
    if maps.ndim == 2:
        targets: tuple[Prediction, ...] = (PER_IMAGE,)
        maps = maps[None]
    elif wanted.indices is not None:
        targets = tuple(Prediction(i, labels[i], float(scores[i])) for i in wanted.indices)
        maps = maps[list(wanted.indices)] if len(maps) == len(labels) else maps
    elif SALIENCY_TARGETS in outputs:
        best = outputs[SALIENCY_TARGETS]
        # Where scores are equal, the graph may count other classes among the best than the host
        reach = [row for row, target in enumerate(best) if scores[target] >= wanted.threshold] or [0]
        rows = reach if wanted.best is None else list(range(len(best)))
        targets = tuple(Prediction(int(i), labels[i], float(scores[i])) for i in best[rows])
        maps = maps[rows]
    else:
        targets = predictions if wanted.best is None else _best(scores, labels, wanted.best)
        maps = maps[[target.target for target in targets]]
    require_finite(maps, "saliency maps")
    shown = maps / np.float32(255) if scaled else min_max(maps)
    warnings = equal_scores(scores) + targets_without_score(targets)
    warnings += constant_maps(targets, shown)
    return Choice(predictions, targets, shown, warnings=warnings, answer=_answer(scores, outputs, maps))


def _best(scores: FloatArray, labels: Sequence[str], count: int) -> tuple[Prediction, ...]:
    order = np.argsort(-scores, kind="stable")[:count]
    return tuple(Prediction(int(target), labels[target], float(scores[target])) for target in order)


def _answer(scores: FloatArray, outputs: Mapping[str, NDArray[Any]], maps: FloatArray) -> ClassAnswer:
    ranges = np.stack([maps.min(axis=(1, 2)), maps.max(axis=(1, 2))], axis=1)
    return ClassAnswer(scores, outputs.get(FEATURE_VECTOR, _NO_FEATURES), ranges)


def require_finite(values: NDArray[Any], what: str) -> None:
    """Raise ``ImageError`` if the model overflowed on this image."""
    if not np.isfinite(values).all():
        raise ImageError(not_finite(what))


def not_finite(what: str) -> str:
    """Say that the model overflowed on an image, and what to check."""
    return (
        f"The model's {what} are NaN or infinite; expected finite numbers. Check the weights of the model and its "
        "pre-processing (normalisation, value range)."
    )
