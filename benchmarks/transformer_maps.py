"""Which map says most of a transformer: the product's methods beside attention times gradient, on trained networks.

    python benchmarks/transformer_maps.py [--images 40] [--epochs 8] [--seeds 2]      ~8 minutes

It trains small vision transformers on drawn shapes (64 × 64, patches of 8 that three convolutions make, which lets them
learn in a minute; the head reads a class token, or the mean of the tokens), and judges maps of the predicted class on
new pictures by insertion, deletion and energy in the box. Beside the product's methods stand `chefer` (Chefer, Gur and
Wolf 2021, arXiv 2103.15679: relevancy of attention weighted by its positive gradients, over all blocks) and
`attention_gradient` (the same of the last block alone), written here in torch.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import openvino as ov
import timm
import torch

from otx_xai import insert_xai
from otx_xai.data.planted import PLANTED_LABELS, draw_planted
from otx_xai.errors import ConfigError, GraphError
from otx_xai.metrics import Case, Scores, function_scores, judge, table, white_box
from otx_xai.model import embed_preprocessing
from otx_xai.model.model_options import ModelOptions
from otx_xai.model.opening import open_for_insertion
from otx_xai.records import InputOptions, Task
from otx_xai.runtime import Session

SIDE, PATCH = 64, 8
MEAN, SCALE, BATCH = 127.5, 64, 16
METHODS = ("vitreciprocam", "reciprocam", "layercam", "gradcam", "hirescam", "multistridecam", "activationmap")


class ConvolutionalStem(torch.nn.Module):
    """Patches by three convolutions of stride 2 (Xiao et al. 2021, arXiv 2106.14881)."""

    def __init__(self, embed_dim: int, **_: Any) -> None:
        super().__init__()
        self.num_patches = (SIDE // PATCH) ** 2
        self.grid_size = (SIDE // PATCH, SIDE // PATCH)
        widths = (3, embed_dim // 4, embed_dim // 2, embed_dim)
        blocks = [
            torch.nn.Sequential(torch.nn.Conv2d(a, b, 4, 2, 1, bias=False), torch.nn.BatchNorm2d(b), torch.nn.ReLU())
            for a, b in pairwise(widths)
        ]
        self.blocks = torch.nn.Sequential(*blocks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(images).flatten(2).transpose(1, 2)


def trained(pool: str, seed: int, epochs: int) -> Any:
    """Train a transformer whose head reads the class token (``token``) or the mean of all tokens (``avg``)."""
    data = draw_planted(1500, "clean", seed=seed, side=SIDE)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.models.VisionTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=96, depth=4, num_heads=4, num_classes=len(PLANTED_LABELS),
            global_pool=pool, embed_layer=ConvolutionalStem,
        )  # fmt: skip
        fit(network, normalised(data.images), torch.from_numpy(data.targets), epochs)
    return network.eval()


def fit(network: Any, images: torch.Tensor, targets: torch.Tensor, epochs: int) -> None:
    """Train with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = epochs * -(-len(targets) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(targets)).split(BATCH):
            found = network(images[chosen])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(found, targets[chosen], label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()


def normalised(images: np.ndarray) -> torch.Tensor:
    """Return images ``uint8`` ``(N, H, W, 3)`` as the network takes them."""
    return (torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() - MEAN) / SCALE


def relevancy(network: Any, blocks: Sequence[Any]) -> Callable[[Sequence[Case]], np.ndarray]:
    """Return what makes maps of attention weighted by its gradients, over some blocks."""

    def one(case: Case) -> np.ndarray:
        weights: list[torch.Tensor] = []
        hooks = [
            block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: weights.append(out)) for block in blocks
        ]
        try:
            logits = network(normalised(case.image[None]).requires_grad_())
            gradients = torch.autograd.grad(logits[0, case.target], weights)
        finally:
            for hook in hooks:
                hook.remove()
        flow = torch.eye(weights[0].shape[-1])
        for weight, gradient in zip(weights, gradients, strict=True):
            flow = flow + (weight * gradient).clamp(min=0).mean(dim=1)[0].detach() @ flow
        row = flow[0, 1:] if network.global_pool == "token" else flow[1:, 1:].mean(dim=0)
        values = row.reshape(SIDE // PATCH, SIDE // PATCH).numpy()
        return (values - values.min()) / max(float(np.ptp(values)), 1e-12)

    return lambda cases: np.stack([one(case) for case in cases]).astype(np.float32)


def product_maps(network: Any) -> dict[str, Any]:
    """Return what makes the maps of each of the product's methods that fits."""
    program = torch.export.export(network, (torch.zeros(1, 3, SIDE, SIDE),))
    model = ov.convert_model(program)
    model.reshape([1, 3, SIDE, SIDE])
    options = ModelOptions(Task.CLASSIFICATION, list(PLANTED_LABELS), InputOptions(mean=MEAN, scale=SCALE))
    facts = open_for_insertion(model, options).facts
    found: dict[str, Any] = {}
    for method in METHODS:
        try:
            explained = insert_xai(model, explain_method=method)
        except (GraphError, ConfigError) as error:
            print(f"  {method}: {str(error).splitlines()[0][:110]}")
            continue
        found[method] = white_box(Session(embed_preprocessing(explained, facts)))
    return found


def judged(network: Any, seed: int, count: int) -> tuple[dict[str, Scores], float]:
    """Judge all maps of a network on new pictures; also its accuracy on them."""
    data = draw_planted(count, "clean", seed=1000 + seed, side=SIDE)

    def scores(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(normalised(images)).softmax(1).numpy()

    predicted = scores(data.images).argmax(axis=1)
    cases = [
        Case(image, int(target), box[None])
        for image, target, box in zip(data.images, predicted, data.boxes, strict=True)
    ]
    blocks = list(network.blocks)
    for block in blocks:
        block.attn.fused_attn = False  # so that its weights can be seen
    rows = {
        **product_maps(network),
        "chefer": relevancy(network, blocks),
        "attention_gradient": relevancy(network, blocks[-1:]),
    }
    cells = (SIDE // PATCH, SIDE // PATCH)
    zero = np.full(3, round(MEAN), np.uint8)
    found = judge(cases, rows, function_scores(scores, 32), steps=12, zero=zero, cells=cells, seed=seed, remap=False)
    return found, float((predicted == data.targets).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="number of pictures")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2, help="networks of each kind")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    for pool in ("token", "avg"):
        for seed in range(arguments.seeds):
            scores, accuracy = judged(trained(pool, seed, arguments.epochs), seed, arguments.images)
            print(f"\nhead reads {pool}, network {seed}, {accuracy:.0%} right")
            print(table(scores))
            for name, own in scores.items():
                blur = own.insertion_blur - own.deletion_blur
                flat = own.insertion_zero - own.deletion_zero
                error = float(blur.std() / np.sqrt(len(blur)))
                print(
                    f"  {name:20} insertion - deletion: blur {blur.mean():+.3f} ± {error:.3f}, flat {flat.mean():+.3f}"
                )


if __name__ == "__main__":
    main()
