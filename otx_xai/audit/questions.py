"""All questions of an audit, in their order: evidence in, findings and tables out; and what checks make of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.average_precision import AveragePrecision, average_precision, coco_results
from otx_xai.audit.box_annotations import annotation_errors, annotation_findings
from otx_xai.audit.box_drift import BoxDrift, box_drift, box_drift_findings
from otx_xai.audit.box_errors import BoxCase, BoxErrors, box_errors, box_findings, right_images
from otx_xai.audit.box_review import annotations_to_review
from otx_xai.audit.calibration import calibration, calibration_findings, predictions
from otx_xai.audit.certainty import accuracy, by_chance, cases, certainty, count_cases
from otx_xai.audit.drift import Drift, drift, drift_findings
from otx_xai.audit.error_causes import ErrorCauses, cause_findings, error_causes
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import Effect, Finding, FindingState, Unit, ranked
from otx_xai.audit.gates import FIGURES, Figure
from otx_xai.audit.label_errors import LabelErrors, label_errors, label_findings
from otx_xai.audit.object_focus import ObjectFocus, focus_findings, object_focus
from otx_xai.audit.outliers import outlier_findings, outlier_scores
from otx_xai.audit.shortcut_candidates import LEAST
from otx_xai.audit.slices import slice_findings, slices
from otx_xai.audit.statistics import corrected, mean_effect, share
from otx_xai.audit.tables import (
    NO_TABLES,
    box_class_table,
    box_drift_table,
    box_review_table,
    calibration_table,
    class_table,
    confusion_table,
    drift_table,
    precision_table,
    review_table,
    slice_images,
    slice_table,
)
from otx_xai.records import FloatArray, IntArray

_NAMED = 5
_NO_BOXES = "The data have no boxes: where objects are was not asked, nor whether the background decides."
_WITHOUT_BOXES = (
    "The data have no boxes: whether the model looks at the object was not asked. Marks that stay at a place, or are "
    "the same to the pixel, and colours of backgrounds are checked without; other marks, and backgrounds that differ "
    "in more than colour, cannot be ruled out. Boxes of some hundred images would tell."
)
_TOO_FEW = (
    f"No class is predicted in {LEAST} images: whether one has a shortcut, or relies on its background, was not asked."
)
_BOX_WORDS = ("clean", "faults", "unlabelled")


@dataclass(frozen=True, eq=False)
class Answers:
    """What the questions of an audit came to.

    Args:
        evidence: that they rest on.
        findings: as they were found; :func:`concluded` ranks them, and leaves out what may be chance.
        figures: the numbers that a person reads first.
        cases: a word an image, ``(N,)``.
        case_counts: word → number of images.
        tables: of the page, by their keys in ``audit.json``.
        values: name → a number an image, ``float32`` ``(N,)``, NaN where there is none.
        review: labels in doubt, a row each: ``image``, ``given`` and ``suggested`` classes (:data:`NO_CLASS`: none),
            ``confidence``, ``reason``, of boxes also ``box``.
        found_faults: row of a found box → what is wrong with it.
        object_faults: row of an annotated box → likewise.
        coco: boxes in the form of COCO's results; ``None`` of a classifier.
        baseline: evidence of the other model.
        notes: what could not be asked or checked, and why, in sentences.
        least_box: score from which a box counts as found.
        doubt: why all of it may be a mistake of how the model is used, in a sentence; empty where nothing says so.
        moved: the model and its baseline, image by image; ``None`` without one, and of detectors.
        causes: why wrong images are wrong, as maps suggest; ``None`` of detectors.
        slice_images: rows of the images of each group in ``tables["slices"]``.
        box_errors: what is wrong with each box; ``None`` of classifiers.
    """

    evidence: Evidence
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    cases: NDArray[np.str_]
    case_counts: Mapping[str, int]
    tables: Mapping[str, Any]
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    review: Sequence[Mapping[str, Any]] = ()
    found_faults: Mapping[int, str] = field(default_factory=dict)
    object_faults: Mapping[int, str] = field(default_factory=dict)
    coco: list[dict[str, Any]] | None = None
    baseline: Evidence | None = None
    notes: Sequence[str] = ()
    least_box: float = 0.0
    doubt: str = ""
    moved: Drift | None = None
    causes: ErrorCauses | None = None
    slice_images: tuple[IntArray, ...] = ()
    box_errors: BoxErrors | None = None


def ask(
    evidence: Evidence,
    baseline: Evidence | None = None,
    *,
    noise: float = 0.0,
    threshold: float = 0.5,
    why_no_maps: str = "",
) -> Answers:
    """Ask all questions that evidence allows.

    Args:
        evidence: of the audited model.
        baseline: of another model, of the same images.
        noise: distance of two maps that is no more than noise, see
            :func:`~otx_xai.audit.drift.map_distances`.
        threshold: score from which one of several independent classes counts as predicted, or a box as found.
        why_no_maps: why the maps of both models are not comparable; empty where they are.
    """
    if evidence.found is not None:
        return _of_boxes(evidence, baseline, noise, threshold, why_no_maps)
    labelled = None if baseline is None else replace(baseline, labels=evidence.labels)
    moved = None if labelled is None else drift(labelled, evidence, noise, why_no_maps)
    return _of_classes(evidence, baseline, moved, threshold)


def _of_classes(evidence: Evidence, baseline: Evidence | None, moved: Drift | None, threshold: float) -> Answers:
    words = cases(evidence, threshold)
    causes, focus, labels = error_causes(evidence), object_focus(evidence), label_errors(evidence)
    said, compared = predictions(evidence), slices(evidence)
    calibrated, unlike = calibration(said), outlier_scores(evidence)
    findings = [
        *certainty(evidence, threshold),
        *cause_findings(evidence, causes),
        *focus_findings(evidence, focus),
        *label_findings(evidence, labels),
        *calibration_findings(evidence, said, calibrated),
        *slice_findings(evidence, compared),
        *outlier_findings(evidence, unlike),
        *([] if moved is None else drift_findings(evidence, moved)),
    ]
    figures = [
        Figure(
            "accuracy",
            "Right",
            accuracy(evidence, threshold),
            True,
            "Images whose best class is what they are labelled with.",
        ),
        *_focus_figure(focus),
        Figure("ece", "Error of the scores", calibrated.error, False, "Expected calibration error of its scores."),
        *_label_figure(labels),
        *_drift_figures(moved),
    ]
    tables = NO_TABLES | {
        "confusion": None if evidence.multilabel else confusion_table(evidence),
        "per_class": class_table(evidence, focus, threshold),
        "calibration": calibration_table(calibrated),
        "slices": slice_table(compared),
        "drift": None if moved is None else drift_table(moved),
    }
    values = {"energy_in_object": _by_image(evidence, focus.image, focus.inside), "unlike_others": unlike}
    return Answers(
        evidence,
        tuple(findings),
        tuple(figures),
        words,
        count_cases(words),
        tables,
        values | ({} if moved is None else {"map_distance": _by_image(evidence, moved.image, moved.distance)}),
        review_table(evidence, labels),
        baseline=baseline,
        notes=[*_notes(evidence), *_drift_notes(moved)],
        doubt=by_chance(evidence),
        moved=moved,
        causes=causes,
        slice_images=slice_images(compared),
    )


def _of_boxes(
    evidence: Evidence, baseline: Evidence | None, noise: float, threshold: float, why_no_maps: str
) -> Answers:
    errors, focus, precision = box_errors(evidence, threshold), object_focus(evidence), average_precision(evidence)
    wrong = annotation_errors(evidence)
    right, judged = right_images(evidence, errors), np.full(len(evidence), evidence.objects is not None)
    compared = slices(evidence, right, judged)
    moved = None if baseline is None else _box_drift(evidence, baseline, errors, noise, threshold, why_no_maps)
    words = _box_cases(evidence, errors)
    findings = [
        *box_findings(evidence, errors),
        *annotation_findings(evidence, wrong),
        *focus_findings(evidence, focus),
        *slice_findings(evidence, compared, right),
        *([] if baseline is None or moved is None else box_drift_findings(baseline, evidence, moved)),
    ]
    tables = NO_TABLES | {
        "per_class": box_class_table(evidence, errors, focus),
        "average_precision": precision_table(precision),
        "slices": slice_table(compared),
        "drift": None if moved is None else box_drift_table(moved),
    }
    fine = str(BoxCase.RIGHT)
    return Answers(
        evidence,
        tuple(findings),
        (*_box_figures(evidence, errors, precision, focus), *_box_drift_figures(moved)),
        words,
        {word: int((words == word).sum()) for word in _BOX_WORDS},
        tables,
        {"energy_in_object": _by_image(evidence, focus.image, focus.inside)},
        box_review_table(evidence, annotations_to_review(evidence, wrong)),
        found_faults={row: word for row, word in enumerate(errors.of_found.tolist()) if word != fine},
        object_faults={row: word for row, word in enumerate(errors.of_object.tolist()) if word != fine},
        coco=coco_results(evidence),
        baseline=baseline,
        notes=[*_notes(evidence), *_drift_notes(moved)],
        least_box=threshold,
        slice_images=slice_images(compared),
        box_errors=errors,
    )


def _box_figures(
    evidence: Evidence, errors: BoxErrors, precision: AveragePrecision, focus: ObjectFocus
) -> Iterator[Figure]:
    if evidence.objects is None:
        return
    n = len(evidence.objects)
    for name, label, value in (("ap50", "AP at IoU 0.5", precision.at_half), ("ap", "AP", precision.mean)):
        yield Figure(name, label, Effect(value, math.nan, math.nan, n), True, "Average precision, as COCO reckons it.")
    missed = share(errors.of_object == str(BoxCase.MISSED))
    yield Figure("missed", "Objects missed", missed, False, "Annotated objects that no box stands for.")
    counts = errors.of_found != str(BoxCase.UNSURE)
    empty = share(int((errors.of_found == str(BoxCase.BACKGROUND_BOX)).sum()), int(counts.sum()))
    yield Figure("background_boxes", "Boxes on nothing", empty, False, "Boxes that overlap no object.")
    yield from _focus_figure(focus)


def _box_cases(evidence: Evidence, errors: BoxErrors) -> NDArray[np.str_]:
    """Return ``clean`` or ``faults`` for each image; ``unlabelled`` for all where no box is annotated."""
    words = np.full(len(evidence), "clean", "<U10")
    found, objects = evidence.found, evidence.objects
    if found is None or objects is None:
        words[:] = "unlabelled"
        return words
    fine = (str(BoxCase.RIGHT), str(BoxCase.UNSURE))
    words[found.image[~np.isin(errors.of_found, fine)]] = "faults"
    words[objects.image[errors.of_object != str(BoxCase.RIGHT)]] = "faults"
    return words


@dataclass(frozen=True, eq=False)
class Tried:
    """What one check came to.

    Args:
        findings: of the kind and subject of a suspicion, or new.
        figures: that it measured.
        clusters: images that share what was tried, as the page lists them.
    """

    findings: Sequence[Finding] = ()
    figures: Sequence[Figure] = ()
    clusters: Sequence[Mapping[str, Any]] = ()


def with_checked(answers: Answers, tried: Tried) -> Answers:
    """Return answers with what a check came to: a suspicion that was checked is replaced."""
    keys = {one.key for one in tried.findings}
    kept = [one for one in answers.findings if one.key not in keys or one.state is not FindingState.SUSPECTED]
    return replace(
        answers,
        findings=(*kept, *tried.findings),
        figures=(*answers.figures, *tried.figures),
        tables=dict(answers.tables) | {"clusters": [*answers.tables["clusters"], *tried.clusters]},
    )


def concluded(answers: Answers) -> Answers:
    """Leave out the findings that may be chance, given the number of tests of the audit; rank others and figures."""
    figures = sorted(answers.figures, key=lambda figure: FIGURES.index(figure.name))
    return replace(answers, findings=ranked(corrected(answers.findings)), figures=tuple(figures))


def _without_images(evidence: Evidence) -> list[str]:
    """Say of which classes of the model the data show nothing."""
    shown = set(np.unique(evidence.given).tolist())
    empty = [label for target, label in enumerate(evidence.labels) if target not in shown]
    if not empty or not evidence.is_labelled.any():
        return []
    more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
    which = f"{', '.join(map(repr, empty[:_NAMED]))}{more}"
    return [f"No image is labelled {which}: what the model makes of these is not known."]


def _label_figure(errors: LabelErrors) -> list[Figure]:
    if not math.isfinite(errors.rate.rate.value):
        return []
    hint = "Wrong labels, as far as the doubt of the model does not explain what it disagrees with."
    return [Figure("label_errors", "Labels in doubt", errors.rate.rate, False, hint)]


def _drift_figures(moved: Drift | None) -> Iterator[Figure]:
    if moved is None:
        return
    distance = mean_effect(moved.distance, Unit.DISTANCE)
    hint = "1 - Pearson of the maps of the same class before and after, on average."
    yield Figure("drift", "Maps moved", distance, False, hint)
    both = moved.compared & moved.right_before & moved.right_after
    silent = share(int(moved.silent.sum()), int(both.sum()))
    yield Figure("silent_drift", "Silent drift", silent, False, "Right before and after, for another reason.")
    agreement = share(moved.same_class)
    yield Figure("top1_agreement", "Same answer", agreement, True, "Images with the same best class before and after.")


def _box_drift(
    evidence: Evidence, baseline: Evidence, errors: BoxErrors, noise: float, threshold: float, why_no_maps: str
) -> BoxDrift:
    both = box_errors(baseline, threshold), errors
    return box_drift(baseline, evidence, both, threshold=threshold, floor=noise, why_no_maps=why_no_maps)


def _box_drift_figures(moved: BoxDrift | None) -> Iterator[Figure]:
    if moved is None:
        return
    hint = "1 - Pearson of the maps of the same box before and after, on average."
    yield Figure("drift", "Maps moved", mean_effect(moved.distance, Unit.DISTANCE), False, hint)
    both = moved.compared & moved.right
    silent = share(int((moved.moved & both).sum()), int(both.sum()))
    yield Figure("silent_drift", "Silent drift", silent, False, "Finds an object before and after, for another reason.")
    yield Figure("box_agreement", "Same boxes", moved.agreement, True, "Boxes of either model that the other has too.")


def _drift_notes(moved: Drift | BoxDrift | None) -> list[str]:
    if moved is None or not moved.why_no_maps:
        return []
    return [f"Maps were not compared with the baseline's: {moved.why_no_maps}."]


def _focus_figure(focus: ObjectFocus) -> list[Figure]:
    if not len(focus.image):
        return []
    hint = "Part of the map's energy that lies in the annotated boxes of its class."
    return [Figure("energy_in_object", "Map on the object", mean_effect(focus.inside), True, hint)]


def _by_image(evidence: Evidence, image: NDArray[np.int64], values: FloatArray) -> FloatArray:
    """Return a number an image: of several the first, NaN where there is none."""
    found = np.full(len(evidence), np.nan, np.float32)
    found[image[::-1]] = values[::-1]
    return found


def _notes(evidence: Evidence) -> list[str]:
    """Say what the data do not allow to ask."""
    if not len(evidence):
        return []
    notes = []
    labelled = int(evidence.is_labelled.sum())
    if not labelled:
        notes.append("The data have no labels of the model's classes: what needs them was not asked.")
    elif labelled < len(evidence):
        notes.append(
            f"{len(evidence) - labelled} of {len(evidence)} images have no label, and count only where none is needed."
        )
    notes += _without_images(evidence)
    if evidence.objects is None:
        notes.append(_WITHOUT_BOXES if evidence.task.is_classification and len(evidence.maps) else _NO_BOXES)
    if evidence.task.is_classification and np.unique(evidence.predicted, return_counts=True)[1].max() < LEAST:
        notes.append(_TOO_FEW)
    if not len(evidence.maps):
        notes.append("There are no saliency maps of single classes or boxes: what needs them was not asked.")
    return notes
