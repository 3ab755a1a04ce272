"""Ways back within windows against those over the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov
import pytest
from doors import prepare
from openvino import opset13 as ops

from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import BOXES
from otx_xai.methods import box_windows
from otx_xai.methods.box_windows import BoxWindows
from otx_xai.methods.spec import BoxesAsked
from otx_xai.records import Detections, FloatArray, ScoreOrigin
from otx_xai.runtime import Session

SIDE, CELLS = 160, 10
CORNERS = (0, 9, 90, 99)


def convolution(value: ov.Output, channels: int, kernel: int, stride: int, seed: int) -> ov.Output:
    before = value.get_shape()[1]
    weights = np.random.default_rng(seed).normal(size=(channels, before, kernel, kernel)).astype(np.float32)
    weights /= np.float32((before * kernel * kernel) ** 0.5)
    pad = [(kernel - stride + 1) // 2] * 2
    return ops.convolution(value, weights, [stride] * 2, pad, pad, [1, 1]).output(0)


def detector(kernel: int, *, gate: bool = False, pool: bool = False) -> ov.Model:
    """One level of cells of 16 × 16 pixels that see ``kernel`` cells around, and features of strides 4, 8 and 16."""
    image = ops.parameter([1, 3, SIDE, SIDE], np.float32, name="image")
    image.output(0).get_tensor().set_names({"image"})
    value = ops.swish(convolution(image.output(0), 8, 4, 4, 1)).output(0)
    fine = ops.relu(convolution(value, 8, 2, 2, 2)).output(0)
    deep = ops.swish(convolution(fine, 8, 2, 2, 3)).output(0)
    seen = ops.swish(convolution(deep, 8, kernel, 1, 4)).output(0)
    if pool:
        seen = ops.concat([seen, ops.max_pool(seen, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)], 1).output(0)
    if gate:
        seen = ops.multiply(seen, ops.sigmoid(ops.reduce_mean(seen, np.array([2, 3]), keep_dims=True))).output(0)
    large = ops.interpolate(seen, np.array([20, 20]), "nearest", "sizes", axes=np.array([2, 3]))
    joined = ops.concat([large, fine], 1).output(0)
    logits = convolution(ops.swish(convolution(joined, 8, 2, 2, 5)).output(0), 2, 1, 1, 6)
    y, x = np.mgrid[:CELLS, :CELLS].reshape(2, -1).astype(np.float32) * 16 + 8
    boxes = ops.reshape(convolution(deep, 4, 1, 1, 7), np.array([1, 4, 100]), False)
    places = ops.add(boxes, np.stack([x, y, np.full_like(x, 60), np.full_like(x, 60)])[None])
    output = ops.concat([places, ops.sigmoid(ops.reshape(logits, np.array([1, 2, 100]), False))], 1)
    output.output(0).get_tensor().set_names({"output0"})
    return ov.Model([ops.result(output)], [image], "cells")


class Explained:
    """A detector, what explains it, and what its first model gave for one image."""

    def __init__(self, model: ov.Model) -> None:
        self.plan: Plan = prepare(model, labels="a,b", targets=BOXES, method="odam")
        self.session = Session(self.plan.model, latency=True)
        image = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
        self.outputs = self.session.run(image)

    def maps(self, cells: Sequence[int], label: int = 0, *, of_classes: bool = False) -> FloatArray:
        """The maps of boxes that have their scores from some cells."""
        count, second = len(cells), self.plan.second_pass
        assert second is not None
        origin = ScoreOrigin("output0", np.array(cells, np.int64) + 100 * (4 + label))
        middles = np.array(np.unravel_index(np.array(cells, np.int64), (CELLS, CELLS))[::-1]).T * 16.0 + 8
        boxes, labels = np.concatenate([middles - 30, middles + 30], 1, dtype=np.float32), np.full(count, label)
        found = Detections(boxes, labels, np.ones(count, np.float32), origins=(origin,))
        starts = {name: self.outputs[name] for name in second.starts}
        return second.maps(self.session, starts, BoxesAsked(found, boxes, of_classes=of_classes))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """The share of the image that windows cover, and how many there are, run by run."""
    told: list[tuple[float, int]] = []
    real = box_windows._run

    def run(asked: object, second: box_windows._Second, read: Mapping[str, ov.Tensor], boxes: np.ndarray) -> np.ndarray:
        told.append((second.share, len(boxes)))
        return real(asked, second, read, boxes)  # type: ignore[arg-type]

    monkeypatch.setattr(box_windows, "_run", run)
    return told


def without_windows(model: ov.Model, cells: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> FloatArray:
    """The same maps by the way back over the whole image."""
    with monkeypatch.context() as patch:
        patch.setattr(BoxWindows, "_local", frozenset())
        return Explained(model).maps(cells)


@pytest.mark.parametrize("pool", [False, True])
def test_near_sight_is_exact(pool: bool, runs: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all that a cell sees lies in its window, maps are those of the whole image: in corners, too."""
    cells = (*CORNERS, 44, 45, 7)
    model = detector(1, pool=pool)
    expected = without_windows(model, cells, monkeypatch)
    assert not runs
    np.testing.assert_allclose(Explained(model).maps(cells), expected, atol=1e-5 * expected.max())
    assert runs[:2] == [(pytest.approx(0.16), 6), (pytest.approx(0.16), 1)]
    assert len(runs) == 2 or pool  # pooling brings some to the rim, which is looked at in case there is more behind it
    assert (expected.max(axis=(1, 2)) > 0).all()


