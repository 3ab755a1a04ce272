"""Names of classes as users give them: a file, a list in a text, or the names themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from otx_xai.counting import counted
from otx_xai.data.file_kinds import irregular
from otx_xai.data.label_forms import names_in
from otx_xai.errors import LabelError
from otx_xai.storage import Place, Url, is_url, place_of, read_text

Sourced = tuple[tuple[str, ...], str]
"""Names, and where they come from in words."""

_FILE_SUFFIXES = (".txt", ".json", ".names", ".csv", ".tsv", ".yaml", ".yml")

_TITLES = ("name", "names", "label", "labels", "class", "classes", "class_name", "classname", "category")


def user_names(labels: str | Path | Sequence[str] | None, num_classes: int) -> Sourced:
    """One name for each class, and where they come from: what the user says, else ``0``, ``1``, ….

    Args:
        labels: see :func:`given_names`; ``None``: nothing.
        num_classes: how many names are expected.

    Raises:
        LabelError: the file cannot be read, a name is empty, or their number is not ``num_classes``.
    """
    if labels is None:
        return tuple(str(index) for index in range(num_classes)), "none given: classes are called by their index"
    names, source = given_names(labels)
    check_names(names, source, num_classes)
    return names, source


def given_names(labels: str | Path | Sequence[str]) -> Sourced:
    """Names that the user passed: a file (see :func:`otx_xai.data.label_forms.names_in`), ``a,b,c``, or the names."""
    if isinstance(labels, Path) or (isinstance(labels, str) and _is_file(labels)):
        return _from_file(place_of(labels))
    if not isinstance(labels, str):
        return tuple(str(name) for name in labels), "--labels"
    return tuple(name.strip() for name in labels.split(",")), "--labels"


def _is_file(text: str) -> bool:
    """Whether text means a file: it is one, or it has the suffix of one and is no list."""
    return (
        is_url(text)
        or os.path.isfile(text)
        or irregular(text) != ""
        or ("," not in text and text.lower().endswith(_FILE_SUFFIXES))
    )


def _from_file(path: Place) -> Sourced:
    source = f"--labels {path}"
    if not isinstance(path, Url) and (what := irregular(str(path))):
        raise LabelError(f"{source} is {what}; expected a regular file. Write the names to one first.")
    try:
        text = read_text(path)
    except OSError as error:
        raise LabelError(
            f"{source} cannot be read: {error.strerror}; expected a text file with one name a line, "
            "or a JSON list of names."
        ) from error
    except UnicodeDecodeError as error:
        raise LabelError(f"{source} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    names, form = names_in(text, path.suffix.lower(), source)
    return names, f"{source} ({form})" if form else source


def are_names(value: object) -> TypeGuard[list[str]]:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def check_names(names: tuple[str, ...], source: str, num_classes: int) -> None:
    """Raise ``LabelError`` unless there is one name a class and none is empty."""
    if len(names) != num_classes:
        shown = f" ({' to '.join(map(repr, dict.fromkeys((names[0], names[-1]))))})" if names else ""
        raise LabelError(
            f"{source} has {counted(len(names), 'name')}{shown}, but the model has {num_classes} classes. "
            f"{_advice(names, num_classes, source)}"
        )
    if "" in names:
        raise LabelError(
            f"{source} has an empty name at position {names.index('') + 1}; expected {num_classes} names. "
            "Give that class a name."
        )


def _advice(names: tuple[str, ...], num_classes: int, source: str) -> str:
    fix = "Correct --labels" if source.startswith("--labels") else "Pass --labels"
    surplus = len(names) - num_classes
    if surplus == -1:
        return f"{fix}: the model may have a background class that the list lacks, often the first."
    if surplus == 1 and names[0].lower() in _TITLES:
        return f"{fix}: the first line, {names[0]!r}, seems to be a title."
    if surplus == 1:
        return f"{fix}: the list may name a background class that the model does not have, often the first."
    return f"{fix} with one name for each class."
