from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from otx_xai.data import read_image
from otx_xai.data.annotations import Segment
from otx_xai.data.datasets import AnnotatedImages, ClassifiedImages, PlainImages, ShuffledOnce, collate_annotated
from otx_xai.data.formats import Sample
from otx_xai.data.transforms import seeded
from otx_xai.errors import DataError, ImageError
from otx_xai.postprocess import fit
from otx_xai.records import ImageInfo, InputGeometry, ResizeType

GEOMETRY = InputGeometry((64, 96))


@pytest.fixture
def white(tmp_path: Path) -> Sample:
    """A white rectangle on black, in a file with its box and outline."""
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 55:85] = 255
    path = tmp_path / "white.png"
    cv2.imwrite(str(path), image)
    outline: Segment = (np.float32([[55, 20], [85, 20], [85, 40], [55, 40]]),)
    return Sample(
        ImageInfo(str(path), "white.png", "white"),
        classes=(1,),
        boxes=np.float32([[55, 20, 85, 40]]),
        box_labels=(1,),
        segments=(outline,),
        size=(60, 100),
    )


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("kind", list(ResizeType))
def test_images_are_fitted_as_explain_fits_them(white: Sample, kind: ResizeType) -> None:
    geometry = InputGeometry((64, 64), kind, 114)
    expected = fit(read_image(white.image.path), geometry).transpose(2, 0, 1)
    for dataset in (
        ClassifiedImages([white], geometry),
        AnnotatedImages([white], geometry),
        PlainImages([white.image], geometry),
    ):
        image, _ = dataset[0]
        assert (image.dtype, type(image)) == (torch.uint8, torch.Tensor)
        np.testing.assert_array_equal(image.numpy(), expected)


@pytest.mark.parametrize("kind", list(ResizeType))
@pytest.mark.parametrize("augment", [False, True])
def test_boxes_and_masks_stay_on_the_object(white: Sample, kind: ResizeType, augment: bool) -> None:
    dataset = AnnotatedImages([white], InputGeometry((64, 64), kind, 0), masks=True, augment=augment)
    sides = set()
    for seed in range(8):
        image, target = dataset[0, seed]
        brightness = image.numpy().max(axis=0)
        seen = brightness > brightness.max() / 2
        found = box_of(seen)
        np.testing.assert_allclose(target["boxes"][0].numpy(), found, atol=1.01)
        mask = target["masks"][0].numpy().astype(bool)
        assert (mask & seen).sum() / (mask | seen).sum() > 0.85
        assert target["labels"].tolist() == [1]
        sides.add(found[0])
    assert len(sides) == (2 if augment else 1)  # flipped and not


def test_types_of_a_target(white: Sample) -> None:
    for augment in (False, True):
        _, target = AnnotatedImages([white], GEOMETRY, masks=True, augment=augment)[0, 0]
        shapes = {name: (tuple(value.shape), value.dtype, type(value)) for name, value in target.items()}
        assert shapes == {
            "boxes": ((1, 4), torch.float32, torch.Tensor),
            "labels": ((1,), torch.int64, torch.Tensor),
            "masks": ((1, 64, 96), torch.uint8, torch.Tensor),
        }
        assert set(AnnotatedImages([white], GEOMETRY, augment=augment)[0][1]) == {"boxes", "labels"}


@pytest.mark.parametrize("augment", [False, True])
def test_images_without_boxes(white: Sample, augment: bool) -> None:
    background = Sample(white.image, segments=())
    _, target = AnnotatedImages([background], GEOMETRY, masks=True, augment=augment)[0, 0]
    assert [tuple(target[name].shape) for name in ("boxes", "labels", "masks")] == [(0, 4), (0,), (0, 64, 96)]


def test_boxes_out_of_sight_go_with_their_labels_and_masks(white: Sample) -> None:
    beside: Segment = (np.float32([[0, 0], [9, 0], [9, 9]]),)
    sample = Sample(
        white.image,
        boxes=np.float32([[0, 0, 9, 9], *white.boxes]),
        box_labels=(0, 1),
        segments=(beside, *(white.segments or ())),
    )
    _, target = AnnotatedImages([sample], InputGeometry((64, 64), ResizeType.CROP), masks=True)[0]
    assert target["labels"].tolist() == [1]
    assert target["masks"].shape == (1, 64, 64)
    assert target["masks"].any()


def test_classes_and_sizes(white: Sample) -> None:
    both = Sample(white.image, classes=(0, 2))
    assert ClassifiedImages([white], GEOMETRY)[0][1] == torch.tensor(1)
    target = ClassifiedImages([both, Sample(white.image)], GEOMETRY, multilabel=3)
    assert (target[0][1].tolist(), target[1][1].tolist()) == ([1, 0, 1], [0, 0, 0])
    assert target[0][1].dtype == torch.float32
    assert PlainImages([white.image], GEOMETRY)[0][1].tolist() == [60, 100]


def test_augmentation_follows_the_seed_alone(white: Sample) -> None:
    dataset = ClassifiedImages([white], GEOMETRY, augment=True)
    torch.manual_seed(1)
    first = dataset[0, 7][0]
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again, other = dataset[0, 7][0], dataset[0, 8][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.shape == (3, 64, 96)


def test_seeded_without_a_seed_draws_from_torch() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with seeded(None):
        assert torch.equal(torch.rand(1), expected)


def test_annotations_of_another_size_are_refused(white: Sample) -> None:
    turned = Sample(white.image, boxes=white.boxes, box_labels=(1,), size=(100, 60))
    with pytest.raises(DataError, match=r"is 60x100 pixels .* made for 100x60\. Its EXIF data turn it"):
        AnnotatedImages([turned], GEOMETRY)[0]
    other = Sample(white.image, boxes=white.boxes, box_labels=(1,), size=(30, 50))
    with pytest.raises(DataError, match=r"made for 30x50\. Expected the same size"):
        AnnotatedImages([other], GEOMETRY)[0]


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    info = ImageInfo(str(tmp_path / "a.png"), "a.png", "a")
    with pytest.raises(ImageError, match=r"a\.png' is not an image"):
        ClassifiedImages([Sample(info, (0,))], GEOMETRY)[0]


def test_order_covers_all_and_follows_seed_and_epoch() -> None:
    sampler = ShuffledOnce(20, seed=3)
    epochs = [list(sampler) for _ in range(3)]
    assert [sorted(index for index, _ in epoch) for epoch in epochs] == [list(range(20))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]
    assert list(ShuffledOnce(20, seed=3)) == epochs[0]
    assert list(ShuffledOnce(20, seed=4)) != epochs[0]
    assert len(sampler) == 20


def test_collate_keeps_images_apart(white: Sample) -> None:
    dataset = AnnotatedImages([white, white], GEOMETRY)
    images, targets = collate_annotated([dataset[0], dataset[1]])
    assert [image.shape for image in images] == [(3, 64, 96)] * 2
    assert [len(target["boxes"]) for target in targets] == [1, 1]
