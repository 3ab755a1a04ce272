"""RISE: equal to the formulas, whatever the batch; fewer masks for the same map; honest about what it finds."""

from __future__ import annotations

from threading import Event

import numpy as np
import openvino as ov
import pytest
import reference
from classifiers import colour_classifier, coloured_image
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, TargetError
from otx_xai.methods.rise import RiseOptions, rise
from otx_xai.perturb import Progress, Scorer, Subject, Watch
from otx_xai.perturb.masks import CellMasks, OrthogonalMasks
from otx_xai.postprocess import softmax
from otx_xai.runtime import Arrays, Session

SIZE = (48, 80)
CLASSES = 4


def probabilities(outputs: Arrays) -> np.ndarray:
    return softmax(outputs["logits"])


def scorer(batch: int = 1) -> Scorer:
    return Scorer(Session(colour_classifier((batch, 3, *SIZE), CLASSES)), probabilities)


def subject() -> Subject:
    return Subject(coloured_image(SIZE).transpose(2, 0, 1).astype(np.float32), "CHW", (110.0,))


@pytest.fixture(scope="module")
def network() -> Scorer:
    return scorer()


def literal_scores(network: Scorer, masks: np.ndarray, image: np.ndarray) -> np.ndarray:
    return np.stack([probabilities(network.session.run(reference.masked(image, mask, 110)[None]))[0] for mask in masks])


def test_the_mean_is_the_published_formula(network: Scorer) -> None:
    options = RiseOptions(num_masks=37, num_cells=(3, 5), prob=0.4, seed=5, sampling="independent", estimator="mean")
    found = rise(network, subject(), options=options)
    generator = CellMasks(SIZE, (3, 5), 0.4, 5)
    masks = np.stack([generator.mask(i) for i in range(37)])
    wanted = reference.rise(literal_scores(network, masks, subject().image), masks, 0.4)
    cells = wanted.reshape(CLASSES, 12, 4, 20, 4).mean(axis=(2, 4))  # four values a cell
    np.testing.assert_allclose(found.maps, cells, rtol=1e-4)
    assert (found.passes, found.targets) == (37, (0, 1, 2, 3))


def test_the_regression_is_the_textbook_gaussian_process() -> None:
    size, options = (24, 40), RiseOptions(num_masks=40, num_cells=3, seed=1)
    network = Scorer(Session(colour_classifier((1, 3, *size), CLASSES)), probabilities)
    image = coloured_image(size).transpose(2, 0, 1).astype(np.float32)
    found = rise(network, Subject(image, "CHW", (110.0,)), [2, 0], options)
    generator = OrthogonalMasks(size, (3, 5), 1)
    masks = np.stack([generator.mask(i) for i in range(40)])
    scores = literal_scores(network, masks, image)
    for i, target in enumerate((2, 0)):
        wanted, deviation = reference.smooth_regression(
            np.sqrt(scores[:, target]), masks, 0.18, np.geomspace(1e-4, 1e2, 25)
        )
        rows, columns = (
            np.clip((np.arange(cells) + 0.5) * side / cells - 0.5, 0, side - 1)
            for cells, side in zip(found.maps.shape[1:], size, strict=True)
        )
        sampled = np.stack([np.interp(columns, np.arange(size[1]), row) for row in wanted])
        sampled = np.stack([np.interp(rows, np.arange(size[0]), column) for column in sampled.T]).T
        span = float(np.ptp(wanted))
        np.testing.assert_allclose(found.maps[i], sampled, atol=0.02 * span)
        assert found.standard_error[i] == pytest.approx(deviation / span, rel=0.05)


@pytest.mark.parametrize("estimator", ["regression", "mean"])
def test_neither_batch_nor_order_nor_other_targets_change_a_map(network: Scorer, estimator: str) -> None:
    options = RiseOptions(num_masks=70, seed=2, estimator=estimator)
    alone = rise(network, subject(), options=options)
    again = rise(network, subject(), options=options)
    batched = rise(scorer(batch=3), subject(), [1], options)
    np.testing.assert_array_equal(alone.maps, again.maps)
    np.testing.assert_allclose(batched.maps[0], alone.maps[1], atol=1e-4 * np.ptp(alone.maps[1]))
    other = rise(network, subject(), options=RiseOptions(num_masks=70, seed=3, estimator=estimator))
    assert np.abs(other.maps - alone.maps).max() > 0.01 * np.ptp(alone.maps)


def test_a_tenth_of_the_masks_gives_a_better_map(network: Scorer) -> None:
    """The red disc lies at (0.3, 0.7)."""
    published = {"num_cells": 6, "sampling": "independent", "estimator": "mean"}
    truth = rise(network, subject(), [0], RiseOptions(num_masks=4000, seed=9, **published)).maps[0]
    few = rise(network, subject(), [0], RiseOptions(num_masks=100)).maps[0]
    plain = rise(network, subject(), [0], RiseOptions(num_masks=1000, **published)).maps[0]
    y, x = np.unravel_index(few.argmax(), few.shape)
    assert abs((y + 0.5) / few.shape[0] - 0.3) < 0.08
    assert abs((x + 0.5) / few.shape[1] - 0.7) < 0.08
    assert _correlation(few, truth) > _correlation(plain, truth)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    rows, columns = (np.linspace(0, side - 1, 20).round().astype(int) for side in first.shape)
    other_rows, other_columns = (np.linspace(0, side - 1, 20).round().astype(int) for side in second.shape)
    pair = first[np.ix_(rows, columns)].ravel(), second[np.ix_(other_rows, other_columns)].ravel()
    return float(np.corrcoef(*pair)[0, 1])


