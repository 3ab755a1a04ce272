"""Export a small classifier with its saliency branch, and what OpenVINO computes with it, for another client to read.

python tests/clients/export_model.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from otx_xai import Explainer
from otx_xai.data.shapes import SHAPE_LABELS, draw_shape
from otx_xai.export import export_model
from otx_xai.models import MulticlassClassifier


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    labels = [f"a {name}" for name in SHAPE_LABELS]
    model = MulticlassClassifier("mobilenet_v3_small", labels, input_size=96).eval()
    report = export_model(model, folder / "exported_model.xml", explain=True)
    image = draw_shape(np.random.default_rng(0), (96, 96), 1).image
    cv2.imwrite(str(folder / "image.png"), image[..., ::-1])
    explanation = Explainer(report.path)(image, targets=-1, colormap=False, resize=False)
    np.save(folder / "maps.npy", np.stack([explanation.saliency_map[i] for i in range(len(labels))]))
    (folder / "labels.json").write_text(json.dumps(labels))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
