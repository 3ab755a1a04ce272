"""What the user says of a model, where it does not tell itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otx_xai.records import InputOptions, Labels, Size, Task, Weights

NO_INPUT_OPTIONS = InputOptions()


@dataclass(frozen=True)
class ModelOptions:
    """What the user says of a model; ``None`` leaves it to the model, its neighbours and its graph.

    Args:
        task: what it does.
        labels: class names: a file, ``"a,b,c"``, or the names.
        input: what to feed it.
        output: the output that holds the class scores, by name or number, where a model has several.
        format: how the outputs of a detector spell boxes, by the name of a row of ``BOX_FORMATS``.
        confidence_threshold: score from which a detector's box counts.
        target_layers: class heads of a one-stage detector.
        read_by_caller: the caller reads boxes by a function of his own.
        architecture: of a torch checkpoint: its name, its class as ``package.module:Class``, what a recipe says of it,
            or a module that its weights are for.
        weights: averaged over training (EMA) or of the last step, where a torch checkpoint keeps both.
        normalised: images come as the network wants them, rather than as pictures.
        tensor_size: ``(height, width)`` that images have where they come normalised, or that an example of them has.
    """

    task: Task | None = None
    labels: Labels = None
    input: InputOptions = NO_INPUT_OPTIONS
    output: str | None = None
    format: str | None = None
    confidence_threshold: float | None = None
    target_layers: tuple[str, ...] = ()
    read_by_caller: bool = False
    architecture: Any = None
    weights: Weights | None = None
    normalised: bool = False
    tensor_size: Size | None = None
