"""Hugging Face and Optimum: ``config.json`` and ``preprocessor_config.json`` beside the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.neighbours.hints import Hints, merged
from otx_xai.neighbours.image_processor import processor_hints
from otx_xai.neighbours.processor_defaults import with_kind
from otx_xai.neighbours.small_files import broken, names_by_index, read_json_object, shown, sides_of
from otx_xai.neighbours.timm_config import is_timm, timm_hints
from otx_xai.records import Size, Task

_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_TASKS = {
    "ForImageClassification": Task.CLASSIFICATION,
    "ForImageClassificationWithTeacher": Task.CLASSIFICATION,
    "ForObjectDetection": Task.DETECTION,
}
_PROBLEMS = {
    "single_label_classification": Task.MULTI_CLASS_CLS,
    "multi_label_classification": Task.MULTI_LABEL_CLS,
}


def from_config_files(folder: Path, model: ov.Model | None = None) -> Hints:
    """Say what the configurations in a folder tell of the model in it.

    Args:
        folder: where the model lies. Those of ``onnx/`` and ``openvino/`` may have their configurations one up.
        model: as it was read, if it was: the size of its input counts where a configuration tells of two.

    Raises:
        ModelError: a file is broken, or a value in it is of the wrong kind.
    """
    folders = (folder, folder.parent) if folder.name in ("onnx", "openvino") else (folder,)
    for place in folders:
        found = merged(_from_processor(place, model), _from_config(place / _CONFIG, model))
        if found.source:
            return found
    return Hints()


def _from_config(path: Path, model: ov.Model | None) -> Hints:
    config = read_json_object(path)
    if config is None:
        return Hints()
    if is_timm(config):
        own = timm_hints(config, path, _fed(model))
        return own if own.labels else replace(own, labels=_labels(config, path))
    if not {"model_type", "architectures", "id2label"} & config.keys():
        return Hints()  # somebody else's config.json
    return Hints(
        task=_task(config),
        labels=_labels(config, path),
        size=_image_size(config, path),
        said=_said(config),
        source=path.name,
        files=(str(path),),
    )


def _from_processor(folder: Path, model: ov.Model | None) -> Hints:
    for path in (folder / name for name in _PROCESSORS):
        processor = read_json_object(path)
        if processor is None:
            continue
        # since version 5 the one of the images is a part of the one of all inputs
        processor = processor.get("image_processor", processor)
        if not isinstance(processor, dict):
            raise broken(f"image_processor of {path}", f"is {shown(processor)}", "named values")
        if is_timm(processor):
            return timm_hints(processor, path, _fed(model))
        config = read_json_object(folder / _CONFIG) or {}
        return processor_hints(with_kind(processor, config.get("model_type")), path)
    return Hints()


def _fed(model: ov.Model | None) -> tuple[int, ...]:
    """The sides of the one input that are static."""
    shapes = [port.partial_shape for port in model.inputs] if model is not None else []
    if len(shapes) != 1 or shapes[0].rank.is_dynamic:
        return ()
    return tuple(int(side.get_length()) for side in shapes[0] if side.is_static)


def _task(config: Mapping[str, Any]) -> Task | None:
    problem = _PROBLEMS.get(str(config.get("problem_type")))
    if problem is not None:
        return problem
    names = _architectures(config)
    return next((task for end, task in _TASKS.items() for name in names if name.endswith(end)), None)


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def _labels(config: Mapping[str, Any], path: Path) -> tuple[str, ...] | None:
    """Return the names of classes; ``None`` where there are but placeholders."""
    names: tuple[str, ...] = ()
    if config.get("id2label"):
        names = names_by_index(config["id2label"], f"id2label of {path}")
    elif isinstance(config.get("label2id"), Mapping) and config["label2id"]:
        back = config["label2id"]
        if len(set(map(str, back.values()))) < len(back):
            raise broken(f"label2id of {path}", "has an index twice", "one name for each class")
        names = names_by_index({index: name for name, index in back.items()}, f"label2id of {path}")
    return None if all(_PLACEHOLDER.fullmatch(name) for name in names) else names


def _image_size(config: Mapping[str, Any], path: Path) -> Size | None:
    value = config.get("image_size")
    return None if value is None else sides_of(value, f"image_size of {path}")


def _said(config: Mapping[str, Any]) -> dict[str, str]:
    said = {key: str(config[key]) for key in ("model_type", "problem_type") if config.get(key)}
    return {"exporter": "hugging face", **said, "architectures": " ".join(_architectures(config))}
