"""The evidence of an audit on disk: records of fixed size beside the journal of a run, appended image by image.

::

    evidence/
        predictions.jsonl   the journal: a line an image, whose ``row`` is the number of its record
        run.json            what the run was told, and how far it came
        layout.json         what a record holds
        images.bin          a record an image
        maps.bin            a record a map
        boxes.bin           a record a box that was found
        thumbnails.bin      JPEG files, one behind the other
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.evidence_table import NO_CLASS
from otx_xai.audit.image_looks import LEAST_SIDE, LOOKS, looked_at, looks_of, thumbnail
from otx_xai.errors import OutputError
from otx_xai.postprocess import to_uint8
from otx_xai.records import FloatArray, IntArray, Size, UInt8Array
from otx_xai.report.explained import ExplainedImage
from otx_xai.report.files import write_json
from otx_xai.storage.json_text import parse_json

LAYOUT = "layout.json"
MOST_CLASSES = 10
"""Best classes of an image that are kept, of exclusive ones."""
FILES = ("images", "maps", "boxes", "thumbnails")

_MOST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Kept:
    """What is kept of each image.

    Args:
        given: name of an image → classes that annotations give it.
        classes: number of classes of a classifier; 0 of a detector.
        multilabel: classes are independent: the scores of all are kept, and the maps of those from ``threshold``.
        threshold: score from which a class of these counts.
        thumbnails: small pictures of the images.
        at_most: number of classes that an image is given at most, where ``given`` fills while images are read.
    """

    given: Mapping[str, Sequence[int]]
    classes: int
    multilabel: bool = False
    threshold: float = 0.5
    thumbnails: bool = True
    at_most: int = 0

    @property
    def best(self) -> int:
        """Number of best classes whose scores are kept."""
        return self.classes if self.multilabel else min(self.classes, MOST_CLASSES)

    @cached_property
    def most_given(self) -> int:
        """Number of classes that annotations give an image at most, and at least 1."""
        return self.at_most or max((len(classes) for classes in self.given.values()), default=1) or 1


@dataclass(frozen=True, eq=False)
class _Described:
    """One image, on its way to the files."""

    fields: dict[str, Any]
    features: FloatArray
    targets: IntArray
    numbers: IntArray
    grids: UInt8Array
    ranges: FloatArray
    boxes: tuple[IntArray, FloatArray, FloatArray]
    thumbnail: bytes


@dataclass(frozen=True)
class Layout:
    """The types of the records.

    Args:
        best: number of best classes.
        given: number of annotated classes.
        features: length of a feature vector.
        grid: ``(h, w)`` of a map; ``None`` as long as there is none.
    """

    best: int
    given: int
    features: int
    grid: Size | None = None

    @cached_property
    def image(self) -> np.dtype[Any]:
        """Type of a record of an image: ``*_end`` count the records of other files up to and with this image."""
        return np.dtype(
            [
                ("size", "<i4", (2,)),
                ("best", "<i4", (self.best,)),
                ("best_scores", "<f4", (self.best,)),
                ("given_scores", "<f4", (self.given,)),
                ("features", "<f2", (self.features,)),
                ("looks", "<f4", (len(LOOKS),)),
                ("maps_end", "<i8"),
                ("boxes_end", "<i8"),
                ("thumbnails_end", "<i8"),
            ]
        )

    @cached_property
    def map(self) -> np.dtype[Any]:
        """Type of a record of a map."""
        grid = self.grid or (0, 0)
        return np.dtype([("target", "<i4"), ("number", "<i4"), ("range", "<f4", (2,)), ("grid", "u1", grid)])

    @cached_property
    def box(self) -> np.dtype[Any]:
        """Type of a record of a box."""
        return np.dtype([("target", "<i4"), ("score", "<f4"), ("xyxy", "<f4", (4,))])

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """Read it back.

        Raises:
            OutputError: there is none, or it is none.
        """
        try:
            content = parse_json((folder / LAYOUT).read_bytes())
            best, given, features = (int(content[name]) for name in ("best", "given", "features"))
            grid = content["grid"]
            return cls(best, given, features, None if grid is None else (int(grid[0]), int(grid[1])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"The evidence in {folder} cannot be read: {LAYOUT} is missing or broken ({error}). Run the audit anew "
                "in another --work_dir."
            ) from error

    def write(self, folder: Path) -> None:
        """Write it.

        Raises:
            OutputError: it cannot be written.
        """
        write_json(folder / LAYOUT, asdict(self))


class EvidenceFiles:
    """Writes the evidence of a run; a :class:`~otx_xai.report.results.Recorder`.

    A record is written before the line of its image, so that every line has one. What a killed run leaves behind the
    last line is cut off.

    Args:
        folder: of the run, which exists.
        kept: what is kept of each image.
    """

    def __init__(self, folder: Path, kept: Kept) -> None:
        self._folder, self._kept = folder, kept
        self._rows = 0
        self._ends: dict[str, int] = {}
        self._layout: Layout | None = None
        self._stack = ExitStack()
        self._files: dict[str, IO[bytes]] = {}

    @property
    def least_side(self) -> int:
        """See :class:`~otx_xai.report.results.Recorder`."""
        return LEAST_SIDE

    def take_up(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Keep the records of these lines."""
        self._rows = 1 + max((int(line["row"]) for line in lines), default=-1)

    def open(self) -> None:
        """Open the files, cut behind the records that stay.

        Raises:
            OutputError: they cannot be written, or what is there is broken.
        """
        self._ends = dict.fromkeys(FILES[1:], 0)
        self._layout = Layout.read(self._folder) if self._rows else None
        sizes = dict.fromkeys(FILES, 0)
        if self._layout is not None:
            last = self._record(self._layout, self._rows - 1)
            self._ends = {name: int(last[f"{name}_end"]) for name in FILES[1:]}
            units = (self._layout.map.itemsize, self._layout.box.itemsize, 1)
            sizes = {"images": self._rows * self._layout.image.itemsize}
            sizes |= {name: self._ends[name] * unit for name, unit in zip(FILES[1:], units, strict=True)}
        for name, size in sizes.items():
            self._files[name] = self._stack.enter_context(self._opened(self._folder / f"{name}.bin", size))

    def close(self) -> None:
        """Close the files; closing again does nothing.

        Raises:
            OutputError: what is left cannot be written; the files are closed none the less.
        """
        try:
            self._stack.close()
        except OSError as error:
            raise _unwritable(self._folder, error) from error

    def describe(self, explained: ExplainedImage) -> _Described:
        """Make the record of an image; safe in threads."""
        answer, kept = explained.answer, self._kept
        given = list(kept.given.get(explained.info.name, ()))[: kept.most_given]
        scores = np.zeros(0, np.float32) if answer is None else answer.scores
        best = _best(scores, kept.best)
        padded = np.full(kept.most_given, np.nan, np.float32)
        padded[: len(given)] = scores[given] if len(scores) else np.nan
        look = looked_at(explained.image)
        fields = {
            "size": explained.placed.image_size,
            "best": best,
            "best_scores": scores[best],
            "given_scores": padded,
            "looks": looks_of(look),
        }
        rows = self._wanted_maps(explained, given)
        targets = [explained.targets[row] for row in rows]
        grids = to_uint8(explained.maps[rows])
        ranges = np.tile(np.array([0, 1], np.float32), (len(rows), 1)) if answer is None else answer.ranges[rows]
        return _Described(
            fields,
            np.zeros(0, np.float32) if answer is None else answer.features,
            np.array([target.target for target in targets], np.int64),
            np.array([NO_CLASS if target.number is None else target.number for target in targets], np.int64),
            grids,
            np.asarray(ranges, np.float32),
            _boxes(explained),
            thumbnail(look) if kept.thumbnails else b"",
        )

    def add(self, record: _Described) -> dict[str, Any]:
        """Append a record, and return the entry ``row`` of its line.

        Raises:
            OutputError: it cannot be written.
        """
        layout = self._laid_out(record)
        maps, boxes = _map_records(record, layout), _box_records(record, layout)
        self._append("thumbnails", record.thumbnail, len(record.thumbnail))
        self._append("maps", maps.tobytes(), len(maps))
        self._append("boxes", boxes.tobytes(), len(boxes))
        entry = np.zeros((), layout.image)
        for name, value in record.fields.items():
            entry[name] = value
        entry["features"] = np.clip(record.features, -_MOST, _MOST)
        for name, end in self._ends.items():
            entry[f"{name}_end"] = end
        self._append("images", entry.tobytes(), 0)
        self._rows += 1
        return {"row": self._rows - 1}

    def _laid_out(self, record: _Described) -> Layout:
        """Return the layout, which the first image and the first map decide."""
        layout = self._layout or Layout(self._kept.best, self._kept.most_given, len(record.features))
        if layout.grid is None and len(record.grids):
            layout = replace(layout, grid=(record.grids.shape[1], record.grids.shape[2]))
        if layout is not self._layout:
            layout.write(self._folder)
            self._layout = layout
        return layout

    def _wanted_maps(self, explained: ExplainedImage, given: Sequence[int]) -> list[int]:
        """Return which maps are kept: of boxes all, of classes those that the image has, or is said to have."""
        answer, kept = explained.answer, self._kept
        if answer is None:
            return list(range(len(explained.targets)))
        wanted = {int(answer.scores.argmax()), *given}
        if kept.multilabel:
            wanted |= set(np.flatnonzero(answer.scores >= kept.threshold).tolist())
        return [row for row, target in enumerate(explained.targets) if target.target in wanted]

    def _append(self, name: str, data: bytes, count: int) -> None:
        if not data:
            return
        try:
            self._files[name].write(data)
            self._files[name].flush()
        except OSError as error:
            raise _unwritable(self._folder / f"{name}.bin", error) from error
        if name in self._ends:
            self._ends[name] += count

    def _record(self, layout: Layout, row: int) -> Any:
        try:
            with open(self._folder / "images.bin", "rb") as file:
                file.seek(row * layout.image.itemsize)
                return np.frombuffer(file.read(layout.image.itemsize), layout.image)[0]
        except (OSError, ValueError, IndexError) as error:
            raise self._too_short(str(error)) from error

    def _opened(self, path: Path, size: int) -> IO[bytes]:
        try:
            there = os.stat(path).st_size if path.exists() else 0
            if there < size:  # to cut it there would fill it up with zeros
                raise self._too_short(f"{path.name} has {there} bytes, the journal tells of {size}")
            file = open(path, "ab" if size else "wb")  # noqa: SIM115 - closed by the stack
            if size:
                os.truncate(path, size)
        except OSError as error:
            raise _unwritable(path, error) from error
        return file

    def _too_short(self, reason: str) -> OutputError:
        return OutputError(
            f"The evidence in {self._folder} is shorter than its journal ({reason}). Run the audit anew in another "
            "--work_dir, or remove this folder."
        )


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The evidence {str(path)!r} cannot be written: {error.strerror}. Expected a folder with enough space that can "
        "be written to."
    )


