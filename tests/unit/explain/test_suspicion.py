from __future__ import annotations

import pytest

from otx_xai.explain.suspicion import WATCHED, Predictions, Suspicion
from otx_xai.records import InputGeometry, ModelFacts, Task

UNKNOWN = ModelFacts(Task.CLASSIFICATION, ("cat", "dog"), InputGeometry((8, 8)), normalisation_known=False)


def answers(*found: tuple[str, float]) -> list[Predictions]:
    return [[{"label": label, "score": score}] for label, score in found]


def told(images: list[Predictions], facts: ModelFacts = UNKNOWN) -> list[str]:
    suspicion = Suspicion(facts)
    return [said for said in [*map(suspicion.see, images), suspicion.conclude()] if said]


def test_saturated_scores() -> None:
    (warning,) = told(answers(("cat", 1.0), ("dog", 0.9995)) * 20)
    assert warning.startswith("All scores of the first 16 images are 0.999 or more")
    assert "--input.mean" in warning


def test_one_class_for_everything() -> None:
    (warning,) = told(answers(("dog", 0.8), ("dog", 0.6)) * 8)
    assert warning.startswith("The first 16 images all show 'dog'")


@pytest.mark.parametrize("count", [4, 15])
def test_few_images_are_judged_at_the_end(count: int) -> None:
    (warning,) = told(answers(("dog", 0.8)) * count)
    assert f"The first {count} images" in warning


@pytest.mark.parametrize(
    "images",
    [
        answers(("dog", 0.8)) * 3,
        answers(("dog", 0.8), ("cat", 0.7)) * WATCHED,
        [*answers(("dog", 1.0), ("cat", 1.0)) * 8, *answers(("dog", 0.5)) * 8][4:],
        [[]] * WATCHED,
        [[], *answers(("dog", 0.8)) * WATCHED],
    ],
)
def test_nothing_remarkable(images: list[Predictions]) -> None:
    assert told(images) == []


def test_who_is_known_to_be_fed_right_is_not_suspected() -> None:
    facts = ModelFacts(Task.CLASSIFICATION, ("cat", "dog"), InputGeometry((8, 8)))
    assert told(answers(("cat", 1.0)) * WATCHED, facts) == []


def test_a_detector_of_one_class_finds_one_class() -> None:
    facts = ModelFacts(Task.DETECTION, ("face",), InputGeometry((8, 8)), normalisation_known=False)
    assert told(answers(("face", 0.8)) * WATCHED, facts) == []
    assert told(answers(("face", 1.0)) * WATCHED, facts)
