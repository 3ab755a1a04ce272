"""Where the cells of a map lie: over boxes, over the image, and in pixels of the network's input.

A map's cell is a rectangle around the place that it looks at, as wide as the step to the next place, so the cells of a
map divide what they cover without gap or overlap. Areas are exact, not counted in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from otx_xai.postprocess.geometry import Line, Span, cell_lines, place
from otx_xai.records import BoolArray, Doubles, FloatArray, InputGeometry, IntArray, MapGrid, Size, UInt8Array


def inside(
    boxes_xyxy: ArrayLike, image_size: Size, geometry: InputGeometry, grid: MapGrid | None, cells: Size
) -> FloatArray:
    """Return which part of each cell lies within boxes.

    Boxes that overlap count once. What lies beyond the image, was cropped off, or has no area counts as nothing.

    Args:
        boxes_xyxy: ``(B, 4)`` in pixels of the image; those with a number that is not finite are left out.
        image_size: ``(H, W)`` of the image.
        geometry: how it lies in the network's input.
        grid: where the places of the map lie in the input; ``None``: they divide it evenly.
        cells: ``(h, w)`` of the map.

    Returns:
        ``float32`` ``(h, w)`` in [0, 1], of the area of each cell.
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    placement = place(image_size, geometry)
    left, right = _placed(boxes[:, 0], placement.x), _placed(boxes[:, 2], placement.x)
    top, bottom = _placed(boxes[:, 1], placement.y), _placed(boxes[:, 3], placement.y)
    kept = (right > left) & (bottom > top)  # false of NaN
    if not kept.any():
        return np.zeros(cells, np.float32)
    left, right, top, bottom = left[kept], right[kept], top[kept], bottom[kept]
    line_y, line_x = cell_lines(cells, geometry.size, grid)
    if len(left) == 1:  # by far the most frequent, and several times as fast
        rows, columns = np.stack([top, bottom], axis=1), np.stack([left, right], axis=1)
        return (_shares(line_y, cells[0], rows) * _shares(line_x, cells[1], columns).T).astype(np.float32)
    rows, columns = _strips(top, bottom), _strips(left, right)
    covered = _within(rows, top, bottom).T @ _within(columns, left, right) > 0
    return (_shares(line_y, cells[0], rows) @ covered @ _shares(line_x, cells[1], columns).T).astype(np.float32)


def seen(image_size: Size, geometry: InputGeometry, grid: MapGrid | None, cells: Size) -> FloatArray:
    """Return which part of each cell lies over the image, rather than over padding or beyond the input.

    Args:
        image_size: ``(H, W)`` of the image.
        geometry: how it lies in the network's input.
        grid: where the places of the map lie in the input; ``None``: they divide it evenly.
        cells: ``(h, w)`` of the map.

    Returns:
        ``float32`` ``(h, w)`` in [0, 1].
    """
    height, width = image_size
    return inside([[0, 0, width, height]], image_size, geometry, grid, cells)


def seen_each(sizes: IntArray, geometry: InputGeometry, grid: MapGrid | None, cells: Size) -> FloatArray:
    """Return :func:`seen` of many images; those that cover the same of the input are reckoned once.

    Args:
        sizes: ``(H, W)`` of the images, ``int64`` ``(N, 2)``.
        geometry: how they lie in the network's input.
        grid: where the places of the map lie in the input; ``None``: they divide it evenly.
        cells: ``(h, w)`` of the map.

    Returns:
        ``float32`` ``(N, h, w)`` in [0, 1].
    """
    first: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
    known: list[FloatArray] = []
    which = np.zeros(len(sizes), np.int64)
    for row, (height, width) in enumerate(sizes.tolist()):
        placement = place((height, width), geometry)
        key = placement.y.covered, placement.x.covered
        if key not in first:
            first[key] = len(known)
            known.append(seen((height, width), geometry, grid, cells))
        which[row] = first[key]
    return np.stack(known)[which] if known else np.zeros((0, *cells), np.float32)


