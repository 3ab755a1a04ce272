"""Who told what became part of a converted model: the user, a neighbour, the checkpoint, or its architecture."""

from __future__ import annotations

from collections.abc import Mapping

from otx_xai.data.label_files import given_names
from otx_xai.models.base import OTXModel
from otx_xai.neighbours import Hints, source_of
from otx_xai.records import InputOptions, Labels

_FITTING = ("resize_type", "pad_value", "crop", "interpolation")
_DEFAULT = "default"


def told_labels(source: str) -> dict[str, str]:
    """Say who named the classes."""
    return {"label_info": source, "labels": source}


def told_by_description(
    model: OTXModel, source: str, labels: Labels = None, options: InputOptions | None = None
) -> dict[str, str]:
    """Say who told what of a model that describes itself.

    Args:
        model: it.
        source: where the description is, in words: a checkpoint, a module in hand.
        labels: that the user gave in their place.
        options: what the user said of the input, which outranks the description.
    """
    names = source if labels is None else given_names(labels)[1]
    told = dict.fromkeys((*_FITTING, "size", "mean", "scale"), source) | _of_user(options)
    return dict.fromkeys(("task_type", "multilabel"), source) | told_labels(names) | _of_graph(model, told)


def told_by_neighbours(model: OTXModel, hints: Hints, options: InputOptions, *, told_size: bool) -> dict[str, str]:
    """Say who told what of a model that was built for a plain state dict.

    Args:
        model: that was built.
        hints: of what lies beside the file, or is usual for its architecture.
        options: what the user said of the input, which outranks them.
        told_size: the shapes of the tensors tell the size of the input, which outranks ``hints``.
    """
    published = f"assumption: the published weights of {model.architecture}"
    told = dict.fromkeys(_FITTING, _DEFAULT) | dict.fromkeys(("size", "mean", "scale"), published)
    told |= {key: source_of(hints, key) for key in told if getattr(hints, key) is not None}
    if told_size:
        told["size"] = "position embedding of the checkpoint"
    told |= _of_user(options)
    task = f"architecture {model.architecture}"
    return {"task_type": task, "multilabel": f"{task}, classes taken as exclusive"} | _of_graph(model, told)


def _of_user(options: InputOptions | None) -> dict[str, str]:
    names = (*_FITTING, "size", "mean", "scale")
    return {name: f"--input.{name}" for name in names if options is not None and getattr(options, name) is not None}


def _of_graph(model: OTXModel, told: Mapping[str, str]) -> dict[str, str]:
    """Put in words what the graph of a model does itself."""
    parts = (f"{key} {_words(getattr(model, key))} ({told[key]})" for key in ("mean", "scale"))
    return {
        **told,
        "mean_values": told["mean"],
        "scale_values": told["scale"],
        "normalisation": f"{', '.join(parts)}, in the graph",
    }


def _words(numbers: tuple[float, ...]) -> str:
    shown = numbers[:1] if len(set(numbers)) == 1 else numbers
    return ",".join(f"{number:.6g}" for number in shown)
