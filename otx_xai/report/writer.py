"""What a run writes of each image: the protocol of writers, and those that a content asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from otx_xai.records import DumpContent, ExplainConfig
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.numbers_writer import NumbersWriter
from otx_xai.report.picture_writer import PictureWriter
from otx_xai.report.sheet_writer import LARGEST_TILE, SheetWriter


class Writer(Protocol):
    """Writes files of explained images, whatever model they come from, into a folder that nobody reads yet.

    Any number of threads may write different images at once.
    """

    def write(self, explained: ExplainedImage) -> tuple[str, ...]:
        """Write the files of one image.

        Args:
            explained: the image, its targets and maps.

        Returns:
            The files, relative to that folder, with ``/``.

        Raises:
            OutputError: a file cannot be written.
            LabelError: a target has no label.
        """


def writers_of(config: ExplainConfig, folder: Path, labels: Sequence[str]) -> tuple[Writer, ...]:
    """Return the writers of what is asked for.

    Args:
        config: what to write.
        folder: where to.
        labels: class names, in the order of classes.
    """
    asked = config.contents
    return tuple(make(config, folder, labels) for words, make in _WRITERS if not asked.isdisjoint(words))


def needed_side(config: ExplainConfig) -> int | None:
    """Return how long the longer side of an image must be for its pictures; 0: all of it, ``None``: none is drawn."""
    if DumpContent.OVERLAYS in config.contents:
        return config.max_size
    return LARGEST_TILE if DumpContent.SHEET in config.contents else None


_WRITERS: tuple[tuple[set[DumpContent], Callable[[ExplainConfig, Path, Sequence[str]], Writer]], ...] = (
    ({DumpContent.MAPS, DumpContent.OVERLAYS}, lambda config, folder, labels: PictureWriter(folder, labels, config)),
    ({DumpContent.SHEET}, lambda config, folder, _: SheetWriter(folder, config)),
    ({DumpContent.NPZ}, lambda _, folder, __: NumbersWriter(folder)),
)
"""Words of a content, and the writer that they call for; files of an image are written in this order."""
