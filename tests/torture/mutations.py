"""Broken files: real ones, with bytes, numbers or parts of them changed at random from a number that repeats it."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
_WORDS = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBERS = (b"0", b"-1", b"1e309", b"nan", b"99999999999999999999", b"2147483648", b"4294967297", b"-0.5", b"x", b"")
_PIECES = (
    *(b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b'"', b"'", b"[", b"{", b"}", b"<", b">", b"&", b"&a;", b"\n"),
    *(b",", b";", b":", b"\t", b"- ", b"&a ", b"*a", b"!!python/object:os.system", b"<!DOCTYPE a>", b"../../", b"null"),
    *(b"true", b"\xef\xbb\xbf", "\u202e".encode(), b"\r", b"[" * 5000),
)


def mutated(samples: Sequence[bytes], number: int, *, header: int = 128, text: bool = False) -> bytes:
    """Return one of the samples with up to four changes.

    Args:
        samples: files of one kind.
        number: another one makes other changes.
        header: half of the changes are made in the first bytes.
        text: change words and numbers too.
    """
    rng = random.Random(number)
    data = bytearray(rng.choice(samples))
    changes = (*_ANY, *_TEXT) if text else _ANY
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        end = min(len(data), header) if rng.random() < 0.5 else len(data)
        rng.choice(changes)(rng, data, rng.randrange(end))
    if data[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.7:
        _mend_png(data)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] = rng.choice((*_EXTREMES, rng.randrange(256)))


def _word(rng: random.Random, data: bytearray, at: int) -> None:
    size, order = rng.choice("HI"), rng.choice("<>")
    packed = struct.pack(order + size, rng.choice(_WORDS) & (0xFFFF if size == "H" else 0xFFFFFFFF))
    data[at : at + len(packed)] = packed


def _cut(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at:]


def _remove(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + rng.randrange(1, 64)]


def _repeat(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + rng.randrange(1, 256)] * rng.choice((1, 2, 50))


def _insert(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = rng.randbytes(rng.randrange(1, 16))


def _move(rng: random.Random, data: bytearray, at: int) -> None:
    start = rng.randrange(len(data))
    part = data[start : start + rng.randrange(1, 64)]
    data[at : at + len(part)] = part


def _number(rng: random.Random, data: bytearray, at: int) -> None:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
    if found:
        start, end = rng.choice(found).span()
        data[start:end] = rng.choice(_NUMBERS)


def _piece(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = rng.choice(_PIECES)


def _name(rng: random.Random, data: bytearray, at: int) -> None:
    """Put one word of the file in the place of another."""
    words = list(re.finditer(rb"\w+", data))
    if words:
        (start, end), other = rng.choice(words).span(), rng.choice(words)[0]
        data[start:end] = other


def _line(rng: random.Random, data: bytearray, at: int) -> None:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first] = rng.choice((b"", lines[second], lines[first] + lines[second]))
    data[:] = b"\n".join(lines)


Change = Callable[[random.Random, bytearray, int], None]
_ANY: tuple[Change, ...] = (_flip, _byte, _word, _cut, _remove, _repeat, _insert, _move)
_TEXT: tuple[Change, ...] = (_number, _number, _piece, _piece, _name, _name, _line)


def _mend_png(data: bytearray) -> None:
    """Put the checksums of a PNG right, or what is behind them is never looked at."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