def _best(scores: FloatArray, count: int) -> IntArray:
    """Return the classes of the best scores, best first, of equal ones the first; those of NaN last."""
    if count < len(scores):
        lowest = np.partition(scores, -count)[-count:].min()
        if np.isfinite(lowest):
            among = np.flatnonzero(scores >= lowest)
            return np.asarray(among[np.argsort(-scores[among], kind="stable")][:count])
    return np.asarray(np.argsort(-scores, kind="stable")[:count])


def _map_records(record: _Described, layout: Layout) -> NDArray[Any]:
    records = np.zeros(len(record.grids), layout.map)
    records["target"], records["number"], records["range"] = record.targets, record.numbers, record.ranges
    for own, grid in zip(records, record.grids, strict=True):
        assert layout.grid is not None
        same = grid.shape == layout.grid
        own["grid"] = grid if same else cv2.resize(grid, layout.grid[::-1], interpolation=cv2.INTER_AREA)
    return records


def _box_records(record: _Described, layout: Layout) -> NDArray[Any]:
    targets, scores, xyxy = record.boxes
    records = np.zeros(len(targets), layout.box)
    records["target"], records["score"], records["xyxy"] = targets, scores, xyxy
    return records


def _boxes(explained: ExplainedImage) -> tuple[IntArray, FloatArray, FloatArray]:
    found = [prediction for prediction in explained.predictions if prediction.box is not None]
    return (
        np.array([box.target for box in found], np.int64),
        np.array([box.score for box in found], np.float32),
        np.array([box.box for box in found], np.float32).reshape(-1, 4),
    )
