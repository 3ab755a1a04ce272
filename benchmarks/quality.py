"""How good the maps of the network of `otx demo` are: every method beside the controls, on drawn pictures.

    python benchmarks/quality.py [--images 12] [--steps 50] [--methods a,b] [--out FOLDER]      ~2 minutes

It trains the network, draws pictures with a box around each shape, and judges the maps as `otx judge` does, sanity
checks included. For a model and images of your own there is `otx judge --checkpoint model.xml --data_root images`.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path

import cv2
import numpy as np

from otx_xai import Engine
from otx_xai.data.shapes import SHAPE_LABELS, draw_shape, draw_size
from otx_xai.demo import demonstrate_task
from otx_xai.records import Task


def draw_pictures(folder: Path, count: int) -> Path:
    """Draw shapes, and write them with their boxes in COCO layout."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    images, annotations = [], []
    for number in range(count):
        label = number % len(SHAPE_LABELS)
        shape = draw_shape(rng, draw_size(rng, 72), label, radius=(0.2, 0.32), patterned=True)
        rows, columns = np.flatnonzero(shape.mask.any(axis=1)), np.flatnonzero(shape.mask.any(axis=0))
        sides = [len(range(edge[0], edge[-1] + 1)) for edge in (columns, rows)]
        box = [int(columns[0]), int(rows[0]), *sides]
        height, width = shape.image.shape[:2]
        cv2.imwrite(str(folder / f"{number:04}.png"), shape.image[..., ::-1])
        images.append({"id": number, "file_name": f"{number:04}.png", "height": height, "width": width})
        area = box[2] * box[3]
        annotations.append({"id": number, "image_id": number, "category_id": label, "bbox": box, "area": area})
    categories = [{"id": number, "name": name} for number, name in enumerate(SHAPE_LABELS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12, help="number of pictures")
    parser.add_argument("--methods", help="rows of the table; all white boxes that fit by default")
    parser.add_argument("--steps", type=int, default=50, help="of insertion and deletion; the paper takes 224")
    parser.add_argument("--out", type=Path, help="folder that is to keep judge.json and judge.png")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        model = demonstrate_task(Path(folder) / "demo", Task.CLASSIFICATION, test_images=1).checkpoint
        photos = draw_pictures(Path(folder) / "photos", arguments.images)
        judgement = Engine(work_dir=arguments.out or folder).judge(
            model,
            data_root=photos,
            methods=arguments.methods,
            images=arguments.images,
            steps=arguments.steps,
            sanity=True,
        )
    print(judgement.summary())


if __name__ == "__main__":
    main()
