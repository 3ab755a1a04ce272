"""What is judged: images with a class or a box each, and what the model itself scores for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.data.arrays import as_channels
from otx_xai.data.reduced import read_fitted
from otx_xai.errors import ImageError
from otx_xai.explain.box_choice import find_boxes
from otx_xai.explain.run_sources import Source, image_errors
from otx_xai.explain.targets import require_finite
from otx_xai.methods.class_branch import insert_scores
from otx_xai.methods.drise import BoxTargets, box_targets, similarity
from otx_xai.metrics import Case, Forward, session_scores, session_values
from otx_xai.metrics.stream import class_score
from otx_xai.model import Model, embed_preprocessing
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_proposals
from otx_xai.perturb import image_subject
from otx_xai.postprocess import fit
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.postprocess.proposals import Proposals
from otx_xai.records import (
    SCORES,
    Decode,
    Detections,
    FloatArray,
    ImageInfo,
    InputGeometry,
    IntArray,
    ModelFacts,
    Precision,
    Size,
    UInt8Array,
)
from otx_xai.runtime import Arrays, Session

_FAINT = 0.05
"""Score from which a box that was found before is found again, in an image that shows part of it."""


@dataclass(frozen=True, eq=False)
class Known:
    """What annotations tell of one image.

    Args:
        classes: of the whole image, as the model numbers them.
        boxes: ``float32`` ``(B, 4)``, xyxy in pixels of the image.
        labels: of the boxes, as the model numbers them.
    """

    classes: tuple[int, ...] = ()
    boxes: FloatArray | None = None
    labels: tuple[int, ...] = ()

    def of_class(self, target: int) -> FloatArray:
        """Return the boxes of one class, ``float32`` ``(B, 4)``."""
        kept = [] if self.boxes is None else [i for i, label in enumerate(self.labels) if label == target]
        return np.empty((0, 4), np.float32) if self.boxes is None else self.boxes[kept]

    def all_classes(self) -> tuple[int, ...]:
        """Return the classes that the image shows, of boxes or of the whole."""
        return tuple(dict.fromkeys((*self.classes, *self.labels)))


@dataclass(frozen=True, eq=False)
class JudgedCase(Case):
    """An image, fitted into the network's input, and the class or the box whose maps are judged.

    Args:
        name: of the image.
        box: of a detector, xyxy in pixels of the network's input, ``float32`` ``(4,)``.
        found: it, with the class scores that it came with.
    """

    name: str = ""
    box: FloatArray | None = None
    found: BoxTargets | None = None


class Network:
    """The model that is explained, without any maps: it scores images.

    Args:
        model: open.
        device: OpenVINO device.
        stop: once set, streams end with :class:`~otx_xai.metrics.Stopped`.
        precision: of its numbers, any but ``auto``.
        decode: how files of images are decoded.

    Attributes:
        facts: of the model, without tiling: images are judged as a whole, fitted into the input.
        zero: ``uint8`` ``(C,)``: the pixel that becomes 0 behind the normalisation.
    """

    def __init__(
        self,
        model: Model,
        device: str,
        stop: Event | None = None,
        *,
        precision: Precision = Precision.F32,
        decode: Decode = Decode.EXACT,
    ) -> None:
        self.facts = replace(model.facts, tiling=None)
        self._decode = decode
        self.zero = _zero(self.facts)
        self._boxes = model.boxes
        self._stop = stop
        graph = insert_scores(model) if self.facts.task.is_classification else model.graph
        self._session = Session(embed_preprocessing(graph, self.facts), device, precision=precision)

    @property
    def is_classifier(self) -> bool:
        """Whether classes are judged, rather than boxes."""
        return self.facts.task.is_classification

    @property
    def forward(self) -> Forward:
        """Runs images through the model, for :func:`score`."""
        if self.is_classifier:
            return session_scores(self._session, stop=self._stop)
        return session_values(self._session, self._proposals, whole=True, stop=self._stop)

    def detections(self, least: float) -> Forward:
        """Return what runs images through a detector, and yields the :class:`Detections` of each in its input.

        Args:
            least: score from which boxes count.
        """
        size = self.facts.geometry.size
        facts = replace(self.facts, geometry=InputGeometry(size), confidence_threshold=least)

        def read(outputs: Arrays) -> Detections:
            assert self._boxes is not None
            return find_boxes(outputs, size, facts, self._boxes)

        return session_values(self._session, read, whole=True, stop=self._stop)

    def cases(
        self, sources: Iterable[Source], known: Mapping[str, Known], *, truth: bool
    ) -> Iterator[tuple[Source, JudgedCase | ImageError | None]]:
        """Read images, and choose what is judged of each: the class or the box that the model is surest of.

        Args:
            sources: the images.
            known: name → what annotations tell of it.
            truth: judge the class of the annotations instead, the one of the best score where there are several.

        Yields:
            Each image with what is judged; ``None`` where there is nothing: no box, or no class in the annotations.
        """

        def read(source: Source) -> tuple[UInt8Array, tuple[ImageInfo, UInt8Array, Size]]:
            info = source if isinstance(source, ImageInfo) else source.info
            with image_errors(info):
                fitted, size = self._fitted(source)
            return fitted, (info, fitted, size)

        def finish(read: tuple[ImageInfo, UInt8Array, Size], outputs: Arrays) -> JudgedCase | None:
            info, fitted, size = read
            with image_errors(info):
                if not self.is_classifier:
                    return self._box_case(info.name, fitted, outputs)
                told = known.get(info.name, Known())
                return self._class_case(info.name, fitted, size, outputs[SCORES], told, truth=truth)

        outputs, whole = ((SCORES,), False) if self.is_classifier else ((), True)
        stream = self._session.stream(sources, read, finish, outputs=outputs, whole=whole, stop=self._stop)
        with closing(stream) as results:
            yield from results

    def _fitted(self, source: Source) -> tuple[UInt8Array, Size]:
        """Return an image in the network's input, and its own size."""
        if isinstance(source, ImageInfo):
            return read_fitted(source.file, self.facts, self._decode)
        called = f"Image {source.name} of the loader"
        picture = as_channels(source.pixels.transpose(1, 2, 0), self.facts.channels, called)
        return fit(picture, self.facts.geometry), (picture.shape[0], picture.shape[1])

    def score(self, case: Case, values: Any) -> float:
        """Return what the model scores for a case, in [0, 1]: a probability, or how well a box is found again."""
        if isinstance(case, JudgedCase) and case.found is not None:
            return float(similarity(case.found, values)[0])
        return class_score(case, values)

    def _class_case(
        self, name: str, image: UInt8Array, size: Size, scores: FloatArray, told: Known, *, truth: bool
    ) -> JudgedCase | None:
        require_finite(scores, "class scores")
        target = int(scores.argmax())
        if truth:
            shown = told.all_classes()
            if not shown:
                return None
            target = max(shown, key=lambda one: float(scores[one]))
        boxes = boxes_on_input(told.of_class(target), size, self.facts.geometry)
        return JudgedCase(image, target, boxes, name)

    def _box_case(self, name: str, image: UInt8Array, outputs: Arrays) -> JudgedCase | None:
        boxes, labels = found_boxes(outputs, self.facts, self._boxes)
        if not len(boxes):
            return None
        best = box_targets(boxes[:1], labels[:1], self._proposals(outputs))
        return JudgedCase(image, int(labels[0]), boxes[:1], name, boxes[0], best)

    def _proposals(self, outputs: Arrays) -> Proposals:
        return proposals_in(outputs, self.facts, self._boxes)


