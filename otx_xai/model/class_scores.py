"""Where a classifier's class scores are in its graph, before soft-max or sigmoid."""

from __future__ import annotations

import openvino as ov

from otx_xai.errors import ConfigError, ModelError, TaskError
from otx_xai.graph.logits import Activation, Logits
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.traits import COPIES, RESHAPES
from otx_xai.graph.view import is_unit
from otx_xai.records import XAI_OUTPUTS, Task

_ACTIVATIONS: dict[str, Activation] = {"LogSoftmax": "softmax", "Sigmoid": "sigmoid", "Softmax": "softmax"}


def find_class_scores(model: ov.Model, output: str | None = None, *, boxes: tuple[Task, str] | None = None) -> Logits:
    """Find the class scores of a classifier.

    Args:
        model: the classifier.
        output: the output that holds them, by name or number, where the user tells. Else it is the one with a tensor
            named ``logits``, or the only one that has one axis of classes for each image, ``saliency_map`` and
            ``feature_vector`` aside.
        boxes: what the model looks like where it is one that finds boxes, and why, to follow "and".

    Raises:
        TaskError: the model is no classifier.
        ConfigError: there is no output of this name.
        ModelError: several outputs could be the class scores, or the number of classes is not fixed.
    """
    scores = [index for index, port in enumerate(model.outputs) if _can_be_scores(port)]
    if output is not None:
        return _trace(model, _named_output(model, scores, output))
    named = [index for index in scores if "logits" in model.outputs[index].get_names()]
    if (boxes is not None and not named) or not scores:
        raise TaskError(_no_classifier(model, boxes))
    found = [_trace(model, index) for index in named or scores]
    if len({logits.port for logits in found}) > 1:
        candidates = describe_outputs(model.outputs[index] for index in named or scores)
        raise ModelError(
            f"Several outputs of the model could be its class scores: {candidates}. Expected one: choose it by "
            "--output NAME, in Python output='NAME'."
        )
    return found[0]


def class_scores_at(model: ov.Model, index: int) -> Logits:
    """Return the class scores that lead to an output, which is known to hold them.

    Raises:
        ModelError: the number of classes is not fixed.
    """
    return _trace(model, index)


def has_named_logits(model: ov.Model) -> bool:
    """Whether an output that can hold class scores has a tensor named ``logits``."""
    return any("logits" in port.get_names() and _can_be_scores(port) for port in model.outputs)


def _named_output(model: ov.Model, scores: list[int], name: str) -> int:
    """Return the number of the output that the user names, which must be able to hold class scores."""
    names = [{str(index), *port.get_names()} for index, port in enumerate(model.outputs)]
    index = next((index for index, own in enumerate(names) if name in own), None)
    if index in scores:
        return index
    reason = "is no output of the model" if index is None else "holds no class scores [N, classes]"
    raise ConfigError(
        f"--output {name!r} {reason}; expected one of {describe_outputs(model.outputs[i] for i in scores)}. "
        "The folder for results is given as --work_dir."
    )


def _can_be_scores(output: ov.Output) -> bool:
    """Whether an output holds one axis of numbers for each image. Wide integers are indices, no scores."""
    kind = output.element_type
    is_number = kind.is_real() or kind in (ov.Type.u8, ov.Type.i8)
    is_xai = bool(XAI_OUTPUTS & output.get_names())
    return bool(is_number) and not is_xai and _class_axis(output.partial_shape) is not None


def _class_axis(shape: ov.PartialShape) -> int | None:
    """The one axis after the batch that may be longer than 1; ``None`` if there is no such axis or no batch."""
    if shape.rank.is_dynamic or shape.rank.get_length() < 2:
        return None
    wide = [axis for axis in range(1, shape.rank.get_length()) if not is_unit(shape[axis])]
    return next(iter(wide), 1) if len(wide) <= 1 else None


