"""Images that are unlike all others: planted ones, clean clusters, and scikit-learn's neighbours."""

from __future__ import annotations

import time

import numpy as np
import pytest
from evidence_cases import classified
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.audit.outliers import outlier_findings, outlier_scores


def clusters(count: int = 600, width: int = 64, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features as a pooled ReLU has them, about one centre a class."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, classes, count)
    centres = rng.gamma(1, 1, (classes, width))
    mixing = rng.normal(0, 1, (12, width)) / 4
    features = centres[given] + rng.normal(0, 1, (count, 12)) @ mixing + rng.normal(0, 0.05, (count, width))
    return np.maximum(features, 0).astype(np.float16), given


def _evidence(features: np.ndarray, given: np.ndarray):
    return classified(np.eye(4)[given], given, features=features)


@pytest.mark.parametrize("seed", range(10))
def test_clean_clusters_have_no_outliers(seed: int) -> None:
    evidence = _evidence(*clusters(seed=seed))
    assert outlier_findings(evidence, outlier_scores(evidence)) == []


@pytest.mark.parametrize("seed", range(3))
def test_planted_outliers_come_first(seed: int) -> None:
    features, given = clusters(seed=seed)
    rng = np.random.default_rng(seed)
    planted = rng.choice(600, 6, replace=False)
    features[planted] = rng.gamma(1, 1, (6, 64)) * 2.5
    evidence = _evidence(features, given)
    scores = outlier_scores(evidence)
    assert set(np.argsort(-scores)[:6].tolist()) == set(planted.tolist())
    (found,) = outlier_findings(evidence, scores)
    assert (found.kind, found.state) == (FindingKind.OUTLIER, FindingState.MEASURED)
    assert set(found.images) <= {f"{row}.png" for row in planted}
    assert found.statement.endswith(
        "of 600 images are unlike all others to the model (1.0 %, 95 % interval 0.5-2.2 %)."
    )


@pytest.mark.parametrize("width", [20, 700])
def test_scores_are_those_of_scikit_learn(width: int) -> None:
    features, given = clusters(300, width)
    wide = features.astype(np.float64)
    basis = PCA(min(50, width), svd_solver="full").fit(wide)
    along = basis.transform(wide)
    off = np.linalg.norm(wide - basis.inverse_transform(along), axis=1, keepdims=True)
    points = np.concatenate([along, off], axis=1)
    distances = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points)[0][:, 1:].mean(axis=1)
    logs = np.log(distances)
    middle = np.median(logs)
    expected = (logs - middle) / (1.4826 * np.median(np.abs(logs - middle)))
    np.testing.assert_allclose(outlier_scores(_evidence(features, given)), expected, atol=1e-3)


def test_a_direction_that_no_other_image_has_is_not_overlooked() -> None:
    """The sample's axes know nothing of it."""
    features, given = clusters(4000, 64)
    features[:, 63] = 0
    features[7] = features[8]
    features[7, 63] = 12
    evidence = _evidence(features, given)
    scores = outlier_scores(evidence)
    assert scores.argmax() == 7
    assert scores[7] > 6


def test_a_rare_class_is_no_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otx_xai.audit.outliers._SAMPLE", 200)
    features, given = clusters(4000)
    rare = np.flatnonzero(given == 3)
    kept = np.sort(np.concatenate([np.flatnonzero(given != 3), rare[:30]]))
    evidence = _evidence(features[kept], given[kept])
    assert outlier_findings(evidence, outlier_scores(evidence)) == []


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((0, 8)),
        np.ones((100, 0)),
        np.ones((100, 8)),
        np.random.default_rng(0).random((29, 8)),
        np.full((100, 8), np.nan),
        np.full((100, 8), np.inf),
    ],
)
def test_nothing_is_said_of_nothing(features: np.ndarray) -> None:
    evidence = _evidence(features.astype(np.float16), np.zeros(len(features), int))
    scores = outlier_scores(evidence)
    assert scores.shape == (len(features),)
    assert outlier_findings(evidence, scores) == []


def test_rows_that_are_not_finite_are_left_out() -> None:
    features, given = clusters()
    features[3] = np.nan
    scores = outlier_scores(_evidence(features, given))
    assert np.flatnonzero(np.isnan(scores)).tolist() == [3]


def test_many_images_take_seconds() -> None:
    features, given = clusters(12_000, 256)
    begun = time.process_time()
    assert np.isfinite(outlier_scores(_evidence(features, given))).all()
    assert time.process_time() - begun < 15
