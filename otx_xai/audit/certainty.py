"""Which images are right and sure, right and unsure, wrong, or torn between two classes, and what is mistaken for what.

The cases are those that users of OpenVINO XAI sort their images by: true positive with high confidence, true positive
with low confidence, false positive, and two predictions. Here each image has exactly one case, see :func:`cases`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, said
from otx_xai.audit.independent import Answers, answers
from otx_xai.audit.statistics import share
from otx_xai.audit.wording import examples, falling
from otx_xai.counting import are, counted
from otx_xai.options import Word
from otx_xai.records import BoolArray, FloatArray, IntArray

SURE = 0.7
"""Score from which a prediction is sure."""
UNSURE = 0.4
"""Score below which a right prediction is called uncertain."""
CLOSE = 2.0
"""Two classes are close where the best scores at most this many times the second."""
BOTH = 0.15
"""Score that both must reach."""

EVERYTHING = "all images"
"""Subject of findings that concern no single class."""


class Case(Word):
    """What became of an image."""

    RIGHT_SURE = "right_sure"
    RIGHT_UNSURE = "right_unsure"
    WRONG = "wrong"
    TORN = "torn"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were taken for another.

    Args:
        given: annotated class.
        predicted: what it was taken for.
        share: of the images of the annotated class.
        images: their rows, the surest first.
    """

    given: int
    predicted: int
    share: Effect
    images: IntArray


@dataclass(frozen=True)
class ClassResult:
    """How well one class is recognised.

    Args:
        target: the class.
        recall: part of its images that are recognised; NaN where it has none.
        precision: part of the images that are taken for it that are of it; NaN where none is taken for it.
        confident_errors: of recall's and precision's mistakes, how many are sure.
    """

    target: int
    recall: Effect
    precision: Effect
    confident_errors: int


def cases(evidence: Evidence, threshold: float = 0.5) -> NDArray[np.str_]:
    """Return the case of each image, in this order of precedence.

    - ``torn``: the best score is at most twice the second, both are at least 0.15, and one of the two classes is
      annotated, or none is. Only of exclusive classes.
    - ``unlabelled``: no class is annotated.
    - ``wrong``: the best class is not annotated, or its score is NaN. Of independent classes: any is mistaken.
    - ``right_sure``: its score is at least 0.7. Of independent classes: each is at least that far from the mistake.
    - ``right_unsure``: all others that are right.

    Args:
        evidence: of a classifier.
        threshold: score from which one of several independent classes counts as predicted.

    Returns:
        A word of :class:`Case` an image, ``(N,)``; of a detector all are ``unlabelled``.
    """
    labelled = evidence.is_labelled
    right, sureness = _right(evidence, threshold)
    sure = sureness >= SURE
    chosen = [_is_torn(evidence), ~labelled, ~right, sure]
    words = [str(case) for case in (Case.TORN, Case.UNLABELLED, Case.WRONG, Case.RIGHT_SURE)]
    return np.select(chosen, words, str(Case.RIGHT_UNSURE)).astype(np.str_)


def count_cases(words: NDArray[np.str_]) -> dict[str, int]:
    """Return how many images are of each case, all cases in their order."""
    numbers = Counter(words.tolist())
    return {str(case): numbers.get(str(case), 0) for case in Case}


def right_images(evidence: Evidence, threshold: float = 0.5) -> BoolArray:
    """Return which images are right, ``(N,)``, see :func:`cases`; false where none is annotated."""
    right, _ = _right(evidence, threshold)
    return right


def accuracy(evidence: Evidence, threshold: float = 0.5) -> Effect:
    """Return the part of the annotated images that are right, see :func:`cases`; NaN where none is annotated."""
    right, _ = _right(evidence, threshold)
    return share(right[evidence.is_labelled])


def by_chance(evidence: Evidence) -> str:
    """Say that a model agrees with the labels no more than by chance, which is mostly a mistake of its use.

    What two raters agree in by chance is the sum over the classes of the product of their shares (Cohen 1960).

    Args:
        evidence: of a classifier of exclusive classes.

    Returns:
        A sentence; empty where agreement is more than chance, and of fewer than 20 labelled images or one class.
    """
    rows = np.flatnonzero(evidence.is_labelled)
    if evidence.multilabel or len(rows) < _LEAST_LABELLED:
        return ""
    given, predicted = (
        _shares(column[rows], len(evidence.labels)) for column in (evidence.given[:, 0], evidence.predicted)
    )
    right, chance = accuracy(evidence), float(given @ predicted)
    if right.low > chance or given.max() == 1:
        return ""
    return (
        f"The model is right in {said(right)} of {len(rows)} images, where chance is right in {chance:.1%}: look first "
        "whether it is fed as it was trained (--input.mean, --input.scale, --input.reverse_input_channels) and whether "
        "--labels are in its order."
    )


