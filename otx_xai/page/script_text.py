"""Data as scripts: a page that is opened from a disk may load scripts, and may fetch nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a value in the terms of JSON.

    Args:
        value: mappings, sequences, arrays, numbers, texts and ``None``, nested as they like.

    Returns:
        The same of dictionaries, lists and what Python has for numbers; numbers that are not finite are ``None``, and
        what JSON has no word for is its text.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    return str(value)


def script_text(kind: str, number: int, value: Any) -> bytes:
    """Return a script that hands a value to the page.

    The value travels as a text that ``JSON.parse`` reads, so that a key such as ``__proto__`` is a key. As nothing but
    ASCII is written, and no ``<``, no text in it can end the script or the line.

    Args:
        kind: what it is, a word.
        number: which of its kind.
        value: see :func:`plain`.
    """
    text = json.dumps(plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"otxAudit.add('{kind}',{number},'{quoted}');\n".encode("ascii")
