"""Small networks that learn planted data in seconds, and the evidence of what they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from otx_xai.audit.evidence_table import BoxTable, Evidence, MapTable, no_maps
from otx_xai.data.planted import PLANTED_LABELS, Fault, Planted, draw_planted
from otx_xai.metrics import Forward
from otx_xai.metrics.stream import function_scores
from otx_xai.models.slim_classifier import conv_slim
from otx_xai.records import InputGeometry, Task

SIDE = 64
CELLS = 16
TRAINED = 600
SHARED = "OTX_XAI_SHARED_BY_TESTS"
"""Variable that names a folder which all processes of a session of tests have in common."""


@dataclass(frozen=True, eq=False)
class Audited:
    """A model, the data it is audited on, and what it did with them."""

    network: Any
    data: Planted
    evidence: Evidence
    forward: Forward

    def fetch(self, image: int) -> np.ndarray:
        return self.data.images[image]


def train(data: Planted, seed: int = 0, epochs: int = 8) -> Any:
    """Three seconds of processor time for 600 pictures."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = conv_slim(len(PLANTED_LABELS))
        images, targets = _pixels(data.images), torch.from_numpy(data.targets)
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
        steps = epochs * -(-len(targets) // 32)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        for _ in range(epochs):
            for chosen in torch.randperm(len(targets)).split(32):
                loss = torch.nn.functional.cross_entropy(net(images[chosen]), targets[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net.eval()


def scores_of(net: Any) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    def scores(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(_pixels(images)).softmax(1).numpy()

    return scores


def audited(net: Any, data: Planted, *, maps: bool = True) -> Audited:
    """Gather the evidence; explain the best and the annotated class of every picture, unless maps are not wanted."""
    import torch

    with torch.no_grad():
        features = net[:-1](_pixels(data.images)).numpy()
    scores = scores_of(net)(data.images)
    best = np.argsort(-scores, axis=1)
    found = _maps(net, data, best[:, 0]) if maps else no_maps((CELLS, CELLS))
    count = np.arange(len(data))
    evidence = Evidence(
        Task.CLASSIFICATION,
        PLANTED_LABELS,
        False,
        InputGeometry((SIDE, SIDE)),
        None,
        [f"{number:04d}.png" for number in count],
        np.full((len(data), 2), SIDE, np.int64),
        best,
        np.take_along_axis(scores, best, axis=1),
        data.targets[:, None],
        scores[count, data.targets][:, None],
        features.astype(np.float16),
        objects=BoxTable(count, data.drawn, data.boxes, np.ones(len(data), np.float32)),
        maps=found,
    )
    return Audited(net, data, evidence, function_scores(scores_of(net), 64))


def explained(net: Any, images: np.ndarray) -> np.ndarray:
    """Recipro-CAM of all classes, ``(N, K, h, w)`` in [0, 1]: what one place scores alone."""
    import torch

    with torch.no_grad():
        places = net[:-3](_pixels(images))
        logits = torch.einsum("nchw,kc->nkhw", places, net[-1].weight) / places[0, 0].numel()
        scores = (logits + net[-1].bias[:, None, None]).softmax(1).flatten(2)
    low, high = scores.min(2, keepdim=True).values, scores.max(2, keepdim=True).values
    return ((scores - low) / (high - low)).reshape(logits.shape).numpy()


def _maps(net: Any, data: Planted, predicted: np.ndarray) -> MapTable:
    wanted = [sorted({int(best), int(given)}) for best, given in zip(predicted, data.targets, strict=True)]
    rows = np.repeat(np.arange(len(data)), [len(targets) for targets in wanted])
    targets = np.concatenate(wanted).astype(np.int64)
    return MapTable(
        rows,
        targets,
        np.full(len(rows), -1, np.int64),
        np.rint(explained(net, data.images)[rows, targets] * 255).astype(np.uint8),
        np.tile(np.array([0, 1], np.float32), (len(rows), 1)),
    )


@cache
def trained(fault: Fault, seed: int = 0) -> Any:
    """Train on data with a fault: once a session of tests, in whichever of its processes, else once a process."""
    import torch

    if SHARED not in os.environ:
        return train(draw_planted(TRAINED, fault, seed=1000 + seed, side=SIDE), seed)
    path = Path(os.environ[SHARED], f"planted_{fault}_{seed}.pth")
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            torch.save(train(draw_planted(TRAINED, fault, seed=1000 + seed, side=SIDE), seed).state_dict(), path)
        net = conv_slim(len(PLANTED_LABELS))
        net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


@cache
def planted_audit(
    fault: Fault, learned: Fault | None = None, *, seed: int = 0, count: int = 120, maps: bool = True
) -> Audited:
    """Audit on new data with a fault a model that has learned from data with the same fault, or with another."""
    net = trained(fault if learned is None else learned, seed)
    return audited(net, draw_planted(count, fault, seed=2000 + seed, side=SIDE), maps=maps)


def without_boxes(evidence: Evidence) -> Evidence:
    return replace(evidence, objects=None)


def _pixels(images: np.ndarray) -> Any:
    import torch

    scaled = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 64
    return torch.from_numpy(scaled).contiguous(memory_format=torch.channels_last)
