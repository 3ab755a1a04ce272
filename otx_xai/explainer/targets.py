"""Which classes of an image are explained: the user's words, the graph's share of the choice, and the choice itself."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ImageError, TargetError
from otx_xai.postprocess import min_max, predict
from otx_xai.records import PER_IMAGE_TARGET, SALIENCY_MAP, SALIENCY_TARGETS, SCORES, Detections, FloatArray, Prediction
from otx_xai.report import box_numbers

logger = logging.getLogger("otx_xai")

PREDICTED = "predicted"
BOXES = "boxes"
PER_IMAGE = Prediction(PER_IMAGE_TARGET, "", 1.0)
"""The target of a map that knows no classes."""


@dataclass(frozen=True)
class Wanted:
    """What to explain of every image.

    Args:
        indices: class indices in the user's order, each once; ``None``: the predicted classes.
        threshold: score in [0, 1] from which a class counts as predicted.
        per_box: one map a box from the threshold, rather than one a class.
    """

    indices: tuple[int, ...] | None
    threshold: float
    per_box: bool = False

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
        if not exclusive or self.threshold * count <= 1:
            return None
        return max(1, int(1 / self.threshold))


def resolve_wanted(targets: Any, labels: Sequence[str], threshold: float, *, has_boxes: bool) -> Wanted:
    """Turn what users write into what is wanted.

    Args:
        targets: see :func:`resolve_targets`; of a model that finds boxes also ``"boxes"``: each box by itself.
        labels: class names in order.
        threshold: score from which a class, or a box, counts as predicted.
        has_boxes: whether the model finds boxes.

    Raises:
        TargetError: a target is no class, or boxes are wanted of a classifier.
    """
    if isinstance(targets, str) and _fold(targets) == BOXES and _Names(labels).find(targets) is None:
        if not has_boxes:
            raise TargetError("targets 'boxes' asks for a map of each box; a classifier has none. Leave it out.")
        return Wanted(None, threshold, per_box=True)
    return Wanted(resolve_targets(targets, labels), threshold)


def resolve_targets(targets: Any, labels: Sequence[str]) -> tuple[int, ...] | None:
    """Turn what users write into class indices, in their order and without repeats.

    A number is an index. A text is a class name, read without regard to case and with ``_`` for a space, or an index.
    A text that is no class name may list several of both, with commas between.

    Args:
        targets: ``"predicted"`` (or ``None``), ``-1`` for all classes, an index, a name, ``"a,b"``, or a sequence or
            array of indices and names.
        labels: class names in order.

    Returns:
        Class indices, or ``None`` for the predicted classes.

    Raises:
        TargetError: a target is no class.

    >>> resolve_targets("dog, 0", ["cat", "dog"])
    (1, 0)
    """
    names = _Names(labels)
    if targets is None or (isinstance(targets, str) and _fold(targets) == PREDICTED and names.find(targets) is None):
        return None
    items = _items(targets, names)
    if any(str(item).strip() == "-1" for item in items):
        return tuple(range(len(labels)))
    return tuple(dict.fromkeys(names.index(item) for item in items))


class _Names:
    """Class names, to be looked up as users write them."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._exact: dict[str, list[int]] = {}
        self._folded: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self._exact.setdefault(label, []).append(index)
            self._folded.setdefault(_fold(label), []).append(index)

    def find(self, text: str) -> int | None:
        """Return the class of this name, the first where several have it."""
        found = self._exact.get(text) or self._folded.get(_fold(text))
        if found and len(found) > 1:
            logger.warning(
                "Classes %s are all called %r; explaining %d. Pass the index to choose.", found, text, found[0]
            )
        return found[0] if found else None

    def index(self, item: Any) -> int:
        """Return the class that ``item``, an index or a name, means.

        Raises:
            TargetError: there is none.
        """
        text = str(item).strip()
        is_number = isinstance(item, int | np.integer) and not isinstance(item, bool)
        found = None if is_number else self.find(text)
        if found is not None:
            return found
        if not text.removeprefix("-").isdecimal():
            raise TargetError(self._unknown(text))
        if not 0 <= int(text) < len(self._labels):
            raise TargetError(
                f"Target {text} is no class of the model, which has {len(self._labels)}. {self._expected()}"
            )
        return int(text)

    def _expected(self) -> str:
        return (
            f"Expected an index from 0 to {len(self._labels) - 1}, a class name, -1 for all classes, or {PREDICTED!r}."
        )

    def _unknown(self, text: str) -> str:
        close = difflib.get_close_matches(_fold(text), self._folded, n=3)
        names = [self._labels[self._folded[name][0]] for name in close] or list(self._labels[:3])
        words = "Close names" if close else "The class names begin with"
        return (
            f"Target {text!r} is no class of the model. {words}: {', '.join(map(repr, names))}. {self._expected()} "
            f"Names come from label_names, from --labels, or from the model's model_info."
        )


def _items(targets: Any, names: _Names) -> list[Any]:
    if isinstance(targets, str):
        text = targets.strip()
        if names.find(text) is not None:  # names may hold commas
            return [text]
        return [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if isinstance(targets, np.ndarray):
        return list(targets.reshape(-1))
    return list(targets) if isinstance(targets, Iterable) else [targets]


def _fold(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


@dataclass(frozen=True)
class Choice:
    """What is explained of one image.

    Args:
        predictions: what the model predicts, best first.
        targets: what is explained, as many as there are maps.
        maps: ``float32`` ``(M, h, w)`` in [0, 1].
        detections: what a detector found; ``None`` of a classifier.
        warnings: what speaks against single maps, in words; mostly nothing.
    """

    predictions: tuple[Prediction, ...]
    targets: tuple[Prediction, ...]
    maps: FloatArray
    detections: Detections | None = None
    warnings: tuple[str, ...] = ()


def map_names(targets: Sequence[Prediction], predictions: Sequence[Prediction]) -> list[str]:
    """Return what to call the maps of these targets of an image in messages; boxes are numbered as predictions are."""
    return [
        "the map of the image"
        if target.target == PER_IMAGE_TARGET
        else f"class {target.label!r}" + ("" if number is None else f", box {number}")
        for target, number in zip(targets, box_numbers(targets, predictions), strict=True)
    ]


def constant_maps(
    targets: Sequence[Prediction], predictions: Sequence[Prediction], maps: FloatArray
) -> tuple[str, ...]:
    """Return a warning for each map in [0, 1] that is the same everywhere, and so was scaled to zeros."""
    flat = ~maps.any(axis=(1, 2))
    names = map_names(targets, predictions)
    return tuple(f"{names[i]}: the map is constant, and says nothing about any place" for i in np.flatnonzero(flat))


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
        rows = [row for row, target in enumerate(best) if scores[target] >= wanted.threshold] or [0]
        targets = tuple(Prediction(int(i), labels[i], float(scores[i])) for i in best[rows])
        maps = maps[rows]
    else:
        targets = predictions
        maps = maps[[target.target for target in targets]]
    require_finite(maps, "saliency maps")
    shown = maps / np.float32(255) if scaled else min_max(maps)
    return Choice(predictions, targets, shown, warnings=constant_maps(targets, predictions, shown))


def require_finite(values: NDArray[Any], what: str) -> None:
    """Raise ``ImageError`` if the model overflowed on this image."""
    if not np.isfinite(values).all():
        raise ImageError(not_finite(what))


def not_finite(what: str) -> str:
    """Say that the model overflowed on an image, and what to check."""
    return (
        f"The model's {what} for this image are NaN or infinite; expected finite numbers. Check the weights of the "
        "model and its pre-processing (normalisation, value range)."
    )
