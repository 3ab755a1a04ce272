"""What the page shows of each image, streamed out of the evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from otx_xai.audit.cells import centres, extent, looked_up
from otx_xai.audit.evidence_table import NO_CLASS, BoxTable, Evidence
from otx_xai.audit.findings import Finding
from otx_xai.page.page_image import PageBox, PageImage, PageMap
from otx_xai.records import FloatArray, IntArray

_SHOWN_CLASSES = 5


@dataclass(frozen=True, eq=False)
class Shown:
    """What is known of the images beside their evidence.

    Args:
        cases: a word an image.
        findings: in the order of the page.
        links: path of the original of each image, relative to the page; empty where there is none.
        values: name → a number an image, NaN where there is none.
        found_faults: row of a found box → what is wrong with it.
        object_faults: row of an annotated box → likewise.
        baseline: evidence of the baseline.
        least_box: score from which a found box is shown.
        slices: rows of the images of each group in ``content["slices"]``.
    """

    cases: Sequence[str]
    findings: Sequence[Finding] = ()
    links: Sequence[str] = ()
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    found_faults: Mapping[int, str] = field(default_factory=dict)
    object_faults: Mapping[int, str] = field(default_factory=dict)
    baseline: Evidence | None = None
    least_box: float = 0.0
    slices: Sequence[IntArray] = ()


def page_images(evidence: Evidence, shown: Shown, thumbnails: Iterable[bytes] | None) -> Iterator[PageImage]:
    """Yield what the page shows of each image.

    Args:
        evidence: of the images.
        shown: what is known beside it.
        thumbnails: a JPEG file an image, empty where there is none; ``None``: no pixels are shown.
    """
    named: dict[str, list[int]] = {}
    for number, finding in enumerate(shown.findings):
        for name in finding.images:
            named.setdefault(name, []).append(number)
    groups: list[list[int]] = [[] for _ in evidence.names]
    for number, rows in enumerate(shown.slices):
        for row in rows.tolist():
            groups[row].append(number)
    cells = evidence.maps.grids.shape[1], evidence.maps.grids.shape[2]
    pictures = iter(thumbnails) if thumbnails is not None else None
    others = {} if shown.baseline is None else {name: i for i, name in enumerate(shown.baseline.names)}
    for i, name in enumerate(evidence.names):
        size = int(evidence.sizes[i, 0]), int(evidence.sizes[i, 1])
        best = zip(evidence.best[i].tolist(), evidence.best_scores[i].tolist(), strict=True)
        yield PageImage(
            name,
            size,
            link=shown.links[i] if shown.links else "",
            case=str(shown.cases[i]),
            given=tuple(target for target in evidence.given[i].tolist() if target != NO_CLASS),
            best=tuple((target, score) for target, score in best if math.isfinite(score))[:_SHOWN_CLASSES],
            findings=tuple(named.get(name, ())),
            slices=tuple(groups[i]),
            maps=(*_maps(evidence, i), *_of_baseline(evidence, i, shown.baseline, others.get(name))),
            extent=extent(size, evidence.geometry, None, cells),
            found=_boxes(evidence.found, i, size, shown.found_faults, shown.least_box),
            objects=_boxes(evidence.objects, i, size, shown.object_faults),
            thumbnail=(next(pictures) or None) if pictures is not None else None,
            values=tuple((key, float(own[i])) for key, own in shown.values.items() if math.isfinite(own[i])),
        )


def _maps(evidence: Evidence, image: int, *, baseline: bool = False) -> Iterator[PageMap]:
    """Yield the maps of an image, laid over places that divide the network's input evenly."""
    maps, cells = evidence.maps, (evidence.maps.grids.shape[1], evidence.maps.grids.shape[2])
    first, end = np.searchsorted(maps.image, [image, image + 1]).tolist()
    start = evidence.found.of(image).start if evidence.found is not None else 0
    grids = np.asarray(maps.grids[first:end])
    if evidence.grid is not None and len(grids):
        sizes = np.repeat(evidence.sizes[image : image + 1], len(grids), axis=0)
        even = centres(sizes, evidence.geometry, None, cells)
        grids = np.rint(looked_up(grids, sizes, evidence.geometry, evidence.grid, even)[0]).astype(np.uint8)
    for row in range(first, end):
        box = int(maps.box[row])
        low, high = maps.ranges[row].tolist()
        number = box - start if box >= 0 else -1
        yield PageMap(int(maps.target[row]), number, grids[row - first], low, high, baseline=baseline)


def _of_baseline(evidence: Evidence, image: int, baseline: Evidence | None, row: int | None) -> Iterator[PageMap]:
    """Yield the baseline's maps of the classes that the model's own maps explain."""
    if baseline is None or row is None or evidence.found is not None:
        return
    own = {one.target for one in _maps(evidence, image)}
    yield from (one for one in _maps(baseline, row, baseline=True) if one.target in own)


def _boxes(
    table: BoxTable | None, image: int, size: tuple[int, int], faults: Mapping[int, str], least: float | None = None
) -> tuple[PageBox, ...]:
    """Return the boxes of an image from a score on; ``least`` is ``None`` of annotated ones, which have no score."""
    if table is None:
        return ()
    rows = table.of(image)
    height, width = size
    boxes = []
    for row in range(rows.start, rows.stop):
        if least is not None and table.score[row] < least:
            continue
        left, top, right, bottom = (table.xyxy[row] / (width, height, width, height)).clip(0, 1).tolist()
        score = None if least is None else float(table.score[row])
        boxes.append(PageBox(int(table.target[row]), (left, top, right, bottom), score, faults.get(row, "")))
    return tuple(boxes)
