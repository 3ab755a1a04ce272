"""The operations of an ONNX file, as far as OpenVINO's reader does not check them: it ends the process over some.

The file is read as protobuf lays it out (https://protobuf.dev/programming-guides/encoding), weights are skipped, and
what is no protobuf is left to the reader, which refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

_GRAPH, _OPSETS, _FUNCTIONS = 7, 8, 25  # of ModelProto
_NODES = {"graph": 1, "function": 7}
_INPUT, _NAME, _OPERATION, _ATTRIBUTE, _DOMAIN = 1, 3, 4, 5, 7  # of NodeProto
_BODIES = (6, 11)  # graphs of AttributeProto
_OWN_DOMAINS = ("", "ai.onnx")
_NEED_NO_INPUT = ("Constant", "Random", "SequenceEmpty", "Optional")
"""What operations that make something of nothing begin with."""
_DEEPEST = 20
"""Levels of graphs within graphs."""

Part = tuple[int, int | tuple[int, int]]
"""Number of a field, and its value, or where its bytes begin and end."""


def unreadable_operation(path: Path) -> str:
    """Say which operation has too few inputs for OpenVINO's reader, which does not survive it; empty: none has.

    Args:
        path: an ONNX file. Of one that cannot be opened, or is none, the reader says so.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _in_model(data)
    except (OSError, IndexError, ValueError):
        return ""


def _in_model(data: mmap) -> str:
    parts = list(_parts(data, 0, len(data)))
    opsets = [dict(_parts(data, *place)) for number, place in parts if number == _OPSETS and isinstance(place, tuple)]
    own = [opset.get(2) for opset in opsets if _text(data, opset.get(1)) in _OWN_DOMAINS]
    version = max((number for number in own if isinstance(number, int)), default=1)
    for number, place in parts:
        if number in (_GRAPH, _FUNCTIONS) and isinstance(place, tuple):
            kind = "graph" if number == _GRAPH else "function"
            for found in _in_nodes(data, place, _NODES[kind], version, 0):
                return found
    return ""


def _in_nodes(data: mmap, place: tuple[int, int], field: int, version: int, depth: int) -> Iterator[str]:
    """Yield what is wrong with the operations of a graph, and with those of the graphs in its operations."""
    for number, node in _parts(data, *place):
        if number != field or not isinstance(node, tuple):
            continue
        parts = list(_parts(data, *node))
        inputs = sum(number == _INPUT for number, _ in parts)
        told = dict(parts)
        operation, name, domain = (_text(data, told.get(key)) for key in (_OPERATION, _NAME, _DOMAIN))
        needed = _needed(operation, version) if domain in _OWN_DOMAINS else 0
        if inputs < needed:
            yield f"its operation {name!r} ({operation}) has {inputs} inputs; expected at least {needed}"
        for key, attribute in parts:
            if key == _ATTRIBUTE and isinstance(attribute, tuple) and depth < _DEEPEST:
                for inner, body in _parts(data, *attribute):
                    if inner in _BODIES and isinstance(body, tuple):
                        yield from _in_nodes(data, body, _NODES["graph"], version, depth + 1)


def _needed(operation: str, version: int) -> int:
    """Return how many inputs OpenVINO's reader takes for granted."""
    if operation == "Conv" or (operation == "Pad" and version >= 11):
        return 2
    return 0 if operation.startswith(_NEED_NO_INPUT) else 1


def _parts(data: mmap, at: int, end: int) -> Iterator[Part]:
    """Yield the fields of a message.

    Raises:
        ValueError: these are none.
    """
    while at < end:
        key, at = _number(data, at)
        kind = key & 7
        value: int | tuple[int, int]
        if kind == 0:
            value, at = _number(data, at)
        elif kind == 2:
            length, at = _number(data, at)
            value = (at, at + length)
            at += length
        elif kind in (1, 5):
            value = (at, at + (8 if kind == 1 else 4))
            at = value[1]
        else:
            raise ValueError(f"fields of kind {kind} are not read")
        if at > end:
            raise ValueError("a field goes beyond its message")
        yield key >> 3, value


def _number(data: mmap, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number goes on for too long")


def _text(data: mmap, place: int | tuple[int, int] | None) -> str:
    return data[slice(*place)].decode("utf-8", "replace") if isinstance(place, tuple) else ""
