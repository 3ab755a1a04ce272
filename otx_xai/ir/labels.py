"""Names of classes: from the user, or from ``model_info``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from otx_xai.errors import LabelError
from otx_xai.ir.model_info import malformed, read_flag, read_json

Sourced = tuple[tuple[str, ...], str]
"""Names, and where they come from in words."""

_FILE_SUFFIXES = (".txt", ".json", ".names", ".csv", ".yaml", ".yml")
_NOTHING = ("otxemptylbl", "background", "emptylabel", "nothing")
_FIX = "pass --labels with one name for each class"


@dataclass(frozen=True)
class BoxClasses:
    """What the graph of a detector tells of its classes.

    Args:
        count: their number, the one that stands for nothing left out; ``None`` where the graph does not tell.
        background_first: class 0 of its scores stands for nothing.
    """

    count: int | None = None
    background_first: bool = False


def count_names(labels: str | Path | Sequence[str] | None, info: dict[str, str]) -> int | None:
    """Number of names that the user or ``model_info`` gives, a first one for nothing left out; ``None`` without any."""
    names, source = _given(labels) if labels is not None else _written(info)
    return len(names) - (_fold(names[0]) in _NOTHING) if source and names else None


def box_class_names(
    labels: str | Path | Sequence[str] | None, info: dict[str, str], classes: BoxClasses
) -> tuple[tuple[str, ...], str, int]:
    """One name for each class of a detector, where they come from, and what the model calls the first one.

    A first name for nothing (``otx_empty_lbl``, ``background``) where the graph has one class less, or does not tell,
    is left out, and labels then begin at 1. They begin at 0 where names come from ``model_info``, else at 1 where class
    0 of the scores stands for nothing.

    Args:
        labels: see :func:`class_names`.
        info: ``model_info`` of the model.
        classes: what the graph tells.

    Raises:
        LabelError: as :func:`class_names`, or nobody tells how many classes there are.
        ModelError: ``model_info`` is malformed.
    """
    names, source = _given(labels) if labels is not None else _written(info)
    if names and _fold(names[0]) in _NOTHING and classes.count in (None, len(names) - 1):
        return names[1:], f"{source}, without {names[0]!r}", 1
    count = classes.count if classes.count is not None else len(names)
    if not count:
        raise LabelError(
            "The model does not tell its classes: it has no model_info, and its graph does not show their number. Pass "
            "--labels with one name for each class."
        )
    first = int(classes.background_first and (labels is not None or not source))
    return *class_names(labels, info, count), first


def class_names(labels: str | Path | Sequence[str] | None, info: dict[str, str], num_classes: int) -> Sourced:
    """One name for each class, in the order of the logits, and where they come from.

    Args:
        labels: what the user says: a text file with one name a line, a JSON file with a list of names, ``a,b,c``,
            the names themselves; ``None`` leaves it to ``model_info``. Without either the names are ``0``, ``1``, ….
        info: ``model_info`` of the model.
        num_classes: how many names are expected.

    Raises:
        LabelError: the file cannot be read, a name is empty, or their number is not ``num_classes``.
        ModelError: ``model_info`` is malformed.
    """
    if labels is not None:
        names, source = _given(labels)
    else:
        names, source = _written(info)
    if not source:
        return tuple(str(index) for index in range(num_classes)), "none given: classes are called by their index"
    _check(names, source, num_classes)
    return names, source


def _given(labels: str | Path | Sequence[str]) -> Sourced:
    """Names that the user passed."""
    if isinstance(labels, Path) or (isinstance(labels, str) and _is_file(labels)):
        return _from_file(Path(labels)), f"--labels {labels}"
    if not isinstance(labels, str):
        return tuple(str(name) for name in labels), "--labels"
    return tuple(name.strip() for name in labels.split(",")), "--labels"


def _is_file(text: str) -> bool:
    """Whether text means a file: it is one, or it has the suffix of one and is no list."""
    return os.path.isfile(text) or ("," not in text and text.lower().endswith(_FILE_SUFFIXES))


def _from_file(path: Path) -> tuple[str, ...]:
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabelError(
            f"--labels {path} cannot be read: {error.strerror}; expected a text file with one name a line, "
            "or a JSON list of names."
        ) from error
    except UnicodeDecodeError as error:
        raise LabelError(f"--labels {path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    if path.suffix.lower() == ".json":
        return _from_json(path, text)
    return tuple(line.strip() for line in text.rstrip().split("\n")) if text.strip() else ()


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabelError(f"--labels {path} is not JSON ({error}); expected a list of names.") from error
    if not _are_names(names):
        raise LabelError(f'--labels {path} is no JSON list of names; expected ["first", "second", …].')
    return tuple(names)


def _written(info: dict[str, str]) -> Sourced:
    """Names in ``model_info``; an empty source where it has none."""
    if read_flag(info, "hierarchical") and info.get("hierarchical_config"):
        return _from_hierarchy(info), "model_info/hierarchical_config"
    if info.get("label_info"):
        return _from_label_info(info), "model_info/label_info"
    if info.get("labels"):
        return tuple(name.replace("_", " ") for name in info["labels"].split()), "model_info/labels"
    return (), ""


def _from_label_info(info: dict[str, str]) -> tuple[str, ...]:
    value = read_json(info, "label_info")
    names = value.get("label_names") if isinstance(value, dict) else None
    if not _are_names(names):
        raise malformed(info, "label_info", 'JSON with a list "label_names"', _FIX)
    return tuple(names)


def _from_hierarchy(info: dict[str, str]) -> tuple[str, ...]:
    """Names of a hierarchical classifier, whose logits go group by group: exclusive groups, then single labels."""
    config = read_json(info, "hierarchical_config")
    heads = config.get("cls_heads_info") if isinstance(config, dict) else None
    groups = heads.get("all_groups") if isinstance(heads, dict) else None
    if not isinstance(groups, list) or not all(_are_names(group) for group in groups):
        raise malformed(info, "hierarchical_config", 'JSON with "cls_heads_info": {"all_groups": [[names]]}', _FIX)
    return tuple(name for group in groups for name in group)


def _are_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _check(names: tuple[str, ...], source: str, num_classes: int) -> None:
    """Raise ``LabelError`` unless there is one name a class and none is empty."""
    if len(names) != num_classes:
        shown = f" ({names[0]!r} to {names[-1]!r})" if names else ""
        raise LabelError(
            f"{source} has {len(names)} names{shown}, but the model has {num_classes} classes. "
            f"{_advice(len(names) - num_classes, source)}"
        )
    if "" in names:
        raise LabelError(
            f"{source} has an empty name at position {names.index('') + 1}; expected {num_classes} names. "
            "Give that class a name."
        )


def _advice(surplus: int, source: str) -> str:
    fix = "Correct --labels" if source.startswith("--labels") else "Pass --labels"
    if surplus == -1:
        return f"{fix}: the model may have a background class that the list lacks, often the first."
    if surplus == 1:
        return f"{fix}: the list may name a background class that the model does not have, often the first."
    return f"{fix} with one name for each class."
