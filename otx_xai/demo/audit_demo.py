"""The demo of the audit: a network that has learned a mark instead of a shape, and whether the product finds it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from otx_xai.audit.audit_result import Audit
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.data.planted import PLANTED_LABELS, Fault, draw_planted, write_planted
from otx_xai.demo.class_demo import export_network
from otx_xai.demo.shape_training import Batches, classroom, fit
from otx_xai.engine import Engine

SIDE = 64
"""Of the pictures, in pixels."""

_PASSES = 6
_PEAK_RATE = 1e-2


@dataclass(frozen=True)
class AuditDemo:
    """What the audit said of a network whose data have a fault that is known.

    Args:
        audit: of the network that was trained and audited on marked pictures.
        clean: of the same network, trained and audited on the same pictures without marks.
        train_seconds: time that training both took.
    """

    audit: Audit
    clean: Audit
    train_seconds: float

    @property
    def is_found(self) -> bool:
        """Whether the mark was verified as a shortcut, and nothing was verified without it."""
        verified = [one for one in self.audit.findings if one.state is FindingState.VERIFIED]
        return any(one.kind is FindingKind.SHORTCUT for one in verified) and not any(
            one.state is FindingState.VERIFIED for one in self.clean.findings
        )

    def summary(self) -> str:
        """Return a few lines of plain text."""
        shortcut = next((one for one in self.audit.findings if one.kind is FindingKind.SHORTCUT), None)
        said = f"{shortcut.state}: {shortcut.statement}" if shortcut is not None else "nothing about it"
        number = sum(one.state is FindingState.VERIFIED for one in self.clean.findings)
        return "\n".join(
            (
                f"Trained a small network twice in {self.train_seconds:.0f} s, on pictures where nine of ten circles "
                "bear a mark in a corner, and on the same ones without marks.",
                f"The audit of the first says: {said}",
                f"Of the second it verifies {number or 'nothing'}.",
                f"Page           {self.audit.page}",
                f"Without marks  {self.clean.page}",
            )
        )


def demonstrate_audit(
    work_dir: str | Path, *, seed: int = 0, train_images: int = 600, test_images: int = 180
) -> AuditDemo:
    """Plant a mark, train a network on it, and audit that network; and the same without the mark.

    Args:
        work_dir: folder for pictures, networks and audits; created if it is missing.
        seed: of the pictures and of the training.
        train_images: number of pictures to train on; they stay in memory.
        test_images: number of pictures to audit on, below ``<work_dir>/<fault>/test``.

    Raises:
        ConfigError: torch, Lightning or a library of the audit is missing.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: Ctrl-C.
    """
    start = time.monotonic()
    checkpoints = {
        fault: _train(Path(work_dir) / str(fault), fault, seed, train_images)
        for fault in (Fault.WATERMARK, Fault.CLEAN)
    }
    train_seconds = time.monotonic() - start
    audits = {}
    for fault, checkpoint in checkpoints.items():
        folder = checkpoint.parent
        write_planted(draw_planted(test_images, fault, seed=seed + 1, side=SIDE), folder / "test")
        audits[fault] = Engine(work_dir=folder).audit(checkpoint, data_root=folder / "test")
        if audits[fault].interrupted:
            raise KeyboardInterrupt
    return AuditDemo(audits[Fault.WATERMARK], audits[Fault.CLEAN], train_seconds)


def _train(folder: Path, fault: Fault, seed: int, images: int) -> Path:
    """Train on pictures with a fault, and export."""
    planted = draw_planted(images, fault, seed=seed, side=SIDE)
    pixels = np.ascontiguousarray(planted.images.transpose(0, 3, 1, 2))
    with classroom(seed):
        network = small_network(len(PLANTED_LABELS))
        fit(network, Batches(pixels, planted.targets, turns=False), peak_rate=_PEAK_RATE, passes=_PASSES)
    return export_network(network.cpu().eval(), folder / "model.xml", labels=PLANTED_LABELS, side=SIDE)


def small_network(classes: int) -> Any:
    """Return a network of stride 4, one cell of which sees about 28 pixels: it learns a mark in seconds.

    Args:
        classes: number of classes.

    Returns:
        A ``torch.nn.Sequential`` from normalised ``float32`` ``(N, 3, H, W)`` to logits ``(N, classes)``.
    """
    import torch
    from torch import nn

    def block(channels: int, width: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        return [convolution, nn.BatchNorm2d(width), nn.ReLU()]

    return nn.Sequential(
        *block(3, 12, 4, 2, 1),
        *block(12, 24, 2, 2, 0),
        *block(24, 48, 3, 1, 1),
        nn.AvgPool2d(3, 1, 1),
        *block(48, 48, 1, 1, 0),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    ).to(memory_format=torch.channels_last)