def test_far_sight_takes_the_whole_image(runs: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that have not faded at the rim of their windows are made anew, one box a run."""
    cells = (*CORNERS, 44)
    model = detector(9)
    expected = without_windows(model, cells, monkeypatch)
    monkeypatch.setattr(box_windows, "_RIM", 0.0)
    np.testing.assert_allclose(Explained(model).maps(cells), expected, atol=1e-5 * expected.max())
    assert runs == [(pytest.approx(0.16), 5), *[(1, 1)] * 5]


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_maps_are_nearly_those_of_the_whole_image(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that the how-to states, for every box by itself."""
    model, cells = detector(kernel), range(0, 100, 9)
    expected = without_windows(model, cells, monkeypatch)
    found = Explained(model).maps(cells)
    for one, other in zip(found, expected, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99


def test_a_few_windows_at_once(runs: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that share a run cover no more than the image, whatever the number of boxes."""
    cells = [*range(0, 100, 4)]
    model = detector(1)
    expected = without_windows(model, cells, monkeypatch)
    explained = Explained(model)
    np.testing.assert_allclose(explained.maps(cells), expected, atol=1e-5 * expected.max())
    assert [count for _, count in runs] == [6, 6, 6, 6, 1]
    runs.clear()
    alone = explained.maps(cells[:1])
    np.testing.assert_allclose(alone, expected[:1], atol=1e-5 * expected.max())
    assert [count for _, count in runs] == [1]


def test_no_box_no_run(runs: list[tuple[float, int]]) -> None:
    assert Explained(detector(1)).maps([]).shape == (0, 20, 20)
    assert not runs


def test_a_look_at_all_places_needs_the_whole_image(runs: list[tuple[float, int]]) -> None:
    """Behind a gate by the mean of all places, no window holds a gradient."""
    assert (Explained(detector(1, gate=True)).maps(CORNERS).max(axis=(1, 2)) > 0).all()
    assert not runs


def test_small_windows_of_wide_maps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound at the rim is what holds maps together: without it, they differ."""
    model, cells = detector(9), (44,)
    expected = without_windows(model, cells, monkeypatch)
    monkeypatch.setattr(box_windows, "_RIM", 1.0)
    found = Explained(model).maps(cells)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] < 0.9
