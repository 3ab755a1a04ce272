"""Two models side by side: scipy's correlation, McNemar's test, and what is silent about a drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence_cases import boxes, classified, detected, mapped
from scipy import stats

from otx_xai.audit.cells import seen
from otx_xai.audit.drift import drift, drift_findings, map_distances
from otx_xai.audit.evidence_table import Evidence
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.records import InputGeometry, MapGrid, ResizeType


def _model(predicted: np.ndarray, given: np.ndarray | None, maps: np.ndarray, **more: object) -> Evidence:
    scores = np.where(np.eye(3)[predicted] > 0, 0.8, 0.1)
    table = mapped([(image, int(target), one) for image, (target, one) in enumerate(zip(predicted, maps, strict=True))])
    return classified(scores, given, maps=table, **more)


def _twins(count: int = 200, moved: int = 0, flipped: int = 0, noise: float = 0.02) -> tuple[Evidence, Evidence]:
    """A model and its twin: some maps lie elsewhere, some images are wrong afterwards."""
    rng = np.random.default_rng(0)
    given = rng.integers(0, 3, count)
    maps = rng.random((count, 7, 7)) ** 3
    later = np.clip(maps + rng.normal(0, noise, maps.shape), 0, 1)
    later[:moved] = np.roll(later[:moved], (3, 2), axis=(1, 2))
    predicted = given.copy()
    predicted[count - flipped :] = (predicted[count - flipped :] + 1) % 3
    return _model(given, given, maps), _model(predicted, given, later)


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 9, 5, 6)).astype(np.uint8)
    everywhere = np.ones((9, 5, 6), np.float32)
    expected = [1 - stats.pearsonr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(map_distances(first, second, everywhere), expected, rtol=1e-5)
    np.testing.assert_allclose(map_distances(first, first, everywhere), 0, atol=1e-6)
    np.testing.assert_allclose(map_distances(first, 255 - first, everywhere), 2, rtol=1e-6)
    upper = everywhere.copy()
    upper[:, 3:] = 0.4
    expected = [1 - stats.pearsonr(a[:3].ravel(), b[:3].ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(map_distances(first, second, upper), expected, rtol=1e-5)
    assert np.isnan(map_distances(first[:1] * 0, second[:1], everywhere[:1])).all()


def test_a_model_and_itself_have_no_drift() -> None:
    before, _ = _twins()
    compared = drift(before, before, 0.0)
    np.testing.assert_allclose(compared.distance, 0, atol=1e-6)
    assert drift_findings(before, replace(compared, floor=1e-6)) == []


def test_noise_below_the_floor_is_no_drift() -> None:
    before, after = _twins(400)
    floor = float(np.quantile(drift(before, after, 0).distance, 0.99))
    compared = drift(before, after, floor)
    assert compared.moved.sum() == 4
    assert drift_findings(after, compared) == []


def test_planted_drift_is_silent_where_images_stay_right() -> None:
    before, after = _twins(moved=30, flipped=20)
    compared = drift(before, after, 0.1)
    assert np.flatnonzero(compared.silent).tolist() == list(range(30))
    found = {(one.kind, one.subject): one for one in drift_findings(after, compared)}
    assert set(found) == {
        (FindingKind.DRIFT, "accuracy"),
        (FindingKind.DRIFT, "best class"),
        (FindingKind.DRIFT, "maps"),
        (FindingKind.SILENT_DRIFT, "maps"),
    }
    silent = found[FindingKind.SILENT_DRIFT, "maps"]
    assert silent.state is FindingState.SUSPECTED
    assert (silent.effect.value, silent.effect.n) == (30 / 180, 180)
    assert set(silent.images) <= {f"{row}.png" for row in range(30)}
    assert compared.distance[int(silent.images[0].split(".")[0])] == compared.distance[compared.silent].max()
    assert silent.statement.startswith(
        "On 30 of 180 images that are right before and after the map points elsewhere than the baseline's"
    )
    accuracy = found[FindingKind.DRIFT, "accuracy"]
    assert (accuracy.state, accuracy.effect.value) == (FindingState.MEASURED, -0.1)
    assert accuracy.p_value == pytest.approx(2 * 0.5**20)
    assert accuracy.effect.low < -0.1 < accuracy.effect.high < 0
    assert found[FindingKind.DRIFT, "best class"].effect.value == 0.1


def test_the_change_of_accuracy_is_mcnemars() -> None:
    given = np.zeros(100, int)
    before, after = given.copy(), given.copy()
    before[:7], after[5:20] = 1, 1
    maps = np.random.default_rng(0).random((100, 3, 3))
    pair = _model(before, given, maps), _model(after, given, maps)
    (accuracy,) = [one for one in drift_findings(pair[1], drift(*pair, 0.5)) if one.subject == "accuracy"]
    assert accuracy.check == {"lost": 13, "won": 5}
    assert accuracy.p_value == pytest.approx(stats.binomtest(13, 18).pvalue)
    assert accuracy.effect.value == pytest.approx(-0.08)


def test_where_classes_differ_the_annotated_one_is_compared() -> None:
    maps = np.random.default_rng(0).random((2, 4, 4))
    before = classified([[0.8, 0.2]], [0], maps=mapped([(0, 0, maps[0])]))
    after = classified([[0.2, 0.8]], [0], maps=mapped([(0, 0, maps[0]), (0, 1, maps[1])]))
    compared = drift(before, after, 0.1)
    assert (compared.target.tolist(), compared.compared.tolist()) == ([0], [False])
    assert compared.distance[0] == pytest.approx(0, abs=1e-6)


def test_images_are_matched_by_name_and_padding_does_not_count() -> None:
    before, after = _twins(20)
    order = np.random.default_rng(1).permutation(20)[:12]
    part = classified(
        np.where(np.eye(3)[after.predicted[order]] > 0, 0.8, 0.1),
        after.given[order, 0],
        names=[after.names[row] for row in order],
        maps=mapped([(at, int(after.predicted[row]), after.maps.grids[row] / 255) for at, row in enumerate(order)]),
    )
    compared = drift(before, part, 0.1)
    assert compared.before.tolist() == order.tolist()
    np.testing.assert_array_equal(compared.distance, drift(before, after, 0.1).distance[order])
    geometry, sizes = InputGeometry((56, 56), ResizeType.FIT_TO_WINDOW), np.tile([24, 56], (20, 1))
    both = [replace(one, geometry=geometry, sizes=sizes) for one in (before, after)]
    over = seen((24, 56), geometry, None, (7, 7))
    first, second = (one.maps.grids[0][over >= 0.5] for one in both)
    assert drift(*both, 0.1).distance[0] == pytest.approx(1 - stats.pearsonr(first, second).statistic, rel=1e-4)


def test_other_classes_are_an_error_and_no_maps_a_word() -> None:
    before, after = _twins(10)
    with pytest.raises(ValueError, match=r"The baseline has 2 classes \(x, y\), the model 3 \(a, b, c\)"):
        drift(replace(before, labels=("x", "y")), after, 0.1)
    other = drift(replace(before, maps=mapped([])), after, 0.1)
    assert other.why_no_maps == "one of the models has no maps"
    assert np.isnan(other.distance).all()
    assert drift_findings(after, other) == []


def test_models_that_fit_images_in_differently_are_compared_on_the_image() -> None:
    """A blob at one place of the image, seen through a stretch, a letterbox, and a crop at a finer grid."""
    views = [
        (InputGeometry((112, 112)), 7, (1, 0), (1, 0)),
        (InputGeometry((112, 112), ResizeType.FIT_TO_WINDOW), 14, (2, 0), (1, 0)),
        (InputGeometry((112, 112), ResizeType.CROP), 14, (1, 0), (0.5, 0.25)),
    ]
    models = []
    for geometry, cells, (times_y, plus_y), (times_x, plus_x) in views:
        middle = (np.arange(112) + 0.5) / 112
        y, x = times_y * middle[:, None] + plus_y, times_x * middle + plus_x  # of the image
        blobs = [np.exp(-(((y - at_y) * 9) ** 2) - ((x - at_x) * 9) ** 2) for at_y, at_x in ((0.4, 0.6), (0.7, 0.35))]
        maps = np.stack(blobs).reshape(2, cells, 112 // cells, cells, 112 // cells).mean(axis=(2, 4))
        sizes, zeros = np.tile([50, 100], (2, 1)), np.array([0, 0])
        models.append(_model(zeros, zeros, maps / maps.max(), geometry=geometry, sizes=sizes))
    for first in models:
        for second in models:
            straight = drift(first, second, 0.1)
            assert straight.distance.max() < 0.2
            assert straight.laid_over == (first.geometry != second.geometry)
            moved = replace(second, names=second.names[::-1])  # the other map for each image
            assert (drift(first, moved, 0.1).distance > 0.5).all()


def test_maps_of_other_places_are_laid_over_the_same() -> None:
    """Half a cell further to the right and twice as fine: the same waves, read off at other places."""
    rng, start, fine = np.random.default_rng(0), MapGrid((8, 16), (16, 16)), MapGrid((4, 4), (8, 8))
    bumps = rng.uniform(10, 40, (10, 2))

    def waves(grid: MapGrid, cells: int) -> np.ndarray:
        y, x = (begin + step * np.arange(cells) for begin, step in zip(grid.start, grid.step, strict=True))
        far = (y[None, :, None] - bumps[:, :1, None]) ** 2 + (x[None, None, :] - bumps[:, 1:, None]) ** 2
        return np.exp(-far / 800)

    predicted, given = np.zeros(10, np.int64), np.zeros(10, np.int64)
    before = replace(_model(predicted, given, waves(fine, 8)), grid=fine)
    after = replace(_model(predicted, given, waves(start, 4)), grid=start)
    far = replace(before, grid=None)  # the same numbers, taken to lie elsewhere
    assert drift(before, after, 0.1).distance.max() < 0.02
    assert drift(far, after, 0.1).distance.mean() > 5 * drift(before, after, 0.1).distance.mean()


def test_without_annotations_maps_are_compared_and_nothing_is_silent() -> None:
    before, after = _twins(moved=30)
    none = np.full((200, 1), -1)
    compared = drift(replace(before, given=none), replace(after, given=none), 0.1)
    assert compared.moved.sum() == 30
    assert [(one.kind, one.subject) for one in drift_findings(after, compared)] == [(FindingKind.DRIFT, "maps")]


@pytest.mark.parametrize(
    "evidence",
    [
        classified(np.zeros((0, 2)), np.zeros(0, int)),
        classified(np.full((3, 2), np.nan), [0, 1, 0]),
        classified(np.ones((3, 1)), [0, 0, 0]),
        classified(np.eye(2)),
        detected(boxes([(0, 0, (1, 1, 9, 9), 0.9)]), None, 2),
    ],
)
def test_nothing_is_said_of_nothing(evidence: Evidence) -> None:
    compared = drift(evidence, evidence, 0.1)
    assert len(compared) == len(evidence)
    assert drift_findings(evidence, compared) == []
    strangers = drift(evidence, replace(evidence, names=[f"other {name}" for name in evidence.names]), 0.1)
    assert len(strangers) == 0
    assert drift_findings(evidence, strangers) == []
