"""Which classes of an image are explained: the user's words, the graph's share of the choice, and the choice itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import TargetError
from otx_xai.graph.insert import SALIENCY_MAP, SALIENCY_TARGETS, SCORES
from otx_xai.postprocess import min_max, predict
from otx_xai.records import FloatArray, Prediction

PREDICTED = "predicted"


@dataclass(frozen=True)
class Wanted:
    """What to explain of every image.

    Args:
        indices: class indices in the user's order; ``None``: the predicted classes.
        threshold: score from which a class counts as predicted.
    """

    indices: tuple[int, ...] | None
    threshold: float

    def classes(self, count: int, *, exclusive: bool) -> int | tuple[int, ...] | None:
        """Say what the graph has to explain so that every wanted map is there.

        Of exclusive classes, whose scores sum up to 1, at most ``1 / threshold`` can reach the threshold.

        Returns:
            The given classes, a number of best classes, or ``None`` for all of them.
        """
        if self.indices is not None:
            return None if self.indices == tuple(range(count)) else self.indices
        if not exclusive or self.threshold * count <= 1:
            return None
        return max(1, int(1 / self.threshold))


def resolve_targets(targets: Any, labels: Sequence[str]) -> tuple[int, ...] | None:
    """Turn what users write into class indices, in their order and without repeats.

    Args:
        targets: ``"predicted"`` (or ``None``), ``-1`` for all classes, an index, a name, ``"a,b"``, or a sequence of
            indices and names.
        labels: class names in order.

    Returns:
        Class indices, or ``None`` for the predicted classes.

    Raises:
        TargetError: a target is no class.

    >>> resolve_targets("dog, 0", ["cat", "dog"])
    (1, 0)
    """
    if targets is None or (isinstance(targets, str) and targets.strip().lower() == PREDICTED):
        return None
    items = list(_items(targets, labels))
    if any(_is_all(item) for item in items):
        return tuple(range(len(labels)))
    return tuple(dict.fromkeys(_index(item, labels) for item in items))


def _items(targets: Any, labels: Sequence[str]) -> Iterable[Any]:
    if isinstance(targets, str):
        if targets in labels:  # names may hold commas
            return [targets]
        return [part.strip() for part in targets.strip("[]").split(",") if part.strip()]
    if isinstance(targets, Iterable):
        return list(np.asarray(targets).reshape(-1)) if isinstance(targets, np.ndarray) else list(targets)
    return [targets]


def _is_all(item: Any) -> bool:
    return str(item).strip() == "-1"


def _index(item: Any, labels: Sequence[str]) -> int:
    text = str(item).strip()
    if text in labels:
        return list(labels).index(text)
    if text.isdecimal():
        index = int(text)
        if index < len(labels):
            return index
        raise TargetError(
            f"Target {index} is no class of the model, which has {len(labels)} classes: expected an index from 0 to "
            f"{len(labels) - 1}, a class name, -1 for all classes, or 'predicted'."
        )
    folded = {_fold(label): i for i, label in reversed(list(enumerate(labels)))}
    if _fold(text) in folded:
        return folded[_fold(text)]
    close = difflib.get_close_matches(_fold(text), folded, n=3)
    hint = f" Close names: {', '.join(repr(labels[folded[name]]) for name in close)}." if close else ""
    raise TargetError(
        f"Target {text!r} is no class of the model. Expected one of its {len(labels)} class names "
        f"({', '.join(repr(label) for label in labels[:3])}, …), an index from 0 to {len(labels) - 1}, -1 for all "
        f"classes, or 'predicted'. Names come from --labels or from the model's model_info.{hint}"
    )


def _fold(label: str) -> str:
    return label.casefold().replace("_", " ").strip()


def choose(
    outputs: Mapping[str, NDArray[Any]], labels: Sequence[str], wanted: Wanted, *, scaled: bool
) -> tuple[tuple[Prediction, ...], tuple[Prediction, ...], FloatArray]:
    """Choose the targets of one image and take their maps.

    Args:
        outputs: of one image: ``saliency_scores`` ``(K,)``, ``saliency_map`` ``(K', h, w)`` or ``(h, w)``, and
            ``saliency_targets`` ``(K',)`` where the graph chose the classes.
        labels: class names.
        wanted: what to explain.
        scaled: the graph has scaled the maps to [0, 255].

    Returns:
        Predictions best first, targets, and their maps ``float32`` ``(M, h, w)`` in [0, 1].
    """
    predictions = predict(outputs[SCORES], labels, wanted.threshold)
    maps = np.asarray(outputs[SALIENCY_MAP], dtype=np.float32)
    if maps.ndim == 2:
        targets: tuple[Prediction, ...] = (Prediction(-1, "", 1.0),)
        maps = maps[None]
    else:
        scores = outputs[SCORES]
        targets = predictions
        if wanted.indices is not None:
            targets = tuple(Prediction(i, labels[i], float(scores[i])) for i in wanted.indices)
        maps = maps[_rows(outputs, targets, wanted, len(maps), len(labels))]
    return predictions, targets, maps / np.float32(255) if scaled else min_max(maps)


def _rows(
    outputs: Mapping[str, NDArray[Any]], targets: Sequence[Prediction], wanted: Wanted, maps: int, classes: int
) -> list[int]:
    """Return which map of the output belongs to each target."""
    if SALIENCY_TARGETS in outputs:
        order = {int(target): row for row, target in enumerate(outputs[SALIENCY_TARGETS])}
        return [order[target.target] for target in targets]
    if wanted.indices is not None and maps != classes:
        return list(range(maps))
    return [target.target for target in targets]
