"""Networks of one channel and of five, whose images are no RGB pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai import Engine

SIZE = 48


def bright_classifier(channels: int) -> ov.Model:
    """Class 1 is for what is bright in the last channel, class 0 for the rest; in squares of 8 pixels."""
    image = ops.parameter([1, channels, SIZE, SIZE], np.float32, name="image")
    image.output(0).set_names({"image"})
    weights = np.zeros((2, channels, 8, 8), np.float32)
    weights[1, -1], weights[0, -1] = 1 / 64 / 255, -1 / 64 / 255
    features = ops.relu(ops.convolution(image, weights, [8, 8], [0, 0], [0, 0], [1, 1]))
    pooled = ops.reduce_mean(features, np.array([2, 3]), keep_dims=False)
    scores = ops.matmul(pooled, np.array([[-40.0, 40.0], [-40.0, 40.0]], np.float32), False, False)
    result = ops.result(ops.add(scores, np.array([[1.0, -1.0]], np.float32)))
    result.output(0).set_names({"logits"})
    model = ov.Model([result], [image])
    for key, value in {"task_type": "classification", "labels": "dark bright"}.items():
        model.set_rt_info(value, ["model_info", key])
    return model


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_maps_of_other_images_are_judged(channels: int, tmp_path: Path) -> None:
    ov.save_model(bright_classifier(channels), tmp_path / "model.xml", compress_to_fp16=False)
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for number, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        image = rng.integers(0, 60, (SIZE, SIZE, channels), np.uint8)
        image[8 * row : 8 * row + 16, 8 * column : 8 * column + 16, -1] = 250
        np.save(tmp_path / "data" / f"{number}.npy", image)
    found = Engine(work_dir=tmp_path / "out").judge(
        tmp_path / "model.xml", data_root=tmp_path / "data", methods="reciprocam,rise", num_masks=32, steps=6
    )
    assert (found.counts.judged, found.exit_code) == (4, 0)
    for name in ("reciprocam", "rise"):
        assert (found.scores[name].insertion_zero > found.scores["centre"].insertion_zero).all(), name
