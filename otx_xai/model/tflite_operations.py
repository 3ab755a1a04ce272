"""The operations of a TensorFlow Lite file, as far as OpenVINO does not check them: it ends the process over some.

Numbers of fields and of operations are those of TensorFlow's ``schema.fbs``.
"""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path

from otx_xai.model.tflite_detections import OPERATION, OPTIONS
from otx_xai.neighbours.flatbuffer import Damaged, Table, children, content, integer, integers, root, text
from otx_xai.neighbours.flexbuffer import numbers_in_map

_MARK = b"TFL3"
_CODES, _SUBGRAPHS = 1, 2  # of a model
_OLD_CODE, _CUSTOM, _CODE = 0, 1, 3  # of a code of an operation: one byte, and four since there are more than 127
_TENSORS, _OPERATIONS = 0, 3  # of a subgraph
_SHAPE, _NAME = 0, 3  # of a tensor
_INDEX, _INPUTS, _OPTIONS = 0, 1, 5  # of an operation
_CONVOLUTIONS = (3, 4, 67)
"""Plain, depthwise and transposed; the weights are the second input of all."""
_WEIGHTS = 1
_MOST = 2**20
"""Operations and tensors that are looked at."""


def unreadable_tflite(path: Path) -> str:
    """Say which operation OpenVINO does not survive; empty: none is known.

    Such are convolutions whose weights have an axis without length, and detections whose options are damaged.

    Args:
        path: a TensorFlow Lite file. Of one that cannot be opened, or is damaged, the reader says so.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data, memoryview(data) as view:
            return _in_model(root(view, _MARK))
    except (OSError, ValueError):  # Damaged is one
        return ""


def _in_model(model: Table) -> str:
    codes = children(model, _CODES)
    for subgraph in children(model, _SUBGRAPHS):
        tensors = children(subgraph, _TENSORS, limit=_MOST)
        for operation in children(subgraph, _OPERATIONS, limit=_MOST):
            index = integer(operation, _INDEX)
            fault = _in_operation(operation, codes[index], tensors) if index < len(codes) else ""
            if fault:
                return fault
    return ""


def _in_operation(operation: Table, code: Table, tensors: list[Table]) -> str:
    inputs = integers(operation, _INPUTS)
    if max(integer(code, _OLD_CODE, "<b"), integer(code, _CODE, "<i")) in _CONVOLUTIONS:
        weights = inputs[_WEIGHTS] if len(inputs) > _WEIGHTS else -1
        return _in_weights(tensors[weights]) if 0 <= weights < len(tensors) else ""
    return _in_options(operation) if text(code, _CUSTOM) == OPERATION else ""


def _in_weights(weights: Table) -> str:
    shape = integers(weights, _SHAPE)
    if min(shape, default=1) > 0:
        return ""
    return f"its weights {_named(weights)!r} have the shape {list(shape)}; expected lengths of 1 or more"


def _in_options(operation: Table) -> str:
    try:
        found = numbers_in_map(content(operation, _OPTIONS))
    except Damaged as error:
        return f"{error} (operation {OPERATION})"
    strange = next((name for name in OPTIONS if not found.get(name, True)), "")
    return f"its option {strange} is no number (operation {OPERATION})" if strange else ""


def _named(tensor: Table) -> str:
    try:
        return text(tensor, _NAME)
    except Damaged:
        return ""
