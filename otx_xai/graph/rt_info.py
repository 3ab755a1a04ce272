"""What is written into a graph beside its operations, ``rt_info``: the one place that reads it and writes into it.

What is written says what a model is. That is asked once, while a model is opened (``model/model_info.py`` and
``neighbours/``), and goes into its facts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import openvino as ov


def written(model: ov.Model, *path: str) -> Any:
    """Return what is written under a path of names: text, other values, or a mapping of these; ``None``: nothing."""
    return model.get_rt_info(list(path)).value if model.has_rt_info(list(path)) else None


def read_through(model: ov.Model) -> None:
    """Read everything that is written into a model.

    Raises:
        UnicodeDecodeError: some of it is no text.
    """
    for key in model.get_rt_info():
        written(model, key)


def write(model: ov.Model, value: object, path: Sequence[str]) -> None:
    """Write a value under a path of names, in place."""
    model.set_rt_info(value, list(path))


def label_entries(names: Sequence[str], *, independent: bool) -> dict[str, str]:
    """Return class names as ``model_info`` has them: spaces are ``_`` under ``labels``, and stay in ``label_info``.

    Args:
        names: one a class, in order.
        independent: of each other, so that every class is a group of its own.
    """
    words = " ".join(name.replace(" ", "_") for name in names)
    groups = [[name] for name in names] if independent else [list(names)]
    described = {"label_names": list(names), "label_ids": list(names), "label_groups": groups}
    return {"labels": words, "label_ids": words, "label_info": json.dumps(described)}


def keeps(after: ov.Model, before: ov.Model) -> bool:
    """Whether a model has all that is written into another."""
    return _holds(_plain(after.get_rt_info()), _plain(before.get_rt_info()))


def _holds(info: Any, part: Any) -> bool:
    """Whether nested ``info`` has every entry of ``part``."""
    if isinstance(info, dict) and isinstance(part, dict):
        return all(key in info and _holds(info[key], value) for key, value in part.items())
    return bool(info == part)


def _plain(info: Any) -> Any:
    if isinstance(info, ov.OVAny):
        info = info.value
    return {key: _plain(value) for key, value in info.items()} if isinstance(info, dict) else str(info)
