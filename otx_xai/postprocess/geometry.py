"""Between an image and the network's input: the fit on the way in, and its exact inverse for maps on the way out.

Coordinates are continuous: pixel ``i`` of an axis covers ``[i, i + 1]`` and has its centre at ``i + 0.5``. The four
resize types are those of Model API and OTX; see :class:`otx_xai.records.ResizeType`. Before any of them a central part
of the image can be cut out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from otx_xai.postprocess.resizing import Box, cropped_box, resized
from otx_xai.records import FloatArray, InputGeometry, Interpolation, MapGrid, ResizeType, Size, UInt8Array

Line = tuple[float, float]
"""Where the cells of a map lie along one axis of the input: centre of the first, and step to the next, in pixels."""


@dataclass(frozen=True)
class Span:
    """One axis of a placement: the pixels of the image that are seen, and the pixels of the input they become.

    Args:
        image: length of the image.
        seen: first pixel of the image that the network sees, and their number.
        covered: first pixel of the input that the image covers, and their number.
        input: length of the input.
    """

    image: int
    seen: tuple[int, int]
    covered: tuple[int, int]
    input: int

    @property
    def scale(self) -> float:
        """Pixels of the input a pixel of the image."""
        return self.covered[1] / self.seen[1]

    @property
    def offset(self) -> float:
        """Where coordinate 0 of the image lies in the input; negative where the image is cropped."""
        return self.covered[0] - self.seen[0] * self.scale


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input: per axis, ``input = scale * image + offset``.

    Sizes are whole pixels, so the two scales differ slightly even where the aspect ratio is kept.

    Args:
        y: the vertical axis.
        x: the horizontal axis.
    """

    y: Span
    x: Span

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input a pixel of the image, ``(vertical, horizontal)``."""
        return self.y.scale, self.x.scale

    @property
    def offset(self) -> tuple[float, float]:
        """Where the image's top left corner lies in the input, ``(vertical, horizontal)``, in pixels."""
        return self.y.offset, self.x.offset


