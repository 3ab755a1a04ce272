"""TensorFlow Lite: metadata in the file, and files appended to it. Of labels, of normalisation; Ultralytics' own, too.

Numbers of fields are those of TensorFlow's ``schema.fbs`` and ``metadata_schema.fbs``.
"""

from __future__ import annotations

import json
import logging
import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.neighbours.appended_files import appended_files
from otx_xai.neighbours.flatbuffer import Damaged, Table, child, children, content, floats, integer, root, text
from otx_xai.neighbours.hints import Hints
from otx_xai.neighbours.small_files import literal
from otx_xai.neighbours.ultralytics import hints_of, is_theirs

_logger = logging.getLogger(__name__)
_MODEL_MARK, _METADATA_MARK = b"TFL3", b"M001"
_METADATA_NAME = "TFLITE_METADATA"
_BUFFERS, _METADATA = 4, 6  # of a model
_NAME, _BUFFER = 0, 1  # of one of its metadata
_DATA = 0  # of a buffer
_SUBGRAPHS = 3  # of the metadata
_INPUTS, _OUTPUTS = 2, 3  # of a subgraph
_UNITS, _FILES = 4, 6  # of a tensor
_OPTIONS_KIND, _OPTIONS = 0, 1  # of a step of processing
_NORMALISATION = 1
_MEAN, _STD = 0, 1
_FILE_NAME, _FILE_KIND, _LOCALE = 0, 2, 3  # of an associated file
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_USUAL_NAMES = ("labels.txt", "labelmap.txt", "label.txt", "label_map.txt")


def from_tflite(path: Path, model: ov.Model) -> Hints:
    """Say what the metadata of a TensorFlow Lite file tells. What is damaged is told in the log, and says nothing.

    Args:
        path: the file.
        model: as it was read from it.
    """
    appended = appended_files(path)
    theirs = _of_ultralytics(appended)
    if theirs is not None:
        hints = hints_of(theirs, "TFLite metadata (Ultralytics)", model)
        # their TFLite files give boxes as shares of the input
        return replace(hints, said={**hints.said, "normalized_boxes": "True"})
    try:
        subgraph = _subgraph(path)
        mean, scale = _normalisation(subgraph)
        name = _label_file(subgraph, appended)
    except Damaged as error:
        _logger.warning("The metadata of %s is damaged (%s): normalisation in it, if any, does not count.", path, error)
        mean, scale, name = None, None, _usual_name(appended)
    labels = _labels(path, name, appended.get(name)) if name else None
    if mean is None and labels is None:
        return Hints()
    return Hints(
        labels=labels,
        mean=mean,
        scale=scale,
        reverse_input_channels=False,
        source="TFLite metadata",
        sources={"labels": f"{name} in the TFLite file"} if labels else {},
    )


def _of_ultralytics(appended: dict[str, bytes]) -> dict[str, Any] | None:
    """Their metadata: JSON, or, as they had it before, what Python writes."""
    for name, data in appended.items():
        written = data.decode("utf-8", "replace")
        try:
            value = json.loads(written) if name.endswith(".json") else literal(written)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict) and is_theirs(value):
            return value
    return None


def _subgraph(path: Path) -> Table | None:
    """What the metadata tells of the model's first graph; ``None`` where there is none."""
    data = _metadata(path)
    if data is None:
        return None
    subgraphs = children(root(data, _METADATA_MARK), _SUBGRAPHS)
    return subgraphs[0] if subgraphs else None


def _metadata(path: Path) -> bytes | None:
    """The buffer of the model that holds its metadata."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        return _metadata_of(root(data, _MODEL_MARK))


def _metadata_of(model: Table) -> bytes | None:
    for told in children(model, _METADATA):
        if text(told, _NAME) == _METADATA_NAME:
            index = integer(told, _BUFFER)
            buffers = children(model, _BUFFERS, limit=index + 1)
            if index >= len(buffers):
                raise Damaged(f"it stands in buffer {index} of {len(buffers)}")
            return content(buffers[index], _DATA)
    return None


def _normalisation(subgraph: Table | None) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and divisor of the first input."""
    inputs = children(subgraph, _INPUTS) if subgraph else []
    for unit in children(inputs[0], _UNITS) if inputs else []:
        options = child(unit, _OPTIONS)
        if options is not None and integer(unit, _OPTIONS_KIND, "<B") == _NORMALISATION:
            mean, std = floats(options, _MEAN), floats(options, _STD)
            if mean and std and 0 not in std:
                return mean, std
    return None, None


def _label_file(subgraph: Table | None, appended: dict[str, bytes]) -> str | None:
    """Name of the appended file that holds class names: the one that an output names, without a language if it can."""
    outputs = children(subgraph, _OUTPUTS) if subgraph else []
    names = dict.fromkeys(name for output in outputs if (name := _named_file(output, appended)))
    if len(names) > 1:
        _logger.warning(
            "Outputs in the TFLite file have names of their own (%s): those of the first count. Pass --labels where "
            "another output is explained.",
            ", ".join(names),
        )
    return next(iter(names), _usual_name(appended))


def _named_file(output: Table, appended: dict[str, bytes]) -> str | None:
    """Name of the appended file that holds the class names of an output."""
    files = [
        file for file in children(output, _FILES) if integer(file, _FILE_KIND, "<b") in (_AXIS_LABELS, _VALUE_LABELS)
    ]
    files.sort(key=lambda file: bool(text(file, _LOCALE)))
    return next((name for name in (text(file, _FILE_NAME) for file in files) if name in appended), None)


def _usual_name(appended: dict[str, bytes]) -> str | None:
    return next((name for name in appended if name.lower() in _USUAL_NAMES), None)


def _labels(path: Path, name: str, data: bytes | None) -> tuple[str, ...] | None:
    try:
        lines = (data or b"").decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError:
        _logger.warning("%s inside %s is not UTF-8 text: labels in it do not count.", name, path)
        return None
    return tuple(line.strip() for line in lines) or None
