"""``rt_info/model_info``: what OTX, Geti and Model API write into a model about itself, as typed values."""

from __future__ import annotations

from typing import Any

import openvino as ov

from otx_xai.errors import ModelError
from otx_xai.graph.rt_info import written
from otx_xai.records import parse_numbers
from otx_xai.storage.json_text import parse_json

_TRUE = ("true", "yes", "1")
_FALSE = ("false", "no", "0", "")


def model_info(model: ov.Model) -> dict[str, str]:
    """All values under ``rt_info/model_info`` as text; empty where the model has none.

    A model in memory may hold booleans, numbers and lists: they read as they would after saving and loading.
    """
    values = written(model, "model_info")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ModelError(
            f"rt_info/model_info of the model is {values!r}; expected named values. Export the model again."
        )
    return {str(key): _text(value) for key, value in values.items()}


def read_flag(info: dict[str, str], key: str) -> bool:
    """``True`` or ``False`` under ``key``; a missing key is ``False``."""
    text = info.get(key, "").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise malformed(info, key, "True or False")


def read_json(info: dict[str, str], key: str) -> Any:
    """The JSON value under ``key``, which must be there."""
    try:
        return parse_json(info[key])
    except ValueError as error:
        raise malformed(info, key, f"JSON ({error})") from error


def read_share(info: dict[str, str], key: str, default: float = 0.5) -> float:
    """The number from 0 to 1 under ``key``; ``default`` where it is missing or empty."""
    if not info.get(key, "").strip():
        return default
    numbers = parse_numbers(info[key])
    if numbers is None or len(numbers) != 1 or not 0 <= numbers[0] <= 1:
        raise malformed(info, key, "a number from 0 to 1")
    return numbers[0]


def malformed(info: dict[str, str], key: str, expected: str, fix: str = "correct it in the model") -> ModelError:
    """The error for a value under ``key`` that is not what it should be."""
    return ModelError(f"model_info/{key} of the model is {_short(info[key])}; expected {expected}. To fix it, {fix}.")


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(item).replace(" ", "_") for item in value)
    return str(value)


def _short(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
