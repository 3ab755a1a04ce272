"""Maps and overlays, a file each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from otx_xai.errors import LabelError
from otx_xai.postprocess import to_uint8
from otx_xai.records import PER_IMAGE_TARGET, DumpContent, ExplainConfig, Prediction, Size, UInt8Array
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.files import MAP_FOLDER, encode, write_file
from otx_xai.report.names import slugs
from otx_xai.report.overlays import caption, overlay_of
from otx_xai.report.pictures import annotate, limited, limited_size

_PICTURES = frozenset({DumpContent.MAPS, DumpContent.OVERLAYS})


def size_of_pictures(image_size: Size, config: ExplainConfig) -> Size | None:
    """Return the ``(height, width)`` of the pictures of an image; ``None`` where they are as large as the image."""
    size = limited_size(image_size, config.max_size)
    return None if size == image_size or config.contents.isdisjoint(_PICTURES) else size


class PictureWriter:
    """Writes the maps of an image in grey, their overlays, or both.

    * ``<stem>_class_<label>_saliency_map.png``: the map, at the size of the image (or of the network's map),
    * ``<stem>_class_<label>_overlay.png``: the map over the image, captioned with class, score and the scale of its
      colours, where there is room, and on it the boxes of this class (all boxes on the map of the whole image), and the
      outlines of their masks,

    without ``_class_<label>`` for a map of the whole image, with ``_box_<n>`` behind it for the map of a single box,
    ``n`` being its number, and with ``.jpg`` for JPEG. None is larger than ``config.max_size`` says.

    Args:
        folder: where to.
        labels: class names, in the order of classes.
        config: what to write.
    """

    def __init__(self, folder: Path, labels: Sequence[str], config: ExplainConfig) -> None:
        self._folder = folder
        self._slugs = slugs(labels)
        self._config = config
        self._contents = config.contents
        self._wants_overlay = DumpContent.OVERLAYS in self._contents

    def write(self, explained: ExplainedImage) -> tuple[str, ...]:
        """Render and write the pictures of one image; see :class:`~otx_xai.report.writer.Writer`."""
        size = limited_size(explained.placed.image_size, self._config.max_size)
        small = limited(explained.image, size) if self._wants_overlay else None
        return tuple(
            self._write_picture(name, picture)
            for number in range(len(explained.targets))
            for name, picture in self._render(explained, number, small)
        )

    def _render(
        self, explained: ExplainedImage, number: int, small: UInt8Array | None
    ) -> Iterator[tuple[str, UInt8Array]]:
        """Yield the pictures of one target by name; ``small``: of the image, to lay the map over."""
        config, placed, target = self._config, explained.placed, explained.targets[number]
        stem = f"{explained.info.stem}{self._target_part(target)}"
        laid = None
        if small is not None or config.postprocess:
            size = limited_size(placed.image_size, config.max_size)
            laid = placed.on_image(number, crop_padding=config.crop_padded_map, size=size)
        if DumpContent.MAPS in self._contents:
            shown = laid if config.postprocess and laid is not None else explained.maps[number]
            yield f"{stem}_saliency_map", to_uint8(shown)
        if small is not None and laid is not None:
            picture = overlay_of(explained, target, small, laid, config)
            yield f"{stem}_overlay", annotate(picture, caption(target), in_place=True, scale=config.colormap)

    def _target_part(self, target: Prediction) -> str:
        if target.target == PER_IMAGE_TARGET:
            return ""
        if target.target >= len(self._slugs):
            raise LabelError(
                f"Class {target.target} was explained, and there are {len(self._slugs)} labels. Expected one label a "
                "class: check the labels that were given, or those in the model's model_info."
            )
        box_part = "" if target.number is None else f"_box_{target.number}"
        return f"_class_{self._slugs[target.target]}{box_part}"

    def _write_picture(self, name: str, picture: UInt8Array) -> str:
        file = f"{MAP_FOLDER}/{name}.{self._config.image_format}"
        write_file(self._folder / file, encode(picture, self._config.image_format))
        return file
