from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from otx_xai.data.shapes import SHAPE_LABELS, draw_shape, draw_size, write_shapes
from otx_xai.errors import ConfigError, OutputError

TARGETS = range(len(SHAPE_LABELS))


def test_labels_are_in_the_order_of_an_image_folder() -> None:
    assert list(SHAPE_LABELS) == sorted(set(SHAPE_LABELS))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [(96, 96), (120, 200), (161, 75)])
def test_picture_and_mask(target: int, size: tuple[int, int]) -> None:
    shape = draw_shape(np.random.default_rng(3), size, target)
    assert shape.image.shape == (*size, 3)
    assert shape.image.dtype == np.uint8
    assert shape.mask.shape == size
    assert shape.mask.dtype == np.bool_
    assert (shape.target, shape.label) == (target, SHAPE_LABELS[target])


@pytest.mark.parametrize("target", TARGETS)
def test_shape_is_one_piece_inside_the_picture(target: int) -> None:
    for seed in range(20):
        mask = draw_shape(np.random.default_rng(seed), (90, 130), target).mask.astype(np.uint8)
        assert cv2.connectedComponents(mask)[0] == 2  # the background counts as one
        assert 0.02 < mask.mean() < 0.35


@pytest.mark.parametrize(
    ("label", "part"),
    # Area over that of the enclosing circle: 1, 2/π, 3√3/4π, and 5·sin(36°)·0.5/π.
    [("circle", 1.0), ("square", 0.637), ("triangle", 0.413), ("star", 0.468)],
)
def test_shape_is_what_its_label_says(label: str, part: float) -> None:
    mask = draw_shape(np.random.default_rng(0), (400, 400), SHAPE_LABELS.index(label), radius=(0.4, 0.4)).mask
    assert mask.sum() / (np.pi * 160**2) == pytest.approx(part, rel=0.02)


def test_mask_lies_on_the_shape() -> None:
    """Inside the mask the colour is nearly one; across its border it changes."""
    jumps = []
    for seed in range(30):
        shape = draw_shape(np.random.default_rng(seed), (160, 160), seed % len(SHAPE_LABELS))
        mask = shape.mask.astype(np.uint8)
        inner = cv2.erode(mask, np.ones((5, 5), np.uint8)).astype(bool)
        ring = cv2.dilate(mask, np.ones((9, 9), np.uint8)).astype(bool) & ~cv2.dilate(
            mask, np.ones((3, 3), np.uint8)
        ).astype(bool)
        image = shape.image.astype(np.float64)
        assert image[inner].std(axis=0).max() < 30
        jumps.append(np.abs(image[inner].mean(axis=0) - image[ring].mean(axis=0)).sum())
    assert min(jumps) > 60


def test_same_seed_same_picture() -> None:
    first, again, other = (draw_shape(np.random.default_rng(seed), (96, 120), 2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.image != other.image).any()


def test_size_varies_around_the_typical_side() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([draw_size(rng, 100) for _ in range(200)])
    assert sizes.min() == 75
    assert sizes.max() == 125
    assert (sizes[:, 0] != sizes[:, 1]).mean() > 0.9


@pytest.mark.parametrize(
    ("size", "target", "radius"),
    [((96, 96), 6, (0.2, 0.3)), ((96, 96), -1, (0.2, 0.3)), ((20, 96), 0, (0.2, 0.3)), ((96, 96), 0, (0.3, 0.6))],
)
def test_wrong_arguments_are_refused(size: tuple[int, int], target: int, radius: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        draw_shape(np.random.default_rng(0), size, target, radius=radius)


def test_files(tmp_path: Path) -> None:
    files = write_shapes(tmp_path / "shapes", 8, seed=1, size=80)
    assert [file.target for file in files] == [0, 1, 2, 3, 4, 5, 0, 1]
    assert files[7].path == tmp_path / "shapes" / "cross" / "0007.jpg"
    assert files[7].mask_path == tmp_path / "shapes_masks" / "cross" / "0007.png"
    for file in files:
        image = cv2.imread(str(file.path))
        mask = cv2.imread(str(file.mask_path), cv2.IMREAD_UNCHANGED)
        assert image.shape[:2] == mask.shape
        assert set(np.unique(mask)) == {0, 255}
    assert sorted(path.name for path in (tmp_path / "shapes").iterdir()) == sorted(SHAPE_LABELS)


def test_files_hold_what_was_drawn(tmp_path: Path) -> None:
    file = write_shapes(tmp_path / "shapes", 1, seed=4)[0]
    rng = np.random.default_rng(4)
    shape = draw_shape(rng, draw_size(rng, 160), 0)
    rgb = cv2.cvtColor(cv2.imread(str(file.path)), cv2.COLOR_BGR2RGB)
    assert np.abs(rgb[shape.mask].mean(axis=0) - shape.image[shape.mask].mean(axis=0)).max() < 5
    np.testing.assert_array_equal(cv2.imread(str(file.mask_path), cv2.IMREAD_UNCHANGED) > 0, shape.mask)


def test_files_repeat(tmp_path: Path) -> None:
    first, again = (write_shapes(tmp_path / name, 3, seed=7) for name in ("a", "b"))
    assert [file.path.read_bytes() for file in first] == [file.path.read_bytes() for file in again]


def test_mask_folder_can_be_chosen(tmp_path: Path) -> None:
    file = write_shapes(tmp_path / "shapes", 1, mask_folder=tmp_path / "elsewhere")[0]
    assert file.mask_path == tmp_path / "elsewhere" / "circle" / "0000.png"
    assert file.mask_path.is_file()


def test_no_picture_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        write_shapes(tmp_path, 0)


def test_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_shapes(tmp_path / "file", 1)
