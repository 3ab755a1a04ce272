"""Overlaps and suppression are those of torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from otx_xai.postprocess.overlaps import overlaps, suppress

RANDOM = np.random.default_rng(4)


def random_boxes(count: int) -> np.ndarray:
    """Boxes of which some lie outside of the image."""
    low = RANDOM.uniform(-30, 50, (count, 2))
    return np.concatenate([low, low + RANDOM.uniform(1, 40, (count, 2))], 1).astype(np.float32)


def test_overlaps_are_those_of_torchvision() -> None:
    first, second = random_boxes(5), random_boxes(9)
    expected = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(overlaps(first, second), expected, rtol=1e-5)
    assert (expected > 0).any()
    empty = np.full((1, 4), 5, np.float32)
    assert overlaps(empty, empty).tolist() == [[0]]
    assert overlaps(empty, first).tolist() == [[0] * 5]
    assert overlaps(first[:0], second).shape == (0, 9)


@pytest.mark.parametrize("count", [1, 90])
def test_suppression_is_that_of_torchvision(count: int) -> None:
    boxes, labels = random_boxes(count), RANDOM.integers(0, 3, count)
    scores = RANDOM.normal(size=count).astype(np.float32)  # logits are scores as well
    kept = suppress(boxes, labels, scores, iou_threshold=0.4)
    expected = batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels), 0.4)
    np.testing.assert_array_equal(kept, expected.numpy())
    assert count == 1 or 3 < len(kept) < count


def test_of_equal_boxes_the_first_stays() -> None:
    boxes = np.repeat(random_boxes(1), 3, axis=0)
    assert suppress(boxes, np.array([0, 0, 1]), np.ones(3, np.float32), iou_threshold=0.5).tolist() == [0, 2]
    assert suppress(boxes[:0], np.zeros(0, int), np.zeros(0, np.float32), iou_threshold=0.5).size == 0