def extent(
    image_size: Size, geometry: InputGeometry, grid: MapGrid | None, cells: Size
) -> tuple[float, float, float, float]:
    """Return the rectangle that the cells of a map divide evenly, in parts of the image.

    Args:
        image_size: ``(H, W)`` of the image.
        geometry: how it lies in the network's input.
        grid: where the places of the map lie in the input; ``None``: they divide it evenly.
        cells: ``(h, w)`` of the map.

    Returns:
        Left, top, right and bottom: 0 is the image's left or top edge, 1 its right or bottom one. They exceed [0, 1]
        where the map reaches over padding or beyond the input, and lie within where the image was cropped.
    """
    placement = place(image_size, geometry)
    line_y, line_x = cell_lines(cells, geometry.size, grid)
    top, bottom = (_part(edge, placement.y) for edge in _ends(line_y, cells[0]))
    left, right = (_part(edge, placement.x) for edge in _ends(line_x, cells[1]))
    return left, top, right, bottom


def cell_rectangle(
    row: int, column: int, geometry: InputGeometry, grid: MapGrid | None, cells: Size
) -> tuple[int, int, int, int]:
    """Return the pixels of the network's input whose centres lie in a cell.

    Args:
        row: of the cell.
        column: of the cell.
        geometry: of the network's input.
        grid: where the places of the map lie in the input; ``None``: they divide it evenly.
        cells: ``(h, w)`` of the map.

    Returns:
        First row, row after the last, first column, column after the last: ``image[top:bottom, left:right]``. Empty
        where the cell lies beyond the input.
    """
    lines = cell_lines(cells, geometry.size, grid)
    (top, bottom), (left, right) = (
        _pixels(line, number, length) for line, number, length in zip(lines, (row, column), geometry.size, strict=True)
    )
    return top, bottom, left, right


def cells_to_input(chosen: BoolArray, geometry: InputGeometry, grid: MapGrid | None) -> BoolArray:
    """Return the pixels of the network's input whose centres lie in one of the chosen cells.

    Args:
        chosen: of the cells of a map, ``(h, w)``.
        geometry: of the network's input.
        grid: where the places of the map lie in the input; ``None``: they divide it evenly.

    Returns:
        ``(height, width)`` of the input. What lies beyond the outermost cells is not chosen.
    """
    height, width = chosen.shape
    lines = cell_lines((height, width), geometry.size, grid)
    mask = chosen
    for axis, (line, length) in enumerate(zip(lines, geometry.size, strict=True)):
        spans = [_pixels(line, number, length) for number in range(chosen.shape[axis])]
        before, after = spans[0][0], length - spans[-1][1]
        mask = np.repeat(mask, [end - start for start, end in spans], axis=axis)
        mask = np.pad(mask, [(before, after) if side == axis else (0, 0) for side in range(2)])
    return mask


def centres(sizes: IntArray, geometry: InputGeometry, grid: MapGrid | None, cells: Size) -> tuple[Doubles, Doubles]:
    """Return where the centres of the cells of maps lie in their images.

    Args:
        sizes: ``(H, W)`` of the image of each map, ``int64`` ``(M, 2)``.
        geometry: how the images lie in the network's input.
        grid: where the places of the maps lie in the input; ``None``: they divide it evenly.
        cells: ``(h, w)`` of the maps.

    Returns:
        ``float64`` ``(M, h)`` of the rows and ``(M, w)`` of the columns, in pixels of the image; beyond it where they
        lie over padding.
    """
    lines = cell_lines(cells, geometry.size, grid)
    rows, columns = (
        (line[0] + line[1] * np.arange(number) - offset) / scale
        for line, number, (scale, offset, _, _) in zip(lines, cells, _axes(sizes, geometry), strict=True)
    )
    return rows, columns


