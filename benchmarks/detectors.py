"""Detectors from their recipes: trained here on drawn shapes, explained, and their maps held against the known boxes.

    OMP_WAIT_POLICY=passive python benchmarks/detectors.py [model …] --out out/detectors [--markdown] [--threads 2]

Where the cores have other work, torch's threads lose most of their time waiting for each other in a loop; with
`OMP_WAIT_POLICY=passive` they sleep.

Every model begins with random weights and trains as long as it needs: `steps` of a batch, `train s` of wall time and
`cpu s` of the processor's, which other load on the machine disturbs less; validation is left out. Then new pictures are
explained from the checkpoint, no layer being named. Each picture gives a map of each class that the model finds in it,
an activation map one for all. `wrong` are those of classes that the picture does not show: mistakes of the model, about
which a map cannot be right. Of the others:

- `hit`: the peak lies in a box of that class (of an activation map in any box). `chance` is the same for a random
  point: the part of the picture that these boxes cover.
- `±1 cell`: the peak lies in such a box, or at most one cell of the map beside it.
- `off`: mean distance of the peak from the middle of the nearest such box, in cells, and as a part of its side.
- `drift`: the mean of these offsets to the right and down, in cells: near 0 where the peaks err to all sides alike.

`--out` gets the runs, a contact sheet a model, and one line of JSON a model in `detectors.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import torch

from otx_xai import Engine
from otx_xai.checkpoints import load_checkpoint
from otx_xai.data import read_image
from otx_xai.data.shape_sets import SceneFile, write_coco
from otx_xai.data.shapes import SHAPE_LABELS
from otx_xai.demo.peaks import find_peak
from otx_xai.explain.explanation import PER_IMAGE_MAP, Explanation
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import FloatArray, InputGeometry, Size, UInt8Array
from otx_xai.report import overlay, sheet, write_picture
from otx_xai.report.frames import Frame, draw_frames

EPOCHS = {
    "ssdlite_slim": 10,
    "retinanet_resnet18": 12,
    "fcos_resnet18": 10,
    "fasterrcnn_resnet18": 9,
    "maskrcnn_resnet18": 9,
}
"""Passes over the training pictures that each model needs."""
COUNTS = {"train": 800, "val": 40, "test": 120}
SIDE = 128
TILES = 24


@dataclass(frozen=True)
class Peak:
    """Where a map of one picture is highest, held against the boxes that it is about.

    Args:
        hit: it lies in a box.
        near: it lies in a box, or at most a cell beside it.
        covered: part of the picture that the boxes cover, in [0, 1].
        offset: from the middle of the nearest box, in cells, ``(right, down)``.
        relative: its length as a part of the mean side of that box.
    """

    hit: bool
    near: bool
    covered: float
    offset: tuple[float, float]
    relative: float


class Clock(lightning.Callback):
    """Measures training: reading and batches, without validation, which ends an epoch, and checkpoints."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.steps = 0
        self._began: tuple[float, float] | None = None

    def on_train_epoch_start(self, *_: Any) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def on_validation_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._stop(trainer)

    def _stop(self, trainer: lightning.Trainer) -> None:
        if self._began is not None:
            self.wall += time.perf_counter() - self._began[0]
            self.cpu += time.process_time() - self._began[1]
        self.steps, self._began = trainer.global_step, None


def judge(grey: UInt8Array, cell: tuple[float, float], boxes: FloatArray) -> Peak:
    """Hold a map against boxes.

    Args:
        grey: ``uint8`` ``(H, W)`` over the picture.
        cell: height and width of a cell of the map in pixels of the picture.
        boxes: ``(M, 4)`` xyxy, at least one.
    """
    row, column = find_peak(grey)
    point = np.array([column + 0.5, row + 0.5])
    sides = np.array([cell[1], cell[0]])
    covered = np.zeros(grey.shape, bool)
    for x1, y1, x2, y2 in boxes.astype(int).tolist():
        covered[y1:y2, x1:x2] = True
    beside = np.maximum(np.maximum(boxes[:, :2] - point, point - boxes[:, 2:]), 0) / sides
    offsets = (point - (boxes[:, :2] + boxes[:, 2:]) / 2) / sides
    nearest = int(np.linalg.norm(offsets, axis=1).argmin())
    side = float(np.mean((boxes[nearest, 2:] - boxes[nearest, :2]) / sides))
    return Peak(
        hit=bool((beside == 0).all(axis=1).any()),
        near=bool((beside <= 1).all(axis=1).any()),
        covered=float(covered.mean()),
        offset=(float(offsets[nearest, 0]), float(offsets[nearest, 1])),
        relative=float(np.linalg.norm(offsets[nearest])) / side,
    )


def boxes_of(file: SceneFile, target: int | str) -> FloatArray:
    """Return the boxes of a class, or all of them for a map without a class."""
    boxes = file.scene.boxes
    return boxes if target == PER_IMAGE_MAP else boxes[np.array(file.scene.targets) == target]


def judged(
    file: SceneFile, explanation: Explanation, geometry: InputGeometry
) -> list[tuple[int | str, UInt8Array, Peak | None]]:
    """Return class, map over the picture, and verdict of each map; no verdict where there is no such object."""
    size: Size = file.scene.image.shape[:2]
    results = []
    for target, grey in explanation.saliency_map.items():
        large = to_uint8(to_image(grey[None].astype(np.float32) / np.float32(255), size, geometry))[0]
        boxes = boxes_of(file, target)
        cell = (size[0] / grey.shape[0], size[1] / grey.shape[1])
        results.append((target, large, judge(large, cell, boxes) if len(boxes) else None))
    return results


