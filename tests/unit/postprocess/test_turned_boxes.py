"""Turned boxes against corners of OpenCV, an integral over a grid, and a slow loop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from otx_xai.postprocess.turned_boxes import likeness, scaled, suppress_turned, upright

RANDOM = np.random.default_rng(8)


def boxes(count: int) -> np.ndarray:
    columns = [*RANDOM.uniform(20, 44, (2, count)), *RANDOM.uniform(6, 24, (2, count)), RANDOM.uniform(-4, 4, count)]
    return np.stack(columns, 1).astype(np.float32)


def test_upright_boxes_lie_around_the_corners() -> None:
    turned = boxes(20)
    corners = [
        cv2.boxPoints(((x, y), (w, h), float(np.rad2deg(angle)))) for x, y, w, h, angle in turned.astype(float).tolist()
    ]
    expected = [[*points.min(axis=0), *points.max(axis=0)] for points in corners]
    np.testing.assert_allclose(upright(turned), expected, atol=1e-3)
    assert upright(turned[:0]).shape == (0, 4)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether boxes have the same corners, in any order."""
    pairs = zip(corners_of(found), corners_of(expected), strict=True)
    return all(np.abs(one[:, None] - other).max(2).min(1).max() < 1e-3 for one, other in pairs)


def corners_of(turned: np.ndarray) -> list[np.ndarray]:
    return [cv2.boxPoints(((x, y), (w, h), float(np.rad2deg(a)))) for x, y, w, h, a in turned.astype(float).tolist()]


def test_boxes_on_another_raster() -> None:
    turned = boxes(30)
    back = np.array([1 / 2, 1 / 2, 1 / 2, 1 / 2, 1], np.float32)
    assert same(scaled(turned, (2, 2), (7, -3)) * back - np.array([-1.5, 3.5, 0, 0, 0], np.float32), turned)
    level = turned * np.array([1, 1, 1, 1, 0], np.float32)
    assert same(scaled(level, (2, 3), (1, 5)), level * np.float32([3, 2, 3, 2, 1]) + np.float32([5, 1, 0, 0, 0]))
    assert scaled(turned[:0], (2, 3), (0, 0)).shape == (0, 5)


def test_a_stretched_box_has_the_moments_of_its_parallelogram() -> None:
    (turned,) = boxes(1)
    x, y, width, height, angle = (float(value) for value in turned)
    along, across = np.meshgrid(np.linspace(-0.5, 0.5, 400) * width, np.linspace(-0.5, 0.5, 400) * height)
    points = np.stack(
        [along * np.cos(angle) - across * np.sin(angle) + x, along * np.sin(angle) + across * np.cos(angle) + y]
    )
    points = (points * np.array([3, 0.5])[:, None, None]).reshape(2, -1)
    ((mean_x, mean_y, new_width, new_height, turn),) = scaled(turned[None], (0.5, 3), (0, 0)).astype(float)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose([mean_x, mean_y], points.mean(1), rtol=1e-4)
    np.testing.assert_allclose(
        axes @ np.diag([new_width**2, new_height**2]) @ axes.T / 12, np.cov(points), rtol=0.02, atol=0.05
    )


def density(box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The normal distribution with mean and covariance of points spread evenly in a box."""
    x, y, width, height, angle = (float(value) for value in box)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag([width**2, height**2]) @ turn.T / 12
    apart = points - [x, y]
    exponent = np.einsum("...i,ij,...j", apart, np.linalg.inv(covariance), apart) / 2
    return np.exp(-exponent) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))


def test_likeness_is_what_the_hellinger_distance_leaves() -> None:
    first, second = boxes(4), boxes(5)
    points = np.stack(np.meshgrid(np.arange(-40, 104, 0.5), np.arange(-40, 104, 0.5)), -1)
    expected = np.zeros((4, 5))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            shared = np.sqrt(density(one, points) * density(other, points)).sum() * 0.25
            expected[i, j] = 1 - np.sqrt(1 - shared)
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(likeness(first, second), expected, atol=1e-4)


def test_a_box_is_most_like_itself_and_lines_give_numbers() -> None:
    own = boxes(3)
    np.testing.assert_allclose(np.diag(likeness(own, own)), 1, atol=1e-3)
    lines = own * np.array([1, 1, 1, 0, 1], np.float32)
    assert np.isfinite(likeness(lines, own)).all()


@pytest.mark.parametrize("count", [0, 1, 40, 600])
def test_suppression_is_that_of_a_slow_loop(count: int) -> None:
    turned, labels = boxes(count), RANDOM.integers(0, 3, count)
    scores = RANDOM.uniform(0, 1, count).astype(np.float32).round(2)
    kept = suppress_turned(turned, labels, scores, iou_threshold=0.45)
    order = sorted(range(count), key=lambda i: (-scores[i], i))
    alike = likeness(turned, turned) > 0.45
    expected = [
        one
        for place, one in enumerate(order)
        if not any(alike[one, better] and labels[one] == labels[better] for better in order[:place])
    ]
    assert kept.tolist() == expected
    assert count < 40 or 3 < len(expected) < count
