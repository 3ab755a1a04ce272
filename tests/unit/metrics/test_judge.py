"""Methods and controls on a classifier that sees colours, so that it is known where the evidence lies."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from branches import insert_branch
from classifiers import colour_classifier, coloured_image
from doors import describe, find_logits

from otx_xai.errors import ConfigError, TargetError
from otx_xai.metrics import Case, Scores, differences, estimates, judge, session_scores, table, white_box
from otx_xai.model import embed_preprocessing
from otx_xai.runtime import Session

SIZE = (64, 96)
CELLS = (8, 12)
NAMES = [field.name for field in fields(Scores)]


def explained(classes: tuple[int, ...] | None = None) -> Session:
    model = colour_classifier((1, 3, *SIZE), strength=0.6, model_info={"labels": "red green blue mix"})
    branched = insert_branch(model, find_logits(model), classes=classes, scores="softmax")
    return Session(embed_preprocessing(branched, describe(model)))


@pytest.fixture(scope="module")
def session() -> Session:
    return explained()


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Discs in the corners, where a centred control does not look."""
    found = []
    for colour, target in (("red", 0), ("green", 1)):
        for y, x in ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)):
            box = np.array([[96 * x - 8, 64 * y - 8, 96 * x + 8, 64 * y + 8]], np.float32)
            found.append(Case(coloured_image(SIZE, colour, (y, x)), target, box))
    return found


@pytest.fixture(scope="module")
def scores(session, cases) -> dict[str, Scores]:
    return judge(cases, {"ours": white_box(session)}, session_scores(session), steps=8, cells=CELLS, tolerance=2)


@pytest.mark.parametrize("control", ["random", "centre"])
def test_an_exact_explanation_beats_the_controls(scores, control):
    assert list(scores) == ["ours", "random", "centre"]
    found = differences(scores["ours"], scores[control])
    # A blur leaves colours as they are, so its curves say little here
    for name in ("insertion_zero", "pointing_game", "energy_in_box"):
        assert found[name].mean > 3 * found[name].error, name
    assert found["deletion_zero"].mean < -3 * found["deletion_zero"].error
    assert estimates(scores["ours"])["adcc"].mean > estimates(scores[control])["adcc"].mean


def test_controls_score_what_they_must(scores):
    np.testing.assert_allclose(scores["centre"].coherency, 1, rtol=1e-5)
    assert abs(scores["random"].coherency.mean() - 0.5) < 0.1
    assert (scores["ours"].pointing_game == 1).all()
    assert (scores["centre"].pointing_game == 0).all()
    for own in scores.values():
        for name in NAMES:
            values = getattr(own, name)
            assert values.shape == (8,)
            assert ((values >= 0) & (values <= 1)).all()


def test_scores_do_not_depend_on_how_many_images_are_taken_at_a_time(session, cases, scores):
    again = judge(
        iter(cases), {"ours": white_box(session)}, session_scores(session), steps=8, cells=CELLS, tolerance=2, chunk=3
    )
    for name, own in again.items():
        for metric in NAMES:
            np.testing.assert_allclose(getattr(own, metric), getattr(scores[name], metric), rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_left_out(session, cases):
    plain = [Case(case.image, case.target) for case in cases[:2]]
    found = judge(plain, {}, session_scores(session), steps=2, remap=False)
    text = table(found)
    assert "insertion" in text
    for word in ("pointing", "energy", "coherency", "ADCC"):
        assert word not in text


def test_maps_of_chosen_classes(session, cases):
    chosen = white_box(explained((1, 0)), classes=(1, 0))
    np.testing.assert_allclose(chosen(cases), white_box(session)(cases), atol=1e-5)
    with pytest.raises(TargetError, match=r"no map of class 2, but of classes 1, 0"):
        chosen([Case(cases[0].image, 2)])
    with pytest.raises(TargetError, match=r"no map of class 7, but of classes 0 to 3"):
        white_box(session)([Case(cases[0].image, 7)])


def test_what_cannot_be_judged(session, cases):
    forward = session_scores(session)
    with pytest.raises(ConfigError, match="There is no image"):
        judge([], {}, forward)
    with pytest.raises(ConfigError, match="called random"):
        judge(cases, {"random": white_box(session)}, forward)
    with pytest.raises(ConfigError, match="sizes 64×96, 65×96"):
        judge([*cases, Case(np.zeros((65, 96, 3), np.uint8), 0)], {}, forward)