def certainty(evidence: Evidence, threshold: float = 0.5) -> list[Finding]:
    """Count the images that are wrong and sure of it, right and unsure, and torn between two classes.

    Nothing is found of a detector, or of no images. Without annotations only ``ambiguous`` is counted. Of independent
    classes mistakes are counted class by class.

    Args:
        evidence: of a classifier.
        threshold: score from which one of several independent classes counts as predicted.

    Returns:
        Findings ``confident_error``, ``uncertain`` and ``ambiguous``, all measured, for what occurs.
    """
    if not len(evidence) or not evidence.best.shape[1]:
        return []
    if evidence.multilabel:
        return _sure_and_mistaken(evidence)
    labelled = evidence.is_labelled
    right, score = _right(evidence, threshold)
    torn = _is_torn(evidence)
    mistaken = labelled & ~right & (score >= SURE)
    unsure = labelled & right & (score < UNSURE) & ~torn
    close = _second(evidence) / np.maximum(score, 1e-6)
    found = [
        _counted(evidence, FindingKind.CONFIDENT_ERROR, falling(score, mistaken), int(labelled.sum())),
        _counted(evidence, FindingKind.UNCERTAIN, falling(-score, unsure), int(labelled.sum())),
        _counted(evidence, FindingKind.AMBIGUOUS, falling(close, torn), len(evidence)),
    ]
    return [one for one in found if one.effect.value > 0]


def confusions(evidence: Evidence) -> list[Confusion]:
    """Return which classes are taken for which others, the most frequent first.

    Args:
        evidence: of a classifier with exclusive classes; there is none of others, or without annotations.
    """
    if evidence.multilabel or not evidence.best.shape[1]:
        return []
    wrong = np.flatnonzero(evidence.is_labelled & ~evidence.is_right)
    given, predicted, score = evidence.given[:, 0], evidence.predicted, _best_score(evidence)
    number = np.bincount(given[evidence.is_labelled], minlength=1)  # of the images of each class
    pairs, which, counts = np.unique(
        np.stack([given[wrong], predicted[wrong]], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    groups = np.split(wrong[np.argsort(which.ravel(), kind="stable")], np.cumsum(counts)[:-1])
    found = [
        Confusion(one, other, share(len(rows), int(number[one])), rows[np.argsort(-score[rows], kind="stable")])
        for (one, other), rows in zip(pairs.tolist(), groups, strict=False)
    ]
    return sorted(found, key=lambda pair: (-len(pair.images), pair.given, pair.predicted))


def class_results(evidence: Evidence, threshold: float = 0.5) -> list[ClassResult]:
    """Return recall and precision of each class, with Wilson intervals, over the annotated images.

    Args:
        evidence: of a classifier; of a detector there are none.
        threshold: score from which one of several independent classes counts as predicted.

    Returns:
        One a class, in their order.
    """
    if not evidence.best.shape[1]:
        return []
    count, labelled = len(evidence.labels), evidence.is_labelled
    if evidence.multilabel:
        return _results(*_tallies(evidence, threshold))
    given, predicted = evidence.given[labelled, 0], evidence.predicted[labelled]
    every, score = _right(evidence, threshold)
    right, sure = every[labelled], score[labelled] >= SURE
    own = _tally(np.where(right, predicted, given), count)
    errors = _tally(given[sure & ~right], count) + _tally(predicted[sure & ~right], count)
    return _results(_tally(predicted[right], count), own, _tally(predicted, count), errors)


def _best_score(evidence: Evidence) -> FloatArray:
    return evidence.best_scores[:, 0] if evidence.best.shape[1] else np.full(len(evidence), np.nan, np.float32)


def _second(evidence: Evidence) -> FloatArray:
    return evidence.best_scores[:, 1] if evidence.best.shape[1] > 1 else np.full(len(evidence), np.nan, np.float32)


def _right(evidence: Evidence, threshold: float) -> tuple[BoolArray, FloatArray]:
    """Return which images are right, and how sure the model is of what it says of them."""
    score = _best_score(evidence)
    if not evidence.multilabel:
        return evidence.is_right & np.isfinite(score), score
    right, sureness = np.zeros(len(evidence), np.bool_), np.full(len(evidence), np.nan, np.float32)
    for some in answers(evidence):
        predicted = some.scores >= threshold
        right[some.images] = ((predicted == some.given) & np.isfinite(some.scores)).all(axis=1)
        sureness[some.images] = np.where(predicted, some.scores, 1 - some.scores).min(axis=1)
    return right, sureness


def _is_torn(evidence: Evidence) -> BoolArray:
    first, second = _best_score(evidence), _second(evidence)
    if evidence.multilabel:
        return np.zeros(len(evidence), np.bool_)
    close = (second >= BOTH) & (first <= CLOSE * second)
    among = (evidence.given[:, :, None] == evidence.best[:, None, :2]).any(axis=(1, 2))
    torn: BoolArray = close & (among | ~evidence.is_labelled)
    return torn


def _shares(classes: IntArray, count: int) -> NDArray[np.float64]:
    return _tally(classes, count) / max(len(classes), 1)


def _tally(classes: IntArray, count: int) -> IntArray:
    """Return how often each class occurs; what is none of the model's is left out."""
    return np.bincount(classes[(classes >= 0) & (classes < count)], minlength=count)


def _tallies(evidence: Evidence, threshold: float) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return of each independent class its hits, its images, those it is predicted for, and its confident errors."""
    hits, own, taken, errors = np.zeros((4, len(evidence.labels)), np.int64)
    for some in answers(evidence):
        predicted = some.scores >= threshold
        hits += (some.given & predicted).sum(axis=0)
        own += some.given.sum(axis=0)
        taken += predicted.sum(axis=0)
        errors += _far_off(some).sum(axis=0)
    return hits, own, taken, errors


def _results(hits: IntArray, own: IntArray, taken: IntArray, errors: IntArray) -> list[ClassResult]:
    return [
        ClassResult(target, share(hit, number), share(hit, called), error)
        for target, (hit, number, called, error) in enumerate(
            zip(hits.tolist(), own.tolist(), taken.tolist(), errors.tolist(), strict=True)
        )
    ]


def _far_off(some: Answers) -> BoolArray:
    """Return where the model is sure of the opposite of what is annotated, ``(n, K)``."""
    far: BoolArray = np.where(some.given, some.scores <= 1 - SURE, some.scores >= SURE)
    return far


def _sure_and_mistaken(evidence: Evidence) -> list[Finding]:
    """Return a finding for each independent class that the model is sure and wrong of."""
    images, targets, distances = [], [], []
    for some in answers(evidence):
        rows, columns = np.nonzero(_far_off(some))
        images.append(some.images[rows])
        targets.append(columns)
        distances.append(np.abs(some.scores[rows, columns] - some.given[rows, columns]))
    image, target = np.concatenate([*images, [0]])[:-1].astype(np.int64), np.concatenate([*targets, [0]])[:-1]
    order = np.lexsort((-np.concatenate([*distances, [0]])[:-1], target))
    among = int(evidence.is_labelled.sum())
    return [
        _counted(evidence, FindingKind.CONFIDENT_ERROR, image[order[target[order] == one]], among, evidence.labels[one])
        for one in np.unique(target).astype(int).tolist()
    ]


_LEAST_LABELLED = 20
_SAID = {
    FindingKind.CONFIDENT_ERROR: ("wrong and sure of it", "Look at these first: wrong labels and shortcuts hide here."),
    FindingKind.UNCERTAIN: (
        f"right with a score below {UNSURE:g}",
        "Add training images like these, or have a person look at such predictions.",
    ),
    FindingKind.AMBIGUOUS: (
        "torn between two classes",
        "Compare the maps of both classes: two objects in one image, or two classes that look alike.",
    ),
}


def _counted(evidence: Evidence, kind: FindingKind, images: IntArray, among: int, label: str = "") -> Finding:
    """Return the finding that these of so many images are so, the clearest first."""
    number, effect = len(images), share(len(images), among)
    words, suggestion = _SAID[kind]
    about = f" about {label!r}" if label else ""
    return Finding(
        kind,
        label or EVERYTHING,
        f"{number} of {counted(among, 'image')} {are(number)} {words}{about} ({said(effect)}).",
        effect,
        FindingState.MEASURED,
        number / len(evidence),
        examples(evidence, images),
        suggestion,
    )
