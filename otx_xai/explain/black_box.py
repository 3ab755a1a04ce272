"""Explanation by perturbation: the same stages for one image as with a branch in the graph, without one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from tqdm import tqdm

from otx_xai.errors import ImageError
from otx_xai.explain.box_choice import classes_without_map, doubts, find_boxes, predictions_of
from otx_xai.explain.box_gradients import boxes_asked, merged_by_class, numbers_of, wanted_classes
from otx_xai.explain.targets import Choice, Wanted, map_names, not_finite, require_finite
from otx_xai.methods.spec import BoxesAsked, BoxJob, Branch, ClassJob, MethodSpec, SecondPass
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_proposals
from otx_xai.perturb import PerturbationMaps, Progress, Scorer, Subject, Watch
from otx_xai.perturb.passes import scores_of
from otx_xai.postprocess import min_max, predict
from otx_xai.records import (
    SALIENCY_MAP,
    SALIENCY_TARGETS,
    SCORES,
    ClassAnswer,
    Detections,
    FloatArray,
    ModelFacts,
    Prediction,
    Size,
)
from otx_xai.runtime import Arrays, Session


@dataclass(frozen=True)
class BlackBox:
    """How images are perturbed.

    Args:
        spec: the method.
        options: its own record of options.
        guide: a copy of the model whose maps guide the method; ``None`` of most.
        guide_boxes: what explains boxes once they have been read, and guides the method; ``None`` of most.
        guided: classes that the maps of ``guide`` are of, in their order; ``None``: all, or those that it tells.
    """

    spec: MethodSpec
    options: Any
    guide: Branch | None = None
    guide_boxes: SecondPass | None = None
    guided: tuple[int, ...] | None = None

    @property
    def guiding_model(self) -> ov.Model | None:
        """The model that is asked once an image."""
        if self.guide is not None:
            return self.guide.model
        return None if self.guide_boxes is None else self.guide_boxes.first


@contextmanager
def progress_of_passes() -> Iterator[Watch | None]:
    """Show forward passes and remaining time of one image; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with tqdm(unit="pass", leave=False, dynamic_ncols=True) as bar:

        def report(progress: Progress) -> None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        yield Watch(report)


def explain_classes(
    session: Session,
    subject: Subject,
    facts: ModelFacts,
    wanted: Wanted,
    box: BlackBox,
    *,
    score: Callable[[Arrays], NDArray[Any]] | None = None,
    watch: Watch | None = None,
) -> Choice:
    """Explain classes of one image.

    Args:
        session: the classifier, with the output ``saliency_scores``.
        subject: the image.
        facts: of the model.
        wanted: which classes.
        box: how.
        score: makes class scores ``(K,)`` of the outputs of one image, which have their batch axis; those in
            ``saliency_scores`` by default.
        watch: progress and interruption.

    Raises:
        ImageError: scores are not finite.
        ConfigError, ModelError: as the method says.
    """
    if score is None:
        scorer = Scorer(session, lambda outputs: outputs[SCORES], (SCORES,))
    else:
        scorer = Scorer(session, score, whole=True)
    plain = np.asarray(next(scores_of(scorer, [None], lambda _: subject.image)), np.float32)
    if not np.isfinite(plain).all():
        raise ImageError(not_finite("class scores"))
    predictions = predict(plain, facts.labels, wanted.threshold)
    indices = _wanted_classes(plain, predictions, wanted)
    if not indices:
        return Choice(predictions, (), np.zeros((0, 1, 1), np.float32))
    assert box.spec.explain_classes is not None
    guide = _guiding_maps(session.guide, subject, box.guided, len(facts.labels))
    job = ClassJob(scorer, subject, indices, guide, None if box.guide is None else box.guide.grid)
    result = box.spec.explain_classes(job, box.options, watch)
    targets = tuple(Prediction(i, facts.labels[i], float(plain[i])) for i in indices)
    ranges = np.stack([result.maps.min(axis=(1, 2)), result.maps.max(axis=(1, 2))], axis=1)
    answer = ClassAnswer(plain, np.zeros(0, np.float32), ranges)
    return replace(_choice(predictions, targets, result, None), answer=answer)


def _wanted_classes(scores: FloatArray, predictions: Sequence[Prediction], wanted: Wanted) -> list[int]:
    """Return the classes to be explained: the user's, a number of best ones, or those that are predicted."""
    if wanted.indices is not None:
        return list(wanted.indices)
    if wanted.best is not None:
        best: list[int] = np.argsort(-scores, kind="stable")[: wanted.best].tolist()
        return best
    return [found.target for found in predictions]


