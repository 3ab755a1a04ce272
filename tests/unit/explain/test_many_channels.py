"""Networks of any number of channels: what feeds them, from Python, from files and from loaders; where maps lie."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
import tifffile
import torch
from openvino import opset13 as ops
from PIL import Image
from torch.utils.data import DataLoader

from otx_xai import Engine, Explainer, InputOptions
from otx_xai.errors import ConfigError, DataError, ImageError

CELL, SIDE = 8, 64
LARGE = (96, 128)


def network(channels: int) -> ov.Model:
    """Class ``k`` is for a bright channel ``k``."""
    image = ops.parameter([1, channels, SIDE, SIDE], np.float32, name="image")
    image.output(0).set_names({"image"})
    mix = np.float32(np.eye(channels) * 1.2 - 0.2)[:, :, None, None]
    cells = np.ascontiguousarray(np.broadcast_to(mix, (channels, channels, CELL, CELL)) / CELL**2)
    seen = ops.relu(ops.convolution(image, cells, [CELL, CELL], [0, 0], [0, 0], [1, 1]))
    logits = ops.reduce_mean(seen, np.array([2, 3]), False)
    logits.output(0).set_names({"logits"})
    return ov.Model([logits], [image])


def bright(channels: int, channel: int, size: tuple[int, int] = LARGE) -> np.ndarray:
    """A bright square in one channel, low and left."""
    image = np.full((*size, channels), 30, np.uint8)
    height, width = size
    image[height * 5 // 8 : height * 6 // 8, width // 8 : width * 2 // 8, channel] = 250
    return image


def check(saliency_map: np.ndarray, size: tuple[int, int] = LARGE) -> None:
    assert saliency_map.shape == size
    rows, columns = np.nonzero(saliency_map == saliency_map.max())
    assert rows.mean() / size[0] == pytest.approx(5.5 / 8, abs=1 / 16)
    assert columns.mean() / size[1] == pytest.approx(1.5 / 8, abs=1 / 16)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_an_array_a_tensor_and_a_batch(channels: int) -> None:
    explainer = Explainer(network(channels), task="classification")
    last = channels - 1
    image = bright(channels, last)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    found = [explainer(data, targets=last, colormap=False).saliency_map[last] for data in (image, tensor)]
    check(found[0])
    np.testing.assert_array_equal(found[0], found[1])
    batch = np.stack([bright(channels, last, (SIDE, SIDE))] * 2).astype(np.float32)
    for explanation in explainer(batch.transpose(0, 3, 1, 2), targets=last, colormap=False):
        check(explanation.saliency_map[last], (SIDE, SIDE))


def test_a_black_box_hides_all_channels() -> None:
    explainer = Explainer(network(6), task="classification", explain_method="rise")
    check(explainer(bright(6, 5), targets=5, colormap=False, seed=0).saliency_map[5])


@pytest.mark.parametrize("resize_type", ["standard", "fit_to_window", "fit_to_window_letterbox", "crop"])
def test_every_way_to_fit_an_image_in(resize_type: str) -> None:
    options = InputOptions(resize_type=resize_type, pad_value=30)
    explainer = Explainer(network(6), task="classification", input=options)
    image = bright(6, 5, (96, 104))
    check(explainer(image, targets=5, colormap=False).saliency_map[5], (96, 104))


def test_overlays_show_the_first_three_channels() -> None:
    explainer = Explainer(network(6), task="classification")
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 6), dtype=np.uint8)
    shown = explainer(image, targets=0, overlay=True, overlay_weight=0.0).saliency_map[0]
    np.testing.assert_array_equal(shown, image[..., :3])


@pytest.mark.parametrize(
    "data", [np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8), Image.new("RGB", (SIDE, SIDE))]
)
def test_an_rgb_image_does_not_feed_four_channels(data: object) -> None:
    with pytest.raises(ImageError, match="the network takes 4 channels"):
        Explainer(network(4), task="classification")(data)


def test_a_pil_image_with_alpha_feeds_four_channels() -> None:
    explainer = Explainer(network(4), task="classification")
    check(explainer(Image.fromarray(bright(4, 3)), targets=3, colormap=False).saliency_map[3])


def test_pil_images_and_tensors_are_explained_as_arrays_are() -> None:
    explainer = Explainer(network(3), task="classification", input=InputOptions(mean=0, scale=1))
    image = bright(3, 0)
    expected = explainer(image, targets=0, overlay=True).saliency_map[0]
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    for data in (Image.fromarray(image), Image.fromarray(image).convert("RGBA"), tensor, tensor / 255):
        np.testing.assert_array_equal(explainer(data, targets=0, overlay=True).saliency_map[0], expected)
    grey = explainer(Image.fromarray(image[..., 0]), targets=0, overlay=True).saliency_map[0]
    np.testing.assert_array_equal(grey, explainer(image[..., 0], targets=0, overlay=True).saliency_map[0])


def test_maps_are_laid_over_a_pil_image() -> None:
    explainer = Explainer(network(3), task="classification")
    image = bright(3, 0)
    fed = cv2.resize(image, (SIDE, SIDE)).transpose(2, 0, 1)[None].astype(np.float32)
    options = {"targets": 0, "overlay": True}
    expected = explainer(fed, original_input_image=image, **options).saliency_map[0]
    for other in (Image.fromarray(image), [Image.fromarray(image)], torch.from_numpy(image)):
        np.testing.assert_array_equal(explainer(fed, original_input_image=other, **options).saliency_map[0], expected)


def test_a_tensor_of_numbers_that_may_be_normalised_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tensor \(3, 64, 64\) of floating-point numbers.*data\[None\]"):
        Explainer(network(3), task="classification")(torch.rand(3, SIDE, SIDE))


class TestRun:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        (tmp_path / "photos").mkdir()
        return tmp_path / "photos"

    def explain(self, tmp_path: Path, channels: int, **data: object) -> tuple[object, list[dict[str, object]]]:
        ov.save_model(network(channels), tmp_path / "model.xml", compress_to_fp16=False)
        run = Engine(work_dir=tmp_path / "out").explain(
            tmp_path / "model.xml", task="classification", dump=True, **data
        )
        return run, [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]

    @pytest.mark.parametrize("channels", [2, 4, 6])
    def test_arrays_and_tiff_files(self, tmp_path: Path, photos: Path, channels: int) -> None:
        image = bright(channels, 1)
        np.save(photos / "a.npy", image)
        np.save(photos / "b.npy", np.float32(image.transpose(2, 0, 1)) / 255)
        tifffile.imwrite(
            photos / "c.tif", image.astype(np.uint16) * 257, photometric="minisblack", planarconfig="contig"
        )
        run, lines = self.explain(tmp_path, channels, data_root=photos)
        assert (run.explained, run.exit_code) == (3, 0)
        assert [line["predictions"][0]["label"] for line in lines] == ["1", "1", "1"]
        overlay = cv2.imread(str(tmp_path / "out" / "saliency_map" / "a_class_1_overlay.png"))
        assert overlay.shape == (*LARGE, 3)

    def test_an_rgb_image_among_them_fails_and_is_named(self, tmp_path: Path, photos: Path) -> None:
        np.save(photos / "a.npy", bright(4, 1))
        cv2.imwrite(str(photos / "b.jpg"), bright(3, 1))
        run, _ = self.explain(tmp_path, 4, data_root=photos)
        assert run.exit_code == 7
        assert list(run.failures) == ["b.jpg"]
        assert "the network takes 4" in run.failures["b.jpg"]

    @pytest.mark.parametrize("channels", [1, 2, 6])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_loaders(self, tmp_path: Path, channels: int, dtype: torch.dtype) -> None:
        image = bright(channels, channels - 1, (SIDE, SIDE))
        images = torch.from_numpy(np.stack([image.transpose(2, 0, 1)] * 3)).to(dtype)
        run, lines = self.explain(tmp_path, channels, datamodule=DataLoader(images))
        assert (run.explained, run.exit_code) == (3, 0)
        assert lines[0]["predictions"][0]["label"] == str(channels - 1)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_loaders_of_another_number_of_channels(self, tmp_path: Path, dtype: torch.dtype) -> None:
        run, _ = self.explain(tmp_path, 4, datamodule=DataLoader(torch.zeros(2, 3, SIDE, SIDE, dtype=dtype)))
        assert run.exit_code == DataError.exit_code
        assert all("the network takes" in reason for reason in run.failures.values())
