"""Explanation by perturbation: the same stages for one image as with a branch in the graph, without one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from otx_xai.errors import ConfigError, ImageError
from otx_xai.explain.box_choice import classes_without_box, find_boxes, predictions_of
from otx_xai.explain.targets import Choice, Wanted, map_names, not_finite
from otx_xai.methods.aise import AiseOptions, aise, aise_boxes
from otx_xai.methods.drise import drise
from otx_xai.methods.rise import RiseOptions, rise
from otx_xai.perturb import PerturbationMaps, Progress, Scorer, Subject, Watch
from otx_xai.perturb.passes import scores_of
from otx_xai.postprocess import min_max, predict
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.postprocess.proposals import read_proposals
from otx_xai.records import SCORES, Detections, Method, ModelFacts, Prediction, Size
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

Options = RiseOptions | AiseOptions
CLASS_METHODS = (Method.RISE, Method.AISE)
BOX_METHODS = (Method.DRISE, Method.AISE)


@dataclass(frozen=True)
class BlackBox:
    """How images are perturbed.

    Args:
        method: RISE or AISE; D-RISE or AISE for boxes.
        options: of the method.
    """

    method: Method
    options: Options


def black_box(has_boxes: bool, method: Method | None, values: Mapping[str, Any]) -> BlackBox:
    """Choose method and options.

    Args:
        has_boxes: whether the model finds boxes.
        method: what the user wants; RISE for classes and D-RISE for boxes by default.
        values: options by name; those that the method does not have are named in a warning.

    Raises:
        ConfigError: the method explains something else, or an option is out of range.
    """
    known = BOX_METHODS if has_boxes else CLASS_METHODS
    chosen = method or known[0]
    if chosen not in known:
        what = "boxes" if has_boxes else "classes"
        raise ConfigError(f"explain_method {chosen} perturbs no {what}; expected one of {', '.join(known)}.")
    kind = AiseOptions if chosen is Method.AISE else RiseOptions
    names = {field.name for field in fields(kind)}
    given = {name: value for name, value in values.items() if value is not None}
    without = sorted(given.keys() - names - {"normalize", "seed"})  # maps are always scaled; AISE draws nothing
    if without:
        logger.warning("%s: no effect with %s.", ", ".join(without), chosen)
    return BlackBox(chosen, kind(**{name: value for name, value in given.items() if name in names}))


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
    info: ModelFacts,
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
        info: of the model.
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
    predictions = predict(plain, info.labels, wanted.threshold)
    indices = [found.target for found in predictions] if wanted.indices is None else list(wanted.indices)
    if not indices:
        return Choice(predictions, (), np.zeros((0, 1, 1), np.float32))
    if isinstance(box.options, AiseOptions):
        result = aise(scorer, subject, indices, box.options, watch)
    else:
        result = rise(scorer, subject, indices, box.options, watch)
    targets = tuple(Prediction(i, info.labels[i], float(plain[i])) for i in indices)
    return _choice(predictions, targets, result, None)


def explain_boxes(
    session: Session,
    subject: Subject,
    info: ModelFacts,
    wanted: Wanted,
    box: BlackBox,
    image_size: Size,
    *,
    found: Callable[[Arrays], Arrays] | None = None,
    watch: Watch | None = None,
) -> Choice:
    """Explain the boxes of one image, each by itself: all, those from the threshold, or those of the wanted classes.

    Args:
        session: the detector or instance segmentation model.
        subject: the image.
        info: of the model.
        wanted: boxes of which classes.
        box: how.
        image_size: ``(height, width)`` of the original image.
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
    detections = find_boxes(kept[0], image_size, info)
    predictions = predictions_of(detections, info.labels)
    numbers = _wanted_boxes(detections, wanted)
    missing = _missing(predictions, wanted, info.labels)
    if not numbers:
        return Choice(predictions, (), np.zeros((0, 1, 1), np.float32), detections, missing)

    def proposals(outputs: Arrays) -> Any:
        return read_proposals(read(outputs), info.geometry.size, len(info.labels), first_label=info.first_label)

    boxes = boxes_on_input(detections.boxes[numbers], image_size, info.geometry)
    labels = detections.labels[numbers]
    if isinstance(box.options, AiseOptions):
        result = aise_boxes(session, proposals, subject, boxes, labels, box.options, watch)
    else:
        result = drise(session, proposals, subject, boxes, labels, box.options, watch)
    return _choice(predictions, tuple(predictions[i] for i in numbers), result, detections, missing)


def _wanted_boxes(detections: Detections, wanted: Wanted) -> list[int]:
    """Return the numbers of the boxes to be explained, best first."""
    if wanted.indices is not None:
        return [i for i, label in enumerate(detections.labels) if int(label) in wanted.indices]
    if wanted.per_box:
        return list(range(len(detections)))
    count = int((detections.scores >= wanted.threshold).sum()) or min(len(detections), 1)
    return list(range(count))


def _missing(predictions: Sequence[Prediction], wanted: Wanted, labels: Sequence[str]) -> tuple[str, ...]:
    """Return a warning of classes that were chosen, unless all were, and that have no box to explain."""
    if wanted.indices is None or len(wanted.indices) == len(labels):
        return ()
    chosen = [Prediction(i, labels[i], 0.0) for i in wanted.indices]
    return classes_without_box(chosen, predictions, "there is no map of it", "there are no maps of them")


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
