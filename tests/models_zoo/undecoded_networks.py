"""Heads as they were published and as they are exported, with a small body and random weights: boxes left to the host.

NanoDet (`nanodet_plus_head.py`, `gfl_head.py` of RangiLyu/nanodet) and PicoDet (Yu et al. 2021) hold distributions over
the distances from a place to the sides of a box (Li et al., Generalized Focal Loss, NeurIPS 2020), PP-YOLOE (Xu et al.
2022) their means; YOLOX (Ge et al. 2021) offsets and logarithms of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CLASSES = 6
BINS = 8
"""Distances 0 to 7 that a distribution is over (``reg_max`` 7)."""


class Conv(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(self, channels: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        convolution = nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class Body(nn.Module):
    """A pyramid: features of each stride, all of one width, the finer ones told by the coarser ones."""

    def __init__(self, strides: Sequence[int], width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, stride=2), Conv(16, width, stride=2), Conv(width, width, stride=2))
        self.down = nn.ModuleList(Conv(width, width, stride=2) for _ in strides[1:])
        self.own = nn.ModuleList(Conv(width, width) for _ in strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [self.stem(images)]
        for down in self.down:
            features.append(down(features[-1]))
        for finer in reversed(range(len(features) - 1)):
            coarser = nn.functional.interpolate(features[finer + 1], size=features[finer].shape[2:], mode="nearest")
            features[finer] = features[finer] + coarser
        return [own(level) for own, level in zip(self.own, features, strict=True)]


class Head(nn.Module):
    """A head on a body. ``levels`` gives class logits ``(1, K, h, w)`` and boxes ``(1, C, h, w)`` of each."""

    strides: tuple[int, ...] = (8, 16, 32)
    corner = 0.5
    """Where in a cell its place is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(self.strides)

    def levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        raise NotImplementedError


class NanoDet(Head):
    """One output ``(1, P, K + 32)``: scores and distributions."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        deep = [nn.Sequential(Conv(width, width, 5, groups=width), Conv(width, width, 1)) for _ in self.strides]
        self.convolutions = nn.ModuleList(deep)
        self.last = nn.ModuleList(nn.Conv2d(width, CLASSES + 4 * BINS, 1) for _ in self.strides)

    def levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        parts = zip(self.last, self.convolutions, self.body(images), strict=True)
        both = (last(deep(level)) for last, deep, level in parts)
        return [tuple(maps.split([CLASSES, 4 * BINS], dim=1)) for maps in both]  # type: ignore[misc]

    def forward(self, images: Tensor) -> Tensor:
        levels = [torch.cat([scores.sigmoid(), sides], 1).flatten(2) for scores, sides in self.levels(images)]
        return torch.cat(levels, dim=2).permute(0, 2, 1)


class NanoDetPlus(NanoDet):
    """A fourth level, and places in the corners of cells."""

    strides = (8, 16, 32, 64)
    corner = 0.0


class PicoDet(NanoDet):
    """Scores ``(1, P, K)`` and distributions ``(1, P, 32)`` of each level, as exported without post-processing."""

    strides = (8, 16, 32, 64)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        levels = self.levels(images)
        rows = [
            [part.flatten(2).permute(0, 2, 1) for part in parts]
            for parts in ([scores.sigmoid() for scores, _ in levels], [sides for _, sides in levels])
        ]
        return (*rows[0], *rows[1])


class Attention(nn.Module):
    """Channels weighed by what the whole image shows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.convolution = nn.Conv2d(width, width, 1), Conv(width, width, 1)

    def forward(self, level: Tensor) -> Tensor:
        weights = self.gate(nn.functional.adaptive_avg_pool2d(level, 1)).sigmoid()
        return self.convolution(level * weights)  # type: ignore[no-any-return]


class PPYOLOE(Head):
    """Scores ``(1, K, P)`` and mean distances ``(1, P, 4)``, or with ``decodes`` boxes ``(1, P, 4)`` in pixels."""

    strides = (32, 16, 8)

    def __init__(self, decodes: bool = False, width: int = 32) -> None:
        super().__init__()
        self.decodes = decodes
        self.stem_classes, self.stem_boxes = (
            nn.ModuleList(Attention(width) for _ in self.strides) for _ in ("classes", "boxes")
        )
        self.classes = nn.ModuleList(nn.Conv2d(width, CLASSES, 3, padding=1) for _ in self.strides)
        self.boxes = nn.ModuleList(nn.Conv2d(width, 4 * (2 * BINS + 1), 3, padding=1) for _ in self.strides)
        self.register_buffer("projection", torch.arange(2 * BINS + 1.0).view(1, -1, 1, 1))

    def levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        found = []
        for number, level in enumerate(reversed(self.body(images))):
            scores = self.classes[number](self.stem_classes[number](level) + level)
            found.append((scores, self.boxes[number](self.stem_boxes[number](level))))
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores, distances = [], []
        for logits, boxes in self.levels(images):
            scores.append(logits.sigmoid().flatten(2))
            places = boxes.reshape(len(boxes), 4, 2 * BINS + 1, -1).permute(0, 2, 3, 1).softmax(1)
            distances.append(nn.functional.conv2d(places, self.projection).squeeze(1))
        sides = torch.cat(distances, 1)
        return (self._decoded(sides, images) if self.decodes else sides), torch.cat(scores, -1)

    def _decoded(self, sides: Tensor, images: Tensor) -> Tensor:
        points, steps = places_of(self, (int(images.shape[2]), int(images.shape[3])))
        return torch.cat([points / steps - sides[..., :2], points / steps + sides[..., 2:]], -1) * steps


class YOLOX(Head):
    """One output ``(1, P, 5 + K)``: offset, logarithm of the size, objectness, scores."""

    corner = 0.0

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.boxes, self.objectness, self.classes = (
            nn.ModuleList(nn.Conv2d(width, channels, 1) for _ in self.strides) for channels in (4, 1, CLASSES)
        )

    def levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        parts = zip(self.body(images), self.classes, self.objectness, self.boxes, strict=True)
        return [
            (torch.cat([objectness(level), classes(level)], 1), boxes(level))
            for level, classes, objectness, boxes in parts
        ]

    def forward(self, images: Tensor) -> Tensor:
        levels = [torch.cat([boxes, scores.sigmoid()], 1).flatten(2) for scores, boxes in self.levels(images)]
        return torch.cat(levels, dim=2).permute(0, 2, 1)


def places_of(network: Head, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the places of all levels ``(P, 2)``, x and y in pixels, and their strides ``(P, 1)``."""
    points, steps = [], []
    for stride in network.strides:
        y, x = torch.meshgrid(*(torch.arange(-(-side // stride)) for side in size), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + network.corner) * stride)
        steps.append(torch.full((len(points[-1]), 1), stride))
    return torch.cat(points), torch.cat(steps)