def _trace(model: ov.Model, index: int) -> Logits:
    """Walk up from one output to its class scores."""
    end = model.get_results()[index].input_value(0)
    port, activation = _before_activation(end)
    if activation is None:
        port = _before_quantisation(end)
    axis = _class_axis(port.partial_shape)
    classes = port.partial_shape[axis]
    if classes.is_dynamic:
        raise ModelError(
            f"The output {describe_outputs([model.outputs[index]])} has no fixed number of classes; expected "
            "[N, classes]. Export the model with a static class axis."
        )
    return Logits(port, index, activation, int(classes.get_length()))


def _before_activation(value: ov.Output) -> tuple[ov.Output, Activation | None]:
    """The input of the soft-max or sigmoid that ``value`` is a mere copy of, or ``value`` if there is none."""
    seen = value
    while True:
        node = seen.get_node()
        kind = node.get_type_name()
        if kind in _ACTIVATIONS and _is_over_classes(node):
            return node.input_value(0), _ACTIVATIONS[kind]
        if not _is_copy(node):
            return value, None
        seen = node.input_value(0)


def _is_over_classes(node: ov.Node) -> bool:
    """Whether a soft-max runs along the class axis. A sigmoid has no axis."""
    shape = node.input_value(0).partial_shape
    axis = _class_axis(shape)
    if axis is None or node.get_type_name() == "Sigmoid":
        return axis is not None
    return int(node.get_attributes()["axis"]) % int(shape.rank.get_length()) == axis


def _is_copy(node: ov.Node) -> bool:
    """Whether a node passes its first input on, up to rounding and axes of length 1."""
    kind = node.get_type_name()
    if kind in COPIES:
        return True
    if kind == "Log":
        return bool(node.input_value(0).get_node().get_type_name() == "Softmax")
    if kind not in RESHAPES | {"Transpose"}:
        return False
    before, after = _wide(node.input_value(0)), _wide(node.output(0))
    if kind != "Transpose":
        return before is not None and before == after
    return (before is not None and len(before) <= 1) or _keeps_order(node)


def _keeps_order(transpose: ov.Node) -> bool:
    """Whether a transpose leaves the axes longer than 1 in their order."""
    order, shape = transpose.input_value(1).get_node(), transpose.input_value(0).partial_shape
    if order.get_type_name() != "Constant" or shape.rank.is_dynamic or not order.data.size:
        return False
    moved = [int(axis) for axis in order.data if not is_unit(shape[int(axis)])]
    return moved == sorted(moved)


def _wide(value: ov.Output) -> list[str] | None:
    """Sizes of all axes that may be longer than 1."""
    shape = value.partial_shape
    return None if shape.rank.is_dynamic else [str(size) for size in shape if not is_unit(size)]


def _before_quantisation(value: ov.Output) -> ov.Output:
    """The real numbers that an 8-bit output was made of; ``value`` itself if it is real."""
    node = value.get_node()
    if value.element_type.is_real() or node.get_type_name() != "Convert":
        return value
    rounded = node.input_value(0)
    is_quantised = rounded.get_node().get_type_name() == "FakeQuantize"
    return rounded.get_node().input_value(0) if is_quantised else rounded


def _no_classifier(model: ov.Model, boxes: tuple[Task, str] | None) -> str:
    found = f"The model is no classifier: its outputs are {describe_outputs(model.outputs)}"
    expected = "expected one output of class scores [N, classes]"
    if boxes is None:
        return (
            f"{found}; {expected}, and it is no detector whose outputs are known. Export a classifier with its "
            "classification head; semantic segmentation, depth and features cannot be explained. If the model is a "
            "detector, pass --task detection and --labels, or in Python Explainer(model, task='detection', labels=..., "
            "explain_mode='blackbox', postprocess_fn=...), which reads its boxes by a function of your own."
        )
    task, reason = boxes
    return f"{found}, and {reason}; {expected}. It looks like a model for --task {task}."
