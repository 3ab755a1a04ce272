"""The journal of a run: one line of JSON an image, which outlives a killed process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

from otx_xai.errors import OutputError
from otx_xai.records import ImageInfo, Prediction, Size
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.files import unwritable_text, utf8, write_atomic
from otx_xai.report.leftovers import set_aside
from otx_xai.storage import Url, read_bytes
from otx_xai.storage.json_text import parse_json

JOURNAL = "predictions.jsonl"
"""File in the folder of a run."""


class Journal:
    """A file of JSON lines, one an image, whole lines only; to be used from one thread, and closed.

    Args:
        path: the file, ``predictions.jsonl``. Folders are created as needed.
        resume: continue an existing file behind its last whole line, instead of replacing it.

    Raises:
        OutputError: the file cannot be written, or is no journal that could be continued.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if resume and self._path.exists():
                os.truncate(self._path, _whole_lines(self._path)[1])
            self._file = open(self._path, "ab" if resume else "wb")  # noqa: SIM115
        except OSError as error:
            raise OutputError(unwritable_text(self._path, error)) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record as one line, at once.

        Args:
            record: what :mod:`json` can write.

        Raises:
            OutputError: the line cannot be written.
        """
        line = as_line(record)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise OutputError(unwritable_text(self._path, error)) from error

    def close(self) -> None:
        """Close the file; closing again does nothing.

        Raises:
            OutputError: what is left of it cannot be written; the file is closed none the less.
        """
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(unwritable_text(self._path, error)) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: str | Path | Url) -> list[dict[str, Any]]:
    """Read the records of a journal; a torn last line, as a killed run leaves it, is left out.

    Returns:
        One record a whole line, in order; none where there is no file.

    Raises:
        OutputError: the file cannot be read, or a line other than the last is no JSON object.
    """
    try:
        return _records(path, BytesIO(read_bytes(path)))[0] if isinstance(path, Url) else _whole_lines(Path(path))[0]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"The journal {str(path)!r} cannot be read: {error.strerror}. Check its rights.") from error


def each_record(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal on this machine one by one; see :func:`read_journal`."""
    try:
        with open(path, "rb") as file:
            for entry, _ in _entries(path, file):
                yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"The journal {str(path)!r} cannot be read: {error.strerror}. Check its rights.") from error


def take_up(
    path: str | Path, images: Iterable[ImageInfo], is_whole: Callable[[Mapping[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Keep of a journal what a run that goes on need not do again.

    Args:
        path: the file, in the folder of the run; it is rewritten if something has to go, and the files of what goes
            are noted (see :mod:`otx_xai.report.leftovers`).
        images: all images of the run.
        is_whole: whether all files are there that a record lists, and not empty.

    Returns:
        The records of those images that are still asked for, and whose pictures are there and not empty.

    Raises:
        OutputError: the file cannot be read or written, or is no journal.
    """
    records = read_journal(path)
    wanted = {image.name: image.file for image in images}
    folder = os.path.dirname(path)
    kept = {entry["name"]: entry for entry in records if wanted.get(entry["name"]) == entry["path"] and is_whole(entry)}
    if len(kept) != len(records):
        set_aside(Path(folder), (entry for entry in records if kept.get(entry["name"]) is not entry))
        _rewrite(path, kept.values())
    return list(kept.values())


def restore_order(path: str | Path, images: Iterable[ImageInfo]) -> None:
    """Bring a journal into the order of the images, which images that failed at first have left.

    Args:
        path: the file.
        images: all that it has records of, in their order.

    Raises:
        OutputError: the file cannot be read or written, or is no journal.
    """
    place = {image.name: i for i, image in enumerate(images)}
    records = read_journal(path)
    in_order = sorted(records, key=lambda entry: place[entry["name"]])
    if in_order != records:
        _rewrite(path, in_order)


def record(
    explained: ExplainedImage, files: Iterable[str], method: str, picture_size: Size | None = None
) -> dict[str, object]:
    """Describe the results of one image for the journal.

    Args:
        explained: the image and its results.
        files: what was written, relative to the folder of the run.
        method: what explained it.
        picture_size: ``(height, width)`` of its maps and overlays, where they are smaller than the image.

    Returns:
        A dict that :mod:`json` can write: ``path``, ``name``, ``size`` ``[h, w]``, ``predictions`` and ``targets``
        (each ``{target, label, score}``, of a box also ``box`` ``[x1, y1, x2, y2]`` in pixels of the image), ``files``,
        ``method``, ``seconds``, and ``picture_size`` and ``warnings`` where there are any.
    """
    line: dict[str, object] = {
        "path": explained.info.file,
        "name": explained.info.name,
        "size": list(explained.placed.image_size),
        "predictions": [_plain(prediction) for prediction in explained.predictions],
        "targets": [_plain(target) for target in explained.targets],
        "files": list(files),
        "method": str(method),
        "seconds": round(float(explained.seconds), 6),
    }
    if picture_size is not None:
        line["picture_size"] = list(picture_size)
    if explained.warnings:
        line["warnings"] = list(explained.warnings)
    return line


def _plain(prediction: Prediction) -> dict[str, object]:
    plain: dict[str, object] = {
        "target": int(prediction.target),
        "label": str(prediction.label),
        "score": float(prediction.score),
    }
    if prediction.box is not None:
        plain["box"] = [round(float(side), 2) for side in prediction.box]
    return plain


def _rewrite(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    write_atomic(path, b"".join(map(as_line, records)))


def as_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as the line of a file of JSON lines."""
    return utf8(json.dumps(record, ensure_ascii=False) + "\n")


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of the whole lines, and the number of bytes that these lines take."""
    with open(path, "rb") as file:
        return _records(path, file)


def _records(path: str | Path | Url, file: Iterable[bytes]) -> tuple[list[dict[str, Any]], int]:
    records: list[dict[str, Any]] = []
    size = 0
    for entry, length in _entries(path, file):
        records.append(entry)
        size += length
    return records, size


def _entries(path: str | Path | Url, file: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the record of each whole line, and the bytes that it takes."""
    lines = iter(file)
    for number, line in enumerate(lines, 1):
        entry = _parse(line)
        if entry is not None:
            yield entry, len(line)
        elif next(lines, None) is not None:
            raise OutputError(
                f"Line {number} of the journal {str(path)!r} is broken: {line[:40]!r} is no JSON object. Expected "
                "one object a line; only the last one may be torn. Remove the line, or start a new run."
            )


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object of a whole line, or ``None``."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
