"""Reads the evidence of an audit back, in columns; what is large stays on disk as memory maps."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.evidence_files import Layout
from otx_xai.audit.evidence_table import NO_CLASS, BoxTable, Evidence, MapTable, no_maps
from otx_xai.audit.image_looks import LOOKS
from otx_xai.errors import OutputError
from otx_xai.records import InputGeometry, IntArray, MapGrid, Task
from otx_xai.report.journal import JOURNAL, each_record


@dataclass(frozen=True)
class Setting:
    """What the records of a run stand in.

    Args:
        task: of the model.
        labels: class names.
        multilabel: classes are independent.
        geometry: how images lie in the network's input.
        grid: where the places of maps lie in the input; ``None``: they divide it evenly.
    """

    task: Task
    labels: tuple[str, ...]
    multilabel: bool
    geometry: InputGeometry
    grid: MapGrid | None


@dataclass(frozen=True, eq=False)
class Stored:
    """The files of a run of evidence, opened.

    Args:
        folder: of the run.
        names: of the images, in the order of the data.
        rows: of their records, ``int64`` ``(N,)``.
        layout: types of the records.
        images: a record an image, ``(R,)``, in the order in which they were written.
        maps: a record a map.
        boxes: a record a box.
    """

    folder: Path
    names: tuple[str, ...]
    rows: IntArray
    layout: Layout
    images: NDArray[Any]
    maps: NDArray[Any]
    boxes: NDArray[Any]

    def thumbnails(self) -> Iterator[bytes]:
        """Yield the JPEG file of each image; empty where there is none."""
        ends = self.images["thumbnails_end"][self.rows]
        with open(self.folder / "thumbnails.bin", "rb") as file:
            for end, size in zip(ends.tolist(), self.thumbnail_sizes().tolist(), strict=True):
                file.seek(end - size)
                yield file.read(size)

    def thumbnail_sizes(self) -> IntArray:
        """Return the bytes of the JPEG file of each image."""
        ends = np.asarray(self.images["thumbnails_end"], np.int64)
        return np.diff(ends, prepend=0)[self.rows]

    def spans(self, name: str) -> tuple[IntArray, IntArray]:
        """Return which records of another file each image has: the image of each, ``(M,)``, and its row, ``(M,)``."""
        ends = np.asarray(self.images[f"{name}_end"], np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[self.rows]
        counts = ends[self.rows] - starts
        image = np.repeat(np.arange(len(self.rows)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        return image, np.arange(len(image)) - first + np.repeat(starts, counts)


def open_stored(folder: Path) -> Stored:
    """Open the files of a run.

    Raises:
        OutputError: they are missing or broken.
    """
    return open_records(folder, each_record(folder / JOURNAL))


def open_records(folder: Path, lines: Iterable[Mapping[str, Any]]) -> Stored:
    """Open the records that lines tell of.

    Args:
        folder: of the records.
        lines: of a journal; nothing is kept of them but the name and the row of each.

    Raises:
        OutputError: they are missing or broken.
    """
    names: list[str] = []
    numbers = array("q")
    try:
        for line in lines:
            names.append(str(line["name"]))
            numbers.append(int(line["row"]))
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"The journal of {folder} is that of no audit: a line has no row ({error}).") from error
    rows = np.array(numbers, np.int64)
    layout = Layout.read(folder) if names else Layout(0, 1, 0)
    images = _mapped(folder / "images.bin", layout.image)
    if len(rows) and int(rows.max()) >= len(images):
        raise OutputError(f"The evidence in {folder} is shorter than its journal. Run the audit anew.")
    maps = _mapped(folder / "maps.bin", layout.map)
    return Stored(folder, tuple(names), rows, layout, images, maps, _mapped(folder / "boxes.bin", layout.box))


def read_evidence(
    stored: Stored,
    setting: Setting,
    given: Mapping[str, Sequence[int]],
    objects: BoxTable | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> Evidence:
    """Make the columns of the evidence of a run.

    Args:
        stored: its files.
        setting: what they stand in.
        given: name of an image → classes that annotations give it.
        objects: annotated boxes by image, in the order of ``stored.names``.
        metadata: name → a text an image, in this order.
    """
    records = _taken(stored.images, stored.rows)
    columns = np.full((len(stored.names), stored.layout.given), NO_CLASS, np.int64)
    for row, name in zip(columns, stored.names, strict=True):
        classes = list(given.get(name, ()))[: len(row)]
        row[: len(classes)] = classes
    looks = np.asarray(records["looks"], np.float32)
    is_classifier = setting.task.is_classification
    return Evidence(
        setting.task,
        setting.labels,
        setting.multilabel,
        setting.geometry,
        setting.grid,
        stored.names,
        np.asarray(records["size"], np.int64),
        np.asarray(records["best"], np.int64),
        np.asarray(records["best_scores"], np.float32),
        columns,
        np.asarray(records["given_scores"], np.float32),
        records["features"],
        {name: looks[:, i] for i, name in enumerate(LOOKS)},
        metadata or {},
        objects,
        None if is_classifier else _found(stored),
        _maps(stored, is_classifier=is_classifier),
    )


def with_more_maps(evidence: Evidence, more: Evidence) -> Evidence:
    """Return evidence with the maps of classes that a second look at some of its images has added.

    Args:
        evidence: of all images.
        more: of some of them, by name, of the same model.
    """
    places = {name: i for i, name in enumerate(evidence.names)}
    own, added = evidence.maps, more.maps
    keys = set(zip(own.image.tolist(), own.target.tolist(), strict=True))
    image = np.array([places[more.names[i]] for i in added.image.tolist()], np.int64)
    pairs = zip(image.tolist(), added.target.tolist(), strict=True)
    new = np.array([pair not in keys for pair in pairs], bool)
    if not new.any():
        return evidence
    images = np.concatenate([own.image, image[new]])
    order = np.argsort(images, kind="stable")
    maps = MapTable(
        images[order],
        np.concatenate([own.target, added.target[new]])[order],
        np.concatenate([own.box, added.box[new]])[order],
        np.concatenate([own.grids, added.grids[new]])[order],
        np.concatenate([own.ranges, added.ranges[new]])[order],
    )
    return replace(evidence, maps=maps)


def _maps(stored: Stored, *, is_classifier: bool) -> MapTable:
    if stored.layout.grid is None:
        return no_maps((1, 1))
    image, rows = stored.spans("maps")
    records = _taken(stored.maps, rows)
    numbers = np.asarray(records["number"], np.int64)
    box = np.full(len(image), -1, np.int64)
    if not is_classifier:
        boxes_image, _ = stored.spans("boxes")
        first = np.searchsorted(boxes_image, image)
        box = np.where(numbers < 0, -1, first + numbers)
    return MapTable(
        image,
        np.asarray(records["target"], np.int64),
        box,
        records["grid"],
        np.asarray(records["range"], np.float32),
    )


def _found(stored: Stored) -> BoxTable:
    image, rows = stored.spans("boxes")
    records = _taken(stored.boxes, rows)
    return BoxTable(
        image,
        np.asarray(records["target"], np.int64),
        np.asarray(records["xyxy"], np.float32),
        np.asarray(records["score"], np.float32),
    )


def _taken(records: NDArray[Any], rows: IntArray) -> NDArray[Any]:
    """Return some records in this order: a view of those on disk where they are the first ones in their order."""
    in_order = len(rows) <= len(records) and bool((rows == np.arange(len(rows))).all())
    return records[: len(rows)] if in_order else records[rows]


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the whole records of a file as a memory map; none where there is no file, or nothing in it."""
    try:
        count = path.stat().st_size // dtype.itemsize
        if not count:
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, "r", shape=(count,))
    except FileNotFoundError:
        return np.zeros(0, dtype)
    except OSError as error:
        raise OutputError(f"The evidence {str(path)!r} cannot be read: {error.strerror}. Check its rights.") from error
