"""The pictures of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from otx_xai.errors import LabelError
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import (
    DumpContent,
    ExplainConfig,
    ExplainedImage,
    FloatArray,
    InputGeometry,
    Prediction,
    UInt8Array,
)
from otx_xai.report.files import write_picture
from otx_xai.report.names import slugs
from otx_xai.report.pictures import TILE_SIZE, annotate, overlay, sheet, shrink

MAP_FOLDER = "saliency_map"
"""Folder of a run that holds its pictures."""


class Dump:
    """Renders and writes the pictures of explained images; any number of threads may write different images at once.

    Pictures go to ``<work_dir>/saliency_map/``, and are called

    * ``<stem>_class_<label>_saliency_map.png``, the map in grey, at the size of the image (or of the network's map),
    * ``<stem>_class_<label>_overlay.png``, the map over the image, captioned with class and score,
    * ``<stem>_sheet.png``, the image and all its overlays on one page,

    without ``_class_<label>`` for a map of the whole image (target -1), and with ``.jpg`` for JPEG.

    Args:
        work_dir: folder of the run.
        labels: class names, in the order of classes.
        config: what to write.
        geometry: how images were fitted into the network's input.
    """

    def __init__(
        self, work_dir: str | Path, labels: Sequence[str], config: ExplainConfig, geometry: InputGeometry
    ) -> None:
        self._work_dir = Path(work_dir)
        self._slugs = slugs(labels)
        self._config = config
        self._geometry = geometry

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
        content = self._config.content
        wants_overlay = content in (DumpContent.OVERLAYS, DumpContent.BOTH)
        on_image = self._on_image(explained, saliency_map) if wants_overlay or self._config.postprocess else None
        if content in (DumpContent.MAPS, DumpContent.BOTH):
            shown = on_image if self._config.postprocess and on_image is not None else saliency_map
            yield f"{stem}_saliency_map", to_uint8(shown)
        if wants_overlay and on_image is not None:
            yield f"{stem}_overlay", annotate(self._overlay(explained, on_image), _caption(target), in_place=True)

    def _sheet(self, explained: ExplainedImage) -> UInt8Array:
        tiles = [(shrink(explained.image, TILE_SIZE), explained.info.name.rpartition("/")[2])]
        for target, saliency_map in zip(explained.targets, explained.maps, strict=True):
            picture = self._overlay(explained, self._on_image(explained, saliency_map))
            tiles.append((shrink(picture, TILE_SIZE), _caption(target)))
        return sheet(tiles)

    def _on_image(self, explained: ExplainedImage, saliency_map: FloatArray) -> FloatArray:
        height, width = explained.image.shape[:2]
        on_image: FloatArray = to_image(
            saliency_map[np.newaxis],
            (height, width),
            self._geometry,
            crop_padding=self._config.crop_padded_map,
        )[0]
        return on_image

    def _overlay(self, explained: ExplainedImage, on_image: FloatArray) -> UInt8Array:
        return overlay(explained.image, on_image, self._config.overlay_weight)

    def _class_part(self, target: Prediction) -> str:
        if target.target == -1:
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
    if target.target == -1:
        return target.label or "activation map"
    return f"{target.label} {target.score:.2f}"
