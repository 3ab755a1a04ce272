"""Which labels are wrong: confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068) on the scores.

A class counts as seen in an image where its score reaches the mean score that the class has in the images annotated
with it. Where the best class that is seen is not the annotated one, the label is a candidate. The annotated images of
each class that are candidates, among those of which any class is seen, estimate the rate of wrong labels.

A model that was trained on the labels itself may have learnt them by heart: use images that it has not seen. What it
takes for another class may also be its own error. So the rate of wrong labels is fitted beside the temperature of the
scores (see :mod:`otx_xai.audit.label_noise`), and nothing is said where the temperature explains what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.findings import Finding, FindingKind, FindingState, said
from otx_xai.audit.independent import Answers, answers
from otx_xai.audit.label_noise import LabelNoise, label_noise
from otx_xai.audit.statistics import TESTS, share
from otx_xai.audit.wording import examples
from otx_xai.counting import are, counted
from otx_xai.records import BoolArray, Doubles, FloatArray, IntArray

ALL_LABELS = "all labels"
"""Subject of the finding of all classes together."""
LEAST = 5
"""Candidates from which they are a finding."""
LEAST_DOUBT = 0.002
"""Part of the labels that the surest model is wrong about: it is right 499 times of 500."""
LEAST_DOUBT_OF_ANSWER = 0.0005
"""The same of one answer about an independent class: most are a plain no."""
UNEXPLAINED = 1e-4
"""Probability of the labels without noise below which there is some: strict, as no temperature fits exactly."""
FALSE_ALARM = 0.01
"""Probability below which so many labels in doubt are no errors of the model."""
_MOST = 20_000
MOST = 0.5
"""Estimated part of wrong labels above which rather the model is wrong, or its classes have another order."""


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Labels that the model disagrees with, a row each, the likeliest to be wrong first.

    Args:
        image: ``int64`` ``(R,)``.
        given: annotated class; :data:`NO_CLASS` where an independent class seems to be missing.
        suggested: what the model sees; :data:`NO_CLASS` where an annotated independent class seems to be absent.
        confidence: by how much the score of what is suggested exceeds that of what is given, ``float32`` in [0, 1].
        is_candidate: whether the model is confident, in the sense above, ``(R,)``: these come first.
        noise: estimated part of wrong labels of each class, ``float64`` ``(K,)``; NaN of a class without images. Of
            independent classes: of its answers, yes or no.
        labels: number of labels of each class, ``int64`` ``(K,)``.
        rate: part of all labels that is wrong, and whether that is more than one of 500 (of independent classes: one
            of 2000).
    """

    image: IntArray
    given: IntArray
    suggested: IntArray
    confidence: FloatArray
    is_candidate: BoolArray
    noise: Doubles
    labels: IntArray
    rate: LabelNoise

    def __len__(self) -> int:
        return len(self.image)


def label_errors(evidence: Evidence) -> LabelErrors:
    """Find the labels that a model confidently disagrees with.

    The ten best scores suffice: a class beyond them has a score below 0.1, and reaches its mean only where the model
    hardly ever recognises it.

    Args:
        evidence: of a classifier. Without annotations or of a detector the table is empty. Images with a score that is
            NaN are left out.

    Returns:
        The candidates, then all others of which the best class is not annotated; with the noise of all classes.
    """
    if evidence.multilabel:
        return _of_independent(evidence)
    count = len(evidence.labels)
    given, own = evidence.given[:, 0] if len(evidence) else np.zeros(0, np.int64), _own_scores(evidence)
    usable = np.flatnonzero((given >= 0) & (given < count) & np.isfinite(own) & bool(evidence.best.shape[1]))
    given, own = given[usable], own[usable]
    thresholds = _means(given, own, count)
    seen, score = _seen(evidence, usable, given, own, thresholds)
    off = (seen != NO_CLASS) & (seen != given) & ~_also_given(evidence, usable, seen) & (score > own)
    wrong = off | ~evidence.is_right[usable]
    suggested = np.where(off, seen, evidence.predicted[usable])
    margin = np.where(off, score, _best(evidence)[usable]) - own
    order = np.flatnonzero(wrong)[np.lexsort((-margin[wrong], ~off[wrong]))]
    at_all, labels = _tally(given[seen != NO_CLASS], count), _tally(given, count)
    noise = np.where(labels > 0, _tally(given[off], count) / np.maximum(at_all, 1), np.nan)
    rate = label_noise(own.astype(np.float64), _other_scores(evidence, usable), count, LEAST_DOUBT)
    confidence = margin[order].astype(np.float32)
    return LabelErrors(usable[order], given[order], suggested[order], confidence, off[order], noise, labels, rate)


