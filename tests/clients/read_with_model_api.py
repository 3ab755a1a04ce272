"""Read with Intel's Model API what ``export_model.py`` has written: task, labels and maps must arrive.

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
from model_api.models import ClassificationModel, Model


def main(folder: Path) -> None:
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # bfloat16 is some levels of grey off
    adapter = OpenvinoAdapter(create_core(), str(folder / "exported_model.xml"), plugin_config=exact)
    model = Model.create_model(adapter)
    assert isinstance(model, ClassificationModel), type(model)
    labels = json.loads((folder / "labels.json").read_text())
    written = [label.replace(" ", "_") for label in labels]  # Model API splits the labels at spaces
    assert list(model.params.labels) == written, (model.params.labels, written)
    result = model(cv2.imread(str(folder / "image.png"))[..., ::-1])
    expected = np.load(folder / "maps.npy").astype(np.float32)
    maps = result.saliency_map[0]
    assert maps.shape == expected.shape, (maps.shape, expected.shape)
    error = float(np.abs(maps - expected).max())
    assert error <= 2, f"maps differ by {error} of 255"
    print(f"Model API: {type(model).__name__}, {len(labels)} labels, maps {maps.shape}, largest difference {error:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