def found_boxes(outputs: Arrays, facts: ModelFacts, format: Found | None) -> tuple[FloatArray, IntArray]:
    """Return what a detector finds in its input: boxes in its pixels, ``(M, 4)``, and labels ``(M,)``, best first."""
    assert format is not None
    size = facts.geometry.size
    found = find_boxes(outputs, size, replace(facts, geometry=InputGeometry(size)), format)
    return found.boxes, found.labels


def proposals_in(outputs: Arrays, facts: ModelFacts, format: Found | None) -> Proposals:
    """Return all that a detector proposes in its input."""
    assert format is not None
    return read_proposals(outputs, format, facts.geometry.size, len(facts.labels), first_label=facts.first_label)


def faint(facts: ModelFacts) -> ModelFacts:
    """Return the facts of a detector for an image of which parts are hidden: doubtful boxes count as well."""
    geometry = InputGeometry(facts.geometry.size)
    return replace(facts, geometry=geometry, confidence_threshold=min(_FAINT, facts.confidence_threshold))


def _zero(facts: ModelFacts) -> UInt8Array:
    channels = 3 if facts.channels == 1 else facts.channels
    fill = image_subject(np.zeros((1, 1, channels), np.uint8), facts).fill
    zero: NDArray[np.uint8] = np.rint(np.broadcast_to(np.array(fill), channels)).astype(np.uint8)
    return zero
