"""From the scores of a network to the classes it predicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otx_xai.errors import LabelError
from otx_xai.records import FloatArray, Prediction

NO_SCORE = 1e-6
"""Scores of probabilities up to this are none: float32 cannot tell their differences from noise."""


def are_alike(scores: FloatArray) -> bool:
    """Whether scores ``(K,)`` of several classes are all the same but for the rounding of ``float32``."""
    return len(scores) > 1 and float(np.ptp(scores)) <= NO_SCORE * float(np.abs(scores).max())


def softmax(logits: FloatArray) -> FloatArray:
    """Turn logits ``(..., K)`` into ``float32`` probabilities that sum to 1 along the last axis, without overflow."""
    logits = np.asarray(logits, np.float32)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: FloatArray) -> FloatArray:
    """Turn every logit ``(..., K)`` into a ``float32`` probability of its own, without overflow."""
    logits = np.asarray(logits, np.float32)
    small = np.exp(-np.abs(logits))
    scores: FloatArray = np.where(logits >= 0, 1, small) / (1 + small)
    return scores


def predict(scores: FloatArray, labels: Sequence[str], threshold: float) -> tuple[Prediction, ...]:
    """Find the classes that an image shows.

    Args:
        scores: probabilities ``(K,)``, at least one.
        labels: the name of every class.
        threshold: score from which a class counts.

    Returns:
        The classes whose score is at least ``threshold``, best first, those of equal score in the order of classes.
        Where no class reaches it, the best one alone.

    Raises:
        LabelError: there are not as many labels as scores.
        ValueError: a score is NaN.
    """
    if len(labels) != len(scores):
        raise LabelError(
            f"The model gives {len(scores)} scores, and there are {len(labels)} labels. Expected one label a class: "
            "check the labels that were given, or those in the model's model_info."
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN; expected probabilities. The model "
            "overflows: run it in float32, and check its weights and its pre-processing."
        )
    reached = np.flatnonzero(scores >= threshold)
    targets = reached[np.argsort(-scores[reached], kind="stable")] if reached.size else [int(scores.argmax())]
    return tuple(Prediction(int(target), labels[target], float(scores[target])) for target in targets)
