"""Pictures of maps: drawn when they are asked for, of the image as it was."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import classifiers
import numpy as np
import pytest

from otx_xai.explain import Explainer, showing


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The maps that pictures were drawn of."""
    seen: list[Any] = []
    show = showing.show

    def counted(maps: Any, *rest: Any) -> Any:
        seen.append(maps)
        return show(maps, *rest)

    monkeypatch.setattr(showing, "show", counted)
    return seen


def test_a_picture_is_drawn_when_it_is_asked_for(drawn: list[Any]) -> None:
    explanation = Explainer(classifiers.colour_classifier(classes=50))(classifiers.coloured_image((64, 96), "red"))
    pictures = explanation.saliency_map
    assert (len(pictures), list(pictures), 49 in pictures, 50 in pictures) == (50, [*range(50)], True, False)
    assert not drawn
    one = pictures[3]
    assert pictures[3] is one
    assert len(drawn) == 1
    np.testing.assert_array_equal(drawn[0][0], explanation.maps[3])
    assert explanation.shape == (64, 96, 3)
    with pytest.raises(KeyError):
        pictures[50]


def test_an_overlay_shows_the_image_as_it_was() -> None:
    explainer, image = Explainer(classifiers.colour_classifier()), classifiers.coloured_image((64, 96), "green")
    expected = explainer(image.copy(), overlay=True).saliency_map[1]
    explanation = explainer(image, overlay=True)
    image[:] = 0  # a caller that reads the next frame into the same array
    np.testing.assert_array_equal(explanation.saliency_map[1], expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_pictures_are_copied_with_their_explanation(copied: Any) -> None:
    image = classifiers.coloured_image((64, 96), "green")
    explanation = Explainer(classifiers.colour_classifier())(image, overlay=True)
    other = copied(explanation)
    assert other.targets == explanation.targets
    np.testing.assert_array_equal(other.saliency_map[2], explanation.saliency_map[2])
