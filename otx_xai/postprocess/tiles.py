"""Large images tile by tile: where tiles lie, and how what is found in each becomes one result over the image.

Tiles lie, and boxes are merged, as Model API does it for the IRs of OTX, so that what is explained is what such a model
predicts in use. Maps are merged otherwise: as a weighted mean that no order of tiles changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from otx_xai.postprocess.detections import boxes_on_image
from otx_xai.postprocess.geometry import Line, Span, cell_lines, place
from otx_xai.postprocess.overlaps import suppress
from otx_xai.postprocess.turned_boxes import suppress_turned
from otx_xai.records import Detections, FloatArray, InputGeometry, MapGrid, Size, Tiling, UInt8Array

Box = tuple[int, int, int, int]

WHOLE_WEIGHT = 0.5
"""Weight of the map of the whole image beside the mean of the tiles' maps, which has 1; Model API's proportion."""
MEMORY_LIMIT = 64 * 2**20
"""Bytes of the maps over an image; where they would need more, their cells become larger."""


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image.

    Args:
        image_size: ``(H, W)`` of the image.
        boxes: xyxy in whole pixels, row by row; where ``whole`` is set, the image itself comes first.
        whole: whether the image itself is inferred as well.
    """

    image_size: Size
    boxes: tuple[Box, ...]
    whole: bool

    def __len__(self) -> int:
        return len(self.boxes)


def tile_grid(image_size: Size, tiling: Tiling) -> TileGrid:
    """Lay tiles over an image: one at every ``tiling.step`` pixels from the top left corner, cut off at the far edges.

    An image no larger than a tile is not inferred a second time as a whole.
    """
    height, width = image_size
    boxes = tuple(
        (left, top, min(left + tiling.size, width), min(top + tiling.size, height))
        for top in range(0, height, tiling.step)
        for left in range(0, width, tiling.step)
    )
    image = (0, 0, width, height)
    whole = tiling.whole_image and boxes[0] != image
    return TileGrid(image_size, (image, *boxes) if whole else boxes, whole)


def cut_tile(image: UInt8Array, box: Box) -> UInt8Array:
    """Return the part of an image ``(H, W, 3)`` that a tile covers, as a view."""
    left, top, right, bottom = box
    return image[top:bottom, left:right]


def move_detections(found: Detections, box: Box, geometry: InputGeometry) -> Detections:
    """Bring what was found in a tile onto the image.

    Args:
        found: in pixels of the tile.
        box: the tile.
        geometry: how the tile was fitted into the network's input.

    Returns:
        The same on the image. Masks fill their ``mask_boxes``; those over the network's input get its box.
    """
    left, top, right, bottom = box
    shift = np.array([left, top, left, top], np.float32)
    mask_boxes = found.mask_boxes
    if mask_boxes is not None and not found.masks_fill_boxes:
        network = np.array([[0, 0, geometry.size[1], geometry.size[0]]], np.float32)
        mask_boxes = np.repeat(boxes_on_image(network, (bottom - top, right - left), geometry), len(found), axis=0)
    return replace(
        found,
        boxes=found.boxes + shift,
        turned=None if found.turned is None else found.turned + np.array([left, top, 0, 0, 0], np.float32),
        mask_boxes=None if mask_boxes is None else mask_boxes + shift,
        masks_fill_boxes=True,
    )


