from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import classifiers
import numpy as np
import pytest

from otx_xai import Explainer
from otx_xai.explain.explanation import Explanation


@pytest.mark.parametrize("mode", ["whitebox", "blackbox"])
def test_one_explainer_serves_many_threads(mode: str) -> None:
    explainer = Explainer(classifiers.colour_classifier((1, 3, 64, 96)), explain_mode=mode)
    pictures = [np.random.default_rng(seed).integers(0, 255, (48, 72, 3), dtype=np.uint8) for seed in range(24)]
    options = {} if mode == "whitebox" else {"num_masks": 20}

    def explain(picture: np.ndarray) -> np.ndarray:
        explanation = explainer(picture, targets=[0, 2], **options)
        assert isinstance(explanation, Explanation)
        return explanation.maps

    expected = [explain(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        for maps, own in zip(pool.map(explain, pictures), expected, strict=True):
            np.testing.assert_allclose(maps, own, atol=1e-6)


def test_threads_open_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from otx_xai.explain import plan as planning

    opened = []
    monkeypatch.setattr(planning, "embed_preprocessing", _counting(planning.embed_preprocessing, opened))
    explainer = Explainer(classifiers.colour_classifier((1, 3, 64, 96)))
    picture = np.zeros((64, 96, 3), np.uint8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: explainer(picture, targets=0), range(16)))
    assert len(opened) == 1


def _counting(function, calls):
    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted
