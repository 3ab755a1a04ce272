"""The pictures of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from otx_xai.errors import LabelError
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import (
    PER_IMAGE_TARGET,
    Detections,
    DumpContent,
    ExplainConfig,
    ExplainedImage,
    FloatArray,
    InputGeometry,
    MapGrid,
    Prediction,
    UInt8Array,
)
from otx_xai.report.files import write_picture
from otx_xai.report.frames import Frame, draw_frames, frames_of
from otx_xai.report.names import slugs
from otx_xai.report.pictures import TILE_SIZE, annotate, overlay, sheet, shrink

MAP_FOLDER = "saliency_map"
"""Folder of a run that holds its pictures."""


_WHOLE_IMAGE = Prediction(PER_IMAGE_TARGET, "", 1.0)


class Dump:
    """Renders and writes the pictures of explained images; any number of threads may write different images at once.

    Pictures go to ``<work_dir>/saliency_map/``, and are called

    * ``<stem>_class_<label>_saliency_map.png``, the map in grey, at the size of the image (or of the network's map),
    * ``<stem>_class_<label>_overlay.png``, the map over the image, captioned with class and score, and on it the boxes
      of this class (all boxes on the map of the whole image), and the outlines of their masks,
    * ``<stem>_sheet.png``, the image and all its overlays on one page,

    without ``_class_<label>`` for a map of the whole image (target -1), with ``_box_<n>`` behind it for the map of a
    single box, ``n`` being its place among the predictions (from 0, best first), and with ``.jpg`` for JPEG.

    Args:
        work_dir: folder of the run.
        labels: class names, in the order of classes.
        config: what to write.
        geometry: how images were fitted into the network's input, where they do not say otherwise.
        grid: where the places of maps over this input lie; by default they divide it evenly.
    """

    def __init__(
        self,
        work_dir: str | Path,
        labels: Sequence[str],
        config: ExplainConfig,
        geometry: InputGeometry,
        grid: MapGrid | None = None,
    ) -> None:
        self._work_dir = Path(work_dir)
        self._slugs = slugs(labels)
        self._config = config
        self._geometry = geometry
        self._grid = grid

    def write(self, explained: ExplainedImage) -> tuple[str, ...]:
        """Render and write the pictures of one image.

        Args:
            explained: the image, its targets and maps.

        Returns:
            The files written, relative to ``work_dir``, with ``/``.

        Raises:
            OutputError: a file cannot be written.
            LabelError: a target has no label.
        """
        if self._config.content is DumpContent.SHEET:
            return (self._write_picture(f"{explained.info.stem}_sheet", self._sheet(explained)),)
        return tuple(
            self._write_picture(name, picture)
            for target, saliency_map in zip(explained.targets, explained.maps, strict=True)
            for name, picture in self._render(explained, target, saliency_map)
        )

    def _render(
        self, explained: ExplainedImage, target: Prediction, saliency_map: FloatArray
    ) -> Iterator[tuple[str, UInt8Array]]:
        stem = f"{explained.info.stem}{self._class_part(target)}"
        if target.number is not None:
            stem += f"_box_{target.number}"
        content = self._config.content
        wants_overlay = content in (DumpContent.OVERLAYS, DumpContent.BOTH)
        on_image = self._on_image(explained, saliency_map) if wants_overlay or self._config.postprocess else None
        if content in (DumpContent.MAPS, DumpContent.BOTH):
            shown = on_image if self._config.postprocess and on_image is not None else saliency_map
            yield f"{stem}_saliency_map", to_uint8(shown)
        if wants_overlay and on_image is not None:
            picture = self._overlay(explained, on_image, target)
            yield f"{stem}_overlay", annotate(picture, _caption(target), in_place=True)

    def _sheet(self, explained: ExplainedImage) -> UInt8Array:
        plain = explained.image
        if explained.detections is not None:
            plain = draw_frames(plain.copy(), self._frames(explained, explained.detections, _WHOLE_IMAGE))
        tiles = [(shrink(plain, TILE_SIZE), explained.info.name.rpartition("/")[2])]
        for target, saliency_map in zip(explained.targets, explained.maps, strict=True):
            picture = self._overlay(explained, self._on_image(explained, saliency_map), target)
            tiles.append((shrink(picture, TILE_SIZE), _caption(target)))
        return sheet(tiles)

    def _on_image(self, explained: ExplainedImage, saliency_map: FloatArray) -> FloatArray:
        height, width = explained.image.shape[:2]
        on_image: FloatArray = to_image(
            saliency_map[np.newaxis],
            (height, width),
            explained.geometry or self._geometry,
            crop_padding=self._config.crop_padded_map,
            grid=self._grid if explained.geometry is None else None,
        )[0]
        return on_image

    def _overlay(self, explained: ExplainedImage, on_image: FloatArray, target: Prediction) -> UInt8Array:
        picture = overlay(explained.image, on_image, self._config.overlay_weight)
        if explained.detections is None:
            return picture
        return draw_frames(picture, self._frames(explained, explained.detections, target))

    def _frames(self, explained: ExplainedImage, found: Detections, target: Prediction) -> list[Frame]:
        height, width = explained.image.shape[:2]
        geometry = explained.geometry or self._geometry
        return frames_of(explained.predictions, found, target, (height, width), geometry)

    def _class_part(self, target: Prediction) -> str:
        if target.target == PER_IMAGE_TARGET:
            return ""
        if target.target >= len(self._slugs):
            raise LabelError(
                f"Class {target.target} was explained, and there are {len(self._slugs)} labels. Expected one label a "
                "class: check the labels that were given, or those in the model's model_info."
            )
        return f"_class_{self._slugs[target.target]}"

    def _write_picture(self, name: str, picture: UInt8Array) -> str:
        file = f"{MAP_FOLDER}/{name}.{self._config.image_format}"
        write_picture(os.path.join(self._work_dir, file), picture, self._config.image_format)
        return file


def _caption(target: Prediction) -> str:
    if target.target == PER_IMAGE_TARGET:
        return target.label or "activation map"
    return f"{target.label} {target.score:.2f}"
