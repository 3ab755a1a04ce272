"""What the table of methods knows of each: the record that one file a method fills, and what passes through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import openvino as ov

from otx_xai.model.opened import Model
from otx_xai.perturb import PerturbationMaps, Scorer, Subject, Watch
from otx_xai.postprocess.proposals import Proposals
from otx_xai.records import Detections, FloatArray, IntArray, MapGrid, Preset, Task
from otx_xai.runtime import Arrays, Session

CLASSIFIERS = frozenset(task for task in Task if task.is_classification)
BOX_FINDERS = frozenset({Task.DETECTION, Task.INSTANCE_SEGMENTATION})

Classes = int | tuple[int, ...] | None
"""Classes to explain: all (``None``), the ``k`` best of each image (``k``), or these."""


def class_count(classes: Classes, total: int) -> int:
    """Return how many classes of a model of ``total`` are to be explained."""
    if classes is None:
        return total
    return min(classes, total) if isinstance(classes, int) else len(classes)


@dataclass(frozen=True)
class Fit:
    """Whether a method fits a model.

    Args:
        fits: whether it does.
        reason: why, or why not, in words.
        automatic: auto mode may choose it; else it has to be asked for, and nobody need be told that it does not fit.
        passed_over: why auto mode does not choose a method that it might expect; empty: nobody would expect it.
        dear: why it takes more than the effort that it stands for; empty: it does not. By default auto mode then asks
            others first.
        dear_alone: the same where each box is to have a map of its own.
    """

    fits: bool
    reason: str
    automatic: bool = True
    passed_over: str = ""
    dear: str = ""
    dear_alone: str = ""


@dataclass(frozen=True)
class Order:
    """What a branch in the graph is to give.

    Args:
        target_layers: layers that the user names; none: the graph tells.
        classes: which classes.
        embed_scaling: scale each map to [0, 255] in the graph.
        scores: add the output ``saliency_scores`` of a classifier: probabilities.
        feature_vector: add the output ``feature_vector`` of a classifier: the pooled features.
        options: the record of the method's own options; ``None``: as they are by default.
    """

    target_layers: tuple[str, ...] = ()
    classes: Classes = None
    embed_scaling: bool = True
    scores: bool = False
    feature_vector: bool = False
    options: Any = None


@dataclass(frozen=True)
class Branch:
    """A model with its ``saliency_map`` output.

    Args:
        model: a copy of the model, with the branch.
        grid: where the places of the maps lie in the network's input; ``None``: they divide it evenly.
    """

    model: ov.Model
    grid: MapGrid | None = None


@dataclass(frozen=True)
class ClassJob:
    """Classes of one image that are explained by perturbation.

    Args:
        scorer: how the network scores an input.
        subject: the image.
        targets: class indices.
        guide: maps of classes by a branch in the graph, ``float32`` ``(h, w)``, of a method that asks for such; none
            of classes that the graph has none of.
        grid: where the places of these maps lie in the network's input.
    """

    scorer: Scorer
    subject: Subject
    targets: Sequence[int]
    guide: Mapping[int, FloatArray] = field(default_factory=dict)
    grid: MapGrid | None = None


@dataclass(frozen=True)
class BoxJob:
    """Boxes of one image that are explained by perturbation.

    Args:
        session: the compiled detector.
        read: makes proposals of its outputs.
        subject: the image.
        boxes: ``float32`` ``(T, 4)``, xyxy in pixels of the network's input.
        labels: ``int64`` ``(T,)``.
        guides: maps of the boxes by gradients, ``float32`` ``(T, h, w)``, not negative, over the whole of the network's
            input, of a method that asks for such; ``None`` where there are none.
    """

    session: Session
    read: Callable[[Arrays], Proposals]
    subject: Subject
    boxes: FloatArray
    labels: IntArray
    guides: FloatArray | None = None


@dataclass(frozen=True)
class BoxesAsked:
    """Boxes of one image that a second pass explains.

    Args:
        found: what was found, as far as it is to be explained.
        boxes: the same boxes, ``float32`` ``(M, 4)``, xyxy in pixels of the network's input.
        of_classes: maps of classes are made of theirs, so that those of one class need not be told apart.
    """

    found: Detections
    boxes: FloatArray
    of_classes: bool = False


@dataclass(frozen=True)
class SecondPass:
    """What explains the boxes of an image once they have been read: second models behind the first.

    Args:
        first: a copy of the model that gives, behind its own outputs, what the second pass starts from.
        starts: names of these outputs.
        maps: makes the maps of all boxes of one image, ``float32`` ``(M, h, w)``, unscaled, over the whole of the
            network's input; not negative, or of a box whose score nothing raises, not positive: ``(first model
            compiled, starts by name, boxes)``.
    """

    first: ov.Model
    starts: tuple[str, ...]
    maps: Callable[[Session, Arrays, BoxesAsked], FloatArray]


@dataclass(frozen=True)
class NoOptions:
    """The options of a method that has none."""


@dataclass(frozen=True)
class MethodSpec:
    """A method: what it explains, what it needs, and what does it.

    A white-box method has ``insert`` or ``second_pass``; a black-box method has ``explain_classes``, ``explain_boxes``
    or both.

    Args:
        name: published name without punctuation, in lower case; what ``explain_method`` calls it.
        meaning: one line for people.
        tasks: what it explains.
        fits: tells whether it fits a model, given the layers that the user names, from its facts and its graph.
        options: record of its own options.
        insert: puts its branch into a copy of the model.
        second_pass: makes what explains boxes once they have been read, given the layers that the user names.
        explain_classes: explains classes of one image by perturbation.
        explain_boxes: explains boxes of one image by perturbation.
        each_class_costs: maps of several classes by its branch take several times as long as one.
        guide: of a black-box method: puts a branch into a copy of the model, whose maps guide it.
        guide_boxes: of a black-box method: makes what explains boxes once they have been read, which guides it.
        presets: efforts of which auto mode asks for it first.
    """

    name: str
    meaning: str
    tasks: frozenset[Task]
    fits: Callable[[Model, Sequence[str]], Fit]
    options: type[Any] = NoOptions
    insert: Callable[[Model, Order], Branch] | None = None
    second_pass: Callable[[Model, Sequence[str]], SecondPass] | None = None
    explain_classes: Callable[[ClassJob, Any, Watch | None], PerturbationMaps] | None = None
    explain_boxes: Callable[[BoxJob, Any, Watch | None], PerturbationMaps] | None = None
    each_class_costs: bool = False
    guide: Callable[[Model, Order], Branch] | None = None
    guide_boxes: Callable[[Model, Sequence[str]], SecondPass] | None = None
    presets: frozenset[Preset] = frozenset()

    @property
    def is_white_box(self) -> bool:
        """Whether it reads the model's graph (else it perturbs the input)."""
        return self.insert is not None or self.second_pass is not None

    @property
    def option_names(self) -> frozenset[str]:
        """Names of its own options."""
        return frozenset(field.name for field in fields(self.options))

    def make_options(self, values: Mapping[str, Any]) -> Any:
        """Make the record of its options of those among ``values`` that it has and that are given.

        Raises:
            ConfigError: a value is out of range.
        """
        return self.options(**{name: value for name, value in values.items() if name in self.option_names})


def any_model(_model: Model, _layers: Sequence[str]) -> Fit:
    """Fit any model: a method that perturbs images needs a model that can be run, and no more."""
    return Fit(True, "it needs a model that can be run, and no place in its graph")