def tile(file: SceneFile, target: int | str, grey: UInt8Array, peak: Peak | None) -> tuple[UInt8Array, str]:
    """Return a picture under its map, with the true boxes and the peak, and what is to be said of it."""
    picture = overlay(read_image(file.path), grey.astype(np.float32) / np.float32(255))
    zoom = 2
    picture = np.ascontiguousarray(cv2.resize(picture, None, fx=zoom, fy=zoom))
    shown = zip(file.scene.boxes, file.scene.targets, strict=True)
    draw_frames(picture, [Frame(box * zoom, SHAPE_LABELS[label], label) for box, label in shown])
    row, column = (zoom * place + zoom // 2 for place in find_peak(grey))
    for radius, ink in ((8, 0), (7, 255), (5, 0)):
        cv2.circle(picture, (column, row), radius, (ink, ink, ink), 1, cv2.LINE_AA)
    name = target if isinstance(target, str) else SHAPE_LABELS[target]
    verdict = "no such object" if peak is None else "hit" if peak.hit else "near" if peak.near else "missed"
    return picture, f"map of {name}\n{verdict}"


def measure(name: str, data: Path, files: tuple[SceneFile, ...], out: Path, seed: int) -> dict[str, Any]:
    """Train a model, measure it, explain the test pictures, and write the contact sheet."""
    clock = Clock()
    epochs = EPOCHS[name]
    engine = Engine.from_config(
        name,
        data_root=data,
        work_dir=out / name,
        max_epochs=epochs,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    engine.train(seed=seed)
    scores = engine.test()
    return {
        "model": name,
        "steps": clock.steps,
        "train_s": clock.wall,
        "cpu_s": clock.cpu,
        "map_50": scores["test/map_50"],
        "map_mask": scores.get("test/map_mask"),
        **explained(out / name / ".latest" / "train" / "best.ckpt", data, files, out / f"{name}.png"),
    }


def explained(checkpoint: Path, data: Path, files: tuple[SceneFile, ...], contact_sheet: Path) -> dict[str, Any]:
    """Explain the test pictures, write the contact sheet, and hold the maps against the boxes."""
    run = Engine(work_dir=contact_sheet.with_suffix("") / "explained").explain(
        checkpoint, data_root=data / "images" / "test"
    )
    geometry = load_checkpoint(checkpoint).geometry
    by_name = {explanation.name: explanation for explanation in run.explanations}
    results = [(file, *one) for file in files for one in judged(file, by_name[file.path.name], geometry)]
    write_picture(contact_sheet, sheet([tile(*result) for result in results[:TILES]], tile_size=(240, 240)))
    peaks = [peak for *_, peak in results if peak is not None]
    offsets = np.array([peak.offset for peak in peaks])
    manifest = json.loads((run.work_dir / "run.json").read_text())
    return {
        "method": manifest["settings"]["method"],
        "cells": next(list(one.shape) for one in run.explanations if one.shape),
        "maps": len(results),
        "wrong": len(results) - len(peaks),
        "hit": sum(peak.hit for peak in peaks) / len(peaks),
        "chance": float(np.mean([peak.covered for peak in peaks])),
        "near": sum(peak.near for peak in peaks) / len(peaks),
        "drift": offsets.mean(axis=0).tolist(),
        "off": float(np.linalg.norm(offsets, axis=1).mean()),
        "relative": float(np.mean([peak.relative for peak in peaks])),
    }


HEADER = ("model", "steps", "train s", "cpu s", "mAP50", "method", "cells", "maps", "wrong", "hit", "chance")
HEADER += ("±1 cell", "off", "drift")
WIDTHS = (20, 6, 8, 6, 6, 23, 8, 5, 6, 5, 7, 8, 12, 14)


def line(row: dict[str, Any], markdown: bool) -> str:
    """Lay one row out."""
    right, down = row["drift"]
    cells = (
        row["model"],
        str(row["steps"]),
        f"{row['train_s']:.0f}",
        f"{row['cpu_s']:.0f}",
        f"{row['map_50']:.2f}",
        row["method"],
        "×".join(map(str, row["cells"])),
        str(row["maps"]),
        str(row["wrong"]),
        f"{row['hit']:.0%}",
        f"{row['chance']:.0%}",
        f"{row['near']:.0%}",
        f"{row['off']:.2f} ({row['relative']:.2f})",
        f"{right:+.2f}, {down:+.2f}",
    )
    return _row(cells, markdown)


def _row(cells: tuple[str, ...], markdown: bool) -> str:
    if markdown:
        return f"| {' | '.join(cells)} |"
    return " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(EPOCHS), help=", ".join(EPOCHS))
    parser.add_argument("--out", type=Path, default=Path("out/detectors"), help="folder of data, runs and sheets")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    unknown = set(arguments.models) - set(EPOCHS)
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}; expected {', '.join(EPOCHS)}")
    logging.getLogger("otx_xai").setLevel(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    data = arguments.out / "data"
    files = write_coco(data, COUNTS, seed=arguments.seed, size=SIDE)
    tested = tuple(file for file in files if file.split == "test")
    print(_row(HEADER, arguments.markdown))
    if arguments.markdown:
        print(f"|{'---|' * len(HEADER)}")
    with (arguments.out / "detectors.jsonl").open("w") as rows:
        for name in arguments.models:
            row = measure(name, data, tested, arguments.out, arguments.seed)
            print(line(row, arguments.markdown), flush=True)
            rows.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
