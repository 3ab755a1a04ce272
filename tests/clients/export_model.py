"""Export a small model of each task with its saliency branch, and what OpenVINO computes with it, for another client.

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
from otx_xai.models import Detector, InstanceSegmenter, MulticlassClassifier, OTXModel

LABELS = [f"a {name}" for name in SHAPE_LABELS]


def main(folder: Path) -> None:
    torch.manual_seed(0)
    write(folder / "classification", MulticlassClassifier("mobilenet_v3_small", LABELS, input_size=96))
    detector = Detector("fcos_resnet18", LABELS, input_size=96)
    # nothing is trained here: boxes shall reach the confidence threshold all the same
    torch.nn.init.constant_(detector.network.head.classification_head.cls_logits.bias, 2.0)
    torch.nn.init.constant_(detector.network.head.regression_head.bbox_ctrness.bias, 2.0)
    torch.nn.init.constant_(detector.network.head.regression_head.bbox_reg.bias, 2.0)  # and be some pixels wide
    write(folder / "detection", detector)
    segmenter = InstanceSegmenter("maskrcnn_resnet18", LABELS, input_size=96)
    with torch.no_grad():
        segmenter.network.roi_heads.box_predictor.cls_score.bias[1:3] = 4.0
    write(folder / "instance_segmentation", segmenter)


def write(folder: Path, model: OTXModel) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    report = export_model(model.eval(), folder / "exported_model.xml", explain=True)
    image = draw_shape(np.random.default_rng(0), (96, 96), 1).image
    cv2.imwrite(str(folder / "image.png"), image[..., ::-1])
    explanation = Explainer(report.path)(image, targets=-1, colormap=False, resize=False)
    np.save(folder / "maps.npy", np.stack([explanation.saliency_map[i] for i in range(len(LABELS))]))
    boxes = [[prediction.target, *prediction.box] for prediction in explanation.predictions if prediction.box]
    (folder / "expected.json").write_text(json.dumps({"labels": LABELS, "boxes": boxes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
