"""Which of all formats the outputs of a model have: the table of formats, and the choice among them, once a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import openvino as ov

from otx_xai.errors import ConfigError, ModelError
from otx_xai.graph.output_names import describe_outputs
from otx_xai.graph.view import View, dimensions
from otx_xai.model.formats import (
    boxes_and_scores,
    fastestdet,
    four_outputs,
    labelled,
    queries,
    rows,
    undecoded,
    yolo,
)
from otx_xai.model.formats.box_format import BoxFormat, DetectorOutputs, Found, Match, OutputPort
from otx_xai.model.formats.evidence import box_evidence
from otx_xai.options import meant
from otx_xai.records import XAI_OUTPUTS, Size

BOX_FORMATS: tuple[BoxFormat, ...] = (
    *four_outputs.FORMATS,
    *labelled.FORMATS,
    *rows.FORMATS.values(),
    *queries.FORMATS,
    *yolo.FORMATS,
    fastestdet.FORMAT,
    *undecoded.FORMATS,
    *boxes_and_scores.FORMATS,
)
"""Every format that is known."""

_IMAGE_AXES = 4

READ_BY_CALLER = Found(
    labelled.FORMAT,
    Match(
        "a postprocess_fn has read them",
        {"boxes": "boxes", "scores": "scores", "labels": "labels"},
    ),
)
"""Boxes, scores and labels that a user's own function has read."""


def describe_ports(
    model: ov.Model,
    view: View,
    *,
    size: Size | None,
    num_names: int | None,
    said: Mapping[str, str] | None = None,
    declared: bool = False,
) -> DetectorOutputs:
    """Gather what formats are told apart by.

    Args:
        model: the model.
        view: its graph.
        size: ``(height, width)`` of its input; ``None`` where it is open.
        num_names: number of class names that the user or the exporter gives.
        said: what the exporter says of the model.
        declared: somebody says that it finds boxes.
    """
    images = _images_at_once(model)
    ports = tuple(
        _port(output, index, images)
        for index, output in enumerate(model.outputs)
        if not output.get_names() & XAI_OUTPUTS
    )
    outputs = DetectorOutputs(ports, view, size, num_names, dict(said or {}), declared)
    return replace(outputs, evidence=box_evidence(outputs))


def find_format(outputs: DetectorOutputs, name: str | None = None) -> Found | None:
    """Choose the format of a model's outputs.

    Args:
        outputs: of the model.
        name: the format that the user names.

    Returns:
        The format that graph or names prove, else the only one that the outputs may have; ``None`` without any.

    Raises:
        ConfigError: no format is called so, or the outputs cannot have it.
        ModelError: the outputs may have several formats, and nothing decides.
    """
    if name is not None:
        return _named(outputs, name)
    matches = ((row, row.matches(outputs)) for row in BOX_FORMATS)
    possible = [Found(row, match) for row, match in matches if match is not None]
    found = [one for one in possible if one.match.sure] or possible
    if len(found) > 1:
        raise _ambiguous(outputs, found)
    return found[0] if found else None


def unknown_outputs(outputs: DetectorOutputs) -> str:
    """Say that a model finds boxes in no known format: what its outputs are, and what is expected."""
    return (
        f"The outputs of the detector are of no known format: {_listed(outputs)}. Expected one of: "
        f"{_meanings(BOX_FORMATS)}. Name the format by --format if it is one of these, give the class names by "
        "--labels, export the model with its non-maximum suppression, or read its boxes by a postprocess_fn of your "
        "own in Python."
    )


def _images_at_once(model: ov.Model) -> int:
    """Return how many images a model takes at once, where that is fixed; 1 where it is open."""
    shape = dimensions(model.inputs[0]) if len(model.inputs) == 1 else None
    return shape[0] or 1 if shape is not None and len(shape) == _IMAGE_AXES else 1


def _port(output: ov.Output, index: int, images: int) -> OutputPort:
    names = frozenset(output.get_names())
    shape = tuple(dimensions(output) or ())
    has_all = images > 1 and shape[:1] == (images,)
    return OutputPort(
        min(names, default=str(index)),
        names,
        (1, *shape[1:]) if has_all else shape,
        not output.get_element_type().is_real(),
        index,
        images if has_all else 1,
    )


def _named(outputs: DetectorOutputs, name: str) -> Found:
    """Return the format that the user names."""
    named = [row for row in BOX_FORMATS if row.name == name.strip().lower()]
    if not named:
        known = [row.name for row in BOX_FORMATS]
        raise ConfigError(f"--format is {name!r}; expected one of {', '.join(known)}.{meant(name, known)}")
    match = named[0].matches(replace(outputs, declared=True))
    if match is None:
        raise ConfigError(
            f"--format is {name}: expected {named[0].meaning}; the outputs of the model are {_listed(outputs)}. "
            "Leave --format out, or name another one."
        )
    return Found(named[0], match)


def _ambiguous(outputs: DetectorOutputs, found: Sequence[Found]) -> ModelError:
    return ModelError(
        f"The outputs of the detector may be read in {len(found)} ways: {_listed(outputs)}. Say which by --format: "
        f"{_meanings([one.format for one in found])}."
    )


def _listed(outputs: DetectorOutputs) -> str:
    return describe_outputs([outputs.model_output(port) for port in outputs.ports], with_types=True) or "none"


def _meanings(formats: Sequence[BoxFormat]) -> str:
    return "; ".join(f"{row.name} ({row.meaning})" for row in formats)
