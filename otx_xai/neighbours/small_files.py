"""Small files beside a model, as values: of bounded size, never executed, refused in words where broken."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from otx_xai.errors import ModelError
from otx_xai.records import parse_numbers

MAX_BYTES = 16 * 1024 * 1024
_MAX_LITERAL = 4 * 1024 * 1024
_MAX_CLASSES = 1_000_000


def broken(where: str, found: str, expected: str) -> ModelError:
    """Return the error for a file beside the model, or a value in it, that is not what it should be."""
    return ModelError(f"{where} {found}; expected {expected}. Correct it, or take it away.")


def read_small(path: Path) -> str | None:
    """Return the text of a file; ``None`` where there is no such regular file.

    Raises:
        ModelError: it is too large, cannot be read, or is not UTF-8.
    """
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise broken(f"{path}, which lies beside the model,", f"has {path.stat().st_size} bytes", "a small text")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise broken(f"{path}, which lies beside the model,", f"cannot be read: {error.strerror}", "a text") from error
    except UnicodeDecodeError as error:
        raise broken(f"{path}, which lies beside the model,", "is no UTF-8 text", "a text") from error


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; ``None`` where there is no such file.

    Raises:
        ModelError: the file is broken, or holds something else.
    """
    text = read_small(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise broken(f"{path}, which lies beside the model,", f"is no JSON ({error})", "a JSON object") from error
    return _named_values(path, value)


def read_yaml_mapping(path: Path) -> dict[str, Any] | None:
    """Return the YAML mapping in a file; ``None`` where there is no such file.

    Raises:
        ModelError: the file is broken, or holds something else.
    """
    text = read_small(path)
    if text is None:
        return None
    try:
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise broken(f"{path}, which lies beside the model,", f"is no YAML ({reason})", "named values") from error
    return _named_values(path, value)


def _named_values(path: Path, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise broken(f"{path}, which lies beside the model,", f"holds {shown(value)}", "named values")
    return value


def literal(value: Any) -> Any:
    """Return the number, list or dict that a text writes as Python does; any other value as it is."""
    if not isinstance(value, str) or len(value) > _MAX_LITERAL:
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def names_by_index(value: Any, where: str) -> tuple[str, ...]:
    """Return class names in order, from a list, or from a mapping of index → name.

    A mapping may leave out indices: such a class is called by its index.

    Args:
        value: as the file has it.
        where: the file and its key, for errors.

    Raises:
        ModelError: it is neither.
    """
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value:
        raise broken(where, f"is {shown(value)}", "class names: a list, or index → name")
    names = {_index(key, where): str(name).strip() for key, name in value.items()}
    if len(names) != len(value):
        raise broken(where, "has an index twice", "one name for each class")
    return tuple(names.get(index, str(index)) for index in range(max(names) + 1))


def _index(key: Any, where: str) -> int:
    text = str(key).strip()
    if not text.isdecimal() or int(text) >= _MAX_CLASSES:
        raise broken(where, f"has the key {shown(key)}", "the index of a class: 0, 1, …")
    return int(text)


def numbers_of(value: Any, where: str) -> tuple[float, ...]:
    """Return a number, or a list of numbers, as floats; also of texts, as some writers quote all values.

    Raises:
        ModelError: it is neither.
    """
    spelt = parse_numbers(value) if isinstance(value, str) else None
    items = spelt or [literal(item) for item in (value if isinstance(value, list | tuple) else [value])]
    if not items or not all(_is_number(item) for item in items):
        raise broken(where, f"is {shown(value)}", "a number, or a list of numbers")
    return tuple(float(item) for item in items)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def sides_of(value: Any, where: str) -> tuple[int, int]:
    """Return ``(height, width)`` from one number of pixels, or from two.

    Raises:
        ModelError: it is neither.
    """
    numbers = numbers_of(value, where)
    if len(numbers) > 2 or any(number < 1 or number != int(number) for number in numbers):
        raise broken(where, f"is {shown(value)}", "height and width in pixels")
    return int(numbers[0]), int(numbers[-1])


def shown(value: Any, limit: int = 80) -> str:
    """Return a value for an error, cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
