"""Methods and models side by side."""

from __future__ import annotations

from pathlib import Path

import classifiers
import cv2
import numpy as np
import pytest

import otx_xai as xai
from otx_xai.errors import ConfigError, GraphError, TargetError

LABELS = ["red", "green", "blue", "rest"]
INFO = {"task_type": "classification", "labels": " ".join(LABELS)}


@pytest.fixture(scope="module")
def model() -> object:
    return classifiers.colour_classifier(model_info=INFO)


IMAGE = classifiers.coloured_image((64, 96), "green")


def test_methods_of_one_model(model: object, tmp_path: Path) -> None:
    comparison = xai.compare(IMAGE, model, ["reciprocam", "activationmap", "auto"])
    assert (comparison.rows, comparison.columns) == (("green",), ("reciprocam", "activationmap", "auto"))
    alone = xai.Explainer(model, explain_method="reciprocam")(IMAGE, targets=["green"], overlay=True)
    np.testing.assert_array_equal(comparison.explanations[0].saliency_map[1], alone.saliency_map[1])
    others = xai.Explainer(model, explain_method="activationmap")(IMAGE, overlay=True)
    np.testing.assert_array_equal(
        comparison.explanations[1].saliency_map["per_image_map"], others.saliency_map["per_image_map"]
    )
    np.testing.assert_allclose(comparison.correlations[0, 0, [0, 2]], 1, atol=1e-9)  # auto is reciprocam here
    expected = np.corrcoef(alone.on_image("green").ravel(), others.on_image("per_image_map").ravel())[0, 1]
    assert comparison.correlations[0, 0, 1] == pytest.approx(expected)

    html = comparison._repr_html_()
    assert html.count("<img") == 4
    assert "reciprocam: green 0." in html
    page = cv2.imread(str(comparison.save(tmp_path / "new" / "page.png")))[..., ::-1]
    np.testing.assert_array_equal(page, comparison.picture)
    assert page.shape[1] > 4 * 240
    assert comparison.save(tmp_path / "page.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_models_with_other_orders_of_classes(model: object) -> None:
    """Classes go by their names: the second model calls its outputs otherwise."""
    turned = classifiers.colour_classifier(model_info=INFO | {"labels": "green red blue rest"})
    comparison = xai.compare(IMAGE, {"first": model, "other": xai.Explainer(turned)}, targets=["red", "blue"])
    assert (comparison.rows, comparison.columns) == (("red", "blue"), ("first", "other"))
    assert comparison.targets == ((0, 2), (1, 2))
    np.testing.assert_allclose(comparison.correlations[1], 1, atol=1e-9)  # blue is blue in both
    first, other = comparison.explanations
    np.testing.assert_array_equal(
        other.saliency_map[1], xai.Explainer(turned)(IMAGE, [1], overlay=True).saliency_map[1]
    )
    assert not np.array_equal(first.saliency_map[0], other.saliency_map[1])
    both = xai.compare(IMAGE, {"a": model, "b": model}, [None, "activationmap"])
    assert both.columns == ("a, auto", "a, activationmap", "b, auto", "b, activationmap")


def test_files_are_read(model: object, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE[..., ::-1])
    from_file = xai.compare(tmp_path / "a.png", model, ["reciprocam", "activationmap"])
    np.testing.assert_array_equal(from_file.image, IMAGE)


def test_what_cannot_be_compared(model: object) -> None:
    with pytest.raises(ConfigError, match="1 models and 1 methods to compare; expected at least two columns"):
        xai.compare(IMAGE, model)
    with pytest.raises(ConfigError, match="is a batch"):
        xai.compare(np.zeros((2, 3, 64, 96), np.float32), classifiers.colour_classifier((2, 3, 64, 96)), [None, None])
    with pytest.raises(GraphError):
        xai.compare(IMAGE, model, ["reciprocam", "vitreciprocam"])
    with pytest.raises(TargetError, match="purple"):
        xai.compare(IMAGE, model, ["reciprocam", "activationmap"], targets=["purple"])
