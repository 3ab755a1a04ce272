"""For which groups of images a model is worse than for the rest.

Groups are the annotated classes, fifths of what images look like (size, aspect ratio, brightness, contrast, sharpness),
and the values of the user's columns; columns of numbers are cut into fifths. The accuracy of each group is compared
with that of all other images: Newcombe's interval of the difference, Fisher's exact test (1922), to be corrected for
the number of groups (see :func:`otx_xai.audit.statistics.corrected`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from otx_xai.audit.certainty import right_images
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, said
from otx_xai.audit.statistics import TESTS, difference, share
from otx_xai.audit.wording import examples
from otx_xai.counting import counted
from otx_xai.records import BoolArray, Doubles, IntArray

LEAST = 20
"""Images of a group, and of the rest, from which they are compared."""
MATERIAL = 0.05
"""Difference of accuracies from which it matters."""

_FIFTHS = ("lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth")
_NONE = ""


@dataclass(frozen=True, eq=False)
class Slice:
    """A group of images and how it differs from the rest.

    Args:
        column: what images are grouped by.
        value: which group, in words that do not change with the data: a class, a text, ``lowest fifth``.
        range: smallest and largest number of a group of numbers; ``None`` of others.
        images: rows of the annotated images in it, ``int64``.
        accuracy: part of them that is right.
        rest: part of all other annotated images that is right.
        difference: the first minus the second.
        p_value: Fisher's, two-sided, uncorrected.
    """

    column: str
    value: str
    range: tuple[float, float] | None
    images: IntArray
    accuracy: Effect
    rest: Effect
    difference: Effect
    p_value: float

    @property
    def name(self) -> str:
        """What it is called in findings."""
        return f"{self.column}: {self.value}"


def slices(evidence: Evidence, right: BoolArray | None = None, judged: BoolArray | None = None) -> list[Slice]:
    """Compare groups of images with the rest.

    Args:
        evidence: of any model. There are no groups without annotations.
        right: which images are right, ``(N,)``; by default those of :func:`~otx_xai.audit.certainty.right_images`. Of a
            detector, say :func:`otx_xai.audit.box_errors.right_images`.
        judged: which images count, ``(N,)``; by default those with an annotated class.

    Returns:
        Groups of at least 20 images with at least 20 others, the worst difference first. Of two groups with the same
        images, as where folders are classes, the first is kept.
    """
    right = right_images(evidence) if right is None else right
    judged = evidence.is_labelled if judged is None else judged
    total, hits = int(judged.sum()), int((right & judged).sum())
    found: dict[bytes, Slice] = {}
    for column, value, ends, members in _groups(evidence, judged):
        number = int(members.sum())
        key = np.packbits(members).tobytes()
        if number < LEAST or total - number < LEAST or key in found:
            continue
        own = int((right & members).sum())
        table = [[own, number - own], [hits - own, total - number - (hits - own)]]
        found[key] = Slice(
            column,
            value,
            ends,
            np.flatnonzero(members),
            share(own, number),
            share(hits - own, total - number),
            difference(own, number, hits - own, total - number),
            float(stats.fisher_exact(table).pvalue),
        )
    return sorted(found.values(), key=lambda one: (one.difference.value, one.name))


def slice_findings(evidence: Evidence, compared: Sequence[Slice], right: BoolArray | None = None) -> list[Finding]:
    """Name the groups that are worse than the rest by at least 0.05.

    Args:
        evidence: of any model.
        compared: all groups that were compared: their number counts for the correction.
        right: see :func:`slices`.

    Returns:
        Findings ``slice``, measured, with their p-values; the worst first.
    """
    right = right_images(evidence) if right is None else right
    return [_finding(evidence, one, right, len(compared)) for one in compared if one.difference.value <= -MATERIAL]


def _finding(evidence: Evidence, one: Slice, right: BoolArray, tests: int) -> Finding:
    between = "" if one.range is None else f" ({one.range[0]:.3g} to {one.range[1]:.3g})"
    statement = (
        f"Of {counted(one.accuracy.n, 'image')} with {one.name}{between} {100 * one.accuracy.value:.1f} % are right, "
        f"of the others {100 * one.rest.value:.1f} % (difference {said(one.difference)})."
    )
    order = one.images[np.argsort(right[one.images], kind="stable")]
    return Finding(
        FindingKind.SLICE,
        one.name,
        statement,
        one.difference,
        FindingState.MEASURED,
        len(one.images) / len(evidence),
        examples(evidence, order),
        "Add training images of this group, or tell users that the model is worse for it.",
        {TESTS: tests},
        one.p_value,
    )


Group = tuple[str, str, tuple[float, float] | None, BoolArray]


def _groups(evidence: Evidence, judged: BoolArray) -> Iterator[Group]:
    """Yield groups of the images that count: column, value, range, members ``(N,)``."""
    for target, label in enumerate(evidence.labels):
        yield "class", label, None, judged & (evidence.given == target).any(axis=1)
    sides = evidence.sizes.astype(np.float64)
    yield from _fifths("size", np.sqrt(sides[:, 0] * sides[:, 1]), judged)
    yield from _fifths("aspect ratio", sides[:, 1] / np.maximum(sides[:, 0], 1), judged)
    for name, values in evidence.looks.items():
        yield from _fifths(name, values.astype(np.float64), judged)
    for name, texts in evidence.metadata.items():
        numbers = _numbers(texts)
        yield from _values(name, texts, judged) if numbers is None else _fifths(name, numbers, judged)


def _numbers(texts: Sequence[str]) -> Doubles | None:
    """Return a column of numbers, NaN where there is no text; ``None`` where one is no number."""
    try:
        return np.array([float(text) if text.strip() else np.nan for text in texts], np.float64)
    except ValueError:
        return None


def _fifths(column: str, values: Doubles, judged: BoolArray) -> Iterator[Group]:
    """Cut numbers at the quintiles; of at most five different ones each is a group."""
    usable = judged & np.isfinite(values)
    different = np.unique(values[usable])
    if len(different) <= len(_FIFTHS):
        if len(different) > 1:
            yield from ((column, f"{value:g}", None, usable & (values == value)) for value in different.tolist())
        return
    which = np.searchsorted(np.quantile(values[usable], [0.2, 0.4, 0.6, 0.8]), values, side="right")
    for number, name in enumerate(_FIFTHS):
        members = usable & (which == number)
        if members.any():
            yield column, name, (float(values[members].min()), float(values[members].max())), members


def _values(column: str, texts: Sequence[str], judged: BoolArray) -> Iterator[Group]:
    """Group images by a text; those without one are in no group, and rare texts are left out."""
    different, which, number = np.unique(np.asarray(texts, np.str_), return_inverse=True, return_counts=True)
    for row in np.flatnonzero(number >= LEAST).tolist():
        if str(different[row]) != _NONE:
            yield column, str(different[row]), None, judged & (which == row)
