"""TensorFlow Lite files that end in its own post-processing of detections, answered by its own runtime."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pictures as drawn
from PIL import Image
from record import Answer, Entry, Made

sys.path.append(str(Path(__file__).parents[1]))
from tflite_bytes import CELLS, SIDE, write_detector

CLASSES, CONFIDENCE = 3, 0.5
KINDS = {"ssd": False, "ssd-regular": True}
"""Whether boxes are suppressed class by class, which is slower."""


def entries() -> list[Entry]:
    words = "TFLite_Detection_PostProcess; answers of TensorFlow Lite's runtime"
    return [
        Entry(f"tflite-{name}", "detector", "own", words, partial(_make, regular), ("--input.scale", "255"))
        for name, regular in KINDS.items()
    ]


def _make(regular: bool, folder: Path, pictures: Path) -> Made:
    options = {"use_regular_nms": regular, "nms_score_threshold": CONFIDENCE, "nms_iou_threshold": 0.3}
    file = write_detector(folder / "ssd.tflite", _heads(), {**options, "detections_per_class": 10})
    written = drawn.write(pictures, (SIDE, SIDE), drawn.SMALL)
    return Made(file, {name: _answer(file, picture) for name, picture in written.items()}, CLASSES)


def _heads() -> dict[str, np.ndarray]:
    """Weights that differ in colour and place, so that scores and boxes do."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:CELLS, :CELLS].reshape(2, -1)
    size = np.full(CELLS * CELLS, 1.5 / CELLS)
    anchors = np.stack([(y + 0.5) / CELLS, (x + 0.5) / CELLS, size, size], axis=1).astype(np.float32)
    shapes = {"boxes": (4, 16, 16, 3), "classes": (1 + CLASSES, 16, 16, 3)}
    heads = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    heads = {name: weights - weights.mean((1, 2, 3), keepdims=True) for name, weights in heads.items()}
    zeros = {f"{name}_bias": np.zeros(len(weights), np.float32) for name, weights in heads.items()}
    return {**heads, **zeros, "anchors": anchors}


def _answer(file: Path, picture: Image.Image) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(str(file))
    runtime.allocate_tensors()
    pixels = cv2.resize(np.asarray(picture), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    runtime.set_tensor(runtime.get_input_details()[0]["index"], (pixels / 255).astype(np.float32)[None])
    runtime.invoke()
    boxes, labels, scores, count = (runtime.get_tensor(output["index"]) for output in runtime.get_output_details())
    sides = boxes[0, : int(count[0])][:, [1, 0, 3, 2]] * np.tile(picture.size, 2)
    placed = np.clip(sides, 0, np.tile(picture.size, 2)).tolist()
    rows = zip(placed, scores[0].tolist(), labels[0].tolist(), strict=False)
    return Answer(boxes=tuple((*box, score, int(label)) for box, score, label in rows))
