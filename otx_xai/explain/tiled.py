"""One large image, explained tile by tile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from otx_xai.explain.box_choice import choose_boxes, find_boxes
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import Choice
from otx_xai.postprocess import fit
from otx_xai.postprocess.tiles import Mosaic, cut_tile, merge_detections, move_detections, tile_grid
from otx_xai.records import SALIENCY_MAP, Detections, FloatArray, InputGeometry, Method, Size, Tiling, UInt8Array

SourceT = TypeVar("SourceT")
ReadT = TypeVar("ReadT")


def read_ahead(
    sources: Iterable[SourceT], read: Callable[[SourceT], ReadT]
) -> Generator[tuple[SourceT, Future[ReadT]], None, None]:
    """Read images one after the other in a thread, each while the tiles of the one before are inferred.

    Args:
        sources: one an image.
        read: reads an image; what it raises is the future's.

    Yields:
        Each source with what is read of it, when the reading of the next one has been ordered.
    """
    with ThreadPoolExecutor(1, "otx_xai") as pool:
        ordered: deque[tuple[SourceT, Future[ReadT]]] = deque()
        for source in sources:
            ordered.append((source, pool.submit(read, source)))
            if len(ordered) > 1:
                yield ordered.popleft()
        while ordered:
            yield ordered.popleft()


class TiledImage:
    """Gathers what a model says of the tiles of one image.

    Tiles may be added by any thread and in any order; they are merged in the order of the grid, so the result does not
    depend on it. Maps are held until all tiles before theirs have come, boxes and masks until the last one has.

    Args:
        plan: a model that finds boxes, with maps that the graph has not scaled.
        tiling: how it wants images to be tiled.
        image_size: ``(height, width)`` of the image.
    """

    def __init__(self, plan: Plan, tiling: Tiling, image_size: Size) -> None:
        self.grid = tile_grid(image_size, tiling)
        self.geometry = InputGeometry(image_size)
        """What the maps lie over: the image itself, not the network's input."""
        self._plan = plan
        self._tiling = tiling
        self._lock = Lock()
        self._found: list[Detections] = []
        self._mosaic = Mosaic(self.grid, plan.facts.geometry, plan.grid)
        self._shape: tuple[int, ...] = ()
        self._waiting: dict[int, tuple[Detections, FloatArray]] = {}

    def tensor(self, image: UInt8Array, number: int) -> UInt8Array:
        """Return what the network is fed of tile ``number`` of the image, ``uint8`` ``(h, w, 3)``."""
        return fit(cut_tile(image, self.grid.boxes[number]), self._plan.facts.geometry)

    def add(self, number: int, outputs: Mapping[str, NDArray[Any]]) -> bool:
        """Add what the model says of a tile.

        Args:
            number: of the tile in the grid, each once.
            outputs: all outputs of the model, name → array, with the batch axis where it gives one.

        Returns:
            Whether this was the last tile that was missing.

        Raises:
            ModelError, LabelError, ImageError: as :func:`~otx_xai.explain.box_choice.find_boxes` says.
        """
        left, top, right, bottom = box = self.grid.boxes[number]
        facts = self._plan.facts
        assert self._plan.boxes is not None
        found = find_boxes(outputs, (bottom - top, right - left), facts, self._plan.boxes)
        maps = self._comparable(np.asarray(outputs[SALIENCY_MAP], np.float32), found)
        found = move_detections(found, box, facts.geometry)
        with self._lock:
            self._waiting[number] = found, maps
            while len(self._found) in self._waiting:
                found, maps = self._waiting.pop(len(self._found))
                self._mosaic.add(len(self._found), maps.reshape(-1, *maps.shape[-2:]))
                self._shape = maps.shape[:-2]
                self._found.append(found)
            return len(self._found) == len(self.grid)

    def choose(self) -> Choice:
        """Choose what is explained, and merge its maps, once all tiles have come.

        Raises:
            ImageError: the maps are not finite.
        """
        plan, facts = self._plan, self._plan.facts
        found = merge_detections(self._found, iou_threshold=facts.iou_threshold, limit=self._tiling.max_predictions)
        maps = self._mosaic.maps()
        return choose_boxes(
            {SALIENCY_MAP: maps.reshape(*self._shape, *maps.shape[1:])},
            found,
            facts.labels,
            plan.wanted,
            placed=(self.grid.image_size, self.geometry),
            first_label=facts.first_label,
            scaled=plan.scaled,
        )

    def _comparable(self, maps: FloatArray, found: Detections) -> FloatArray:
        """Turn the mean of a tile's masks into their sum: a mask counts the same, however many others its tile has."""
        if self._plan.method != Method.INSTSEGEXPLAINALGO.value:
            return maps
        counts = np.bincount(found.labels, minlength=len(self._plan.facts.labels))
        indices = self._plan.wanted.indices
        if indices is not None and maps.shape[-3] < len(counts):
            counts = counts[list(indices)]
        return maps * counts[:, np.newaxis, np.newaxis].astype(np.float32)
