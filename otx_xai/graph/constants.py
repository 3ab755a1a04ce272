"""Values of parts of a graph that do not depend on the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.view import dimensions
from otx_xai.openvino_core import core, first_line


def evaluate(
    outputs: Sequence[ov.Output], given: Mapping[ov.op.Parameter, NDArray[np.float32]] | None = None
) -> list[NDArray[np.float32]]:
    """Return the values of tensors that depend on nothing but ``given``, computed by OpenVINO's CPU plugin.

    Sizes may be asked of other parameters, as exports do that leave their batch open: one image is assumed then.

    Args:
        outputs: the tensors.
        given: values of the parameters that they depend on; of none by default.

    Returns:
        The values, ``float32``, in order.

    Raises:
        GraphError: OpenVINO cannot compute them.
    """
    given = given or {}
    known = {parameter.get_name() for parameter in given}
    given = {**given, **{node: _zeros(node) for node in _parameters_before(outputs) if node.get_name() not in known}}
    model = ov.Model([ops.result(output) for output in outputs], list(given), "constants")
    try:
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        results = compiled(list(given.values()))
    except RuntimeError as error:
        raise GraphError(
            f"OpenVINO cannot compute a part of the model: {first_line(error)}. The model is broken, or too large; "
            "copy or export it again."
        ) from error
    return [np.array(results[i], dtype=np.float32) for i in range(len(outputs))]


def _zeros(parameter: ov.Node) -> NDArray[Any]:
    """Return an input of nothing for a parameter, one image of the least size where it is open."""
    shape = [size or 1 for size in dimensions(parameter.output(0)) or ()]
    return np.zeros(shape, parameter.get_element_type().to_dtype())


def _parameters_before(outputs: Sequence[ov.Output]) -> list[ov.Node]:
    """Return the parameters that tensors are computed from, by values or by sizes only."""
    todo, seen, found = [output.get_node() for output in outputs], set(), []
    while todo:
        node = todo.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        if node.get_type_name() == "Parameter":
            found.append(node)
        todo += [value.get_node() for value in node.input_values()]
    return found
