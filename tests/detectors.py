"""Small one-stage detectors of every family, with random weights, and the maps that their class heads must give."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import openvino as ov
import reference
import torch
import torchvision
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn
from torch.nn import functional
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.ssdlite import SSDLiteHead

CLASSES = 5
SIZE = (96, 128)
STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Family:
    """A detector with what is known of its heads.

    Args:
        build: gives the network: images in, outputs as exported.
        heads: modules whose outputs are the raw class scores, the finest level first; one that is called for every
            level in this order counts for all.
        arrange: raw scores (N, C, h, w) to (N, A, L, h, w).
        objectness: likewise modules of what multiplies the scores.
        factor: their outputs to (N, A, h, w).
        activation: of the class scores where there is objectness.
        background: number of the background class.
        outputs: tensor names to give the outputs.
        anchors: of each level.
    """

    build: Callable[[], nn.Module]
    heads: tuple[str, ...]
    arrange: Callable[[torch.Tensor], torch.Tensor] = lambda raw: raw.unflatten(1, (-1, CLASSES))
    objectness: tuple[str, ...] = ()
    factor: Callable[[torch.Tensor], torch.Tensor] = lambda raw: raw
    activation: str = "sigmoid"
    background: int | None = None
    outputs: tuple[str, ...] = ()
    anchors: tuple[int, ...] = (1, 1, 1)


@dataclass(frozen=True)
class Case:
    """A built detector: the torch module, its conversion, images, and its literal maps (N, K, h, w), unscaled."""

    family: Family
    module: nn.Module
    model: ov.Model
    image: torch.Tensor
    literal: np.ndarray


@cache
def case(name: str) -> Case:
    """Build a detector by name."""
    family = FAMILIES[name]
    module = build(name)
    image = images(1)
    return Case(family, module, convert(module, image, family.outputs), image, literal(family, module, image))


def build(name: str) -> nn.Module:
    """Build a detector by name, with class scores that differ clearly from place to place."""
    torch.manual_seed(sum(map(ord, name)))
    module = FAMILIES[name].build()
    for key, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 1:
                parameter.copy_(0.5 * torch.randn_like(parameter) + (1.0 if "norm" in key else 0.0))
            else:
                parameter.normal_(0, 1.6 / parameter[0].numel() ** 0.5)
    return module.eval()


def images(count: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Return images (N, 3, H, W) with soft blobs."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randn(count, 3, 6, 8, generator=generator)
    return functional.interpolate(coarse, size, mode="bicubic")


def convert(module: nn.Module, example: torch.Tensor, names: Sequence[str] = (), shape: Sequence[int] = ()) -> ov.Model:
    """Convert to OpenVINO for images of the example's shape (or of ``shape``; -1 is dynamic), and name the outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of much, in torch, torchvision and OpenVINO
        decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
    model = ov.convert_model(decoder, example_input=example, input=[ov.PartialShape(list(shape or example.shape))])
    for output, name in zip(model.outputs, names, strict=False):
        output.get_tensor().set_names({name})
    return model


@torch.no_grad()
def literal(family: Family, module: nn.Module, batch: torch.Tensor) -> np.ndarray:
    """DetClassProbabilityMap as defined: level by level, anchor by anchor, on raw scores caught in torch."""
    raw, factors = _caught(module, family.heads, batch), _caught(module, family.objectness, batch)
    levels = []
    for level, scores in enumerate(raw):
        arranged = family.arrange(scores)
        if factors:
            activate = torch.sigmoid if family.activation == "sigmoid" else lambda value: value.softmax(2)
            arranged = activate(arranged) * torch.sigmoid(family.factor(factors[level]))[:, :, None]
        levels.append(arranged)
    return reference.class_probability_maps(levels, family.background)


def _caught(module: nn.Module, names: Sequence[str], batch: torch.Tensor) -> list[torch.Tensor]:
    caught: list[torch.Tensor] = []
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _, __, output: caught.append(output)) for name in names
    ]
    module(batch)
    for hook in hooks:
        hook.remove()
    return sorted(caught, key=lambda tensor: -tensor.shape[2] * tensor.shape[3])


# --- parts ------------------------------------------------------------------------------------------------------------


