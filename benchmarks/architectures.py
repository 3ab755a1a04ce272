"""What a saliency branch costs in every classifier architecture at hand, and why, where it costs much.

    python benchmarks/architectures.py [name …] [--rounds 15] [--turn 0.15] [--below 0.85] [--markdown]

Names are `torchvision/…`, `timm/…` and `transformers/…`; by default all below, of packages that are installed. Networks
have random weights, 1000 classes and a static input of one image, in float32. For each, plain inference and inference
with the branch of `--preset speed`, maps of the three best classes, take turns in one process and one thread; a ratio
is that of their processor seconds, the median over the rounds, so that other load on the machine disturbs it little.
`counted` is what the ratio would be if time were multiplications (`otx_xai.graph.cost`). For ratios below `--below` the
slowest operations of the branch are named, with their share of the time of the whole, as OpenVINO's profile has them.
A short run: `--rounds 5 --turn 0.05`.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import openvino as ov
from planning import opened

from otx_xai.explain.insertion import insert
from otx_xai.graph.cost import cost
from otx_xai.methods.spec import Order
from otx_xai.openvino_core import core

CLASSES, BEST = 1000, 3
OPTIONS: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}

TORCHVISION = (
    "alexnet vgg11_bn squeezenet1_1 densenet121 inception_v3 googlenet shufflenet_v2_x1_0 mobilenet_v2 "
    "mobilenet_v3_small mobilenet_v3_large resnet18 resnet50 resnext50_32x4d mnasnet1_0 efficientnet_b0 "
    "efficientnet_v2_s regnet_y_400mf vit_b_16 swin_t swin_v2_t convnext_tiny maxvit_t"
)
TIMM = (
    "resnet10t convnext_atto tf_efficientnet_b0 efficientnet_lite0 mobilenetv2_100 mobilenetv3_small_100 "
    "mobilenetv3_large_100 mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0 ghostnet_100 "
    "ghostnetv2_100 lcnet_100 tinynet_a rexnet_100 hrnet_w18_small regnety_002 dla34 repvit_m0_9 fastvit_t8 "
    "edgenext_xx_small efficientformer_l1 efficientvit_b0 efficientvit_m0 mobilevit_xxs mobilevitv2_050 "
    "vit_tiny_patch16_224 deit_small_patch16_224 deit_tiny_distilled_patch16_224 beit_base_patch16_224 "
    "eva02_tiny_patch14_224 cait_xxs24_224 xcit_nano_12_p16_224 pvt_v2_b0 swin_tiny_patch4_window7_224 "
    "swinv2_tiny_window8_256 hiera_tiny_224 tiny_vit_5m_224 levit_128s crossvit_tiny_240 coatnet_nano_rw_224 "
    "maxvit_tiny_tf_224 poolformer_s12 mixer_s32_224 resmlp_12_224 inception_next_atto starnet_s1 nfnet_l0 "
    "resnest14d vovnet39a"
)
TRANSFORMERS = (
    "ViT DeiT Beit Dinov2 Swin Swinv2 ResNet ConvNext ConvNextV2 MobileViT MobileNetV2 RegNet PoolFormer FocalNet "
    "EfficientNet"
)
_SIDES = {
    "inception_v3": 299,
    "swin_v2_t": 256,
    "swinv2_tiny_window8_256": 256,
    "crossvit_tiny_240": 240,
    "mobilevit_xxs": 256,
    "mobilevitv2_050": 256,
}


def names() -> list[str]:
    """Return the architectures of the packages that are installed."""
    known = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}
    return [
        f"{package}/{name}"
        for package, all_of in known.items()
        if importlib.util.find_spec(package)
        for name in all_of.split()
    ]


def build(name: str) -> ov.Model:
    """Build a network with random weights and convert it, for one image of a fixed size."""
    import torch

    package, _, short = name.partition("/")
    torch.manual_seed(0)
    side = _SIDES.get(short, 224)
    network = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}[package](short).eval()
    example = torch.randn(1, 3, side, side)
    if name == "torchvision/vit_b_16":  # fails tracing
        converted = ov.convert_model(torch.export.export(network, (example,)))
    else:
        converted = ov.convert_model(network, example_input=example)
    converted.reshape([1, 3, side, side])
    return converted


def _torchvision(name: str) -> Any:
    import torchvision

    made = torchvision.models.get_model(name, weights=None)
    if hasattr(made, "aux_logits"):
        made.aux_logits = False
    if name == "vit_b_16":
        made.heads.head.weight.data.normal_(0, 0.02)
    return made


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name, num_classes=CLASSES)


def _transformers(name: str) -> Any:
    import torch
    import transformers

    class Logits(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            return self.network(image).logits

    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES)
    if hasattr(config, "image_size"):
        config.image_size = 224
    return Logits(getattr(transformers, f"{name}ForImageClassification")(config))


class Runner:
    """One compiled model that takes its turns, in one thread."""

    def __init__(self, model: ov.Model) -> None:
        self._request = core().compile_model(model, "CPU", OPTIONS).create_infer_request()
        shape = list(model.inputs[0].shape)
        self._image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self.seconds(1)

    def seconds(self, count: int) -> float:
        """Return the processor seconds that so many inferences take."""
        began = time.process_time()
        for _ in range(count):
            self._request.infer(self._image, share_inputs=True, share_outputs=True)
        return time.process_time() - began


@dataclass(frozen=True)
class Row:
    """What was measured of an architecture.

    Args:
        name: of it.
        method: what explains it; a sentence where nothing does.
        milliseconds: of plain inference.
        ratio: plain processor seconds over those with the branch.
        counted: likewise, of multiplications; NaN where the graph does not tell.
        slowest: operations of the branch with their share of the time of the whole, where the ratio is low.
    """

    name: str
    method: str
    milliseconds: float = float("nan")
    ratio: float = float("nan")
    counted: float = float("nan")
    slowest: str = ""


def measure(name: str, rounds: int, turn: float, below: float) -> Row:
    """Measure one architecture."""
    model = build(name)
    explained = insert(opened(model), Order(classes=BEST))
    plain, branched = Runner(model), Runner(explained)
    once = min(plain.seconds(1) for _ in range(3))
    count = max(1, round(turn / once))
    pairs = [(plain.seconds(count), branched.seconds(count)) for _ in range(rounds)]
    ratio = median(one / other for one, other in pairs)
    method = next(node.get_friendly_name().split("/")[1] for node in explained.get_ops() if _is_ours(node))
    slowest = profiled(explained) if ratio < below else ""
    return Row(name, method, 1000 * min(one for one, _ in pairs) / count, ratio, counted(model, explained), slowest)


def counted(model: ov.Model, explained: ov.Model) -> float:
    """Return the ratio of multiplications."""
    before, after = (cost(node for node in one.get_ordered_ops() if _is_data(node)) for one in (model, explained))
    return before / after if before and after else float("nan")


def _is_data(node: ov.Node) -> bool:
    return node.get_type_name() not in ("Constant", "Parameter", "Result", "ShapeOf")


def _is_ours(node: ov.Node) -> bool:
    return node.get_friendly_name().startswith("xai/") and node.get_friendly_name().count("/") > 1


def profiled(explained: ov.Model, most: int = 3, repeats: int = 15) -> str:
    """Return the slowest operations of a branch in words."""
    compiled = core().compile_model(explained, "CPU", OPTIONS | {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    image = np.random.default_rng(0).standard_normal(list(explained.inputs[0].shape), dtype=np.float32)
    taken: dict[str, float] = {}
    request.infer(image)  # the first one prepares kernels
    for _ in range(repeats):
        request.infer(image)
        for entry in request.get_profiling_info():
            seconds = entry.real_time.total_seconds()
            key = f"{entry.node_type} {entry.node_name}"
            taken[key] = min(taken.get(key, seconds), seconds)  # the rest is other load on the machine
    whole = sum(taken.values())
    taken = {key: seconds for key, seconds in taken.items() if key.split(" ")[1].startswith("xai/")}
    worst = sorted(taken.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{key} {100 * seconds / whole:.0f} %" for key, seconds in worst)


def line(row: Row, *, markdown: bool) -> str:
    """Lay one row out."""
    cells = [row.name, row.method, f"{row.milliseconds:.1f}", f"{row.ratio:.2f}", f"{row.counted:.2f}", row.slowest]
    if markdown:
        return f"| {' | '.join(cells)} |"
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


HEADER = ("architecture", "method", "plain ms", "ratio", "counted", "slowest of the branch")
WIDTHS = (40, 14, 8, 6, 8, 40)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turn", type=float, default=0.15, help="processor seconds of a turn of plain inference")
    parser.add_argument("--below", type=float, default=0.85, help="ratios below are explained")
    parser.add_argument("--markdown", action="store_true")
    told = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    cells = [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    heading = "  ".join(cell.ljust(width) for cell, width in zip(HEADER, WIDTHS, strict=True))
    print("\n".join(cells) if told.markdown else heading)
    for name in told.names or names():
        try:
            row = measure(name, told.rounds, told.turn, told.below)
        except Exception as error:  # noqa: BLE001 - the list goes on
            row = Row(name, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")
        print(line(row, markdown=told.markdown), flush=True)


if __name__ == "__main__":
    main()