def merge_detections(parts: Sequence[Detections], *, iou_threshold: float, limit: int) -> Detections:
    """Join what was found in all tiles of an image: of every class the best of boxes that overlap.

    Turned boxes are compared as they are turned.

    Args:
        parts: one a tile, at least one, on the image.
        iou_threshold: overlap above which the lesser of two boxes of a class is dropped.
        limit: number of detections at most, the best ones.

    Returns:
        The detections, best first; of equal scores those of the first part come first.
    """
    boxes = np.concatenate([part.boxes for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    turned = _joined([part.turned for part in parts])
    if turned is None:
        kept = suppress(boxes, labels, scores, iou_threshold=iou_threshold)[:limit]
    else:
        kept = suppress_turned(turned, labels, scores, iou_threshold=iou_threshold)[:limit]
    merged = Detections(boxes[kept], labels[kept], scores[kept], turned=None if turned is None else turned[kept])
    if parts[0].masks is None:
        return merged
    masks = [mask for part in parts if part.masks is not None for mask in part.masks]
    mask_boxes = _joined([part.mask_boxes for part in parts])
    return replace(
        merged,
        masks=np.stack([masks[i] for i in kept]) if len(kept) else parts[0].masks[:0],
        mask_boxes=None if mask_boxes is None else mask_boxes[kept],
    )


def _joined(arrays: Sequence[FloatArray | None]) -> FloatArray | None:
    """Join arrays of all tiles, which all have one or none has."""
    told = [array for array in arrays if array is not None]
    return np.concatenate(told) if told else None


class Mosaic:
    """Maps over an image, of the maps of its tiles.

    Where tiles overlap, each counts by the distance of the place from the tile's nearest vertical edge times that from
    its nearest horizontal one: towards its rim a tile sees less of what is around. The map of the whole image is added
    with :data:`WHOLE_WEIGHT`. The cells are those of a tile's map, as long as all maps fit into :data:`MEMORY_LIMIT`.
    Memory does not depend on the number of tiles.

    Args:
        grid: the tiles.
        geometry: how each was fitted into the network's input.
        map_grid: where the places of their maps lie in the input; by default they divide it evenly.
    """

    def __init__(self, grid: TileGrid, geometry: InputGeometry, map_grid: MapGrid | None = None) -> None:
        self._grid = grid
        self._geometry = geometry
        self._map_grid = map_grid
        self._total: FloatArray | None = None
        self._weight: FloatArray = np.zeros((0, 0), np.float32)
        self._whole: FloatArray | None = None

    def add(self, number: int, maps: FloatArray) -> None:
        """Add the maps of a tile.

        Args:
            number: of the tile in the grid, each once.
            maps: ``float32`` ``(K, h, w)`` over the network's input; values of all tiles must mean the same.
        """
        if self._grid.whole and number == 0:
            self._whole = maps
            return
        if self._total is None:
            size = self._cells(maps.shape)
            self._total = np.zeros((len(maps), *size), np.float32)
            self._weight = np.zeros(size, np.float32)
        rows, columns, laid, (weight_y, weight_x) = self._laid(maps, self._grid.boxes[number], self._weight.shape)
        weight = np.outer(weight_y, weight_x)
        self._total[:, rows, columns] += laid * weight
        self._weight[rows, columns] += weight

    def maps(self) -> FloatArray:
        """Return the maps over the image, ``float32`` ``(K, h', w')``, unscaled. What no tile saw is 0.

        Raises:
            ValueError: no tile was added.
        """
        if self._total is None:
            raise ValueError("These maps have no tiles; expected those of at least one.")
        seen = self._weight > 0
        mean: FloatArray = np.divide(self._total, self._weight, out=np.zeros_like(self._total), where=seen)
        if self._whole is None:
            return mean
        rows, columns, laid, _ = self._laid(self._whole, self._grid.boxes[0], self._weight.shape)
        mean[:, rows, columns] += WHOLE_WEIGHT * laid
        weight = seen.astype(np.float32)
        weight[rows, columns] += WHOLE_WEIGHT
        mean /= np.where(weight > 0, weight, 1)
        return mean

    def _cells(self, shape: tuple[int, ...]) -> Size:
        """Return how many cells maps over the image have, by the maps ``(K, h, w)`` of the first tile."""
        left, top, right, bottom = self._grid.boxes[int(self._grid.whole)]
        placement = place((bottom - top, right - left), self._geometry)
        lines = cell_lines((shape[1], shape[2]), self._geometry.size, self._map_grid)
        sides = [
            length * scale / step
            for length, scale, (_, step) in zip(self._grid.image_size, placement.scale, lines, strict=True)
        ]
        shrink = min(1.0, (MEMORY_LIMIT / (4 * shape[0] * sides[0] * sides[1])) ** 0.5)
        height, width = (
            int(np.clip(round(side * shrink), 1, length))
            for side, length in zip(sides, self._grid.image_size, strict=True)
        )
        return height, width

    def _laid(
        self, maps: FloatArray, box: Box, size: tuple[int, ...]
    ) -> tuple[slice, slice, FloatArray, tuple[FloatArray, FloatArray]]:
        """Lay the maps of a tile over the image: its rows and columns of cells, their values, and weights by axis."""
        left, top, right, bottom = box
        placement = place((bottom - top, right - left), self._geometry)
        height, width = self._grid.image_size
        line_y, line_x = cell_lines((maps.shape[1], maps.shape[2]), self._geometry.size, self._map_grid)
        rows, look_y, weight_y = _axis(height, size[0], top, placement.y, maps.shape[1], line_y)
        columns, look_x, weight_x = _axis(width, size[1], left, placement.x, maps.shape[2], line_x)
        laid: FloatArray = look_y @ maps.astype(np.float32, copy=False) @ look_x.T
        return rows, columns, laid, (weight_y, weight_x)


def _axis(
    length: int, cells: int, first: int, span: Span, map_cells: int, line: Line
) -> tuple[slice, FloatArray, FloatArray]:
    """Lay one axis of a tile over the image.

    Args:
        length: pixels of the image.
        cells: those of the maps over the image.
        first: pixel of the image at which the tile begins.
        span: how the tile was fitted into the network's input.
        map_cells: those of the tile's map.
        line: where these lie in the input.

    Returns:
        The cells of the image whose centres the network saw in this tile; the matrix of bilinear weights (these cells,
        cells of the tile's map); the distance of each centre from the nearest end of what was seen.
    """
    centres = (np.arange(cells) + 0.5) * (length / cells)
    begin = first + span.seen[0]
    end = begin + span.seen[1]
    inside = slice(int(np.searchsorted(centres, begin)), int(np.searchsorted(centres, end, side="right")))
    centres = centres[inside]
    start, step = line
    on_map = np.clip(((centres - first) * span.scale + span.offset - start) / step, 0, map_cells - 1)
    look = np.maximum(0, 1 - np.abs(on_map[:, np.newaxis] - np.arange(map_cells)))
    # Half a pixel keeps a centre that lies on the end from counting nothing where no other tile covers it
    distance = np.minimum(centres - begin, end - centres) + 0.5
    return inside, look.astype(np.float32), distance.astype(np.float32)
