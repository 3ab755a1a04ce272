"""Classifiers of timm: as its hub's folders, as ONNX beside its ``config.json``, and as bare files."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import classifying
import timm
import torch
from answering import answer, tensors
from record import Entry, Made
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

How = Literal["hub", "onnx", "openvino", "bare onnx"]

WORDS = {
    "hub": "folder of save_for_hf: config.json, model.safetensors",
    "onnx": "model.onnx beside timm's config.json, open batch",
    "openvino": "IR of convert_model alone",
    "bare onnx": "ONNX alone, batch 1",
}

MODELS: tuple[tuple[str, How], ...] = (
    ("resnet10t", "hub"),
    ("convnext_atto", "hub"),
    ("tf_efficientnet_b0", "onnx"),
    ("vit_tiny_patch16_224", "hub"),
    ("deit_tiny_distilled_patch16_224", "onnx"),
    ("swin_tiny_patch4_window7_224", "bare onnx"),
    ("mobilevit_xxs", "onnx"),
    ("hiera_tiny_224", "openvino"),
    ("beit_base_patch16_224", "openvino"),
    ("eva02_tiny_patch14_224", "hub"),
    ("cait_xxs24_224", "openvino"),
    ("xcit_nano_12_p16_224", "openvino"),
    ("pvt_v2_b0", "onnx"),
    ("regnety_002", "hub"),
    ("ghostnet_100", "bare onnx"),
    ("mixer_s32_224", "openvino"),
    ("poolformer_s12", "bare onnx"),
    ("levit_128s", "openvino"),
    ("repvit_m0_9", "onnx"),
    ("edgenext_xx_small", "openvino"),
    ("fastvit_t8", "onnx"),
    ("tiny_vit_5m_224", "hub"),
    ("resmlp_12_224", "bare onnx"),
    ("crossvit_tiny_240", "openvino"),
    ("mobilenetv4_conv_small", "hub"),
    ("mobilenetv3_small_100", "hub"),
    ("rexnet_100", "openvino"),
    ("dla34", "bare onnx"),
)


def entries() -> list[Entry]:
    return [
        Entry(f"timm-{name}", "classifier", "timm", WORDS[how], partial(_make, name, how), _options(name, how))
        for name, how in MODELS
    ]


def _options(name: str, how: How) -> tuple[str, ...]:
    """Return what the user has to say, where nothing lies beside the file."""
    if how in ("hub", "onnx"):
        return ()
    config = timm.get_pretrained_cfg(name)
    return classifying.options_of((config.mean, config.std))


def _make(name: str, how: How, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=classifying.CLASSES, pretrained=False)
    config = resolve_data_config({}, model=network)
    side = config["input_size"][1]
    answer(network, tensors((side, side)), classifying.CLASSES)
    if how in ("openvino", "bare onnx"):
        transform: Any = classifying.stretched(side, (config["mean"], config["std"]))
        fitting, other = side, classifying.drawn.SMALL
    else:
        transform = create_transform(**config, is_training=False)
        fitting = math.floor(side / config["crop_pct"])
        other = classifying.drawn.wider(fitting)
    answers = classifying.answers(network, transform, pictures, (fitting, fitting), other)
    checkpoint = _write(name, how, network, torch.zeros(2, 3, side, side), folder)
    return Made(checkpoint, answers, classifying.CLASSES, classifying.of_file(checkpoint, transform, pictures))


def _write(name: str, how: How, network: Any, image: torch.Tensor, folder: Path) -> Path:
    if how == "openvino":
        return classifying.to_openvino(network, image, folder / f"{name}.xml", (-1, *image.shape[1:]))
    if how == "bare onnx":
        return classifying.to_onnx(network, image[:1], folder / f"{name}.onnx")
    save_for_hf(
        network, folder, model_config={"label_names": list(classifying.NAMES.values())}, safe_serialization=True
    )
    if how == "onnx":
        for weights in (*folder.glob("*.safetensors"), *folder.glob("*.bin")):
            weights.unlink()
        return classifying.to_onnx(network, image, folder / "model.onnx", classifying.OPEN_BATCH)
    assert json.loads((folder / "config.json").read_text())["architecture"] == name
    return folder
