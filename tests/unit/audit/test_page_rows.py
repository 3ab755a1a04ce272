"""What the page is told of each image."""

from __future__ import annotations

import numpy as np
import pytest

from otx_xai.audit.evidence_table import BoxTable, Evidence, MapTable, no_maps
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState
from otx_xai.audit.page_rows import Shown, page_images
from otx_xai.records import InputGeometry, MapGrid, ResizeType, Task


def maps(image: list[int], target: list[int], box: list[int], offset: int = 0) -> MapTable:
    grids = np.arange(len(image) * 4, dtype=np.uint8).reshape(-1, 2, 2) + offset
    ranges = np.tile(np.array([0.5, 2], np.float32), (len(image), 1))
    return MapTable(np.array(image), np.array(target), np.array(box), grids.astype(np.uint8), ranges)


def evidence(table: MapTable, **more: object) -> Evidence:
    columns: dict[str, object] = {
        "task": Task.MULTI_CLASS_CLS,
        "labels": ("a", "b", "c"),
        "multilabel": False,
        "geometry": InputGeometry((10, 10)),
        "grid": None,
        "names": ("x.png", "y.png"),
        "sizes": np.array([[10, 20], [40, 20]]),
        "best": np.array([[1, 0, 2], [0, 1, 2]]),
        "best_scores": np.array([[0.7, 0.2, 0.1], [0.9, np.nan, 0.0]], np.float32),
        "given": np.array([[1, -1], [2, 0]]),
        "given_scores": np.zeros((2, 2), np.float32),
        "features": np.zeros((2, 0), np.float16),
        "maps": table,
    }
    return Evidence(**{**columns, **more})  # type: ignore[arg-type]


def test_rows_of_a_classifier() -> None:
    found = Finding(
        FindingKind.SLICE, "s", "s.", Effect(0.1, 0, 1, 2), FindingState.MEASURED, 0.5, ("y.png", "gone.png")
    )
    baseline = evidence(maps([0, 1], [2, 1], [-1, -1], 100), names=("y.png", "x.png"))
    shown = Shown(
        ["right_sure", "wrong"],
        [found, found],
        ["../x.png", "../y.png"],
        {"sharpness": np.array([1.5, np.nan], np.float32)},
        baseline=baseline,
        slices=[np.array([1]), np.array([0, 1])],
    )
    one, other = page_images(evidence(maps([0, 1, 1], [1, 0, 2], [-1, -1, -1])), shown, iter([b"jpeg", b""]))
    assert (one.name, one.size, one.link, one.case) == ("x.png", (10, 20), "../x.png", "right_sure")
    assert (one.given, other.given) == ((1,), (2, 0))
    assert [target for target, _ in one.best] == [1, 0, 2]
    assert [score for _, score in one.best] == pytest.approx([0.7, 0.2, 0.1])
    assert [target for target, _ in other.best] == [0, 2]
    assert (one.findings, other.findings) == ((), (0, 1))
    assert (one.slices, other.slices) == ((1,), (0, 1))
    assert (one.thumbnail, other.thumbnail) == (b"jpeg", None)
    assert (one.values, other.values) == ((("sharpness", 1.5),), ())
    assert [(m.target, m.box, m.baseline, m.grid[0, 0]) for m in one.maps] == [(1, -1, False, 0), (1, -1, True, 104)]
    assert [(m.target, m.baseline) for m in other.maps] == [(0, False), (2, False), (2, True)]
    assert (one.maps[0].low, one.maps[0].high) == (0.5, 2.0)
    assert one.extent == (0, 0, 1, 1)


def test_rows_of_a_detector() -> None:
    found = BoxTable(
        np.array([0, 1, 1]),
        np.array([2, 0, 1]),
        np.array([[0, 0, 10, 5], [-5, 0, 30, 40], [0, 20, 10, 40]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
    )
    objects = BoxTable(np.array([1]), np.array([1]), np.array([[0, 0, 20, 20]], np.float32), np.ones(1, np.float32))
    own = evidence(
        maps([0, 1, 1], [2, 0, 1], [0, 1, 2]),
        task=Task.DETECTION,
        best=np.zeros((2, 0), np.int64),
        best_scores=np.zeros((2, 0), np.float32),
        found=found,
        objects=objects,
        geometry=InputGeometry((10, 10), ResizeType.FIT_TO_WINDOW),
    )
    shown = Shown(["clean", "faults"], found_faults={2: "duplicate"}, object_faults={0: "missed"})
    one, other = page_images(own, shown, None)
    assert one.thumbnail is None
    assert [(m.target, m.box) for m in other.maps] == [(0, 0), (1, 1)]
    assert [box.xyxy for box in other.found] == [(0, 0, 1, 1), (0, 0.5, 0.5, 1)]
    assert [box.fault for box in other.found] == ["", "duplicate"]
    assert [(box.score, box.fault, box.xyxy) for box in other.objects] == [(None, "missed", (0, 0, 1, 0.5))]
    assert one.extent == pytest.approx((0, 0, 1, 2))  # padded below: the map reaches twice as far as the image


def test_maps_are_laid_over_an_even_grid() -> None:
    """Places that look half a cell further to the right: the picture moves, and what it covers does not."""
    table = maps([0, 1], [1, 2], [-1, -1])
    table.grids[:] = [[0, 100], [0, 100]]
    shifted = evidence(table, grid=MapGrid((2.5, 5.0), (5.0, 5.0)))
    one, _ = page_images(shifted, Shown(["wrong", "wrong"]), None)
    assert one.extent == (0, 0, 1, 1)
    assert one.maps[0].grid.tolist() == [[0, 50], [0, 50]]  # centres at 2.5 and 7.5, between those at 5 and 10


def test_without_maps_there_is_still_a_row() -> None:
    one, _ = page_images(evidence(no_maps((1, 1))), Shown(["wrong", "wrong"]), None)
    assert one.maps == ()
