"""What processors of transformers do where their configuration does not say: the defaults of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SQUARE_224 = {"size": {"height": 224, "width": 224}}
_SHORT_224 = {"size": {"shortest_edge": 224}, "crop_size": 224}
_DETR = {"size": {"shortest_edge": 800, "longest_edge": 1333}}

_DEFAULTS: dict[str, dict[str, Any]] = {
    "beit": _SQUARE_224 | {"crop_size": 224},
    "bit": _SHORT_224,
    "chineseclip": _SHORT_224,
    "clip": _SHORT_224,
    "conditionaldetr": _DETR,
    "convnext": {"size": {"shortest_edge": 384}},
    "deformabledetr": _DETR,
    "deit": {"size": {"height": 256, "width": 256}, "crop_size": 224},
    "detr": _DETR,
    "dinov3": _SQUARE_224,
    "efficientnet": {"size": {"height": 346, "width": 346}, "crop_size": 289},
    "flava": _SQUARE_224 | {"crop_size": 224},
    "groundingdino": _DETR,
    "levit": _SHORT_224,
    "mobilenet": {"size": {"shortest_edge": 256}, "crop_size": 224},
    "mobilevit": {"size": {"shortest_edge": 224}, "crop_size": 256},
    "owlvit": {"size": {"height": 768, "width": 768}, "crop_size": 768},
    "perceiver": _SQUARE_224 | {"crop_size": 256},
    "poolformer": _SHORT_224 | {"crop_pct": 0.9},
    "pplcnet": {"size": {"height": 256, "width": 256}, "crop_size": 224},
    "pvt": _SQUARE_224,
    "rfdetr": _DETR,
    "rtdetr": {"size": {"height": 640, "width": 640}},
    "segformer": {"size": {"height": 512, "width": 512}},
    "siglip": _SQUARE_224,
    "vitfeatureextractor": _SQUARE_224,
    "vitimageprocessor": _SQUARE_224,
    "yolos": _DETR,
}
"""Of kinds that classifiers and detectors have, by how the names of their processors begin; compared with transformers
by ``tests/models_zoo/processors.py``."""

_OF_MODELS = {
    "cvt": "convnext",
    "data2vecvision": "beit",
    "dinat": "vitimageprocessor",
    "dinov2": "bit",
    "focalnet": "bit",
    "hiera": "bit",
    "regnet": "convnext",
    "resnet": "convnext",
    "swiftformer": "vitimageprocessor",
    "swin": "vitimageprocessor",
    "vit": "vitimageprocessor",
}
"""Processors of models that have none of their own, by how the names of these models begin."""

_KINDS = ("image_processor_type", "feature_extractor_type")


def kind_of(processor: Mapping[str, Any]) -> str:
    """Return what a processor is, in small letters, ``vitimageprocessor``; empty where it does not say."""
    return str(next((processor[key] for key in _KINDS if processor.get(key)), "")).lower()


def with_kind(processor: Mapping[str, Any], model_type: object) -> Mapping[str, Any]:
    """Add of which kind a processor is, where only the ``model_type`` of ``config.json`` tells it."""
    if kind_of(processor) or not isinstance(model_type, str):
        return processor
    model = model_type.lower().replace("_", "").replace("-", "")
    other = next((kind for name, kind in _OF_MODELS.items() if model.startswith(name)), None)
    return {**processor, "image_processor_type": other or model}


def with_defaults(processor: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add what the class of a processor does by default, where this is known."""
    kind = kind_of(processor)
    known = max((name for name in _DEFAULTS if kind.startswith(name)), key=len, default=None)
    if known is None or processor.get("resize_short") is not None:
        return processor
    return {**_DEFAULTS[known], **processor}
