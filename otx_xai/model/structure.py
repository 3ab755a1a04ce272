"""What the graph of one model is made of: each question is answered once, and its answer kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import openvino as ov

from otx_xai.errors import GraphError
from otx_xai.graph.axes import label_axes
from otx_xai.graph.box_classes import BoxClasses, classes_of_heads, classes_of_regions
from otx_xai.graph.class_heads import ClassHeads
from otx_xai.graph.detector_heads import find_class_heads
from otx_xai.graph.features import Anatomy, find_features
from otx_xai.graph.labels import Labels
from otx_xai.graph.logits import Logits
from otx_xai.graph.shared_features import pooled_features
from otx_xai.graph.view import Port, View
from otx_xai.records import XAI_OUTPUTS

if TYPE_CHECKING:
    from otx_xai.model.formats.box_format import Found

AnswerT = TypeVar("AnswerT")


class Structure:
    """The graph of one model, analysed as far as somebody asks.

    What says no is kept as well: an analysis that ends in a ``GraphError`` raises the same one whenever it is asked.

    Args:
        model: the model, which must not change while this is used.
        layout: axes of its image input, a permutation of ``NCHW``; ``None``: not known.
        class_scores: of a classifier: its class scores in this graph.
        boxes: of a model that finds boxes: the format of its outputs, and how they are read.
        view: of the model without its XAI outputs, where the caller has it.
    """

    def __init__(
        self,
        model: ov.Model,
        layout: str | None = None,
        *,
        class_scores: Logits | None = None,
        boxes: Found | None = None,
        view: View | None = None,
    ) -> None:
        self.view = view or View(model, XAI_OUTPUTS)
        self.layout = layout
        self.boxes = boxes
        self._class_scores = class_scores
        self._heads: dict[tuple[int | None, tuple[str, ...]], ClassHeads | GraphError] = {}
        self._anatomy: Anatomy | GraphError | None = None
        self._answers: dict[Hashable, Any] = {}

    def once(self, question: Hashable, answer: Callable[[], AnswerT]) -> AnswerT:
        """Return what a room above has found out about this graph, which is found out when it is first asked.

        Args:
            question: what it asks, with all that the answer depends on beside the graph.
            answer: finds out.
        """
        if question not in self._answers:
            self._answers[question] = answer()
        found: AnswerT = self._answers[question]
        return found

    @property
    def is_classifier(self) -> bool:
        """Whether the model gives class scores of the image."""
        return self._class_scores is not None

    @property
    def class_scores(self) -> Logits:
        """The class scores of a classifier, before soft-max or sigmoid.

        Raises:
            GraphError: the model is no classifier.
        """
        if self._class_scores is None:
            raise GraphError("The model gives boxes, and no class scores of the image.")
        return self._class_scores

    @cached_property
    def axes(self) -> dict[Port, Labels]:
        """What the axes of each tensor mean."""
        return label_axes(self.view, self.layout)

    @property
    def anatomy(self) -> Anatomy:
        """The features of a classifier behind which its head begins.

        Raises:
            GraphError: nothing with places lies on every path to the class scores.
        """
        if self._anatomy is None:
            try:
                self._anatomy = find_features(self.view, self.axes, self.class_scores)
            except GraphError as error:
                self._anatomy = error
        if isinstance(self._anatomy, GraphError):
            raise self._anatomy
        return self._anatomy

    @cached_property
    def pooled_features(self) -> list[ov.Output]:
        """The features that a two-stage detector pools its regions from; none of a one-stage detector."""
        return pooled_features(self.view)

    def class_heads(self, num_classes: int | None = None, target_layers: Sequence[str] = ()) -> ClassHeads:
        """Return the class heads of a one-stage detector.

        Args:
            num_classes: number of its classes, where it is known.
            target_layers: the heads, where the user names them.

        Raises:
            GraphError: they cannot be read off the graph.
        """
        key = (num_classes, tuple(target_layers))
        plain = self._heads.get((None, key[1]))
        if key not in self._heads and isinstance(plain, ClassHeads) and plain.num_classes == num_classes:
            return plain
        if key not in self._heads:
            try:
                self._heads[key] = find_class_heads(
                    self.view,
                    num_classes=num_classes,
                    target_layers=target_layers,
                    labels=self.axes,
                    told=None if self.boxes is None else self.boxes.match.scores,
                )
            except GraphError as error:
                self._heads[key] = error
        found = self._heads[key]
        if isinstance(found, GraphError):
            raise found
        return found

    def box_classes(self, num_names: int | None = None, target_layers: Sequence[str] = ()) -> BoxClasses:
        """Tell the number of classes of a model that finds boxes, as far as its graph tells.

        Args:
            num_names: number of names that the user or the model gives, which decides where raw outputs can be read in
                two ways; where they cannot, the number of the graph is told.
            target_layers: class heads that the user names.

        Raises:
            GraphError: the class heads of a one-stage detector cannot be read off.
        """
        if self.pooled_features:
            return classes_of_regions(self.view)
        heads = self.class_heads(num_names if target_layers else None, target_layers)
        if num_names not in (None, heads.num_classes):
            with suppress(GraphError):  # where there is no other reading, the number of names is wrong
                heads = self.class_heads(num_names)
        return classes_of_heads(heads)