def place(image_size: Size, geometry: InputGeometry) -> Placement:
    """Find where an image of ``image_size`` lies in the network's input.

    Args:
        image_size: ``(H, W)`` of the image, both at least 1.
        geometry: the network's input and its resize type.

    Returns:
        The placement. The image keeps at least one row and one column, however extreme its aspect ratio.
    """
    if geometry.crop < 1:
        return _cropped(image_size, geometry)
    (height, width), (input_height, input_width) = image_size, geometry.size
    match geometry.resize_type:
        case ResizeType.STANDARD:
            return _stretched(image_size, geometry.size)
        case ResizeType.CROP:
            seen_height, seen_width = height, width
            if width * input_height > height * input_width:
                seen_width = max(1, height * input_width // input_height)
            else:
                seen_height = max(1, width * input_height // input_width)
            return Placement(
                Span(height, ((height - seen_height) // 2, seen_height), (0, input_height), input_height),
                Span(width, ((width - seen_width) // 2, seen_width), (0, input_width), input_width),
            )
        case ResizeType.FIT_TO_WINDOW | ResizeType.FIT_TO_WINDOW_LETTERBOX:
            scale = min(input_height / height, input_width / width)
            new_height = min(max(1, round(height * scale)), input_height)
            new_width = min(max(1, round(width * scale)), input_width)
            top = left = 0
            if geometry.resize_type is ResizeType.FIT_TO_WINDOW_LETTERBOX:
                top, left = (input_height - new_height) // 2, (input_width - new_width) // 2
            return Placement(
                Span(height, (0, height), (top, new_height), input_height),
                Span(width, (0, width), (left, new_width), input_width),
            )


def _cropped(image_size: Size, geometry: InputGeometry) -> Placement:
    """Place the central part of an image that ``geometry.crop`` keeps, as if it were the image."""
    height, width = (max(1, round(length * geometry.crop)) for length in image_size)
    inner = place((height, width), replace(geometry, crop=1.0))
    return Placement(_widened(inner.y, image_size[0]), _widened(inner.x, image_size[1]))


def _widened(span: Span, length: int) -> Span:
    """Return the placement of an axis of which the middle is seen; halves are rounded as torchvision rounds them."""
    seen = span.seen[1]
    return replace(span, image=length, seen=(round((length - seen) / 2), seen))


def _stretched(image_size: Size, input_size: Size) -> Placement:
    (height, width), (input_height, input_width) = image_size, input_size
    return Placement(
        Span(height, (0, height), (0, input_height), input_height),
        Span(width, (0, width), (0, input_width), input_width),
    )


def fit(image: UInt8Array, geometry: InputGeometry, reduced: int = 1) -> UInt8Array:
    """Fit an image into the network's input: crop, resize, pad.

    Args:
        image: ``uint8`` ``(H, W, C)``.
        geometry: the network's input, its crop, resize type, interpolation and padding.
        reduced: how much smaller ``image`` is than the original, which is the one that is fitted in, with a filter that
            averages.

    Returns:
        ``uint8`` ``(h, w, C)``, contiguous; ``image`` itself where it already fits.
    """
    image_size = image.shape[0] * reduced, image.shape[1] * reduced
    placement = place(image_size, geometry)
    (top, seen_height), (left, seen_width) = placement.y.seen, placement.x.seen
    seen = image[top : top + seen_height, left : left + seen_width]
    box: Box = (left, top, left + seen_width, top + seen_height)
    (top, new_height), (left, new_width) = placement.y.covered, placement.x.covered
    if geometry.interpolation is not Interpolation.LINEAR:
        edges = [edge / reduced for edge in cropped_box(image_size, geometry) or box]
        seen = resized(image, (edges[0], edges[1], edges[2], edges[3]), (new_height, new_width), geometry.interpolation)
    elif (seen_height, seen_width) != (new_height, new_width):
        seen = cv2.resize(seen, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    if (new_height, new_width) == geometry.size:
        return np.ascontiguousarray(seen)
    fitted = np.full((*geometry.size, *image.shape[2:]), geometry.pad_value, np.uint8)
    fitted[top : top + new_height, left : left + new_width] = seen
    return fitted


def spare_size(image_size: Size, geometry: InputGeometry) -> float:
    """Return how much smaller an image may be before it is fitted in, without a change that counts.

    A filter that averages over the pixels that become one does not see whether some of them were averaged before, as
    long as three are left each way. On photographs of 12 megapixels (``benchmarks/decoding.py``) the
    input then differs by 0.2 grey levels on average, and 99.9 % of its values by 2 at most.

    Args:
        image_size: ``(H, W)`` of the image.
        geometry: the network's input. Filters that look at single pixels, such as OpenCV's ``linear``, and ``box``,
            whose window moves by whole pixels, spare nothing.

    Returns:
        A number; 1 or less where the image is needed as it is.
    """
    if not spares_size(geometry):
        return 1.0
    return 1 / (_LEFT * max(place(image_size, geometry).scale))


def spares_size(geometry: InputGeometry) -> bool:
    """Whether there are images that may be smaller before they are fitted in; see :func:`spare_size`."""
    return geometry.interpolation in _AVERAGING


_AVERAGING = (Interpolation.BILINEAR, Interpolation.HAMMING, Interpolation.BICUBIC, Interpolation.LANCZOS)
_LEFT = 3
"""Pixels of a smaller image, each way, that become one of the input at least."""


def to_image(
    maps: FloatArray,
    image_size: Size,
    geometry: InputGeometry,
    *,
    crop_padding: bool = True,
    grid: MapGrid | None = None,
    size: Size | None = None,
) -> FloatArray:
    """Bring maps from the network's input back onto the image: the one resize of maps in this package.

    The centre of every pixel of the image is looked up in the map, bilinearly between the centres of the map's cells;
    beyond the outermost centres the map is constant. For ``standard`` and an even grid this is what ``cv2.resize``
    computes with ``INTER_LINEAR``. Values are not scaled: maps in [0, 1] stay there, but for the last digit.

    Args:
        maps: ``float32`` ``(M, h, w)``, each over the whole of the network's input, of any resolution.
        image_size: ``(H, W)`` of the image.
        geometry: how the image was fitted into the input.
        crop_padding: cut off the part of a map that lies over padding, and leave out pixels that were cropped off.
            Else the whole map is stretched over the image.
        grid: where the centres of the map's cells lie in the network's input; by default the cells divide the input
            evenly.
        size: ``(height, width)`` of a smaller or larger picture of the image, whose pixels are looked up instead.

    Returns:
        ``float32`` ``(M, H, W)``. Pixels of the image that the network never saw are 0.
    """
    placement = place(image_size, geometry) if crop_padding else _stretched(image_size, geometry.size)
    count, map_height, map_width = maps.shape
    line_y, line_x = cell_lines((map_height, map_width), geometry.size, grid)
    height, width = size or image_size
    weights_y = _weights(placement.y, map_height, line_y, height)
    weights_x = _weights(placement.x, map_width, line_x, width)
    # cv2.gemm rather than @: it lets other Python threads run, and starts none of its own.
    result = np.empty((count, height, width), np.float32)
    for single, on_image in zip(maps.astype(np.float32, copy=False), result, strict=True):
        rows = cv2.gemm(np.ascontiguousarray(single), weights_x, 1, None, 0, flags=cv2.GEMM_2_T)
        cv2.gemm(weights_y, rows, 1, None, 0, dst=on_image)
    return result


def cell_lines(map_size: Size, input_size: Size, grid: MapGrid | None = None) -> tuple[Line, Line]:
    """Say where the cells of a map lie in the network's input.

    Args:
        map_size: rows and columns of the map.
        input_size: ``(height, width)`` of the input.
        grid: where its places lie; by default its cells divide the input evenly.

    Returns:
        Of the vertical and the horizontal axis the centre of the first cell and the step to the next, in pixels.
    """
    if grid is not None:
        return (grid.start[0], grid.step[0]), (grid.start[1], grid.step[1])
    step_y, step_x = (length / cells for length, cells in zip(input_size, map_size, strict=True))
    return (step_y / 2, step_y), (step_x / 2, step_x)


@lru_cache(maxsize=32)
def _weights(span: Span, cells: int, line: Line, length: int) -> FloatArray:
    """Return the matrix ``(length, cells of the map)`` of bilinear weights along one axis of a picture of the image."""
    pixels = np.arange(length)
    on_image = (pixels + 0.5) * (span.image / length)
    centres = on_image * span.scale + span.offset
    start, step = line
    positions = np.clip((centres - start) / step, 0, cells - 1)
    lower = np.minimum(positions.astype(np.intp), max(cells - 2, 0))
    fraction = positions - lower
    weights = np.zeros((length, cells), np.float32)
    weights[pixels, lower] = 1 - fraction
    if cells > 1:
        weights[pixels, lower + 1] = fraction
    first, number = span.seen
    weights[(on_image < first) | (on_image > first + number)] = 0
    weights.flags.writeable = False
    return weights
