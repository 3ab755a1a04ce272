"""What a branch of gradients costs: plain against explained inference of the same IR, in alternating pairs.

    python benchmarks/gradient_methods.py [model …] [--methods multistridecam,…] [--classes 1] [--rounds 15]

Random weights, 224 × 224, batch 1, float32. In every round the plain model and each explained one run a few times, one
after the other, so that other load on the machine meets all of them; a ratio is that of their processor times in the
same round, and the figure the median over the rounds. How good the maps are is measured by `quality.py`.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
import openvino as ov
from planning import opened
from white_box import OPTIONS, TIMM, build

from otx_xai.explain.insertion import insert
from otx_xai.methods.spec import Order
from otx_xai.openvino_core import core

TIMM["mobilenetv3_large"] = "mobilenetv3_large_100"
MODELS = ("mobilenet_v2", "resnet50", "efficientnet_b0", "mobilenetv3_large")
METHODS = "reciprocam,layercam,multistridecam"


def compiled(model: ov.Model) -> ov.InferRequest:
    """Compile a model for single requests."""
    options = {**OPTIONS, "PERFORMANCE_HINT": "LATENCY"}
    return core().compile_model(model, "CPU", options).create_infer_request()


def seconds(request: ov.InferRequest, image: np.ndarray, repeats: int) -> float:
    """Return the processor time of some inferences."""
    start = time.process_time()
    for _ in range(repeats):
        request.infer(image, share_inputs=True, share_outputs=True)
    return time.process_time() - start


def ratios(name: str, methods: list[str], classes: int, rounds: int, repeats: int) -> dict[str, float]:
    """Return plain / explained of each method."""
    model = build(name)
    order = Order(classes=classes, scores=True)
    plain = compiled(model)
    explained = {method: compiled(insert(opened(model), order, method)) for method in methods}
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    found: dict[str, list[float]] = {method: [] for method in methods}
    for request in (plain, *explained.values()):
        seconds(request, image, 2)
    for _ in range(rounds):
        for method, request in explained.items():
            found[method].append(seconds(plain, image, repeats) / seconds(request, image, repeats))
    return {method: median(values) for method, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--methods", default=METHODS, help="with commas between")
    parser.add_argument("--classes", type=int, default=1, help="so many of the best classes of each image")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=4, help="inferences of a turn")
    arguments = parser.parse_args()
    for name in arguments.models:
        row = ratios(name, arguments.methods.split(","), arguments.classes, arguments.rounds, arguments.repeats)
        print(name, "  ".join(f"{method} {value:.2f}" for method, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
