"""Detectors of transformers, small: queries with soft-max or sigmoid, in folders of Optimum and as bare files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import classifying
import openvino as ov
import pictures as drawn
import torch
import transformers as hf
from answering import Head, settle, spread, tensors
from PIL import Image
from record import Answer, Entry, Made
from torch import Tensor, nn

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
CLASSES = 7
CONFIDENCE = 0.5
SIDE = 320
WHOLE = {"height": SIDE, "width": SIDE}
EDGES = {"shortest_edge": 256, "longest_edge": 426}

RESNET = {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 128, 256], "layer_type": "basic"}
BACKBONE = {"backbone_config": hf.ResNetConfig(**RESNET, out_features=["stage4"])}
THREE = {"backbone_config": hf.ResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"])}
RT_RESNET = hf.RTDetrResNetConfig(**RESNET, embedding_size=32, out_features=["stage2", "stage3", "stage4"])
RT = {"encoder_in_channels": [64, 128, 256], "decoder_layers": 3, "anchor_image_size": None}
LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "num_queries": 60}
VIT = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}
# positions for just this size, since OpenVINO resizes others otherwise than torch (smoothed bicubic; ONNX has none)
WINDOWS = hf.RfDetrDinov2Config(**VIT, image_size=336, out_features=["stage2", "stage4"])
RF = {"backbone_config": WINDOWS, "d_model": 96, "decoder_ffn_dim": 192, "group_detr": 1, "num_queries": 60}

How = Literal["onnx", "openvino", "bare onnx", "bare openvino", "open onnx"]
WORDS: dict[str, str] = {
    "onnx": "folder of Optimum: model.onnx, config.json, preprocessor_config.json; batch 1",
    "open onnx": "folder of Optimum: model.onnx, config.json, preprocessor_config.json; batch and size open",
    "openvino": "folder of Optimum: openvino_model.xml, config.json, preprocessor_config.json",
    "bare onnx": "ONNX alone",
    "bare openvino": "IR of convert_model alone",
}


@dataclass(frozen=True)
class Row:
    """A model: the stem of its classes, its processor, and whether it has a class for no object."""

    stem: str
    how: How
    processor: str
    settings: dict[str, Any]
    size: dict[str, int] = field(default_factory=lambda: WHOLE)
    has_nothing: bool = False
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"transformers-{self.stem.lower()}-{self.how.replace(' ', '-')}"


USUAL, SOFTMAX = classifying.options_of(), ("--format", "queries_softmax")
MODELS = (
    Row("Detr", "openvino", "Detr", BACKBONE | LAYERS, has_nothing=True),
    Row("Detr", "open onnx", "Detr", BACKBONE | LAYERS, EDGES, has_nothing=True),
    Row("Detr", "bare onnx", "Detr", BACKBONE | LAYERS, has_nothing=True, options=(*USUAL, *SOFTMAX)),
    Row("ConditionalDetr", "openvino", "ConditionalDetr", BACKBONE | LAYERS),
    Row("DeformableDetr", "openvino", "DeformableDetr", THREE | LAYERS | {"disable_custom_kernels": True}),
    Row("DeformableDetr", "onnx", "DeformableDetr", THREE | LAYERS | {"disable_custom_kernels": True}),
    Row("RTDetr", "onnx", "RTDetr", RT | {"backbone_config": RT_RESNET}),
    Row("RTDetr", "openvino", "RTDetr", RT | {"backbone_config": RT_RESNET}),
    Row("RTDetr", "bare openvino", "RTDetr", RT | {"backbone_config": RT_RESNET}, options=("--input.scale", "255")),
    Row("RTDetrV2", "onnx", "RTDetr", RT | {"backbone_config": RT_RESNET}),
    Row("DFine", "openvino", "RTDetr", RT | {"backbone_config": RT_RESNET}),
    Row("RfDetr", "openvino", "RfDetr", RF, {"height": 336, "width": 336}),  # 4 windows of 6 patches of 14
    Row("Yolos", "onnx", "Yolos", VIT | {"image_size": [SIDE, SIDE], "num_detection_tokens": 60}, has_nothing=True),
    Row("Yolos", "openvino", "Yolos", VIT | {"image_size": [SIDE, SIDE], "num_detection_tokens": 60}, has_nothing=True),
)


class Boxes(nn.Module):
    """A detector that gives what exporters name: logits and boxes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(pixel_values)
        return output.logits, output.pred_boxes


