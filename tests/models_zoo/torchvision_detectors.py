"""Detectors of torchvision with their own suppression, as people export them to ONNX, and from there to OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import classifying
import cv2
import numpy as np
import openvino as ov
import pictures as drawn
import torch
from answering import last_layers, outputs_of, settle, spread, tensors
from PIL import Image
from record import Answer, Entry, Made
from torch import Tensor, nn
from torchvision.models import detection

CLASSES = 6
CONFIDENCE = 0.5
_FOUND = 20
OPTIONS = ("--input.scale", "255")


@dataclass(frozen=True)
class Row:
    """A model: its builder, its side, what its class 0 stands for, and the order of its outputs."""

    model: str
    how: Literal["onnx", "openvino", "converted"]
    side: int = 320
    first_label: int = 1
    outputs: tuple[str, ...] = ("boxes", "scores", "labels")
    names: bool = True

    @property
    def words(self) -> str:
        if self.how == "converted":
            return "IR of convert_model alone; answers of plain OpenVINO"
        named = "" if self.names else ", outputs without names"
        return "ONNX alone" + named if self.how == "onnx" else "IR of its ONNX" + named


RCNN = ("boxes", "labels", "scores")
MODELS = (
    Row("ssd300_vgg16", "onnx", 300),
    Row("ssdlite320_mobilenet_v3_large", "onnx"),
    Row("ssdlite320_mobilenet_v3_large", "openvino", names=False),
    Row("retinanet_resnet50_fpn", "onnx", first_label=0),
    Row("fcos_resnet50_fpn", "openvino", first_label=0),
    Row("fasterrcnn_mobilenet_v3_large_320_fpn", "onnx", outputs=RCNN),
    Row("fasterrcnn_mobilenet_v3_large_320_fpn", "openvino", outputs=RCNN, names=False),
    Row("fasterrcnn_resnet50_fpn_v2", "converted", outputs=RCNN),
    # no ONNX of Mask R-CNN can be read: OpenVINO stumbles over the loop that pastes masks
    Row("maskrcnn_resnet50_fpn", "converted", outputs=(*RCNN, "masks")),
)


def entries() -> list[Entry]:
    return [
        Entry(f"torchvision-{row.model}-{row.how}", "detector", "torchvision", row.words, partial(_make, row), OPTIONS)
        for row in MODELS
    ]


def _make(row: Row, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    more = {} if row.model.startswith("ssd") else {"min_size": row.side, "max_size": row.side}
    network = getattr(detection, row.model)(weights=None, weights_backbone=None, num_classes=CLASSES, **more).eval()
    written = drawn.write(pictures, (row.side, row.side), drawn.SMALL)
    _prepare(network, torch.cat([_fed(picture, row) for picture in written.values()]), row)
    file = _write(row, network, folder)
    found = _openvino(file, row) if row.how == "converted" else network
    answers = {name: _answer(found, picture, row) for name, picture in written.items()}
    return Made(file, answers, CLASSES - row.first_label)


def _openvino(file: Path, row: Row) -> Callable[[Tensor], list[dict[str, Tensor]]]:
    """Ask plain OpenVINO: tracing keeps numbers of one picture, so that the IR of a two-stage network is another."""
    compiled = ov.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(images: Tensor) -> list[dict[str, Tensor]]:
        results = compiled(images.numpy())
        return [{name: torch.from_numpy(results[i].copy()) for i, name in enumerate(row.outputs)}]

    return answer


class _Outputs(nn.Module):
    """A detector of one image that gives a tuple."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        (found,) = self.network([images[0]])
        return tuple(found[name] for name in self.names)


def _write(row: Row, network: nn.Module, folder: Path) -> Path:
    # an image with boxes in it: a trace of a Faster R-CNN that finds none leaves out what it does with them
    image = tensors((row.side, row.side), 1) * 0.23 + 0.45
    if row.how == "converted":
        wrapped = _Outputs(network, row.outputs)
        return classifying.to_openvino(wrapped, image, folder / f"{row.model}.xml", tuple(image.shape))
    file = classifying.to_onnx(
        network,
        image,
        folder / f"{row.model}.onnx",
        input_names=["images"],
        output_names=list(row.outputs) if row.names else None,
    )
    if row.how == "openvino":
        model = ov.convert_model(file)
        file.unlink()
        file = file.with_suffix(".xml")
        ov.save_model(model, file, compress_to_fp16=False)
    return file


def _prepare(network: Any, images: Tensor, row: Row) -> None:
    """Let some boxes have high scores, in each of the networks' own ways."""
    settle(network, images)
    if hasattr(network, "roi_heads"):  # regions about as large as their anchors
        spread(network, images, network.rpn.head.bbox_pred, deviation=0.3)
    for layer in last_layers(_class_heads(network)):
        spread(network, images, layer, deviation=2.0, share=0.002 if row.first_label == 0 else None)
    if hasattr(network, "roi_heads"):
        _find_fewer(network, images)
    if row.model.startswith("fcos"):
        nn.init.constant_(network.head.regression_head.bbox_ctrness.bias, 3.0)


def _find_fewer(network: Any, images: Tensor) -> None:
    """Find fewer regions than a detector may give boxes at most, so that no tie decides which ones it gives."""
    scores = torch.cat(outputs_of(network, images, network.roi_heads.box_predictor.cls_score))
    margins = (scores[:, 1:].amax(1) - scores[:, 0]).sort().values
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias[0] += margins[-_FOUND * len(images)]


def _class_heads(network: Any) -> Iterable[nn.Module]:
    if hasattr(network, "roi_heads"):
        return (network.rpn.head.cls_logits, network.roi_heads.box_predictor.cls_score)
    head = network.head.classification_head
    return head.module_list if hasattr(head, "module_list") else (head.cls_logits,)


def _answer(network: Any, picture: Image.Image, row: Row) -> Answer:
    """Ask the network, with the picture stretched to the input as it is done where nobody tells another way."""
    with torch.no_grad():
        (found,) = network(_fed(picture, row))
    ratio = torch.tensor([picture.width, picture.height] * 2) / row.side
    rows = zip((found["boxes"] * ratio).tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True)
    return Answer(
        boxes=tuple((*box, score, label - row.first_label) for box, score, label in rows if score >= CONFIDENCE)
    )


def _fed(picture: Image.Image, row: Row) -> Tensor:
    stretched = cv2.resize(np.asarray(picture), (row.side, row.side), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(stretched).permute(2, 0, 1)[None].float() / 255
