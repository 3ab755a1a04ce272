"""Detectors of Ultralytics, from version 5 to 26, and their relatives: segmentation, poses, oriented boxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pictures as drawn
import torch
from answering import last_layers, settle, spread, tensors
from PIL import Image
from record import Answer, Box, Entry, Made
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.utils import nms, ops
from ultralytics_classifiers import exported, with_classes

SIDE, CLASSES = 320, 6
CONFIDENCE, OVERLAP = 0.5, 0.5
"""What counts as found, and which boxes are too alike, where nobody says anything."""

SAID_OVERLAP = 0.7
"""What the exporter writes into the ``model_info`` of an IR."""


@dataclass(frozen=True)
class Row:
    """A model and how it is exported."""

    model: str
    how: str = "onnx"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = "".join(f"-{key}-{value}".lower() for key, value in self.settings.items())
        return f"ultralytics-{self.model}-{self.how}{words}"

    @property
    def words(self) -> str:
        more = "".join(f", {key}={value}" for key, value in self.settings.items())
        return f"export(format='{self.how}'{more})"


DYNAMIC, SUPPRESSED, FOUR = {"dynamic": True}, {"nms": True}, {"batch": 4}
ENDS = {"nms": False}
"""Versions 10 and 26 have a second head that needs no suppression; this chooses it."""

MODELS = (
    Row("yolov5n"),
    Row("yolov5n", "openvino"),
    Row("yolov6n"),
    Row("yolov8n"),
    Row("yolov8n", "openvino"),
    Row("yolov8n", "onnx", DYNAMIC),
    Row("yolov8n", "openvino", DYNAMIC),
    Row("yolov8n", "onnx", SUPPRESSED),
    Row("yolov8n", "openvino", SUPPRESSED),
    Row("yolov8n", "onnx", DYNAMIC | SUPPRESSED),
    Row("yolov8n", "onnx", FOUR | SUPPRESSED),
    Row("yolov8n", "openvino", FOUR),
    Row("yolov9t"),
    Row("yolov10n"),
    Row("yolov10n", "onnx", ENDS),
    Row("yolov10n", "openvino", ENDS),
    Row("yolo11n"),
    Row("yolo11n", "openvino"),
    Row("yolo12n"),
    Row("yolo26n"),
    Row("yolo26n", "onnx", ENDS),
    Row("yolo26n", "openvino", ENDS),
    Row("yolo26n", "openvino", DYNAMIC),
    Row("yolov8n-seg"),
    Row("yolov8n-seg", "onnx", FOUR),
    Row("yolo11n-seg", "openvino"),
    Row("yolo11n-seg", "onnx", SUPPRESSED),
    Row("yolo26n-seg", "openvino", ENDS),
    Row("yolov8n-pose"),
    Row("yolo11n-pose", "openvino"),
    Row("yolo26n-pose", "onnx", ENDS),
    Row("yolo26n-pose", "openvino", ENDS),
    Row("yolov8n-obb"),
    Row("yolov8n-obb", "onnx", SUPPRESSED),
    Row("yolo11n-obb", "openvino"),
    Row("yolo26n-obb", "onnx", ENDS),
)


def entries() -> list[Entry]:
    return [Entry(row.name, "detector", "ultralytics", row.words, partial(_make, row)) for row in MODELS]


def _make(row: Row, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    yolo = with_classes(f"{row.model}.yaml", CLASSES)
    written = drawn.write(pictures, (240, SIDE), (300, 420))
    images = {name: _fitted(picture) for name, picture in written.items()}
    _prepare(yolo.model, torch.cat([*images.values()]))
    yolo.model.end2end = row.settings.get("nms") is False
    answers = {name: _answer(yolo.model, images[name], picture.size[::-1], row) for name, picture in written.items()}
    checkpoint = exported(yolo, row.how, folder / row.model, imgsz=SIDE, **row.settings)
    return Made(checkpoint, answers, CLASSES)


def _fitted(picture: Image.Image) -> Tensor:
    """Fit a picture into the input as the package does: ``(1, 3, S, S)`` in [0, 1]."""
    fitted = LetterBox((SIDE, SIDE), auto=False)(image=np.asarray(picture))
    return torch.from_numpy(np.ascontiguousarray(fitted)).permute(2, 0, 1)[None].float() / 255


def _prepare(network: Any, images: Tensor) -> None:
    """Let every level find some boxes in the images, which have a width."""
    settle(network, tensors((SIDE, SIDE), 4) * 0.23 + 0.45)
    head = network.model[-1]
    for name, deviation, share in (("cv3", 1.5, 0.002), ("cv2", 1.0, None)):
        for prefix in ("", "one2one_"):
            for layer in last_layers(getattr(head, prefix + name, None) or ()):
                direct = name == "cv2" and head.reg_max == 1
                spread(network, images, layer, deviation=0.3 if direct else deviation, share=share)
                if direct:
                    torch.nn.init.constant_(layer.bias, 3.0)  # distances to the sides, which must not be negative


def _answer(network: Any, image: Tensor, size: tuple[int, int], row: Row) -> Answer:
    """Decode with the package's own functions."""
    with torch.no_grad():
        raw = network(image)
    raw = raw[0] if isinstance(raw, tuple) else raw
    turned, ends = network.task == "obb", row.settings.get("nms") is False
    inside = {"conf_thres": 0.25, "iou_thres": 0.7} if row.settings.get("nms") else {}
    overlap = SAID_OVERLAP if row.how == "openvino" else OVERLAP
    settings = {"conf_thres": CONFIDENCE, "iou_thres": overlap} | inside
    (found,) = nms.non_max_suppression(raw, nc=CLASSES, rotated=turned, end2end=ends, max_time_img=60, **settings)
    kept = tuple(box for box in _on_picture(found, size, turned=turned) if box[4] >= CONFIDENCE)
    return Answer(boxes=kept)


def _on_picture(rows: Tensor, shape: tuple[int, int], *, turned: bool) -> tuple[Box, ...]:
    sides = _upright(rows) if turned else rows[:, :4]
    placed = ops.scale_boxes((SIDE, SIDE), sides.clone(), shape)
    return tuple(
        (*side, score, int(label)) for side, (score, label) in zip(placed.tolist(), rows[:, 4:6].tolist(), strict=True)
    )


def _upright(rows: Tensor) -> Tensor:
    """Return the upright boxes around turned ones, (x, y, w, h, …, angle)."""
    corners = ops.xywhr2xyxyxyxy(torch.cat([rows[:, :4], rows[:, -1:]], 1))
    return torch.cat([corners.amin(1), corners.amax(1)], 1)