@pytest.mark.parametrize("estimator", ["regression", "mean"])
def test_the_standard_error_is_what_seeds_differ_by(network: Scorer, estimator: str) -> None:
    runs = [
        rise(network, subject(), [0], RiseOptions(num_masks=160, num_cells=4, seed=seed, estimator=estimator))
        for seed in range(8)
    ]
    maps = np.stack([run.maps[0] for run in runs])
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    scatter = float(np.sqrt(maps.var(axis=0, ddof=1).mean())) / np.mean([np.ptp(each) for each in maps])
    claimed = float(np.mean([run.standard_error[0] for run in runs]))
    assert 0.5 * scatter < claimed < 3 * scatter


def test_the_run_ends_at_the_tolerance(network: Scorer) -> None:
    reports: list[Progress] = []
    options = RiseOptions(num_masks=5000, tolerance=0.1)
    found = rise(network, subject(), [0, 1], options, Watch(reports.append))
    assert found.converged
    assert found.passes < 5000
    assert found.standard_error.max() <= 0.1
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert reports[-1].done == found.passes
    assert reports[-1].standard_error == pytest.approx(float(found.standard_error.max()))
    assert reports[-1].seconds_left > 0
    same = rise(scorer(batch=4), subject(), [0, 1], options)
    assert same.passes == found.passes
    short = rise(network, subject(), [0], RiseOptions(num_masks=40, tolerance=1e-6))
    assert (short.passes, short.converged) == (40, False)


def test_a_stopped_run_gives_what_it_has(network: Scorer) -> None:
    stop = Event()
    found = rise(network, subject(), [0], RiseOptions(num_masks=5000), Watch(lambda _: stop.set(), stop))
    assert 32 <= found.passes < 500
    assert not found.converged
    assert np.isfinite(found.maps).all()


def two_numbers(scale: float, offset: float) -> Scorer:
    """Scores: ``offset``, and the mean of the image times ``scale``."""
    image = ops.parameter([1, 16, 16, 3], np.uint8, name="image")
    mean = ops.reduce_mean(ops.convert(image, np.float32), np.array([1, 2, 3]), keep_dims=False)
    mean = ops.unsqueeze(ops.multiply(mean, np.float32(scale)), np.array(1))
    both = ops.concat([ops.constant(np.full((1, 1), offset, np.float32)), mean], 1)
    both.output(0).set_names({"scores"})
    return Scorer(Session(ov.Model([both], [image], "two")), lambda outputs: outputs["scores"])


def test_maps_that_say_nothing_say_so() -> None:
    image = np.full((16, 16, 3), 200, np.uint8)
    found = rise(two_numbers(1 / 255, 0.0), Subject(image), options=RiseOptions(num_masks=32, num_cells=4))
    assert found.warnings[1] == ()
    assert any("score of the target is 0" in warning for warning in found.warnings[0])
    assert any("constant: no masked image has a score" in warning for warning in found.warnings[0])
    np.testing.assert_array_equal(found.maps[0], 0)
    assert found.scores == pytest.approx([0, 200 / 255])

    found = rise(two_numbers(1 / 255, 0.7), Subject(image), options=RiseOptions(num_masks=32, num_cells=4))
    assert found.warnings[0] == ("the map is constant: hiding parts changes nothing",)

    found = rise(two_numbers(np.inf, 0.7), Subject(image, fill=(1.0,)), [1], RiseOptions(num_masks=32, num_cells=4))
    assert any("NaN or infinite in 33 of 33" in warning for warning in found.warnings[0])
    assert np.isfinite(found.maps).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_masks": 1}, "num_masks is 1"),
        ({"num_cells": (3, 4, 5)}, "num_cells is .* rows and columns"),
        ({"num_cells": 2.5}, "num_cells is 2.5"),
        ({"sampling": "sobol"}, "'orthogonal' or 'independent'"),
        ({"prob": 0.3, "sampling": "orthogonal"}, "prob is 0.3; orthogonal masks have 0.5"),
        ({"estimator": "median"}, "'regression' or 'mean'"),
        ({"tolerance": 0.0}, "tolerance is 0"),
        ({"preset": "best"}, "no Preset"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RiseOptions(**options)


def test_any_probability_is_taken() -> None:
    assert RiseOptions().is_orthogonal
    assert not RiseOptions(prob=0.3).is_orthogonal
    assert RiseOptions(num_cells=[3, 5]).num_cells == (3, 5)
    assert not RiseOptions(sampling="independent").is_orthogonal


def test_a_run_that_is_stopped_at_once_has_no_map(network: Scorer) -> None:
    stop = Event()
    stop.set()
    found = rise(network, subject(), [0], RiseOptions(num_masks=100), Watch(stop=stop))
    assert (found.passes, found.converged) == (0, False)
    np.testing.assert_array_equal(found.maps, 0)
    assert found.scores[0] > 0


def test_a_target_must_be_a_class(network: Scorer) -> None:
    with pytest.raises(TargetError, match="Target 4 is no class of the model, which gives 4 scores"):
        rise(network, subject(), [0, 4])


def test_scores_must_be_the_same_number_each_time() -> None:
    network = scorer()
    lengths = iter(range(1, 100))
    with pytest.raises(ConfigError, match="expected the same number each time"):
        rise(Scorer(network.session, lambda outputs: np.ones(next(lengths))), subject())
