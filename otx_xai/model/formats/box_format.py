"""What a family of detectors says its boxes in: the record that a file fills, and what it is told apart by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.graph.class_heads import ScoreColumns
from otx_xai.graph.view import View
from otx_xai.postprocess.proposals import Proposals
from otx_xai.records import FloatArray, IntArray, ScoreOrigin, Size, Task

Arrays = Mapping[str, NDArray[Any]]
"""Outputs of one image by name, with their batch axis where the model gives one."""


_SCORE_ROLES = ("scores", "logits", "predictions", "rows", "boxes")
"""Roles of outputs that may hold scores, the surest first."""


@dataclass(frozen=True)
class OutputPort:
    """One output of a detector, as a format looks at it.

    Args:
        name: what the runtime calls it: its (first) tensor name, its index where it has none.
        names: all its tensor names.
        shape: its sizes for one image, ``None`` where an axis is open.
        is_integer: it holds integers.
        index: its place among the model's outputs.
        images: number of images that its first axis holds, where the model takes as many at once.
    """

    name: str
    names: frozenset[str]
    shape: tuple[int | None, ...]
    is_integer: bool
    index: int
    images: int = 1

    def __str__(self) -> str:
        """Return its names and sizes as messages tell them: ``boxes [1,?,5]``."""
        shape = self.shape if self.images == 1 else (self.images, *self.shape[1:])
        sizes = ",".join("?" if size is None else str(size) for size in shape)
        return f"{'/'.join(sorted(self.names))} [{sizes}]".strip()

    def may_have(self, sizes: Sequence[int | None]) -> bool:
        """Tell whether the output may have these sizes, ``None`` for any, and surely has as many axes."""
        pairs = zip(self.shape, sizes, strict=False)
        return len(self.shape) == len(sizes) and all(None in pair or pair[0] == pair[1] for pair in pairs)

    def is_called(self, *parts: str) -> bool:
        """Tell whether a name of the output has one of some parts."""
        return any(part in name.lower() for name in self.names for part in parts)


@dataclass(frozen=True)
class DetectorOutputs:
    """What formats are told apart by, once a model.

    Args:
        ports: its outputs, those of saliency left out.
        view: its graph.
        size: ``(height, width)`` of the network's input; ``None`` where it is open.
        num_names: number of class names that the user or the exporter gives; ``None`` where nobody says.
        said: what the exporter says of the model, by key: ``task``, ``model_type``, ``stride``, …
        declared: somebody says that the model finds boxes, or which format it has: what graph and names do not tell may
            be taken from shapes alone.
        evidence: why it finds boxes, whatever its format, in words to follow "and"; ``None`` where nothing says so.
    """

    ports: tuple[OutputPort, ...]
    view: View
    size: Size | None = None
    num_names: int | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    declared: bool = False
    evidence: str | None = None

    @property
    def are_dense(self) -> bool:
        """Whether they may be predictions for every place: whole numbers, such as labels, are chosen already."""
        return not any(port.is_integer for port in self.ports)

    def output(self, port: OutputPort) -> ov.Output:
        """Return the tensor in the graph that an output reads."""
        return self.view.model.get_results()[port.index].input_value(0)

    def model_output(self, port: OutputPort) -> ov.Output:
        """Return the output of the model itself, with all its names."""
        return self.view.model.outputs[port.index]


@dataclass(frozen=True)
class Match:
    """Why a model has a format, and how its outputs are read then.

    Args:
        reason: in words, to follow "the format is … because": ``output0 [1,84,8400] holds …``.
        roles: what each output holds: ``boxes``, ``scores``, ``labels``, ``masks``, ``rows``, … → its name.
        task: detection, or instance segmentation where there are masks.
        num_classes: as the graph or the shapes tell, a class that stands for nothing left out; ``None``: they do not.
        first_label: what the model calls class 0: 1 where its labels start with one for nothing.
        suppressed: overlapping boxes have been suppressed in the graph.
        details: whatever else ``decode`` needs: strides, how boxes are written, activations.
        note: what the log should tell of it, such as that key points are left out; empty: nothing.
        scores: where an output holds class scores, so that the graph can be asked which layers give them.
        sure: graph or names say so; else nothing but shapes does, and another format may fit as well.
    """

    reason: str
    roles: Mapping[str, str]
    task: Task = Task.DETECTION
    num_classes: int | None = None
    first_label: int = 0
    suppressed: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    scores: ScoreColumns | None = None
    sure: bool = True

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the outputs that scores are read from."""
        held = ([name for role, name in self.roles.items() if role.startswith(kind)] for kind in _SCORE_ROLES)
        return tuple(next(filter(None, held), []))


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image as the model gives them, in any order.

    Args:
        boxes: ``float32`` ``(P, 4)``, xyxy in pixels of the network's input.
        labels: class indices ``int64`` ``(P,)``; negative ones stand for nothing.
        scores: ``float32`` ``(P,)`` in [0, 1].
        masks: makes the masks of some of them, ``float32`` ``(M, h, w)`` in [0, 1]; ``None`` of a detector.
        masks_fill_boxes: masks lie over their boxes rather than over the whole input.
        turned: the turned boxes that ``boxes`` are around, ``float32`` ``(P, 5)``: centre, width and height in pixels
            of the network's input, angle in radians; ``None`` where boxes are upright.
        origins: where in the outputs the scores come from.
    """

    boxes: FloatArray
    labels: IntArray
    scores: FloatArray
    masks: Callable[[NDArray[np.intp]], FloatArray] | None = None
    masks_fill_boxes: bool = True
    turned: FloatArray | None = None
    origins: tuple[ScoreOrigin, ...] = ()


@dataclass(frozen=True)
class BoxFormat:
    """A family of detectors.

    Args:
        name: what ``--format`` calls it.
        meaning: what outputs it expects, in words to follow "expected".
        matches: tells from graph, names and shapes, once a model, whether outputs are of this format: the match, or
            ``None``.
        decode: reads the outputs of one image: ``(outputs, match, input size, score threshold)``. Boxes below the
            threshold may be left out.
        proposals: all that the model proposes in one image, for D-RISE: ``(outputs, match, input size, objectness
            threshold)``; ``None``: no more than what it finds, a class each.
    """

    name: str
    meaning: str
    matches: Callable[[DetectorOutputs], Match | None]
    decode: Callable[[Arrays, Match, Size, float], Candidates]
    proposals: Callable[[Arrays, Match, Size, float], Proposals] | None = None


@dataclass(frozen=True)
class Found:
    """The format of a model's outputs.

    Args:
        format: the row of the table.
        match: how these very outputs are read by it.
    """

    format: BoxFormat
    match: Match
