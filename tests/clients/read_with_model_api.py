"""Read with Intel's Model API what ``export_model.py`` has written: task, labels, boxes and maps must arrive.

    python tests/clients/read_with_model_api.py FOLDER

It runs in an environment of its own (``make clients``), because Model API pins another OpenCV.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import ClassificationModel, MaskRCNNModel, Model
from model_api.models.ssd import SSD

WRAPPERS = {"classification": ClassificationModel, "detection": SSD, "instance_segmentation": MaskRCNNModel}


def main(folder: Path) -> None:
    for task in WRAPPERS:
        read(folder / task, task)


def read(folder: Path, task: str) -> None:
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # bfloat16 is some levels of grey off
    adapter = OpenvinoAdapter(create_core(), str(folder / "exported_model.xml"), plugin_config=exact)
    model = Model.create_model(adapter)
    assert isinstance(model, WRAPPERS[task]), type(model)
    known = json.loads((folder / "expected.json").read_text())
    written = [label.replace(" ", "_") for label in known["labels"]]  # Model API splits the labels at spaces
    assert list(model.params.labels) == written, (model.params.labels, written)
    image = cv2.imread(str(folder / "image.png"))[..., ::-1]
    result = model(image)
    boxes = compare_boxes(result, known["boxes"]) if task != "classification" else 0
    if task == "instance_segmentation":  # Model API makes maps of its own; those of the graph are in the raw outputs
        inputs, _ = model.base_preprocess(image)
        maps = model.infer_sync(inputs)["saliency_map"][0]
    else:
        maps = result.saliency_map[0]
    expected = np.load(folder / "maps.npy").astype(np.float32)
    assert maps.shape == expected.shape, (maps.shape, expected.shape)
    error = float(np.abs(maps - expected).max())
    assert error <= 2, f"maps differ by {error} of 255"
    assert np.ptp(expected) > 100, "the maps say something"
    print(
        f"Model API: {type(model).__name__}, {len(written)} labels, {boxes} boxes, maps {maps.shape}, "
        f"largest difference {error:.2f}"
    )


def compare_boxes(result: object, expected: list[list[float]]) -> int:
    """Compare boxes with ours, which are not rounded to whole pixels."""
    found = sorted((int(label), *map(float, box)) for label, box in zip(result.labels, result.bboxes, strict=True))
    assert len(found) == len(expected) > 0, (len(found), len(expected))
    wanted = sorted((int(label), *np.round(box)) for label, *box in expected)
    np.testing.assert_allclose(found, wanted, atol=1.01)
    return len(found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