def label_findings(evidence: Evidence, errors: LabelErrors) -> list[Finding]:
    """Tell of wrong labels where the temperature of the scores does not explain the candidates.

    Returns:
        Findings ``label_error``, suspected: one of all labels together with the fitted rate, and one for each given and
        suggested class with at least five candidates, if these are more than the rate, spread over all classes, would
        make (Poisson). None of right labels and a good model.
    """
    number, candidates = int(errors.labels.sum()), int(errors.is_candidate.sum())
    effect, p_value = errors.rate.rate, errors.rate.p_value
    if candidates < LEAST or p_value > UNEXPLAINED or effect.value > MOST:
        return []
    wrong = round(effect.value * number)
    statement = (
        f"About {counted(wrong, 'label')} of {number} {are(wrong)} wrong ({said(effect)}): the model is confident of "
        f"another class in {counted(candidates, 'case')}, and its doubt does not explain them."
    )
    images = np.unique(errors.image[errors.is_candidate])
    whole = Finding(
        FindingKind.LABEL_ERROR,
        ALL_LABELS,
        statement,
        effect,
        FindingState.SUSPECTED,
        len(images) / len(evidence),
        examples(evidence, errors.image),
        "Review these labels, the likeliest first; those that are wrong teach the model wrong and hide its accuracy.",
        p_value=p_value,
    )
    return [whole, *_pairs(evidence, errors)]


def _pairs(evidence: Evidence, errors: LabelErrors) -> list[Finding]:
    pairs = np.stack([errors.given, errors.suggested], axis=1)[errors.is_candidate]
    different, which, numbers = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    found = []
    for number in np.flatnonzero(numbers >= LEAST).tolist():
        given, suggested = different[number].tolist()
        rows = np.flatnonzero(which.ravel() == number)
        labels = int(errors.labels[given if given != NO_CLASS else suggested])
        ways = 2 if evidence.multilabel else len(evidence.labels) - 1  # that a label can be wrong
        p_value = float(stats.poisson.sf(len(rows) - 1, errors.rate.rate.value * labels / ways))
        if p_value > FALSE_ALARM:
            continue
        effect = share(len(rows), labels)
        found.append(
            Finding(
                FindingKind.LABEL_ERROR,
                _subject(evidence, given, suggested),
                f"{counted(len(rows), 'image')} {_words(evidence, given, suggested)} ({said(effect)} of its labels).",
                effect,
                FindingState.SUSPECTED,
                len(rows) / len(evidence),
                examples(evidence, errors.image[rows]),
                "Review these labels together: they may follow one misunderstanding of the class.",
                {TESTS: len(different)},
                p_value,
            )
        )
    return found


def _subject(evidence: Evidence, given: int, suggested: int) -> str:
    if NO_CLASS in (given, suggested):
        return f"{evidence.labels[max(given, suggested)]} {'missing' if given == NO_CLASS else 'absent'}"
    return f"{evidence.labels[given]} for {evidence.labels[suggested]}"


def _words(evidence: Evidence, given: int, suggested: int) -> str:
    if given == NO_CLASS:
        return f"may lack the label {evidence.labels[suggested]!r}"
    if suggested == NO_CLASS:
        return f"may not show what their label {evidence.labels[given]!r} says"
    return f"labelled {evidence.labels[given]!r} may be {evidence.labels[suggested]!r}"


def _other_scores(evidence: Evidence, rows: IntArray) -> Doubles:
    """Return the best scores of each image, 0 in the place of the annotated class."""
    own = evidence.best[rows] == evidence.given[rows, :1]
    return np.where(own | ~np.isfinite(evidence.best_scores[rows]), 0, evidence.best_scores[rows]).astype(np.float64)


def _best(evidence: Evidence) -> FloatArray:
    return evidence.best_scores[:, 0] if evidence.best.shape[1] else np.zeros(len(evidence), np.float32)


def _own_scores(evidence: Evidence) -> FloatArray:
    return evidence.given_scores[:, 0] if len(evidence) else np.zeros(0, np.float32)


def _tally(classes: IntArray, count: int) -> IntArray:
    return np.bincount(classes, minlength=count)


def _means(given: IntArray, scores: FloatArray, count: int) -> Doubles:
    """Return the mean score of each class in its own images; 2, which no score reaches, of a class without images."""
    number = _tally(given, count)
    total = np.bincount(given, scores.astype(np.float64), minlength=count)
    return np.where(number > 0, total / np.maximum(number, 1), 2.0)


def _seen(
    evidence: Evidence, rows: IntArray, given: IntArray, own: FloatArray, thresholds: Doubles
) -> tuple[IntArray, Doubles]:
    """Return the best class of each image that reaches its threshold, and its score; NO_CLASS where none does."""
    classes = np.concatenate([evidence.best[rows], given[:, None]], axis=1)
    scores = np.concatenate([evidence.best_scores[rows], own[:, None]], axis=1).astype(np.float64)
    reached = np.where(scores >= thresholds[classes], scores, -1.0)
    column = reached.argmax(axis=1)[:, None]
    score = np.take_along_axis(reached, column, axis=1)[:, 0]
    return np.where(score >= 0, np.take_along_axis(classes, column, axis=1)[:, 0], NO_CLASS), score


def _also_given(evidence: Evidence, rows: IntArray, seen: IntArray) -> BoolArray:
    also: BoolArray = (evidence.given[rows] == seen[:, None]).any(axis=1)
    return also


def _of_independent(evidence: Evidence) -> LabelErrors:
    """Return the candidates among the answers of independent classes, each a question with two classes, yes and no."""
    count = len(evidence.labels)
    yes = _mean_answers(evidence)
    found: list[Doubles] = []
    off, at_all, labels = np.zeros((3, count))
    own: list[Doubles] = []
    for some in answers(evidence):
        usable = np.isfinite(some.scores)
        seen = _seen_answers(some, yes)
        sureness = np.where(some.given, 1 - 2 * some.scores, 2 * some.scores - 1)  # of the answer that is not given
        candidate = usable & (seen >= 0) & (seen != some.given) & (sureness > 0)
        wrong = sureness > 0
        rows, targets = np.nonzero(wrong)
        columns = [some.images[rows], targets, some.given[wrong], sureness[wrong], candidate[wrong]]
        found.append(np.stack(columns, axis=1).astype(np.float64))
        off += candidate.sum(axis=0)
        at_all += (usable & (seen >= 0)).sum(axis=0)
        labels += usable.sum(axis=0)
        own.append(np.where(some.given, some.scores, 1 - some.scores)[usable][:: 1 + usable.size // _MOST])
    table = np.concatenate([np.zeros((0, 5)), *found])
    table = table[np.lexsort((-table[:, 3], table[:, 4] == 0))]
    image, target, present = table[:, :3].astype(np.int64).T
    noise = np.where(labels > 0, off / np.maximum(at_all, 1), np.nan)
    given, suggested = np.where(present, target, NO_CLASS), np.where(present, NO_CLASS, target)
    confidence = table[:, 3].astype(np.float32)
    candidate = table[:, 4] > 0
    right = np.concatenate([np.zeros(0), *own])
    rate = label_noise(right, (1 - right)[:, None], 2, LEAST_DOUBT_OF_ANSWER)
    return LabelErrors(image, given, suggested, confidence, candidate, noise, labels.astype(np.int64), rate)


def _mean_answers(evidence: Evidence) -> Doubles:
    """Return the mean probability of no where no is annotated, and of yes where yes is, ``(2, K)``; 2 without any."""
    total, number = np.zeros((2, 2, len(evidence.labels)))
    for some in answers(evidence):
        for answer in (0, 1):
            ours = (some.given == bool(answer)) & np.isfinite(some.scores)
            total[answer] += np.where(ours, some.scores if answer else 1 - some.scores, 0).sum(axis=0)
            number[answer] += ours.sum(axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), 2.0)


def _seen_answers(some: Answers, means: Doubles) -> IntArray:
    """Return the better answer of those that reach their mean, -1 where none does, ``(n, K)``."""
    scores = np.nan_to_num(some.scores.astype(np.float64), nan=0.5)
    both = np.stack([1 - scores, scores])
    reached = np.where(both >= means[:, None], both, -1.0)
    return np.where(reached.max(axis=0) >= 0, reached.argmax(axis=0), -1)
