"""Images out of other people's loaders, in all the forms that batches have."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from otx_xai.data.loaders import (
    find_loader,
    first_pixels,
    image_count,
    image_names,
    loaded_images,
    recover_image,
)
from otx_xai.errors import DataError

IMAGES = torch.arange(5 * 3 * 4 * 6, dtype=torch.float32).reshape(5, 3, 4, 6)
TARGETS = torch.arange(5)


def rows(loader):
    return [(each.name, each.pixels) for each in loaded_images(loader, image_names(5))]


@pytest.mark.parametrize(
    "collate",
    [
        None,
        lambda samples: torch.stack([image for image, _ in samples]),
        lambda samples: {"pixel_values": torch.stack([image for image, _ in samples]), "labels": 0},
        lambda samples: ([image for image, _ in samples], [{} for _ in samples]),
        lambda samples: [image for image, _ in samples],
    ],
    ids=["pair", "tensor", "mapping", "detection", "list"],
)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_form_of_batch_gives_the_images_one_by_one(collate, batch_size: int):
    loader = DataLoader(TensorDataset(IMAGES, TARGETS), batch_size=batch_size, collate_fn=collate)
    assert image_count(loader) == 5
    np.testing.assert_array_equal(first_pixels(loader), IMAGES[0])
    found = rows(loader)
    assert [name for name, _ in found] == ["000000", "000001", "000002", "000003", "000004"]
    np.testing.assert_array_equal(np.stack([pixels for _, pixels in found]), IMAGES)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_number_of_channels(channels: int):
    images = torch.arange(5 * channels * 24, dtype=torch.float32).reshape(5, channels, 4, 6)
    found = rows(DataLoader(TensorDataset(images)))
    np.testing.assert_array_equal(np.stack([pixels for _, pixels in found]), images)
    mean, scale = tuple(range(channels)), (2.0,) * channels
    expected = np.clip(images[0].numpy() * 2 + np.arange(channels)[:, None, None], 0, 255).transpose(1, 2, 0)
    np.testing.assert_array_equal(recover_image(images[0].numpy(), mean, scale), expected)


def test_bytes_stay_bytes():
    loader = DataLoader(TensorDataset(IMAGES.to(torch.uint8)))
    assert first_pixels(loader).dtype == np.uint8


class Data(lightning.LightningDataModule):
    """Has a loader for tests only."""

    def setup(self, stage: str) -> None:
        self.stage = stage

    def test_dataloader(self):
        return DataLoader(TensorDataset(IMAGES))


def test_a_data_module_is_set_up_for_the_loader_that_it_has():
    data = Data()
    assert image_count(find_loader(data)) == 5
    assert data.stage == "test"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(lightning.LightningDataModule(), "has no loader"), (3, "holds no images"), (DataLoader([]), "is empty")],
)
def test_what_holds_no_images(data: object, reason: str):
    with pytest.raises(DataError, match=reason):
        image_count(find_loader(data))


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"a": 1}, "A batch holds a"),
        (torch.zeros(2, 3), r"A batch is Tensor \(2, 3\)"),
        ([torch.zeros(4, 4), torch.zeros(4, 4)], r"A batch is Tensor \(4, 4\)"),
        (torch.zeros(2, 1, 0, 4), r"shape \(1, 0, 4\)"),
        ("text", "A batch is str"),
    ],
)
def test_batches_of_no_known_form(batch: object, reason: str):
    with pytest.raises(DataError, match=reason):
        list(loaded_images([batch], image_names(5)))


def test_more_or_fewer_images_than_counted():
    loader = DataLoader(TensorDataset(IMAGES), batch_size=2)
    with pytest.raises(DataError, match="more than the 4"):
        list(loaded_images(loader, image_names(4)))
    with pytest.raises(DataError, match="ended 2 images before the 7"):
        list(loaded_images(loader, image_names(7)))


def test_a_normalised_picture_is_recovered():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    mean, scale = np.float32([120, 110, 100]), np.float32([58, 57, 56])
    pixels = ((image - mean) / scale).transpose(2, 0, 1)
    np.testing.assert_array_equal(recover_image(pixels, tuple(mean), tuple(scale)), image)
    stretched = recover_image(pixels, (), ())
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert not recover_image(np.zeros((3, 2, 2), np.float32), (), ()).any()