def _guiding_maps(
    guide: Session | None, subject: Subject, guided: tuple[int, ...] | None, count: int
) -> dict[int, FloatArray]:
    """Return the maps of a branch by class; none where there is no branch.

    Raises:
        ImageError: a map is not finite.
    """
    if guide is None:
        return {}
    outputs = guide.run(np.repeat(subject.image[None], guide.batch, axis=0))
    maps = outputs[SALIENCY_MAP][0]
    require_finite(maps, "saliency maps")
    if SALIENCY_TARGETS in outputs:
        return {int(target): own for target, own in zip(outputs[SALIENCY_TARGETS][0], maps, strict=True)}
    classes = range(count) if guided is None or len(maps) == count else guided
    return dict(zip(classes, maps, strict=True))


def explain_boxes(
    session: Session,
    subject: Subject,
    facts: ModelFacts,
    wanted: Wanted,
    box: BlackBox,
    image_size: Size,
    format: Found,
    *,
    found: Callable[[Arrays], Arrays] | None = None,
    watch: Watch | None = None,
) -> Choice:
    """Explain the boxes of one image, each by itself: all, those from the threshold, or those of the wanted classes.

    What is guided by maps of boxes explains what these do: boxes, or classes by the maps of their boxes.

    Args:
        session: the detector or instance segmentation model.
        subject: the image.
        facts: of the model.
        wanted: boxes of which classes.
        box: how.
        image_size: ``(height, width)`` of the original image.
        format: how the outputs are read.
        found: makes boxes, scores and labels by name of the model's outputs; they are read as they are by default.
        watch: progress and interruption.

    Raises:
        ImageError, ConfigError, ModelError: as the stages say.
    """
    kept: list[Arrays] = []

    def read(outputs: Arrays) -> Arrays:
        return outputs if found is None else found(outputs)

    def keep(outputs: Arrays) -> NDArray[Any]:
        kept.append(read(outputs))
        return np.zeros(1)

    next(scores_of(Scorer(session, keep, whole=True), [None], lambda _: subject.image))
    detections = find_boxes(kept[0], image_size, facts, format)
    predictions = predictions_of(detections, facts.labels)
    classes = wanted_classes(predictions, wanted)
    guided = box.guide_boxes is not None
    numbers = numbers_of(predictions, classes, wanted) if guided else _wanted_boxes(detections, wanted)
    missing = doubts(detections) + classes_without_map(predictions, wanted, facts.labels)
    if not numbers:
        return Choice(predictions, (), np.zeros((0, 1, 1), np.float32), detections, missing)

    def proposals(outputs: Arrays) -> Any:
        count, first_label = len(facts.labels), facts.first_label
        return read_proposals(read(outputs), format, facts.geometry.size, count, first_label=first_label)

    assert box.spec.explain_boxes is not None
    asked = boxes_asked(detections, numbers, (image_size, facts.geometry))
    guides = _guides_of_boxes(session.guide, subject, box.guide_boxes, asked)
    job = BoxJob(session, proposals, subject, asked.boxes, asked.found.labels, guides)
    result = box.spec.explain_boxes(job, box.options, watch)
    choice = _choice(predictions, tuple(predictions[i] for i in numbers), result, detections, missing)
    return choice if box.guide_boxes is None or wanted.per_box else merged_by_class(choice, classes)


def _guides_of_boxes(
    guide: Session | None, subject: Subject, second: SecondPass | None, asked: BoxesAsked
) -> FloatArray | None:
    """Return the maps of some boxes that guide a method, ``(T, h, w)``; ``None`` where nothing does.

    Raises:
        ImageError: a map is not finite.
    """
    if guide is None or second is None:
        return None
    outputs = guide.run(np.repeat(subject.image[None], guide.batch, axis=0))
    starts = {name: outputs[name] for name in second.starts}
    if guide.batch > 1:  # else they may be of anything: of the boxes of all classes that suppression has chosen
        starts = {name: values[:1] for name, values in starts.items()}
    maps = second.maps(guide, starts, asked)
    require_finite(maps, "gradients")
    return np.abs(maps)


def _wanted_boxes(detections: Detections, wanted: Wanted) -> list[int]:
    """Return the numbers of the boxes to be explained, best first."""
    if wanted.indices is not None:
        return [i for i, label in enumerate(detections.labels) if int(label) in wanted.indices]
    if wanted.per_box:
        return np.flatnonzero(detections.scores >= wanted.least_box).tolist()
    count = int((detections.scores >= wanted.threshold).sum()) or min(len(detections), 1)
    return list(range(count))


def _choice(
    predictions: tuple[Prediction, ...],
    targets: tuple[Prediction, ...],
    result: PerturbationMaps,
    detections: Detections | None,
    missing: tuple[str, ...] = (),
) -> Choice:
    names = map_names(targets)
    warnings = missing + tuple(
        f"{name}: {why}" for name, whys in zip(names, result.warnings, strict=True) for why in whys
    )
    return Choice(predictions, targets, min_max(result.maps), detections, warnings)
