"""What a user does first, in an environment that has nothing but the wheel: explain a model on the command line.

python -I first_model.py OTX FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as ops

CELL = 8


def save_model(path: Path) -> None:
    """Write a classifier that tells red from blue: an average of squares, a ReLU, a pooling, a linear layer."""
    image = ops.parameter([1, 3, 64, 64], np.float32, name="image")
    mix = np.tile((1.5 * np.eye(3) - 0.5)[:, :, None, None], (1, 1, CELL, CELL)).astype(np.float32) / CELL**2
    features = ops.relu(ops.convolution(image, mix, [CELL] * 2, [0, 0], [0, 0], [1, 1]))
    pooled = ops.reduce_mean(features, np.array([2, 3]), False)
    logits = ops.matmul(pooled, np.array([[1, 0, -1], [-1, 0, 1]], np.float32) * 9, False, True)
    model = ov.Model([logits], [image])
    for key, value in {"model_type": "Classification", "task_type": "classification", "labels": "red blue"}.items():
        model.set_rt_info(value, ["model_info", key])
    ov.save_model(model, path)


def main(otx: str, folder: Path) -> None:
    assert find_spec("torch") is None
    folder.mkdir()
    save_model(folder / "model.xml")
    picture = np.full((64, 64, 3), 120, np.uint8)
    picture[8:24, 40:56] = (30, 30, 230)  # BGR: red, in the upper right
    cv2.imwrite(str(folder / "photo.png"), picture)
    command = [otx, "explain", "--checkpoint", "model.xml", "--data_root", "photo.png", "--dump", "True"]
    subprocess.run([*command, "--work_dir", "out"], cwd=folder, check=True, capture_output=True)
    (entry,) = map(json.loads, (folder / "out" / "predictions.jsonl").read_text().splitlines())
    assert entry["predictions"][0]["label"] == "red", entry
    (file,) = (name for name in entry["files"] if name.endswith("_saliency_map.png"))
    row, column = np.unravel_index(cv2.imread(str(folder / "out" / file), cv2.IMREAD_GRAYSCALE).argmax(), (64, 64))
    assert (row // 16, column // 16) in {(0, 2), (0, 3), (1, 2), (1, 3)}, (row, column)
    import otx_xai

    assert "site-packages" in otx_xai.__file__, otx_xai.__file__
    print(f"otx-xai {otx_xai.__version__} explained a first model without torch: {sorted(entry['files'])}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
