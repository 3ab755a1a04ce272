"""AISE: the search is DIRECT, the map that of the plain loops, and passes are shared."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest
import reference
from classifiers import colour_classifier, coloured_image

from otx_xai.errors import ConfigError
from otx_xai.methods.aise import AiseOptions, aise
from otx_xai.perturb import Progress, Scorer, Subject, Watch
from otx_xai.perturb.direct import DirectSearch
from otx_xai.postprocess import softmax
from otx_xai.runtime import Session

SIZE = (48, 80)


def wavy(point: np.ndarray) -> float:
    y, x = point
    return float(3 * (y - 0.3) ** 2 + np.sin(5 * x) + np.cos(7 * x * y) - 0.5)


def searched(budget: int, epsilon: float, locally_biased: bool = False) -> DirectSearch:
    search = DirectSearch(np.zeros(2), np.ones(2), budget, epsilon, locally_biased=locally_biased)
    while len(points := search.ask()):
        search.tell(np.array([wavy(point) for point in points]))
    return search


@pytest.mark.parametrize(("budget", "epsilon"), [(1, 0.1), (2, 0.1), (25, 0.1), (86, 0.01), (200, 1e-4)])
def test_direct_asks_for_the_points_of_the_literal_algorithm(budget: int, epsilon: float) -> None:
    search = searched(budget, epsilon)
    points, values = reference.direct(wavy, budget, epsilon)
    np.testing.assert_allclose(search.points, points, atol=1e-12)
    np.testing.assert_allclose(search.values, values)


@pytest.mark.parametrize("locally_biased", [False, True])
def test_direct_finds_the_minimum_and_its_rectangles_cover_everything(locally_biased: bool) -> None:
    search = searched(401, 1e-4, locally_biased)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))).reshape(2, -1).T
    assert search.values.min() < min(wavy(point) for point in grid) + 1e-3
    _, sides = search.rectangles
    assert sides.prod(axis=1).sum() == pytest.approx(1)


def test_direct_keeps_within_its_bounds() -> None:
    search = DirectSearch(np.array([0.2, 0.5]), np.array([0.4, 0.9]), 50, 0.1)
    while len(points := search.ask()):
        search.tell(points.sum(axis=1))
    assert len(search.points) == 50
    assert (search.points >= [0.2, 0.5]).all()
    assert (search.points <= [0.4, 0.9]).all()
    np.testing.assert_allclose(search.points[search.values.argmin()], [0.2, 0.5], atol=0.02)


def scorer(batch: int = 1) -> Scorer:
    return Scorer(Session(colour_classifier((batch, 3, *SIZE))), lambda outputs: softmax(outputs["logits"]))


@pytest.fixture(scope="module")
def network() -> Scorer:
    return scorer()


def subject() -> Subject:
    return Subject(coloured_image(SIZE).transpose(2, 0, 1).astype(np.float32), "CHW", (110.0,))


OPTIONS = AiseOptions(num_iterations_per_kernel=13, kernel_widths=[0.15, 0.3])


def test_the_map_is_that_of_plain_loops(network: Scorer) -> None:
    image = subject().image

    def score(mask: np.ndarray) -> float:
        hidden = reference.masked(image, mask.astype(np.float32), 110)
        return float(softmax(network.session.run(hidden[None])["logits"])[0, 0])

    found = aise(network, subject(), [0], OPTIONS)
    wanted = reference.aise(score, SIZE, [0.15, 0.3], 13, 0.1)
    rows, columns = ((np.arange(cells) + 0.5) * side / cells - 0.5 for cells, side in zip((32, 32), SIZE, strict=True))
    assert found.maps.shape == (1, 32, 32)
    sampled = np.stack([np.interp(columns, np.arange(SIZE[1]), row) for row in wanted])
    sampled = np.stack([np.interp(rows, np.arange(SIZE[0]), column) for column in sampled.T]).T
    np.testing.assert_allclose(found.maps[0], sampled, atol=0.01 * sampled.max())
    assert found.passes == 2 * 2 * 13
    y, x = np.unravel_index(found.maps[0].argmax(), (32, 32))
    assert abs(y / 32 - 0.3) < 0.12
    assert abs(x / 32 - 0.7) < 0.12


def test_targets_share_passes_and_neither_they_nor_batches_change_a_map(network: Scorer) -> None:
    reports: list[Progress] = []
    alone = [aise(network, subject(), [target], OPTIONS) for target in (0, 1)]
    both = aise(scorer(batch=3), subject(), [1, 0], OPTIONS, Watch(reports.append))
    np.testing.assert_allclose(both.maps[1], alone[0].maps[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both.maps[0], alone[1].maps[0], rtol=1e-4, atol=1e-5)
    assert both.passes < sum(run.passes for run in alone) - 8
    assert both.targets == (1, 0)
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert reports[-1].done == both.passes <= reports[-1].total


def test_a_stopped_run_gives_what_it_has(network: Scorer) -> None:
    stop = Event()
    found = aise(network, subject(), [0], OPTIONS, Watch(lambda _: stop.set(), stop))
    assert not found.converged
    assert 0 < found.passes < 52
    assert np.isfinite(found.maps).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_iterations_per_kernel": 0}, "num_iterations_per_kernel is 0"),
        ({"kernel_widths": []}, "kernel_widths is"),
        ({"divisors": [1, 0]}, "divisors is"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AiseOptions(**options)
