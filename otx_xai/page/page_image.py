"""What the page shows of one image."""

from __future__ import annotations

from dataclasses import dataclass

from otx_xai.records import Size, UInt8Array


@dataclass(frozen=True, eq=False)
class PageMap:
    """A saliency map at the network's resolution.

    Args:
        target: class that it explains.
        box: number of the found box of this image that it explains; -1 of a class.
        grid: ``uint8`` ``(h, w)``: 0 is its smallest value, 255 its largest.
        low: smallest value before scaling.
        high: largest value.
        baseline: the grid is of the baseline model, not of the audited one.
    """

    target: int
    box: int
    grid: UInt8Array
    low: float
    high: float
    baseline: bool = False


@dataclass(frozen=True)
class PageBox:
    """A box of an image, annotated or found.

    Args:
        target: its class.
        xyxy: left, top, right, bottom as parts of the image's width and height, in [0, 1].
        score: in [0, 1]; ``None`` of an annotation.
        fault: what is wrong with it, such as ``missed`` or ``badly_placed``; empty where nothing is.
    """

    target: int
    xyxy: tuple[float, float, float, float]
    score: float | None = None
    fault: str = ""


@dataclass(frozen=True, eq=False)
class PageImage:
    """One image of an audit.

    Args:
        name: of the image; text, whatever it holds.
        size: ``(height, width)`` in pixels.
        link: path of the original, relative to the folder of the page, with ``/``; empty where there is none.
        case: ``right_sure``, ``right_unsure``, ``wrong``, ``torn``, ``unlabelled``, or a detector's ``faults`` or
            ``clean``.
        given: annotated classes.
        best: best classes with their scores in [0, 1], best first.
        findings: places of findings in ``content["findings"]`` that name this image.
        slices: places of groups in ``content["slices"]`` that this image is in.
        maps: of the predicted and the annotated class, of each box, and of a baseline.
        extent: left, top, right, bottom of what the maps cover, as parts of the image's width and height; beyond [0, 1]
            where maps reach over its edges.
        found: boxes of a detector.
        objects: annotated boxes.
        thumbnail: JPEG file, the image as a whole with its longer side of at most 160 pixels; ``None``: none.
        values: numbers by name that the page can sort and filter by, such as ``energy_in_object``.
    """

    name: str
    size: Size
    link: str = ""
    case: str = "unlabelled"
    given: tuple[int, ...] = ()
    best: tuple[tuple[int, float], ...] = ()
    findings: tuple[int, ...] = ()
    slices: tuple[int, ...] = ()
    maps: tuple[PageMap, ...] = ()
    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    found: tuple[PageBox, ...] = ()
    objects: tuple[PageBox, ...] = ()
    thumbnail: bytes | None = None
    values: tuple[tuple[str, float], ...] = ()
