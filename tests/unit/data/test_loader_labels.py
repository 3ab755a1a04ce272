"""What batches of loaders tell of their images, in all the forms that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from otx_xai.data.loader_labels import LoadedLabels, NotedLoader, is_shuffled, labels_of, most_classes
from otx_xai.data.loaders import image_names, loaded_images

IMAGES = torch.zeros(3, 3, 4, 6, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("batch", "classes"),
    [
        ((IMAGES, torch.tensor([2, 0, 1])), [(2,), (0,), (1,)]),
        ([IMAGES, torch.tensor([[2], [0], [1]])], [(2,), (0,), (1,)]),
        ((IMAGES, [2, 0, 1]), [(2,), (0,), (1,)]),
        ({"pixel_values": IMAGES, "labels": np.array([2, 0, 1])}, [(2,), (0,), (1,)]),
        ((IMAGES, torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]])), [(1, 2), (), (0,)]),
        ((IMAGES, torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 0, 0]])), [(1, 2), (), (0,)]),
        ((list(IMAGES), [{"labels": torch.tensor([1, 1])}, {}, {"labels": torch.tensor([0])}]), [(1, 1), (), (0,)]),
    ],
    ids=["pair", "column", "list", "mapping", "ones", "float ones", "mappings"],
)
def test_classes(batch: Any, classes: list[tuple[int, ...]]) -> None:
    assert [one.classes for one in labels_of(batch)] == classes


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        list(IMAGES),
        (IMAGES,),
        (IMAGES, torch.tensor([2, 0])),
        (IMAGES, torch.tensor([0.5, 0.1, 0.2])),
        (IMAGES, torch.rand(3, 4)),
        (IMAGES, IMAGES),
        (IMAGES, "abc"),
        (IMAGES, [["a"], ["b", "c"], []]),
        {"image": IMAGES},
    ],
)
def test_what_is_no_label_is_none(batch: Any) -> None:
    assert labels_of(batch) == []


def test_boxes() -> None:
    told = [
        {"boxes": torch.tensor([[0.0, 1, 2, 3]]), "labels": torch.tensor([4])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.zeros(1, 3), "labels": torch.tensor([4])},
    ]
    first, second, third = labels_of((list(IMAGES), told))
    assert (first.classes, first.box_labels) == ((), (4,))
    np.testing.assert_array_equal(first.boxes, [[0, 1, 2, 3]])
    assert second.boxes is not None
    assert second.boxes.shape == (0, 4)
    assert third.boxes is None


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_labels_are_told_before_their_image_is_there(batch_size: int) -> None:
    loader = DataLoader(TensorDataset(IMAGES, torch.tensor([2, 0, 1])), batch_size=batch_size)
    told: dict[str, LoadedLabels] = {}
    noted = NotedLoader(loader, image_names(3), told.__setitem__)
    assert noted.most_classes == 1
    assert not told
    for _ in range(2):  # once a pass
        told.clear()
        for image in loaded_images(noted, image_names(3)):
            assert image.name in told
        assert [told[name].classes for name in sorted(told)] == [(2,), (0,), (1,)]


def test_how_many_classes_at_most_and_in_which_order() -> None:
    data = TensorDataset(IMAGES, torch.eye(3))
    assert most_classes(DataLoader(data)) == 3
    assert most_classes(DataLoader(TensorDataset(IMAGES))) == 0
    assert is_shuffled(DataLoader(data, shuffle=True))
    assert not is_shuffled(DataLoader(data))
