"""Classifiers of transformers, small, in folders as Optimum writes them: model, ``config.json`` and preprocessor."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import classifying
import torch
import transformers as hf
from answering import answer, tensors
from record import Entry, Made

How = Literal["onnx", "openvino"]
WORDS = {
    "onnx": "folder of Optimum: model.onnx, config.json, preprocessor_config.json",
    "openvino": "folder of Optimum: openvino_model.xml, config.json, preprocessor_config.json",
}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
USUAL = {"image_mean": list(classifying.IMAGENET[0]), "image_std": list(classifying.IMAGENET[1])}


@dataclass(frozen=True)
class Row:
    """A model: the stem of its classes, its processor, and the side of a square picture that is only cropped."""

    stem: str
    how: How
    processor: str
    preprocessing: dict[str, Any]
    fitting: int
    side: int = 224
    settings: dict[str, Any] = field(default_factory=dict)


SMALL = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 192}
FOUR = {"depths": [2, 2, 2, 2]}
CROP = USUAL | {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_resize": True}
PERCENT = USUAL | {"size": {"shortest_edge": 224}, "crop_pct": 0.875}
WHOLE = {size: USUAL | {"size": {"height": size, "width": size}} for size in (224, 256)}
EDGE_288 = {"size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}}

SWIN = {"embed_dim": 48} | FOUR
RESNET = {"layer_type": "basic", "hidden_sizes": [32, 64, 128, 256]} | FOUR
CONVNEXT = {"hidden_sizes": [40, 80, 160, 320]} | FOUR
MOBILE = {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320], "image_size": 256}
REGNET = {"hidden_sizes": [32, 64, 160, 384], "groups_width": 16} | FOUR
EFFICIENT = {"image_size": 224, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}

MODELS = (
    Row("ViT", "onnx", "ViT", HALF, 224, settings=SMALL),
    Row("DeiT", "openvino", "DeiT", CROP, 256, settings=SMALL),
    Row("Beit", "openvino", "Beit", HALF | {"do_center_crop": False}, 224, settings=SMALL | {"use_mean_pooling": True}),
    Row("Dinov2", "onnx", "Bit", CROP, 256, settings=SMALL | {"image_size": 224}),
    Row("Swin", "openvino", "ViT", USUAL, 224, settings=SWIN),
    Row("Swinv2", "openvino", "ViT", WHOLE[256], 256, 256, SWIN | {"image_size": 256, "window_size": 8}),
    Row("ResNet", "onnx", "ConvNext", PERCENT, 256, settings=RESNET),
    Row("ConvNext", "onnx", "ConvNext", PERCENT, 256, settings=CONVNEXT),
    Row("ConvNextV2", "openvino", "ConvNext", PERCENT, 256, settings=CONVNEXT),
    Row("MobileViT", "onnx", "MobileViT", EDGE_288, 288, 256, MOBILE),
    Row("MobileNetV2", "openvino", "MobileNetV2", CROP | HALF, 256, settings={"image_size": 224}),
    Row("RegNet", "openvino", "ConvNext", PERCENT, 256, settings=REGNET),
    Row("PoolFormer", "onnx", "PoolFormer", PERCENT | {"crop_pct": 0.9}, 248),
    Row("FocalNet", "openvino", "Bit", CROP, 256, settings=SWIN),
    Row("EfficientNet", "onnx", "EfficientNet", WHOLE[224], 224, settings=EFFICIENT),
)


def entries() -> list[Entry]:
    return [
        Entry(f"transformers-{row.stem.lower()}", "classifier", "transformers", WORDS[row.how], partial(_make, row))
        for row in MODELS
    ]


def _make(row: Row, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    names = classifying.NAMES
    config = getattr(hf, f"{row.stem}Config")(id2label=names, label2id={v: k for k, v in names.items()}, **row.settings)
    network = classifying.Logits(getattr(hf, f"{row.stem}ForImageClassification")(config).eval())
    processor = getattr(hf, f"{row.processor}ImageProcessor")(**row.preprocessing)
    answer(network, tensors((row.side, row.side)), classifying.CLASSES)
    transform = partial(_processed, processor)
    crops = row.fitting != row.side or "crop_size" in row.preprocessing
    other = classifying.drawn.wider(row.fitting) if crops else classifying.drawn.SMALL
    answers = classifying.answers(network, transform, pictures, (row.fitting, row.fitting), other)
    config.architectures = [f"{row.stem}ForImageClassification"]
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    _write(row.how, network, torch.zeros(2, 3, row.side, row.side), folder)
    return Made(folder, answers, classifying.CLASSES, classifying.of_file(folder, transform, pictures))


def _processed(processor: Any, picture: Any) -> torch.Tensor:
    return processor(picture, return_tensors="pt")["pixel_values"][0]


def _write(how: How, network: torch.nn.Module, image: torch.Tensor, folder: Path) -> None:
    if how == "onnx":
        classifying.to_onnx(network, image, folder / "model.onnx", classifying.OPEN_BATCH, input_names=["pixel_values"])
    else:
        classifying.to_openvino(network, image, folder / "openvino_model.xml")
