"""What is known of a model, and how images lie in its input."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from otx_xai.records.vocabulary import Size
from otx_xai.records.words import Interpolation, ResizeType, Task


@dataclass(frozen=True)
class InputGeometry:
    """How an image is fitted into the network's input.

    Args:
        size: ``(height, width)`` of the network's input in pixels.
        resize_type: the rule that fits the image in.
        pad_value: grey level 0-255 of the padding.
        crop: share of the image's height and width, in (0, 1], that is cut out of its middle before it is fitted in.
            "Resize the short side to 256, cut out 224" is ``crop`` with 224 / 256.
        interpolation: how pixels are made of pixels.
    """

    size: Size
    resize_type: ResizeType = ResizeType.STANDARD
    pad_value: int = 0
    crop: float = 1.0
    interpolation: Interpolation = Interpolation.LINEAR

    def places_as(self, other: InputGeometry) -> bool:
        """Whether the same place of an image lies at the same pixel of both inputs."""
        return self == replace(other, interpolation=self.interpolation)


@dataclass(frozen=True)
class MapGrid:
    """Where the places of a map look in the network's input, in continuous pixels: pixel ``j`` covers ``[j, j + 1]``.

    Args:
        start: centre of what the first place looks at, ``(y, x)``; it may lie outside of the input.
        step: from one place to the next, ``(y, x)``, positive.
    """

    start: tuple[float, float]
    step: tuple[float, float]


@dataclass(frozen=True)
class Tiling:
    """How a detector wants large images to be cut into tiles, in the words of Model API.

    Args:
        size: pixels of the image on each side of a tile (``tile_size``).
        overlap: part of a tile that the next one covers too, in [0, 1) (``tiles_overlap``).
        max_predictions: boxes of an image at most (``max_pred_number``).
        whole_image: infer the whole image as well, for what is larger than a tile (``tile_with_full_img``).
    """

    size: int
    overlap: float = 0.5
    max_predictions: int = 100
    whole_image: bool = True

    @property
    def step(self) -> int:
        """Pixels from one tile to the next, at least 1."""
        return max(1, int(self.size * (1 - self.overlap)))


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before its graph is touched.

    Args:
        task: what it does.
        labels: one name a class, in order.
        geometry: how images are fitted into the input.
        input_layout: the model's own axes, a permutation of ``NCHW`` (``NHWC``, …).
        mean: per channel, on the 0-255 scale; empty: nothing to subtract.
        scale: per channel divisor; empty: nothing to divide by.
        reverse_input_channels: whether RGB is turned into BGR before normalisation.
        zero: of each channel what the graph's own normalisation turns into 0, on the scale of its input; empty: 0.
        multilabel: classes are independent (sigmoid) rather than exclusive (soft-max).
        confidence_threshold: score from which a detector's box counts.
        iou_threshold: overlap from which the lesser of two boxes is dropped, where that is left to us.
        first_label: what a detector calls class 0: 1 where its labels start with one for "nothing".
        tiling: how a detector wants images to be tiled; ``None``: each is inferred as a whole.
        channels: of the network's input.
        box_format: name of the format that its boxes are read by; empty for a classifier.
        normalisation_known: somebody says how the input is normalised, or that it need not be.
        sources: where each of these came from, field name → words for the log.
    """

    task: Task
    labels: tuple[str, ...]
    geometry: InputGeometry
    input_layout: str = "NCHW"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    reverse_input_channels: bool = False
    zero: tuple[float, ...] = ()
    multilabel: bool = False
    confidence_threshold: float = 0.5
    iou_threshold: float = 0.5
    first_label: int = 0
    tiling: Tiling | None = None
    channels: int = 3
    box_format: str = ""
    normalisation_known: bool = True
    sources: dict[str, str] = field(default_factory=dict)