class Pyramid(nn.Module):
    """Feature maps of strides 8, 16 and 32."""

    def __init__(self, channels: Sequence[int] = (32, 32, 32)) -> None:
        super().__init__()
        self.out_channels = channels[0]
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU())
        widths = (16, *channels)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.ReLU())
            for before, after in zip(widths, channels, strict=False)
        )

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        value, levels = self.stem(batch), OrderedDict()
        for number, stage in enumerate(self.stages):
            value = stage(value)
            levels[str(number)] = value
        return levels


class Torchvision(nn.Module):
    """A detector of torchvision without its transform: one image in, boxes (1, M, 5) and labels (1, M) out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        net, size = self.net, (batch.shape[2], batch.shape[3])
        features = list(net.backbone(batch).values())
        raw = net.head(features)
        anchors = net.anchor_generator(ImageList(batch, [size]), features)
        if not isinstance(net, SSD):
            per_place = net.anchor_generator.num_anchors_per_location()[0]
            counts = [level.shape[2] * level.shape[3] * per_place for level in features]
            raw = {key: list(value.split(counts, dim=1)) for key, value in raw.items()}
            anchors = [list(boxes.split(counts)) for boxes in anchors]
        found = net.postprocess_detections(raw, anchors, [size])[0]
        return torch.cat([found["boxes"], found["scores"][:, None]], 1)[None], found["labels"][None]


def _fcos() -> nn.Module:
    return Torchvision(FCOS(Pyramid(), CLASSES, anchor_generator=AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)))


def _retinanet() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0),) * 3)
    return Torchvision(RetinaNet(Pyramid(), CLASSES, anchor_generator=anchors))


def _ssd(lite: bool) -> nn.Module:
    widths = [16, 24, 32]
    backbone = Pyramid(widths)
    head = (
        SSDLiteHead(widths, [4, 6, 4], CLASSES + 1, nn.BatchNorm2d) if lite else SSDHead(widths, [4, 6, 4], CLASSES + 1)
    )
    return Torchvision(SSD(backbone, DefaultBoxGenerator([[2], [2, 3], [2]]), SIZE, CLASSES + 1, head=head))


class Dense(nn.Module):
    """A detector of one convolution a level and purpose.

    Args:
        sizes: channels that each purpose has.
    """

    def __init__(self, levels: int = 3, **sizes: int) -> None:
        super().__init__()
        self.pyramid = Pyramid((32,) * levels)
        for purpose, channels in sizes.items():
            self.add_module(purpose, nn.ModuleList(nn.Conv2d(32, channels, 1) for _ in range(levels)))

    def levels(self, batch: torch.Tensor, purpose: str) -> list[torch.Tensor]:
        convolutions = self.get_submodule(purpose)
        return [layer(value) for layer, value in zip(convolutions, self.features(batch), strict=True)]

    def features(self, batch: torch.Tensor) -> list[torch.Tensor]:
        return list(self.pyramid(batch).values())


def _centres(levels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centres (P, 2) and strides (P, 1) of places."""
    points, strides = [], []
    for level, stride in zip(levels, STRIDES, strict=False):
        rows, columns = (torch.arange(size, dtype=torch.float32) for size in level.shape[2:])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        points.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((points[-1].shape[0], 1), float(stride)))
    return torch.cat(points), torch.cat(strides)


class FastestDet(Dense):
    """One level; objectness, box, classes after soft-max, all as channels of a map."""

    def __init__(self) -> None:
        super().__init__(levels=1, obj=1, reg=4, cls=CLASSES)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        (obj,), (reg,), (cls,) = (self.levels(batch, purpose) for purpose in ("obj", "reg", "cls"))
        scores = functional.softmax(cls.permute(0, 2, 3, 1), -1).permute(0, 3, 1, 2)
        return torch.cat([torch.sigmoid(obj), reg, scores], 1)


