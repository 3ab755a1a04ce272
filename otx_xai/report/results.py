"""Everything that a run leaves of its images: their lines in the journal, and the files that these list."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otx_xai.records import ExplainConfig, ImageInfo
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.journal import JOURNAL, Journal, record, restore_order, take_up
from otx_xai.report.leftovers import remove_leftovers, set_journal_aside
from otx_xai.report.staging import STAGING, clear_staging, publish
from otx_xai.report.writer import writers_of

logger = logging.getLogger("otx_xai")

Line = dict[str, Any]
"""One image in the journal."""


class Results:
    """The results of one run, in a folder that nobody else writes to.

    Args:
        work_dir: folder of the run, which exists.
        images: all images of the run, in order.
        labels: class names, in the order of classes.
        config: which files of an image to write; ``None``: none, and those of earlier runs stay.
    """

    def __init__(
        self, work_dir: Path, images: Sequence[ImageInfo], labels: Sequence[str], config: ExplainConfig | None
    ) -> None:
        self._work_dir = work_dir
        self._journal_file = work_dir / JOURNAL
        self._images = images
        self._writers = writers_of(config, work_dir / STAGING, labels) if config is not None else ()
        self._resumed = False
        self._journal: Journal

    def take_up(self) -> list[Line]:
        """Keep what an unfinished run of the same settings has done, and return its lines.

        Raises:
            OutputError: the journal cannot be read or written, or is none.
        """
        kept = take_up(self._journal_file, self._images)
        self._resumed = bool(kept)
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
                yield
        finally:
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
        return record(explained, files, method)

    def add(self, line: Line) -> None:
        """Add a line to the journal, and put its files in their places.

        A file is listed before it is there, so no run leaves one behind that nobody knows of.

        Raises:
            OutputError: the line or a file cannot be written.
        """
        self._journal.append(line)
        publish(self._work_dir, line["files"])

    def conclude(self, *, complete: bool) -> None:
        """Bring the lines into the order of the images, and remove what complete results do not list.

        Args:
            complete: no image is left.

        Raises:
            OutputError: the journal cannot be read or written.
        """
        if self._resumed:
            restore_order(self._journal_file, self._images)
        removed = remove_leftovers(self._journal_file) if complete and self._writers else 0
        if removed:
            logger.info("Removed %d files of an earlier run in this folder that this one has not written.", removed)
