"""Predictions for every place or query of a detector, before anything is chosen among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match
from otx_xai.postprocess.proposals import Proposals
from otx_xai.records import FloatArray, IntArray, ScoreOrigin, Size

_LEAST = 1e-6
"""Shares that are divided by count as this at least."""

_SLACK = 0.02
"""How far scores may lie outside of [0, 1]: 8-bit numbers go in steps."""

NOT_RAW = (
    "If the model is no detector, it has no boxes to be explained; else name its format by --format, export it with "
    "its non-maximum suppression, or read its boxes by a postprocess_fn of your own in Python."
)

Chosen = NDArray[np.intp]


@dataclass(frozen=True)
class Dense:
    """Predictions for ``P`` places in one image.

    Args:
        classes: class scores ``float32`` ``(P, K)`` in [0, 1].
        boxes: decodes the boxes of some places, ``float32`` ``(M, 4)``, xyxy in pixels of the network's input.
        objectness: ``float32`` ``(P,)`` in [0, 1]; ``None``: the best class score stands for it.
        masks: makes the masks of some places over the whole input, ``float32`` ``(M, h, w)`` in [0, 1].
        turned: decodes the turned boxes of some places, ``float32`` ``(M, 5)``, where boxes are the upright ones around
            such.
        origins: tells where in the outputs the scores of some places come from, given the class of each, ``(M,)``.
    """

    classes: FloatArray
    boxes: Callable[[Chosen], FloatArray]
    objectness: FloatArray | None = None
    masks: Callable[[Chosen], FloatArray] | None = None
    turned: Callable[[Chosen], FloatArray] | None = None
    origins: Callable[[Chosen, IntArray], tuple[ScoreOrigin, ...]] | None = None


def candidates_of(dense: Dense, threshold: float, scores: FloatArray | None = None) -> Candidates:
    """Return the places whose best class reaches a threshold, each with this class.

    Args:
        dense: what the model predicts.
        threshold: score from which they count.
        scores: of each class, ``(P, K)``; by default class scores times objectness.
    """
    if scores is None:
        scores = dense.classes if dense.objectness is None else dense.objectness[:, None] * dense.classes
    best = scores.max(axis=1)
    chosen = np.flatnonzero(best >= threshold)
    labels, masks = scores[chosen].argmax(axis=1).astype(np.int64), dense.masks
    return Candidates(
        boxes=dense.boxes(chosen),
        labels=labels,
        scores=best[chosen],
        masks=None if masks is None else lambda places: masks(chosen[places]),
        masks_fill_boxes=False,
        turned=None if dense.turned is None else dense.turned(chosen),
        origins=() if dense.origins is None else dense.origins(chosen, labels),
    )


def factor(output: str, elements: IntArray, shares: FloatArray, *, power: float = 1, raw: bool = False) -> ScoreOrigin:
    """Return the origin of one factor of the scores of some boxes.

    Args:
        output: name of the output that holds it.
        elements: where, ``(M,)``; see :class:`~otx_xai.records.ScoreOrigin`.
        shares: its values, ``(M,)`` in [0, 1].
        power: of the factor in the product.
        raw: the output holds it in front of a sigmoid.
    """
    slopes = 1 - shares if raw else 1 / np.maximum(shares, _LEAST)
    return ScoreOrigin(output, elements.astype(np.int64), (power * slopes).astype(np.float32))


def proposals_of(dense: Dense, threshold: float) -> Proposals:
    """Return the places whose objectness reaches a threshold, with all class scores."""
    objectness = dense.classes.max(axis=1) if dense.objectness is None else dense.objectness
    kept = np.flatnonzero(objectness >= threshold)
    return Proposals(dense.boxes(kept), dense.classes[kept], objectness[kept])


def require_shares(values: FloatArray, what: str) -> None:
    """Check that all values are in [0, 1], up to the steps of 8-bit numbers; NaN passes.

    Raises:
        ModelError: they are not.
    """
    if (values < -_SLACK).any() or (values > 1 + _SLACK).any():
        raise ModelError(
            f"The output of the detector was read as raw predictions, but what should be its {what} is from "
            f"{np.nanmin(values):.3g} to {np.nanmax(values):.3g}; expected 0 to 1. {NOT_RAW}"
        )


def dense_format(
    name: str,
    meaning: str,
    matches: Callable[[DetectorOutputs], Match | None],
    read: Callable[[Arrays, Match, Size], Dense],
) -> BoxFormat:
    """Return the row of a format that gives predictions for every place.

    Args:
        name: as of :class:`~otx_xai.model.formats.box_format.BoxFormat`, and the next two.
        meaning: see there.
        matches: see there.
        read: makes them of the outputs of one image, given the match and the size of the network's input.
    """

    def decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
        return candidates_of(read(outputs, match, size), threshold)

    def proposals(outputs: Arrays, match: Match, size: Size, threshold: float) -> Proposals:
        return proposals_of(read(outputs, match, size), threshold)

    return BoxFormat(name, meaning, matches, decode, proposals)
