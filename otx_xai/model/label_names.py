"""Names of classes: from the user, from ``model_info``, or from what the exporter wrote elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from otx_xai.data.label_files import Sourced, are_names, check_names, given_names
from otx_xai.errors import LabelError
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.model.model_info import malformed, read_flag, read_json
from otx_xai.neighbours.hints import NO_HINTS, Hints, source_of, told_by

_NOTHING = ("otxemptylbl", "background", "emptylabel", "nothing")
_FIX = "pass --labels with one name for each class"


def count_names(labels: str | Path | Sequence[str] | None, info: dict[str, str], hints: Hints = NO_HINTS) -> int | None:
    """Number of names that somebody gives, a first one for nothing left out; ``None`` without any.

    Args:
        labels: see :func:`class_names`; and the next two.
        info: ``model_info`` of the model.
        hints: what else the exporter wrote.
    """
    names, source = given_names(labels) if labels is not None else _written(info, hints)
    return len(names) - (_fold(names[0]) in _NOTHING) if source and names else None


def box_class_names(
    labels: str | Path | Sequence[str] | None, info: dict[str, str], classes: BoxClasses, hints: Hints = NO_HINTS
) -> tuple[tuple[str, ...], str, int]:
    """One name for each class of a detector, where they come from, and what the model calls the first one.

    A first name for nothing (``otx_empty_lbl``, ``background``) where the graph has one class less, or does not tell,
    is left out, and labels then begin at 1. They begin at 0 where names come with the model, else at 1 where class 0 of
    the scores stands for nothing.

    Args:
        labels: see :func:`class_names`.
        info: ``model_info`` of the model.
        classes: what the graph tells.
        hints: what else the exporter wrote.

    Raises:
        LabelError: as :func:`class_names`, or nobody tells how many classes there are.
        ModelError: ``model_info`` is malformed.
    """
    names, source = given_names(labels) if labels is not None else _written(info, hints)
    if names and _fold(names[0]) in _NOTHING and classes.count in (None, len(names) - 1):
        return names[1:], f"{source}, without {names[0]!r}", 1
    count = classes.count if classes.count is not None else len(names)
    if not count:
        raise LabelError(
            "The model does not tell its classes: neither model_info nor a file beside it names them, and its graph "
            "does not show their number. Pass --labels with one name for each class."
        )
    first = int(classes.background_first and (labels is not None or not source))
    return *class_names(labels, info, count, hints), first


def class_names(
    labels: str | Path | Sequence[str] | None, info: dict[str, str], num_classes: int, hints: Hints = NO_HINTS
) -> Sourced:
    """One name for each class, in the order of the logits, and where they come from.

    Args:
        labels: what the user says: a text file with one name a line, a JSON file with a list of names, ``a,b,c``,
            the names themselves; ``None`` leaves it to ``model_info``, and this to ``hints``. Without any the names are
            ``0``, ``1``, ….
        info: ``model_info`` of the model.
        num_classes: how many names are expected.
        hints: what else the exporter wrote.

    Raises:
        LabelError: the file cannot be read, a name is empty, or their number is not ``num_classes``.
        ModelError: ``model_info`` is malformed.
    """
    if labels is not None:
        names, source = given_names(labels)
    else:
        names, source = _written(info, hints)
    if not source:
        return tuple(str(index) for index in range(num_classes)), "none given: classes are called by their index"
    check_names(names, source, num_classes)
    return names, source


def _written(info: dict[str, str], hints: Hints) -> Sourced:
    """Names that come with the model; an empty source where there are none."""
    if read_flag(info, "hierarchical") and info.get("hierarchical_config"):
        return _from_hierarchy(info), told_by(hints, "hierarchical_config")
    if info.get("label_info"):
        return _from_label_info(info), told_by(hints, "label_info")
    if info.get("labels"):
        return tuple(name.replace("_", " ") for name in info["labels"].split()), told_by(hints, "labels")
    if hints.labels:
        return hints.labels, source_of(hints, "labels")
    return (), ""


def _from_label_info(info: dict[str, str]) -> tuple[str, ...]:
    value = read_json(info, "label_info")
    names = value.get("label_names") if isinstance(value, dict) else None
    if not are_names(names):
        raise malformed(info, "label_info", 'JSON with a list "label_names"', _FIX)
    return tuple(names)


def _from_hierarchy(info: dict[str, str]) -> tuple[str, ...]:
    """Names of a hierarchical classifier, whose logits go group by group: exclusive groups, then single labels."""
    config = read_json(info, "hierarchical_config")
    heads = config.get("cls_heads_info") if isinstance(config, dict) else None
    groups = heads.get("all_groups") if isinstance(heads, dict) else None
    if not isinstance(groups, list) or not all(are_names(group) for group in groups):
        raise malformed(info, "hierarchical_config", 'JSON with "cls_heads_info": {"all_groups": [[names]]}', _FIX)
    return tuple(name for group in groups for name in group)


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
