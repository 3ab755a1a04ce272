"""What maps of detectors cost: explained against plain asynchronous inference of the same IR, side by side.

    python benchmarks/white_box_detectors.py [model …] [--seconds 4] [--rounds 5] [--markdown]

Stock networks of torchvision with random weights, 91 classes as in COCO, static batch 1, float32, throughput hint. Mask
R-CNN's box head is biased to find as many instances as it may (100), which is the worst case for its maps. Columns as
in ``white_box.py``: images a second, the ratio round by round (median), the same in processor seconds.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from statistics import median

import numpy as np
import openvino as ov
from planning import planned
from white_box import Runner

from otx_xai.records import Task

CLASSES = 91
SIZES = {
    "ssdlite320_mobilenet_v3_large": (320, 320),
    "retinanet_resnet50_fpn": (480, 640),
    "fcos_resnet50_fpn": (480, 640),
    "fasterrcnn_resnet50_fpn": (480, 640),
    "maskrcnn_resnet50_fpn": (480, 640),
}
GOAL = 0.95


def task_of(name: str) -> Task:
    """Return what a network does."""
    return Task.INSTANCE_SEGMENTATION if name.startswith("mask") else Task.DETECTION


def build(name: str) -> ov.Model:
    """Build a network with random weights and convert it as ``otx export`` does."""
    import torch

    from otx_xai.conversion import to_openvino
    from otx_xai.models import Detector, InstanceSegmenter

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    kind = InstanceSegmenter if task_of(name) is Task.INSTANCE_SEGMENTATION else Detector
    model = kind(name, [str(i) for i in range(CLASSES)], input_size=SIZES[name]).eval()
    if hasattr(model.network, "roi_heads"):
        with torch.no_grad():
            model.network.roi_heads.box_predictor.cls_score.bias[1:6] = 4.0
    return to_openvino(model)


def measure(name: str, seconds: float, rounds: int) -> tuple[str, ...]:
    """Measure one model, and return the cells of its row."""
    plain = build(name)
    start = time.perf_counter()
    made = planned(plain, task=task_of(name), labels=[str(label) for label in range(CLASSES)], targets=-1)
    explained, method = made.model, made.method
    insert = time.perf_counter() - start
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *SIZES[name])).astype(np.float32)
    runners = [Runner(model, image) for model in (plain, explained)]
    turns = [[runner.turn(seconds) for runner in runners] for _ in range(rounds)]
    rates = [median(turn[i][0] for turn in turns) for i in range(2)]
    wall, cpu = (median(turn[1][i] / turn[0][i] for turn in turns) for i in range(2))
    return (
        name,
        f"{SIZES[name][0]}x{SIZES[name][1]}",
        str(method),
        f"{rates[0]:.2f}",
        f"{rates[1]:.2f}",
        f"{wall:.2f} (goal {GOAL})",
        f"{cpu:.2f}",
        f"{insert:.2f}",
    )


HEADER = ("model", "input", "method", "plain/s", "explained/s", "ratio", "cpu", "insert s")
WIDTHS = (31, 9, 24, 9, 13, 18, 6, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=tuple(SIZES))
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    rows = [HEADER, *([("---",) * len(HEADER)] if arguments.markdown else [])]
    for cells in rows:
        print(lay_out(cells, arguments.markdown))
    for name in arguments.models:
        print(lay_out(measure(name, arguments.seconds, arguments.rounds), arguments.markdown), flush=True)


def lay_out(cells: tuple[str, ...], markdown: bool) -> str:
    """Return one row."""
    if markdown:
        return f"| {' | '.join(cells)} |"
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


if __name__ == "__main__":
    main()
