"""What the user says of a model, where it does not tell itself."""

from __future__ import annotations

from dataclasses import dataclass

from otx_xai.records import InputOptions, Labels, Task

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
    """

    task: Task | None = None
    labels: Labels = None
    input: InputOptions = NO_INPUT_OPTIONS
    output: str | None = None
    format: str | None = None
    confidence_threshold: float | None = None
    target_layers: tuple[str, ...] = ()
    read_by_caller: bool = False