class YOLOX(Dense):
    """Decoupled heads joined as channels, decoded boxes, objectness and classes after sigmoid: (N, P, 5 + K)."""

    def __init__(self) -> None:
        super().__init__(reg=4, obj=1, cls=CLASSES)

    def predictions(self, batch: torch.Tensor) -> torch.Tensor:
        reg, obj, cls = (self.levels(batch, purpose) for purpose in ("reg", "obj", "cls"))
        joined = [torch.cat([r, o.sigmoid(), c.sigmoid()], 1) for r, o, c in zip(reg, obj, cls, strict=True)]
        flat = torch.cat([level.flatten(2) for level in joined], 2).permute(0, 2, 1)
        centres, strides = _centres(reg)
        xy, wh = (flat[..., :2] + centres) * strides, torch.exp(flat[..., 2:4]) * strides
        return torch.cat([xy, wh, flat[..., 4:]], -1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.predictions(batch)


class YOLOXSelected(YOLOX):
    """The same with objectness multiplied in and boxes selected in the graph."""

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.predictions(batch)[0]
        half = found[:, 2:4] / 2
        boxes = torch.cat([found[:, :2] - half, found[:, :2] + half], 1)
        return _select(boxes, found[:, 5:] * found[:, 4:5])


class YOLOv8(Dense):
    """Distribution focal boxes, no objectness, predictions along the last axis: (N, 4 + K, P)."""

    def __init__(self) -> None:
        super().__init__(reg=16, cls=CLASSES)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        reg, cls = (self.levels(batch, purpose) for purpose in ("reg", "cls"))
        joined = torch.cat([torch.cat(pair, 1).flatten(2) for pair in zip(reg, cls, strict=True)], 2)
        box, scores = joined.split((16, CLASSES), 1)
        distances = box.view(box.shape[0], 4, 4, -1).softmax(2)
        distances = (distances * torch.arange(4.0).view(1, 1, 4, 1)).sum(2)
        centres, strides = _centres(reg)
        low, high = distances.chunk(2, 1)
        low, high = centres.T - low, centres.T + high
        boxes = torch.cat([(low + high) / 2, high - low], 1) * strides.T
        return torch.cat([boxes, scores.sigmoid()], 1)


class YOLOv5(Dense):
    """Three anchors a place; one convolution a level gives boxes, objectness and classes: (N, P, 5 + K)."""

    def __init__(self) -> None:
        super().__init__(out=3 * (5 + CLASSES))
        self.register_buffer("anchors", torch.rand(3, 3, 2) * 32 + 8)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        decoded = []
        for level, raw in enumerate(self.levels(batch, "out")):
            count, _, height, width = raw.shape
            value = raw.view(count, 3, 5 + CLASSES, height, width).permute(0, 1, 3, 4, 2).sigmoid()
            xy = value[..., :2] * 2 * STRIDES[level]
            wh = (value[..., 2:4] * 2) ** 2 * self.anchors[level].view(1, 3, 1, 1, 2)
            decoded.append(torch.cat([xy, wh, value[..., 4:]], -1).view(count, -1, 5 + CLASSES))
        return torch.cat(decoded, 1)


class RTMDet(Dense):
    """Sigmoid scores, the coarsest level first, boxes selected in the graph, outputs as OTX names them."""

    def __init__(self) -> None:
        super().__init__(reg=4, cls=CLASSES)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        reg, cls = (self.levels(batch, purpose) for purpose in ("reg", "cls"))
        scores, boxes = (
            torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, size) for level in levels[::-1]], 1)
            for levels, size in ((cls, CLASSES), (reg, 4))
        )
        return _select(_boxes(boxes[0]), scores.sigmoid()[0])


class ATSS(Dense):
    """Two anchors, centredness multiplied in, the best of every level taken before levels are joined."""

    def __init__(self) -> None:
        super().__init__(reg=8, cls=2 * CLASSES, centre=2)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = [], []
        levels = (self.levels(batch, purpose) for purpose in ("cls", "reg", "centre"))
        for cls, reg, centre in zip(*levels, strict=True):
            score = cls.permute(0, 2, 3, 1).reshape(1, -1, CLASSES).sigmoid()
            score = score * centre.permute(0, 2, 3, 1).reshape(1, -1).sigmoid().unsqueeze(-1)
            _, best = score.max(-1)[0].topk(20, dim=1)
            scores.append(score[0][best[0]])
            boxes.append(reg.permute(0, 2, 3, 1).reshape(-1, 4)[best[0]])
        return _select(_boxes(torch.cat(boxes)), torch.cat(scores))


