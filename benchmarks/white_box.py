"""What a saliency branch costs: explained against plain asynchronous inference of the same IR, side by side.

    python benchmarks/white_box.py [model …] [--seconds 1.5] [--rounds 5] [--markdown]

For each model (random weights, 224 × 224, batch 1, float32, throughput hint) the plain model, the one with maps of all
1000 classes, and the one with maps of the 3 best classes of each image take turns for several rounds (the published
heads: `--preset speed`, and what `insert_xai` gives), and so does the best class by `multistridecam`, which is
`--preset balance`, where it fits. The figures are medians over the rounds, ratios are taken round by round. `cpu` is
the same ratio in processor seconds an image, which other load on the machine disturbs less. `insert` is the time that
the edit of the graph takes, `memory` the peak of a process that compiles and runs each of them (plain / all / best /
balance).
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
import openvino as ov
from planning import opened

from otx_xai.errors import GraphError
from otx_xai.explain.insertion import insert
from otx_xai.methods.spec import Order
from otx_xai.openvino_core import core

TORCHVISION = ("mobilenet_v3_large", "resnet50", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t")
TIMM = {"vit_tiny": "vit_tiny_patch16_224", "deit_small": "deit_small_patch16_224"}
MODELS = (*TORCHVISION, *TIMM)
VARIANTS = {"plain": None, "all": {"classes": None}, "best": {"classes": 3}, "balance": {"classes": 1}}
GOALS = {
    "mobilenet_v3_large": {"all": 0.58, "best": 0.70},
    "resnet50": {"all": 0.95},
    "efficientnet_b0": {"all": 0.90, "best": 0.95},
    "convnext_tiny": {"all": 0.95},
    "swin_t": {"all": 0.95},
    "vit_tiny": {"all": 0.85},
    "deit_small": {"all": 0.90},
}
OPTIONS = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}


def build(name: str) -> ov.Model:
    """Build a network with random weights and convert it, static batch 1."""
    import torch

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    example = torch.randn(1, 3, 224, 224)
    if name in TIMM:
        import timm

        model = timm.create_model(TIMM[name]).eval()
    else:
        import torchvision

        model = getattr(torchvision.models, name)(weights=None).eval()
    for parameter in model.parameters():  # no neutral biases and scales that a converter could leave out
        if parameter.ndim <= 1:
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    if name == "vit_b_16":  # torchvision's ViT fails tracing
        model.heads.head.weight.data.normal_(0, 0.02)
        converted = ov.convert_model(torch.export.export(model, (example,)))
    else:
        converted = ov.convert_model(model, example_input=example)
    converted.reshape([1, 3, 224, 224])
    return converted


def variant(model: ov.Model, name: str) -> ov.Model:
    """Return the plain model, or the model with one of the branches."""
    options = VARIANTS[name]
    method = "multistridecam" if name == "balance" else None
    return model if options is None else insert(opened(model), Order(**options), method)


def variants(model: ov.Model) -> dict[str, ov.Model]:
    """Return all variants that the network has."""
    found = {}
    for name in VARIANTS:
        with suppress(GraphError):  # networks of one stride have no multi-stride CAM
            found[name] = variant(model, name)
    return found


class Runner:
    """One compiled variant that takes its turns."""

    def __init__(self, model: ov.Model, image: np.ndarray | None = None) -> None:
        compiled = core().compile_model(model, "CPU", OPTIONS)
        self.queue = ov.AsyncInferQueue(compiled, 0)
        # what a user of the plain model does as well: take the outputs out of the request
        self.queue.set_callback(lambda request, _: [tensor.data.copy() for tensor in request.output_tensors])
        noise = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
        self.image = noise if image is None else image
        self.turn(0.3)

    def turn(self, seconds: float) -> tuple[float, float]:
        """Run for a while; return images and processor images a second."""
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            self.queue.start_async(self.image)
            count += 1
        self.queue.wait_all()
        return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def peak_memory(path: Path, name: str) -> float:
    """Return the peak resident memory in MiB of a process that compiles and runs one variant."""
    command = [sys.executable, __file__, "--memory-of", name, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak() -> float:
    """Return the peak resident memory of this process in MiB (``ru_maxrss`` would include the parent's)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(entry.split()[1]) / 1024 for entry in status if entry.startswith("VmHWM"))


def measure(name: str, seconds: float, rounds: int) -> dict[str, object]:
    """Measure one model."""
    model = build(name)
    start = time.perf_counter()
    variant(model, "all")
    insert = time.perf_counter() - start
    runners = {key: Runner(made) for key, made in variants(model).items()}
    turns = [{key: runner.turn(seconds) for key, runner in runners.items()} for _ in range(rounds)]
    row: dict[str, object] = {"model": name, "insert_s": insert}
    for key in runners:
        row[key] = median(turn[key][0] for turn in turns)
        row[f"{key}_ratio"] = median(turn[key][0] / turn["plain"][0] for turn in turns)
        row[f"{key}_cpu"] = median(turn[key][1] / turn["plain"][1] for turn in turns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        row["memory"] = {key: peak_memory(path, key) for key in runners}
    return row


def line(row: dict[str, object], markdown: bool) -> str:
    """Lay one row out."""
    goals = GOALS.get(str(row["model"]), {})
    cells = [str(row["model"]), f"{row['plain']:.1f}"]
    for key in ("all", "best", "balance"):
        if key not in row:
            cells += ["–"] * 3
            continue
        goal = f" (goal {goals[key]:.2f})" if key in goals else ""
        cells += [f"{row[key]:.1f}", f"{row[f'{key}_ratio']:.2f}{goal}", f"{row[f'{key}_cpu']:.2f}"]
    cells += [f"{row['insert_s']:.2f}", "/".join(f"{value:.0f}" for value in row["memory"].values())]
    if markdown:
        return f"| {' | '.join(cells)} |"
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))


HEADER = (
    "model",
    "plain/s",
    "all/s",
    "ratio",
    "cpu",
    "best/s",
    "ratio",
    "cpu",
    "balance/s",
    "ratio",
    "cpu",
    "insert s",
    "MiB",
)
WIDTHS = (19, 8, 7, 17, 5, 7, 17, 5, 10, 6, 5, 9, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--memory-of", nargs=2, metavar=("VARIANT", "XML"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        name, path = arguments.memory_of
        runner = Runner(variant(core().read_model(path), name))
        runner.turn(1)
        print(peak())
        return
    if arguments.markdown:
        print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    else:
        print("  ".join(cell.ljust(width) for cell, width in zip(HEADER, WIDTHS, strict=True)))
    rows = []
    for name in arguments.models:
        rows.append(measure(name, arguments.seconds, arguments.rounds))
        print(line(rows[-1], arguments.markdown), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