def entries() -> list[Entry]:
    return [
        Entry(row.name, "detector", "transformers", WORDS[row.how], partial(_make, row), row.options) for row in MODELS
    ]


def _make(row: Row, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    names = {number: f"thing {number}" for number in range(CLASSES)}
    config = getattr(hf, f"{row.stem}Config")(id2label=names, label2id={v: k for k, v in names.items()}, **row.settings)
    network = getattr(hf, f"{row.stem}ForObjectDetection")(config).eval()
    processor = getattr(hf, f"{row.processor}ImageProcessor")(size=row.size)
    fitting = (row.size["height"], row.size["width"]) if "height" in row.size else (256, 352)
    written = drawn.write(pictures, fitting, drawn.SMALL)
    images = processor(next(iter(written.values())), return_tensors="pt")["pixel_values"]
    _prepare(network, images, has_nothing=row.has_nothing)
    answers = {name: _answer(network, processor, picture) for name, picture in written.items()}
    if not row.how.startswith("bare"):
        config.architectures = [f"{row.stem}ForObjectDetection"]
        config.save_pretrained(folder)
        processor.save_pretrained(folder)
    checkpoint = _write(row.how, Boxes(network), torch.zeros(1, 3, *fitting), folder)
    by_file = partial(_by_openvino, ov.Core().compile_model(checkpoint, "CPU", F32))
    fed = written if "height" in row.size else dict(list(written.items())[:1])  # else its input fits the first alone
    plain = {name: _answer(by_file, processor, picture) for name, picture in fed.items()}
    return Made(checkpoint if row.how.startswith("bare") else folder, answers, CLASSES, plain)


def _by_openvino(compiled: ov.CompiledModel, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> SimpleNamespace:
    """Answer as a network of transformers does."""
    logits, boxes = (torch.from_numpy(array) for array in compiled(pixel_values.numpy()).values())
    return SimpleNamespace(logits=logits, pred_boxes=boxes)


def _prepare(network: nn.Module, images: Tensor, *, has_nothing: bool) -> None:
    """Let boxes lie in many places of the images, and the scores of some of them be high.

    Nothing is told by boxes that a grey level moves. So queries differ by more than decoders make of noise, and boxes
    and scores by less than the whole range. Those of RF-DETR are all alike: it pairs queries with its proposals by
    rank, and two proposals that are nearly equal would change places; the proposals tell its boxes apart.
    """
    settle(network, torch.cat([tensors(tuple(images.shape[2:]), 1), images]))
    for name, parameter in network.named_parameters():
        if any(word in name for word in ("query_position", "query_feat", "detection_tokens")):
            nn.init.normal_(parameter, std=3.0)  # else all queries find the same box
        if isinstance(network, hf.RfDetrForObjectDetection) and "query_feat" in name:
            parameter.data[:] = parameter.data[:1].clone()
    for layer in _layers(network, 4):
        spread(network, images, layer, deviation=0.1)
    for layer in _layers(network, CLASSES, CLASSES + 1):
        spread(network, images, layer, deviation=1.0, share=None if has_nothing else 0.02)


def _layers(network: nn.Module, *sizes: int) -> list[Head]:
    return [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features in sizes]


def _answer(network: Callable[..., Any], processor: Any, picture: Image.Image) -> Answer:
    """Prepare and decode with the package's own processor."""
    with torch.no_grad():
        output = network(**processor(picture, return_tensors="pt"))
    (found,) = processor.post_process_object_detection(
        output, threshold=CONFIDENCE, target_sizes=[(picture.height, picture.width)]
    )
    limits = torch.tensor([picture.width, picture.height] * 2)
    boxes = found["boxes"].clamp(min=torch.zeros(4), max=limits)
    rows = zip(boxes.tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True)
    return Answer(boxes=tuple((*box, score, label) for box, score, label in rows))


def _write(how: How, network: nn.Module, image: Tensor, folder: Path) -> Path:
    names = {"input_names": ["pixel_values"], "output_names": ["logits", "pred_boxes"]}
    if how.endswith("openvino"):
        return classifying.to_openvino(network, image, folder / "openvino_model.xml", tuple(image.shape))
    if how == "open onnx":
        sides = {"pixel_values": {0: "batch", 2: "height", 3: "width"}, "logits": {0: "batch"}}
        return classifying.to_onnx(network, image, folder / "model.onnx", axes=sides, **names)
    return classifying.to_onnx(network, image, folder / "model.onnx", **names)
