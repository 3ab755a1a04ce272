"""Detectors that leave boxes to the host: heads as published, decoded here as their papers say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import classifying
import cv2
import numpy as np
import pictures as drawn
import torch
import undecoded_networks as networks
from answering import settle, spread, tensors
from PIL import Image
from record import Answer, Entry, Made
from torch import Tensor, nn
from torchvision.ops import batched_nms
from undecoded_networks import BINS, CLASSES, Head, places_of

SIDE, CONFIDENCE, OVERLAP = 320, 0.5, 0.5
PAD = 114


@dataclass(frozen=True)
class Row:
    """A head, how it is exported, and how its images are prepared.

    Args:
        name: of the head.
        make: builds it.
        how: it is exported.
        mean: on the scale of 0 to 255, in the order of the channels that it wants.
        scale: as ``mean``.
        bgr: it wants blue first.
        fits: images keep the ratio of their sides, and the rest is padded.
    """

    name: str
    make: Callable[[], Head]
    how: Literal["onnx", "openvino"]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (255.0, 255.0, 255.0)
    bgr: bool = False
    fits: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        means, scales = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.scale))
        fit = ("--input.resize_type", "fit_to_window", "--input.pad_value", str(PAD)) if self.fits else ()
        order = ("--input.reverse_input_channels", "true") if self.bgr else ()
        return ("--input.mean", means, "--input.scale", scales, *order, *fit)


PLUS: dict[str, Any] = {"mean": (103.53, 116.28, 123.675), "scale": (57.375, 57.12, 58.395), "bgr": True}
ROWS = (
    Row("nanodet-plus", networks.NanoDetPlus, "onnx", **PLUS),
    Row("nanodet-plus", networks.NanoDetPlus, "openvino", **PLUS),
    Row("nanodet", networks.NanoDet, "onnx", **PLUS),
    Row("picodet", networks.PicoDet, "onnx", **PLUS),
    Row("ppyoloe", networks.PPYOLOE, "onnx"),
    Row("ppyoloe", networks.PPYOLOE, "openvino"),
    Row("ppyoloe-decoded", partial(networks.PPYOLOE, decodes=True), "onnx"),
    Row("yolox-undecoded", networks.YOLOX, "onnx", scale=(1.0, 1.0, 1.0), bgr=True, fits=True),
)


def entries() -> list[Entry]:
    words = {"onnx": "head as published, ONNX alone", "openvino": "head as published, IR of convert_model alone"}
    return [
        Entry(f"heads-{row.name}-{row.how}", "detector", "own", words[row.how], partial(_make, row), row.options)
        for row in ROWS
    ]


def _make(row: Row, folder: Path, pictures: Path) -> Made:
    torch.manual_seed(0)
    network = row.make().eval()
    written = drawn.write(pictures, (SIDE, SIDE), drawn.SMALL)
    fed = {name: _fed(picture, row) for name, picture in written.items()}
    _prepare(network, torch.cat([*fed.values()]), row)
    answers = {name: _answer(network, fed[name], picture, row) for name, picture in written.items()}
    image = torch.zeros(1, 3, SIDE, SIDE)
    if row.how == "onnx":
        names = {"output_names": None}
        return Made(classifying.to_onnx(network, image, folder / f"{row.name}.onnx", **names), answers, CLASSES)
    return Made(
        classifying.to_openvino(network, image, folder / f"{row.name}.xml", tuple(image.shape)), answers, CLASSES
    )


def _fed(picture: Image.Image, row: Row) -> Tensor:
    """Prepare a picture as the packages do, by OpenCV: stretched, or fitted into the upper left corner."""
    size = _fitted(picture) if row.fits else (SIDE, SIDE)
    pixels = np.full((SIDE, SIDE, 3), PAD, np.uint8)
    pixels[: size[1], : size[0]] = cv2.resize(np.asarray(picture), size, interpolation=cv2.INTER_LINEAR)
    ordered = torch.from_numpy(pixels[..., ::-1].copy() if row.bgr else pixels).float()
    return ((ordered - torch.tensor(row.mean)) / torch.tensor(row.scale)).permute(2, 0, 1)[None]


def _fitted(picture: Image.Image) -> tuple[int, int]:
    factor = SIDE / max(picture.size)
    return round(picture.width * factor), round(picture.height * factor)


def _prepare(network: Head, images: Tensor, row: Row) -> None:
    """Let a few places of the images have high scores, and boxes a size."""
    noise = tensors((SIDE, SIDE), 3)
    settle(network, torch.cat([images, noise * images.std() + images.mean()]))
    heads: tuple[tuple[str, float, float | None], ...] = (("last", 2.0, 0.02),)
    if isinstance(network, networks.PPYOLOE):
        heads = (("classes", 1.5, 0.004), ("boxes", 1.0, None))
    elif isinstance(network, networks.YOLOX):
        heads = (("classes", 2.0, 0.2), ("objectness", 2.0, 0.05), ("boxes", 0.4, None))
    for name, deviation, share in heads:
        for layer in getattr(network, name):
            spread(network, images, layer, deviation=deviation, share=share)
            if isinstance(network, networks.YOLOX) and name == "boxes":
                nn.init.constant_(layer.bias[2:].data, 1.0)


@torch.no_grad()
def _answer(network: Head, fed: Tensor, picture: Image.Image, row: Row) -> Answer:
    """Decode each place, of which the best class counts as in the packages' own demonstrations, and suppress."""
    levels = network.levels(fed)
    scores = torch.cat([logits[0].flatten(1).T.sigmoid() for logits, _ in levels])
    numbers = torch.cat([boxes[0].flatten(1).T for _, boxes in levels])
    points, steps = places_of(network, (SIDE, SIDE))
    if isinstance(network, networks.YOLOX):
        scores = scores[:, 1:] * scores[:, :1]
        centres, halves = numbers[:, :2] * steps + points, numbers[:, 2:].exp() * steps / 2
        boxes = torch.cat([centres - halves, centres + halves], 1)
    else:
        bins = numbers.shape[1] // 4
        assert bins in (BINS, 2 * BINS + 1)
        means = numbers.reshape(-1, 4, bins).softmax(2) @ torch.arange(float(bins)) * steps
        boxes = torch.cat([points - means[:, :2], points + means[:, 2:]], 1)
    best, labels = scores.max(1)
    kept = torch.nonzero(best >= CONFIDENCE)[:, 0]
    kept = kept[batched_nms(boxes[kept], best[kept], labels[kept], OVERLAP)]
    seen = _fitted(picture) if row.fits else (SIDE, SIDE)
    ratio = torch.tensor([picture.width / seen[0], picture.height / seen[1]] * 2)
    limits = torch.tensor([picture.width, picture.height] * 2)
    placed = (boxes[kept] * ratio).clamp(min=torch.zeros(4), max=limits)
    rows = zip(placed.tolist(), best[kept].tolist(), labels[kept].tolist(), strict=True)
    return Answer(boxes=tuple((*box, score, label) for box, score, label in rows))
