"""Curves from real models, against a loop that changes one pixel after another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov
import pytest
import reference
from openvino import opset13 as ops

from otx_xai.errors import ImageError
from otx_xai.metrics import Case, Forward, blurred, function_scores, session_scores, trace
from otx_xai.metrics.adcc import mask_image
from otx_xai.metrics.stream import BLUR, DELETION, INSERTION, ZERO
from otx_xai.runtime import Session

SIZE = (14, 18)
GREY = np.array([90, 100, 110], np.uint8)
STEPS = 9


def model(batch: int = 1) -> ov.Model:
    """``saliency_scores`` (N, 3) by a soft-max over sums that weigh every pixel and channel in its own way."""
    image = ops.parameter([batch, *SIZE, 3], np.uint8, name="image")
    weights = np.random.default_rng(0).normal(0, 3e-4, (SIZE[0] * SIZE[1] * 3, 3)).astype(np.float32)
    flat = ops.reshape(ops.convert(image, np.float32), np.array([batch, -1]), special_zero=False)
    scores = ops.softmax(ops.matmul(flat, ops.constant(weights), False, False), 1)
    scores.output(0).set_names({"saliency_scores"})
    return ov.Model([scores], [image])


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(model())


def some_cases(count: int, maps: int) -> Iterator[tuple[Case, list[np.ndarray]]]:
    rng = np.random.default_rng(1)
    for i in range(count):
        image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        yield Case(image, i % 3), [rng.random(SIZE, np.float32) for _ in range(maps + i)]


@pytest.mark.parametrize("kind", ["session", "batch", "function"])
def test_curves_equal_the_slow_loop(session, kind):
    def score(image: np.ndarray) -> float:
        return float(session.run(image[None])["saliency_scores"][0, case.target])

    forwards: dict[str, Forward] = {
        "session": session_scores(session),
        "batch": session_scores(Session(model(4))),
        "function": function_scores(
            lambda images: np.concatenate([session.run(one[None])["saliency_scores"] for one in images]), batch=5
        ),
    }
    found = list(trace(some_cases(3, 1), forwards[kind], steps=STEPS, zero=GREY))
    assert [len(curves.masked) for curves in found] == [1, 2, 3]
    for (case, maps), curves in zip(some_cases(3, 1), found, strict=True):
        assert curves.score == pytest.approx(score(case.image), rel=1e-5)
        for i, saliency_map in enumerate(maps):
            assert curves.masked[i] == pytest.approx(score(mask_image(case.image, saliency_map, GREY)), rel=1e-5)
            for place, baseline in ((BLUR, blurred(case.image)), (ZERO, np.broadcast_to(GREY, case.image.shape))):
                inserted, deleted = reference.insertion_and_deletion(case.image, saliency_map, baseline, score, STEPS)
                np.testing.assert_allclose(curves.steps[i, place, INSERTION], inserted, rtol=1e-4)
                np.testing.assert_allclose(curves.steps[i, place, DELETION], deleted, rtol=1e-4)


def test_one_step_goes_from_nothing_to_all(session):
    (curves,) = trace(some_cases(1, 2), session_scores(session), steps=1, zero=GREY)
    assert curves.steps.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(curves.steps[:, :, INSERTION], curves.steps[:, :, DELETION, ::-1])
    with pytest.raises(ValueError, match="steps is 0"):
        next(trace([], session_scores(session), steps=0, zero=GREY))


def test_cases_are_taken_as_they_are_needed(session):
    begun = 0

    def counted() -> Iterator[tuple[Case, list[np.ndarray]]]:
        nonlocal begun
        for pair in some_cases(30, 1):
            begun += 1
            yield pair

    stream = trace(counted(), session_scores(session), steps=20, zero=GREY)
    next(stream)
    assert begun < 10
    stream.close()


def test_a_failure_is_heard(session):
    def broken() -> np.ndarray:
        raise ImageError("no such image")

    with pytest.raises(ImageError, match="no such image"):
        list(session_scores(session)([broken]))
