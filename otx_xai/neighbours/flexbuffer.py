"""As much of FlexBuffers as tells which numbers a map has, with every offset checked.

FlexBuffers are FlatBuffers without a schema: TensorFlow Lite keeps options of custom operations in them. They are read
from their end. In front of the values of a map stand their number and where the keys are; behind them a byte for each
says of which kind it is.
"""

from __future__ import annotations

import struct

from otx_xai.neighbours.flatbuffer import Damaged

_MAP = 9
_NUMBERS = (1, 2, 3, 26)
"""Kinds that stand in the vector itself: whole numbers with and without a sign, real ones, and truths."""
_UNSIGNED = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


def numbers_in_map(data: bytes) -> dict[str, bool]:
    """Return the names in a map, and whether each is that of a number.

    Args:
        data: the whole buffer.

    Raises:
        Damaged: it is no map, or leads out of the buffer.
    """
    if len(data) < 3:
        raise Damaged("its options are cut short")
    kind, width = data[-2] >> 2, data[-1]
    if kind != _MAP:
        raise Damaged("its options are no map")
    values = _led_to(data, len(data) - 2 - width, width)
    width = 1 << (data[-2] & 3)
    size = _whole(data, values - width, width)
    keys, key_width = _led_to(data, values - 3 * width, width), _whole(data, values - 2 * width, width)
    kinds = values + size * width
    if kinds + size > len(data) or _whole(data, keys - key_width, key_width) != size:
        raise Damaged("its options lead out of it")
    names = [_text(data, _led_to(data, keys + index * key_width, key_width)) for index in range(size)]
    return {name: data[kinds + index] >> 2 in _NUMBERS for index, name in enumerate(names)}


def _led_to(data: bytes, place: int, width: int) -> int:
    """Return where an offset leads, which counts backwards from its own place."""
    return place - _whole(data, place, width)


def _whole(data: bytes, place: int, width: int) -> int:
    if width not in _UNSIGNED or place < 0 or place + width > len(data):
        raise Damaged("its options lead out of it")
    (number,) = struct.unpack_from(_UNSIGNED[width], data, place)
    return int(number)


def _text(data: bytes, place: int) -> str:
    end = data.find(b"\0", place) if place >= 0 else -1
    if end < 0:
        raise Damaged("its options lead out of it")
    return data[place:end].decode("utf-8", "replace")
