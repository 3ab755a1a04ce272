"""Everything that a run leaves of its images: their lines in the journal, and the files that these list."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from otx_xai.records import ExplainConfig, ImageInfo
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.journal import JOURNAL, Journal, record, restore_order, take_up
from otx_xai.report.leftovers import remove_leftovers, set_journal_aside
from otx_xai.report.picture_writer import size_of_pictures
from otx_xai.report.staging import STAGING, clear_staging, publish
from otx_xai.report.writer import writers_of

logger = logging.getLogger("otx_xai")

Line = dict[str, Any]
"""One image in the journal."""


class Recorder(Protocol):
    """Keeps more of each image than the journal: the evidence of an audit. Its records are those of whole lines."""

    def take_up(self, lines: Sequence[Line]) -> None:
        """Note which lines of an earlier run stay, before it is opened."""

    def open(self) -> None:
        """Open, behind the records of the lines that stay."""

    def describe(self, explained: ExplainedImage) -> Any:
        """Make the record of an image; called from any thread."""

    def add(self, record: Any) -> dict[str, Any]:
        """Keep a record before its line is written; return entries of the line by which it is found again."""

    def close(self) -> None:
        """Close, after the last line."""


class Results:
    """The results of one run, in a folder that nobody else writes to.

    Args:
        work_dir: folder of the run, which exists.
        images: all images of the run, in order.
        labels: class names, in the order of classes.
        config: which files of an image to write; ``None``: none, and those of earlier runs stay.
        recorder: keeps more of each image.
        root: folder that the files of images go into; ``work_dir`` by default.
    """

    def __init__(
        self,
        work_dir: Path,
        images: Sequence[ImageInfo],
        labels: Sequence[str],
        config: ExplainConfig | None,
        recorder: Recorder | None = None,
        root: Path | None = None,
    ) -> None:
        self._work_dir = work_dir
        self._root = root or work_dir
        self._journal_file = work_dir / JOURNAL
        self._images = images
        self._config = config
        self._writers = writers_of(config, work_dir / STAGING, labels) if config is not None else ()
        self._recorder = recorder
        self._resumed = False
        self._records: dict[str, Any] = {}
        self._journal: Journal

    def take_up(self) -> list[Line]:
        """Keep what an unfinished run of the same settings has done, and return its lines.

        Raises:
            OutputError: the journal cannot be read or written, or is none.
        """
        images = self._images if self._recorder is None else map(_by_name, self._images)
        kept = take_up(self._journal_file, images, self._root)
        self._resumed = bool(kept)
        if self._recorder is not None:
            self._recorder.take_up(kept)
        return kept

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Begin behind the lines that were taken up, or anew, and take lines until the end of this context.

        Raises:
            OutputError: the journal cannot be written.
        """
        clear_staging(self._work_dir)
        if not self._resumed:
            set_journal_aside(self._journal_file)
        try:
            with Journal(self._journal_file, resume=self._resumed) as self._journal:
                if self._recorder is not None:
                    self._recorder.open()
                yield
        finally:
            if self._recorder is not None:
                self._recorder.close()
            clear_staging(self._work_dir)

    def write(self, explained: ExplainedImage, method: str) -> Line:
        """Write the files of one image, which wait until its line is added; to be called from any thread.

        Args:
            explained: the image and its results.
            method: what explained it.

        Returns:
            Its line.

        Raises:
            OutputError: a file cannot be written.
            LabelError: a target has no label.
        """
        files = [file for writer in self._writers for file in writer.write(explained)]
        if self._recorder is not None:
            self._records[explained.info.name] = self._recorder.describe(explained)
        shown = None if self._config is None else size_of_pictures(explained.placed.image_size, self._config)
        line = record(explained, files, method, shown)
        if self._recorder is not None:  # evidence is passed on, and does not tell where files lie
            line |= {"path": explained.info.name, "targets": []}
        return line

    def add(self, line: Line) -> None:
        """Add a line to the journal, and put its files in their places.

        A file is listed before it is there, so no run leaves one behind that nobody knows of.

        Raises:
            OutputError: the line or a file cannot be written.
        """
        if self._recorder is not None:
            line |= self._recorder.add(self._records.pop(line["name"]))
        self._journal.append(line)
        publish(self._work_dir, line["files"], self._root)

    def conclude(self, *, complete: bool) -> None:
        """Bring the lines into the order of the images, and remove what complete results do not list.

        Args:
            complete: no image is left.

        Raises:
            OutputError: the journal cannot be read or written.
        """
        if self._resumed:
            restore_order(self._journal_file, self._images)
        removed = remove_leftovers(self._journal_file, self._root) if complete and self._writers else 0
        if removed:
            logger.info("Removed %d files of an earlier run in this folder that this one has not written.", removed)


def _by_name(image: ImageInfo) -> ImageInfo:
    return ImageInfo(image.name, image.name, image.stem)
