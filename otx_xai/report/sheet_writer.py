"""Contact sheets: an image and all its overlays on one page."""

from __future__ import annotations

from pathlib import Path

from otx_xai.records import ExplainConfig, UInt8Array
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.files import MAP_FOLDER, encode, write_file
from otx_xai.report.overlays import WHOLE_IMAGE, caption, draw_detections, overlay_of
from otx_xai.report.pictures import TILE_SIZE, sheet, shrink


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
    plain = explained.image
    if explained.detections is not None:
        plain = draw_detections(plain.copy(), explained, WHOLE_IMAGE)
    tiles = [(shrink(plain, TILE_SIZE), explained.info.name.rpartition("/")[2])]
    for number, target in enumerate(explained.targets):
        on_image = explained.placed.on_image(number, crop_padding=config.crop_padded_map)
        picture = overlay_of(explained, target, on_image, config)
        tiles.append((shrink(picture, TILE_SIZE), caption(target)))
    return sheet(tiles)
