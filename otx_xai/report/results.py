"""Everything that a run leaves of its images: their lines in the journal, and the files that these list."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from otx_xai.counting import counted
from otx_xai.errors import OutputError
from otx_xai.records import ExplainConfig, ImageInfo
from otx_xai.report.depots import Depot, FolderDepot
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.journal import JOURNAL, Journal, as_line, record, restore_order, take_up
from otx_xai.report.leftovers import remove_leftovers, set_aside, set_journal_aside
from otx_xai.report.picture_writer import size_of_pictures
from otx_xai.report.shelves import Line, PlainShelf, Shelf
from otx_xai.report.staging import STAGING, clear_staging
from otx_xai.report.tar_shelf import Packing, TarShelf, clear_packing
from otx_xai.report.writer import writers_of
from otx_xai.storage import Place, Url

if TYPE_CHECKING:
    from otx_xai.report.stored_journal import StoredJournal

logger = logging.getLogger("otx_xai")

SEGMENT_LINES = 512
"""Lines that a run in a store puts at once, where its files are not packed."""


class Recorder(Protocol):
    """Keeps more of each image than the journal: the evidence of an audit. Its records are those of whole lines."""

    @property
    def least_side(self) -> int:
        """Pixels that the longer side of an image has at least, where it may be decoded smaller than it is."""

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
        work_dir: folder of the run, which exists, on this machine or in a store.
        images: all images of the run, in order.
        labels: class names, in the order of classes.
        config: which files of an image to write; ``None``: none, and those of earlier runs stay.
        recorder: keeps more of each image.
        root: folder that the files of images go into; ``work_dir`` by default.
        packing: which images share a tar file; by default each file lies by itself.
    """

    def __init__(
        self,
        work_dir: Place,
        images: Sequence[ImageInfo],
        labels: Sequence[str],
        config: ExplainConfig | None,
        recorder: Recorder | None = None,
        root: Place | None = None,
        packing: Packing | None = None,
    ) -> None:
        self._stored = _stored_journal(work_dir, root, packing) if isinstance(work_dir, Url) else None
        self._folder = self._stored.folder if self._stored is not None else Path(str(work_dir))
        self._depot: Depot = (
            self._stored.depot if self._stored is not None else FolderDepot(Path(str(root or work_dir)))
        )
        staging = self._folder / STAGING
        self._shelf: Shelf = PlainShelf(self._depot, staging)
        if packing is not None and config is not None:
            self._shelf = TarShelf(self._depot, self._folder, staging, images, packing)
        self._journal_file = self._folder / JOURNAL
        self._images = images
        self._config = config
        self._writers = writers_of(config, staging, labels) if config is not None else ()
        self._recorder = recorder
        self._resumed = self._is_pulled = False
        self._records: dict[str, Any] = {}
        self._journal: Journal

    def take_up(self) -> list[Line]:
        """Keep what an unfinished run of the same settings has done, and return its lines.

        Raises:
            OutputError: the journal cannot be read or written, or is none.
        """
        self._pull()
        images = self._images if self._recorder is None else map(_by_name, self._images)
        kept = take_up(self._journal_file, images, self._shelf.has)
        self._resumed = bool(kept)
        self._shelf.take_up(kept)
        if self._recorder is not None:
            self._recorder.take_up(kept)
        return kept

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Begin behind the lines that were taken up, or anew, and take lines until the end of this context.

        Raises:
            OutputError: the journal or a file cannot be written.
        """
        self._pull()
        clear_staging(self._folder)
        if not self._resumed:
            clear_packing(self._folder)
            set_journal_aside(self._journal_file)
            set_aside(self._folder, [{"files": self._shelf.packs()}])
        try:
            with Journal(self._journal_file, resume=self._resumed) as self._journal:
                if self._stored is not None:
                    self._stored.begin(anew=not self._resumed)
                if self._recorder is not None:
                    self._recorder.open()
                yield
                self._settle()
        except OutputError:
            raise
        except Exception:
            with suppress(OutputError):  # what led here is worse
                self._settle()
            raise
        finally:
            if self._recorder is not None:
                self._recorder.close()
            if self._stored is not None:
                self._stored.close()
            clear_staging(self._folder)

    def write(self, explained: ExplainedImage, method: str) -> Line:
        """Write the files of one image, which wait until its line is added; to be called from any thread.

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
        files = line["files"]
        line |= self._shelf.describe(line)
        self._journal.append(line)
        self._shelf.put(line, files)
        if self._stored is not None and self._stored.add(as_line(line)):
            self._shelf.settle()
            self._stored.put_segment()

    def conclude(self, *, complete: bool) -> None:
        """Bring the lines into the order of the images, and remove what complete results do not list.

        Args:
            complete: no image is left.

        Raises:
            OutputError: the journal cannot be read or written.
        """
        if self._resumed:
            restore_order(self._journal_file, self._images)
        clear_packing(self._folder)
        removed = remove_leftovers(self._journal_file, self._depot) if complete and self._writers else 0
        if self._stored is not None:
            self._stored.conclude()
        if removed:
            files = counted(removed, "file")
            logger.info("Removed %s of an earlier run in this folder that this one has not written.", files)

    def _pull(self) -> None:
        """Fetch what an earlier run has left in the store, once."""
        if self._stored is not None and not self._is_pulled:
            self._stored.pull()
        self._is_pulled = True

    def _settle(self) -> None:
        """Let everything be in its place that has a line."""
        self._shelf.settle()
        if self._stored is not None:
            self._stored.put_segment()
            self._stored.wait()


def _stored_journal(url: Url, root: Place | None, packing: Packing | None) -> StoredJournal:
    from otx_xai.report.stored_journal import StoredJournal

    most = SEGMENT_LINES if packing is None else packing.size
    files_go_to = root if isinstance(root, Url) else url
    return StoredJournal(url, JOURNAL, files_first=packing is not None, most=most, root=files_go_to)


def _by_name(image: ImageInfo) -> ImageInfo:
    return ImageInfo(image.name, image.name, image.stem)