class BackgroundLast(Dense):
    """Soft-max with the background as the last class, as in SSD of mmdetection."""

    def __init__(self) -> None:
        super().__init__(reg=12, cls=3 * (CLASSES + 1))

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cls, reg = (
            torch.cat([level.permute(0, 2, 3, 1).reshape(-1, size) for level in self.levels(batch, purpose)])
            for purpose, size in (("cls", CLASSES + 1), ("reg", 4))
        )
        return _select(_boxes(reg), cls.softmax(-1)[:, :-1])


class ClassesFirst(Dense):
    """Channels hold anchors fastest, classes slowest; boxes and scores are outputs of their own."""

    def __init__(self) -> None:
        super().__init__(reg=8, cls=2 * CLASSES)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = [
            level.unflatten(1, (CLASSES, 2)).permute(0, 3, 4, 2, 1).reshape(level.shape[0], -1, CLASSES)
            for level in self.levels(batch, "cls")
        ]
        boxes = [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, 4) for level in self.levels(batch, "reg")]
        return torch.cat(boxes, 1), torch.cat(scores, 1)


def _boxes(distances: torch.Tensor) -> torch.Tensor:
    low, size = distances[:, :2] * 16 + 48, distances[:, 2:].exp().clamp(max=4) * 16
    return torch.cat([low, low + size], 1)


def _select(boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ten best after suppression: boxes with scores (1, M, 5) and labels (1, M)."""
    best, labels = scores.max(1)
    kept = torchvision.ops.nms(boxes + 1000.0 * labels[:, None], best, 0.5)[:10]
    return torch.cat([boxes[kept], best[kept][:, None]], 1)[None], labels[kept][None]


def _levels(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{level}" for level in range(3))


_OTX = ("boxes", "labels")
_WITH_BACKGROUND: Callable[[torch.Tensor], torch.Tensor] = lambda raw: raw.unflatten(1, (-1, CLASSES + 1))  # noqa: E731
_SSD_HEADS = _levels("net.head.classification_head.module_list")

FAMILIES: dict[str, Family] = {
    "fcos": Family(
        _fcos,
        ("net.head.classification_head.cls_logits",),
        objectness=("net.head.regression_head.bbox_ctrness",),
    ),
    "retinanet": Family(_retinanet, ("net.head.classification_head.cls_logits",), anchors=(2, 2, 2)),
    "ssd": Family(lambda: _ssd(False), _SSD_HEADS, arrange=_WITH_BACKGROUND, background=0, anchors=(4, 6, 4)),
    "ssdlite": Family(lambda: _ssd(True), _SSD_HEADS, arrange=_WITH_BACKGROUND, background=0, anchors=(4, 6, 4)),
    "fastestdet": Family(FastestDet, ("cls.0",), objectness=("obj.0",), activation="softmax", anchors=(1,)),
    "yolox": Family(YOLOX, _levels("cls"), objectness=_levels("obj")),
    "yolox_selected": Family(YOLOXSelected, _levels("cls"), objectness=_levels("obj"), outputs=_OTX),
    "yolov8": Family(YOLOv8, _levels("cls")),
    "yolov5": Family(
        YOLOv5,
        _levels("out"),
        arrange=lambda raw: raw.unflatten(1, (3, 5 + CLASSES))[:, :, 5:],
        objectness=_levels("out"),
        factor=lambda raw: raw.unflatten(1, (3, 5 + CLASSES))[:, :, 4],
        anchors=(3, 3, 3),
    ),
    "rtmdet": Family(RTMDet, _levels("cls"), outputs=_OTX),
    "atss": Family(ATSS, _levels("cls"), objectness=_levels("centre"), outputs=_OTX, anchors=(2, 2, 2)),
    "background_last": Family(
        BackgroundLast,
        _levels("cls"),
        arrange=_WITH_BACKGROUND,
        background=CLASSES,
        outputs=("bboxes", "labels"),
        anchors=(3, 3, 3),
    ),
    "classes_first": Family(
        ClassesFirst,
        _levels("cls"),
        arrange=lambda raw: raw.unflatten(1, (CLASSES, 2)).transpose(1, 2),
        outputs=("boxes", "scores"),
        anchors=(2, 2, 2),
    ),
}
