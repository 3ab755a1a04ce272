"""As much of FlatBuffers as is needed to read the metadata of TensorFlow Lite, with every offset checked.

A table begins with the distance back to its vtable, which holds the place of each field. A string, vector or table in a
field is a distance forward.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

Buffer = bytes | memoryview


class Damaged(ValueError):
    """A distance leads out of the buffer, or what it leads to cannot be."""


@dataclass(frozen=True)
class Table:
    """A table in a buffer.

    Args:
        data: the buffer.
        place: byte at which the table begins.
    """

    data: Buffer
    place: int


def root(data: Buffer, identifier: bytes) -> Table:
    """Return the root table.

    Args:
        data: a whole buffer.
        identifier: the four bytes that its kind has at byte 4.

    Raises:
        Damaged: it is of another kind.
    """
    if bytes(data[4:8]) != identifier:
        raise Damaged(f"its mark is {bytes(data[4:8])!r} instead of {identifier!r}")
    return Table(data, _unsigned(data, 0))


def integer(table: Table, field: int, layout: str = "<I") -> int:
    """Return the whole number in a field, 0 where it is left away.

    Args:
        table: the table.
        field: index of the field in the schema; a union counts twice.
        layout: of the number, as :mod:`struct` has it.
    """
    place = _place(table, field)
    return int(_unpack(layout, table.data, place)) if place else 0


def child(table: Table, field: int) -> Table | None:
    """Return the table in a field, ``None`` where it is left away."""
    place = _place(table, field)
    return Table(table.data, place + _unsigned(table.data, place)) if place else None


def children(table: Table, field: int, limit: int = 4096) -> list[Table]:
    """Return the tables of the vector in a field, at most ``limit``; none where it is left away."""
    start, count = _vector(table, field, 4)
    places = (start + 4 * index for index in range(min(count, limit)))
    return [Table(table.data, place + _unsigned(table.data, place)) for place in places]


def floats(table: Table, field: int, limit: int = 4096) -> tuple[float, ...]:
    """Return the numbers of the vector of floats in a field, at most ``limit``."""
    start, count = _vector(table, field, 4)
    return struct.unpack_from(f"<{min(count, limit)}f", table.data, start)


def integers(table: Table, field: int, limit: int = 4096) -> tuple[int, ...]:
    """Return the numbers of the vector of whole numbers of four bytes in a field, at most ``limit``."""
    start, count = _vector(table, field, 4)
    return struct.unpack_from(f"<{min(count, limit)}i", table.data, start)


def content(table: Table, field: int) -> bytes:
    """Return the bytes of the vector of bytes, or of the text, in a field; empty where it is left away."""
    start, count = _vector(table, field, 1)
    return bytes(table.data[start : start + count])


def text(table: Table, field: int) -> str:
    """Return the text in a field, empty where it is left away.

    Raises:
        Damaged: it is not UTF-8.
    """
    try:
        return content(table, field).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged("a text in it is not UTF-8") from error


def _place(table: Table, field: int) -> int:
    """Byte of a field; 0 where the table leaves it away."""
    vtable = table.place - int(_unpack("<i", table.data, table.place))
    entry = 4 + 2 * field
    if entry + 2 > int(_unpack("<H", table.data, vtable)):
        return 0
    distance = int(_unpack("<H", table.data, vtable + entry))
    return table.place + distance if distance else 0


def _vector(table: Table, field: int, item_bytes: int) -> tuple[int, int]:
    """Byte of the first item of the vector in a field, and the number of items."""
    place = _place(table, field)
    if not place:
        return 0, 0
    start = place + _unsigned(table.data, place)
    count = _unsigned(table.data, start)
    if start + 4 + count * item_bytes > len(table.data):
        raise Damaged(f"a list of {count} items leads out of it")
    return start + 4, count


def _unsigned(data: Buffer, place: int) -> int:
    return int(_unpack("<I", data, place))


def _unpack(layout: str, data: Buffer, place: int) -> int | float:
    if place < 0:
        raise Damaged("a distance leads out of it")
    try:
        (value,) = struct.unpack_from(layout, data, place)
    except struct.error as error:
        raise Damaged("a distance leads out of it") from error
    number: int | float = value
    return number
