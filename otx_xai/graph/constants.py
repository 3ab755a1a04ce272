"""Values of parts of a graph that do not depend on the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.openvino_core import core


def evaluate(
    outputs: Sequence[ov.Output], given: Mapping[ov.op.Parameter, NDArray[np.float32]] | None = None
) -> list[NDArray[np.float32]]:
    """Return the values of tensors that depend on nothing but ``given``, computed by OpenVINO's CPU plugin.

    Args:
        outputs: the tensors.
        given: values of the parameters that they depend on; of none by default.

    Returns:
        The values, ``float32``, in order.
    """
    given = given or {}
    model = ov.Model([ops.result(output) for output in outputs], list(given), "constants")
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(list(given.values()))
    return [np.array(results[i], dtype=np.float32) for i in range(len(outputs))]
