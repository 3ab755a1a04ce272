"""A classifier that sees colours and pictures of discs, so that it is known where the evidence lies."""

from __future__ import annotations

import json
from pathlib import Path

import classifiers
import cv2
import openvino as ov
import pytest

SIZE = (64, 96)
PLACES = ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8))
"""Corners, where a centred control does not look."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.xml"
    info: dict[str, object] = {"task_type": "classification", "labels": "red green blue mix"}
    ov.save_model(
        classifiers.colour_classifier((1, 3, *SIZE), strength=0.6, model_info=info), path, compress_to_fp16=False
    )
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of one disc each, with COCO annotations of where it is."""
    folder = tmp_path_factory.mktemp("photos")
    images, annotations = [], []
    for number in range(8):
        colour, (y, x) = ("red", "green")[number % 2], PLACES[number // 2]
        picture = classifiers.coloured_image(SIZE, colour, (y, x))
        assert cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
        box = [96 * x - 8, 64 * y - 8, 16, 16]
        annotations.append({"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": box, "area": 256})
    categories = [{"id": 1, "name": "Red"}, {"id": 2, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder
