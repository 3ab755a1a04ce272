"""Contact sheets: an image and all its overlays on one page."""

from __future__ import annotations

from pathlib import Path

from otx_xai.records import ExplainConfig, Size, UInt8Array
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.files import MAP_FOLDER, encode, write_file
from otx_xai.report.overlays import WHOLE_IMAGE, caption, draw_detections, overlay_of
from otx_xai.report.pictures import TILE_SIZE, sheet, shrink

LARGEST_TILE = 480
"""Pixels of the sides of a picture on a page at most."""
_LARGER = ((2, LARGEST_TILE), (4, 400), (9, 320))
"""Pictures on a page up to which each is so many pixels high and wide at most; on others it is ``TILE_SIZE``."""


class SheetWriter:
    """Writes ``<stem>_sheet.png`` (or ``.jpg``) of each image.

    Args:
        folder: where to.
        config: how overlays look, and the format of the file.
    """

    def __init__(self, folder: Path, config: ExplainConfig) -> None:
        self._folder = folder
        self._config = config

    def write(self, explained: ExplainedImage) -> tuple[str, ...]:
        """Render and write the sheet of one image; see :class:`~otx_xai.report.writer.Writer`."""
        config = self._config
        file = f"{MAP_FOLDER}/{explained.info.stem}_sheet.{config.image_format}"
        write_file(self._folder / file, encode(_page(explained, config), config.image_format))
        return (file,)


def _page(explained: ExplainedImage, config: ExplainConfig) -> UInt8Array:
    size = _tile_size(1 + len(explained.targets), config.max_size)
    small = shrink(explained.image, size)
    plain = draw_detections(small.copy(), explained, WHOLE_IMAGE)
    tiles = [(plain, explained.info.name.rpartition("/")[2])]
    for number, target in enumerate(explained.targets):
        laid = explained.placed.on_image(number, crop_padding=config.crop_padded_map, size=small.shape[:2])
        tiles.append((overlay_of(explained, target, small, laid, config), caption(target)))
    return sheet(tiles, tile_size=size, scale=config.colormap if explained.targets else None)


def _tile_size(count: int, longest: int) -> Size:
    """Return how large pictures are on a page of so many: larger on one of few."""
    side = next((side for most, side in _LARGER if count <= most), TILE_SIZE[0])
    side = min(side, longest or side)
    return side, side
