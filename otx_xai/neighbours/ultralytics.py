"""Ultralytics: metadata in ONNX, ``metadata.yaml`` beside an IR, ``metadata.json`` inside a TFLite file.

All hold the same: ``names`` (index → name), ``task``, ``imgsz`` (height, width), ``stride``, ``args`` of the export and
more. In ONNX each value is the text that Python writes. YOLOv5 wrote ``names`` and ``stride`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.graph.rt_info import written
from otx_xai.neighbours.hints import Hints
from otx_xai.neighbours.small_files import literal, names_by_index, read_yaml_mapping, sides_of
from otx_xai.records import Interpolation, ResizeType, Task

ULTRALYTICS = "ultralytics"
"""What ``Hints.said["exporter"]`` is of their models."""

_TASKS = {
    "detect": Task.DETECTION,
    "segment": Task.INSTANCE_SEGMENTATION,
    "pose": Task.DETECTION,
    "obb": Task.DETECTION,
    "classify": Task.CLASSIFICATION,
}
_TOLD = ("task", "stride", "end2end", "kpt_shape", "batch", "description")
_METADATA = "framework"  # where OpenVINO's ONNX front end keeps metadata_props; an IR made of it keeps them too
_IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_PAD = 114


def from_model_metadata(model: ov.Model) -> Hints:
    """Say what a model tells of itself in the metadata of ONNX, or in the ``model_info`` of their own IRs.

    Raises:
        ModelError: the metadata is theirs, and broken.
    """
    metadata = _values(model, _METADATA)
    if is_theirs(metadata):
        return hints_of({key: literal(value) for key, value in metadata.items()}, "ONNX metadata (Ultralytics)", model)
    if _wrote(_values(model, "model_info")):
        return Hints(said={"exporter": ULTRALYTICS}, source="model_info (Ultralytics)")
    return Hints()


def from_metadata_file(file: Path, model: ov.Model) -> Hints:
    """Say what ``metadata.yaml`` beside a model tells, or ``<model>.yaml``, as YOLOv5 called it.

    Args:
        file: the model's, or one that could lie in its folder.
        model: as it was read.

    Raises:
        ModelError: the file is broken.
    """
    for path in (file.with_name("metadata.yaml"), file.with_suffix(".yaml")):
        metadata = read_yaml_mapping(path)
        if metadata is not None and is_theirs(metadata):
            values = {key: literal(value) for key, value in metadata.items()}
            return hints_of(values, path.name, model, files=(str(path),))
    return Hints()


def is_theirs(metadata: Mapping[str, Any]) -> bool:
    """Whether metadata was written by Ultralytics."""
    if metadata.get("author") == "Ultralytics" and "names" in metadata:
        return True
    return "names" in metadata and ("stride" in metadata or metadata.get("task") in _TASKS)


def hints_of(metadata: Mapping[str, Any], source: str, model: ov.Model, files: tuple[str, ...] = ()) -> Hints:
    """Say what metadata of Ultralytics means.

    Args:
        metadata: its values, no longer as text.
        source: where it comes from, in words.
        model: as it was read.
        files: files that it was read from.

    Raises:
        ModelError: a value is of the wrong kind.
    """
    task = str(metadata.get("task", "")).strip().lower()
    classifies = task == "classify" or (not task and _gives_one_score_a_class(model))
    size = metadata.get("imgsz")
    # YOLOv5, which names no task, normalises the images of classifiers; its successors do not
    mean, scale = _IMAGENET if classifies and not task else ((0.0,), (255.0,))
    return Hints(
        task=Task.CLASSIFICATION if classifies else _TASKS.get(task),
        labels=names_by_index(metadata["names"], f"names of {source}"),
        mean=mean,
        scale=scale,
        reverse_input_channels=False,
        size=None if size is None else sides_of(size, f"imgsz of {source}"),
        resize_type=_resize_type(metadata, classifies),
        pad_value=None if classifies else _PAD,
        interpolation=Interpolation.BILINEAR if classifies and task else None,
        said=_said(metadata),
        source=source,
        files=files,
    )


def _resize_type(metadata: Mapping[str, Any], classifies: bool) -> ResizeType:
    if classifies:
        return ResizeType.CROP
    # their RT-DETR is fed stretched images
    stretches = "rtdetr" in str(metadata.get("description", "")).lower().replace("-", "")
    return ResizeType.STANDARD if stretches else ResizeType.FIT_TO_WINDOW_LETTERBOX


def _said(metadata: Mapping[str, Any]) -> dict[str, str]:
    said = {key: str(metadata[key]) for key in _TOLD if metadata.get(key) is not None}
    arguments = metadata.get("args")
    if isinstance(arguments, Mapping) and arguments.get("nms") is not None:
        said["nms"] = str(arguments["nms"])
    return {"exporter": ULTRALYTICS, **said}


def _gives_one_score_a_class(model: ov.Model) -> bool:
    shapes = [output.partial_shape for output in model.outputs]
    return len(shapes) == 1 and shapes[0].rank.is_static and len(shapes[0]) == 2


def _values(model: ov.Model, key: str) -> dict[str, Any]:
    """Return the named values under a key of ``rt_info``; none where it holds something else."""
    value = written(model, key)
    return value if isinstance(value, dict) else {}


def _wrote(model_info: Mapping[str, Any]) -> bool:
    """Whether ``model_info`` is what Ultralytics writes: a type with "YOLO" alone or its number, padding, no mean."""
    kind = str(model_info.get("model_type", "")).lower()
    scale = literal(str(model_info.get("scale_values", "")).strip("[] "))
    return (
        kind in ("yolo", "yolov5", "yolov8")
        and scale == 255
        and str(model_info.get("pad_value")) == str(_PAD)
        and not {"mean_values", "label_info", "task_type"} & model_info.keys()
    )
