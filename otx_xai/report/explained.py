"""What writers are handed: one image with all that was found out about it, and maps with their place on it."""

from __future__ import annotations

from dataclasses import dataclass

from otx_xai.postprocess import to_image
from otx_xai.records import (
    ClassAnswer,
    Detections,
    FloatArray,
    ImageInfo,
    InputGeometry,
    MapGrid,
    Prediction,
    Size,
    UInt8Array,
)


@dataclass(frozen=True)
class PlacedMaps:
    """The maps of one image at the network's resolution, and what it takes to lay them over the image.

    Args:
        maps: ``float32`` ``(M, h, w)`` in [0, 1], each over the whole of the network's input, padding included.
        image_size: ``(H, W)`` of the image.
        geometry: how the image lies in what the maps cover: the network's input, or, where it was explained tile by
            tile, the image itself.
        grid: where the places of the maps lie in the input; ``None``: they divide it evenly.
    """

    maps: FloatArray
    image_size: Size
    geometry: InputGeometry
    grid: MapGrid | None = None

    def on_image(self, number: int, *, crop_padding: bool = True, size: Size | None = None) -> FloatArray:
        """Lay one of the maps over the image.

        Args:
            number: of the map, from 0.
            crop_padding: cut off what lies over padding; else the whole map is stretched over the image.
            size: ``(height, width)`` of a picture of the image that it is laid over instead.

        Returns:
            ``float32`` ``(H, W)`` in [0, 1].
        """
        one = self.maps[number][None]
        laid: FloatArray = to_image(
            one, self.image_size, self.geometry, crop_padding=crop_padding, grid=self.grid, size=size
        )[0]
        return laid


@dataclass(frozen=True)
class ExplainedImage:
    """What the pipeline knows of one image once it is inferred.

    Args:
        info: the image.
        image: RGB ``uint8`` ``(H, W, 3)``, the original or a smaller picture of it; ``placed`` has the original's size.
        predictions: of a classifier the classes above the threshold, best first, the best one where none is above; of
            a detector its boxes, best first.
        targets: what was explained, as many as there are maps; the target of a per-image map is -1.
        placed: the maps, at the network's resolution.
        seconds: time from reading to the maps, waiting included.
        detections: what a detector found, as many as there are predictions; ``None`` of a classifier.
        warnings: what speaks against single maps, in words.
        answer: what else a classifier said.

    Raises:
        ValueError: a target is a box, and none of the predictions.
    """

    info: ImageInfo
    image: UInt8Array
    predictions: tuple[Prediction, ...]
    targets: tuple[Prediction, ...]
    placed: PlacedMaps
    seconds: float = 0.0
    detections: Detections | None = None
    warnings: tuple[str, ...] = ()
    answer: ClassAnswer | None = None

    def __post_init__(self) -> None:
        strangers = [target for target in self.targets if target.box is not None and not self._found(target)]
        if strangers:
            raise ValueError(
                f"Boxes are explained that are none of the image's predictions: {strangers}. Expected each with its "
                "number, its place among them."
            )

    @property
    def maps(self) -> FloatArray:
        """``float32`` ``(M, h, w)`` in [0, 1] at the network's resolution, one for each target."""
        return self.placed.maps

    def _found(self, box: Prediction) -> bool:
        number = box.number
        return number is not None and 0 <= number < len(self.predictions) and self.predictions[number] == box
