"""Classifiers of torchvision: as state dicts, whose architecture is recognised, and as bare ONNX and OpenVINO files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import classifying
import torch
from answering import answer, tensors
from record import Entry, Made
from torchvision import models

How = Literal["pth", "onnx", "openvino"]
WORDS = {"pth": "state dict", "onnx": "ONNX alone, batch 1", "openvino": "IR of convert_model alone"}

# name, how, size of the input, and what torchvision resizes images to before for its best weights
MODELS: tuple[tuple[str, How, int, int], ...] = (
    ("alexnet", "onnx", 224, 256),
    ("vgg11_bn", "openvino", 224, 256),
    ("squeezenet1_1", "pth", 224, 256),
    ("densenet121", "openvino", 224, 256),
    ("inception_v3", "onnx", 299, 342),
    ("googlenet", "openvino", 224, 256),
    ("shufflenet_v2_x0_5", "pth", 224, 256),
    ("mobilenet_v2", "pth", 224, 232),
    ("mobilenet_v3_small", "onnx", 224, 256),
    ("resnet18", "pth", 224, 256),
    ("resnext50_32x4d", "openvino", 224, 256),
    ("mnasnet0_5", "onnx", 224, 256),
    ("efficientnet_b0", "pth", 224, 256),
    ("efficientnet_v2_s", "openvino", 384, 384),
    ("regnet_y_400mf", "onnx", 224, 256),
    ("vit_b_16", "onnx", 224, 256),
    ("swin_t", "openvino", 224, 232),
    ("swin_v2_t", "onnx", 256, 260),
    ("convnext_tiny", "pth", 224, 236),
    ("maxvit_t", "openvino", 224, 224),
)


def entries() -> list[Entry]:
    return [
        Entry(
            f"torchvision-{name}",
            "classifier",
            "torchvision",
            WORDS[how],
            partial(_make, name, how, side, before),
            () if how == "pth" else classifying.options_of(),
        )
        for name, how, side, before in MODELS
    ]


def _make(name: str, how: How, side: int, before: int, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    network = _network(name)
    answer(network, tensors((side, side)), classifying.CLASSES)
    if how == "pth":
        transform, fitting, other = classifying.cropped(side, before), before, classifying.drawn.wider(before)
    else:
        transform, fitting, other = classifying.stretched(side), side, classifying.drawn.SMALL
    answers = classifying.answers(network, transform, pictures, (fitting, fitting), other)
    image = torch.zeros(2 if how == "openvino" else 1, 3, side, side)
    checkpoint = _write(how, network, image, folder / name)
    return Made(checkpoint, answers, classifying.CLASSES, classifying.of_file(checkpoint, transform, pictures))


def _network(name: str) -> Any:
    more: dict[str, Any] = {"num_classes": classifying.CLASSES, "weights": None}
    if name in ("inception_v3", "googlenet"):
        more |= {"aux_logits": False, "init_weights": False, "transform_input": False}
    return models.get_model(name, **more)


def _write(how: How, network: Any, image: torch.Tensor, path: Path) -> Path:
    if how == "pth":
        torch.save(network.state_dict(), path.with_suffix(".pth"))
        return path.with_suffix(".pth")
    if how == "onnx":
        return classifying.to_onnx(network, image, path.with_suffix(".onnx"))
    return classifying.to_openvino(network, image, path.with_suffix(".xml"), (-1, *image.shape[1:]))