def looked_up(
    maps: UInt8Array,
    sizes: IntArray,
    geometry: InputGeometry,
    grid: MapGrid | None,
    points: tuple[Doubles, Doubles],
) -> tuple[FloatArray, BoolArray]:
    """Look maps up at places of their images, so that maps of other grids or another fit can be compared.

    Args:
        maps: ``uint8`` ``(M, h, w)``.
        sizes: ``(H, W)`` of the image of each, ``int64`` ``(M, 2)``.
        geometry: how the images lie in the network's input.
        grid: where the places of the maps lie in the input; ``None``: they divide it evenly.
        points: rows ``(M, P)`` and columns ``(M, Q)`` in pixels of the images, see :func:`centres`.

    Returns:
        ``float32`` ``(M, P, Q)`` in [0, 255], as :func:`~otx_xai.postprocess.geometry.to_image` has them at these
        places; and which of these places the network sees, ``(M, P, Q)``.
    """
    lines = cell_lines((maps.shape[1], maps.shape[2]), geometry.size, grid)
    values, seen_along = maps.astype(np.float32), []
    for axis, (line, wanted, placed) in enumerate(zip(lines, points, _axes(sizes, geometry), strict=True), 1):
        scale, offset, first, number = placed
        on_input = wanted * scale + offset
        seen_along.append((on_input >= first) & (on_input < first + number))
        values = _between(values, (on_input - line[0]) / line[1], axis)
    return values, seen_along[0][:, :, None] & seen_along[1][:, None, :]


def _axes(sizes: IntArray, geometry: InputGeometry) -> list[Doubles]:
    """Return of each axis scale, offset, first covered pixel and their number of many images, ``(4, M, 1)``."""
    placements = [place((height, width), geometry) for height, width in sizes.tolist()]
    both = [one.y for one in placements], [one.x for one in placements]
    tables = [np.array([(span.scale, span.offset, *span.covered) for span in spans]).reshape(-1, 4) for spans in both]
    return [table.T[:, :, None] for table in tables]


def _between(maps: FloatArray, positions: Doubles, axis: int) -> FloatArray:
    """Interpolate maps along an axis at positions in cells, ``(M, P)``; beyond the outermost they are constant."""
    cells = maps.shape[axis]
    inner = np.clip(positions, 0, cells - 1)
    lower = np.minimum(inner.astype(np.intp), max(cells - 2, 0))
    part = (inner - lower).astype(np.float32)
    new = 2 if axis == 1 else 1
    lower, part = np.expand_dims(lower, new), np.expand_dims(part, new)
    below = np.take_along_axis(maps, lower, axis)
    above = np.take_along_axis(maps, np.minimum(lower + 1, cells - 1), axis)
    return below + part * (above - below)


def _placed(edges: Doubles, span: Span) -> Doubles:
    """Return coordinates of the image in the input, moved to the nearest that the image covers."""
    first, number = span.covered
    placed: Doubles = np.minimum(np.maximum(edges * span.scale + span.offset, first), first + number)
    return placed  # np.clip takes longer for so few numbers


def _strips(starts: Doubles, ends: Doubles) -> Doubles:
    """Return the strips that the edges of boxes cut an axis into, ``(S, 2)``."""
    edges = np.unique(np.concatenate([starts, ends]))
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _within(strips: Doubles, starts: Doubles, ends: Doubles) -> FloatArray:
    """Return which boxes cover which strips, ``float32`` ``(B, S)``."""
    covers = (strips[:, 0] >= starts[:, None]) & (strips[:, 1] <= ends[:, None])
    return covers.astype(np.float32)


def _shares(line: Line, cells: int, strips: Doubles) -> Doubles:
    """Return which part of each cell each strip fills along one axis, ``(cells, S)``."""
    start, step = line
    lower = start + step * (np.arange(cells)[:, None] - 0.5)
    overlap: Doubles = np.minimum(lower + step, strips[:, 1]) - np.maximum(lower, strips[:, 0])
    shares: Doubles = np.maximum(overlap, 0) / step
    return shares


def _ends(line: Line, cells: int) -> tuple[float, float]:
    start, step = line
    return start - step / 2, start + step * (cells - 0.5)


def _part(edge: float, span: Span) -> float:
    return (edge - span.offset) / span.scale / span.image


def _pixels(line: Line, number: int, length: int) -> tuple[int, int]:
    """Return the first pixel whose centre lies in a cell, and the one after the last."""
    start, step = line
    edges = np.ceil(np.round(start + step * (np.array([number, number + 1]) - 0.5) - 0.5, 9))
    first, end = np.clip(edges, 0, length).astype(int).tolist()
    return first, end
