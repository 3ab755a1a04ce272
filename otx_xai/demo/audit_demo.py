"""The demo of the audit: a network that has learned a mark instead of a shape, and whether the product finds it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from otx_xai.audit.audit_result import Audit
from otx_xai.audit.findings import FindingKind, FindingState
from otx_xai.data.planted import Fault, draw_planted, write_planted
from otx_xai.demo.classroom import QUIET, classroom
from otx_xai.engine import Engine

logger = logging.getLogger("otx_xai")

SIDE = 64
"""Of the pictures, in pixels."""

_RECIPE = "conv_slim"
_OPTIONS = {"data.augment": False}
"""Pictures stay as they are, since a crop would cut the mark off."""
_PASSES = 6
_VALIDATED = 30


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
        train_images: number of pictures to train on, below ``<work_dir>/<fault>/data``.
        test_images: number of pictures to audit on, below ``<work_dir>/<fault>/test``.

    Raises:
        ConfigError: torch, Lightning or a library of the audit is missing.
        OutputError: the folder cannot be written.
        KeyboardInterrupt: Ctrl-C.
    """
    start = time.monotonic()
    checkpoints = {}
    for step, fault in enumerate((Fault.WATERMARK, Fault.CLEAN), start=1):
        marked = "with a mark on nine of ten circles" if fault is Fault.WATERMARK else "without marks"
        _tell(step, f"drawing pictures of shapes {marked}, and training a slim network on them by recipe {_RECIPE}.")
        checkpoints[fault] = _train(Path(work_dir) / str(fault), fault, seed, train_images)
    train_seconds = time.monotonic() - start
    _tell(3, f"auditing both on {test_images} new pictures, as `otx audit` does: what do they decide by?")
    audits = {}
    for fault, checkpoint in checkpoints.items():
        folder = Path(work_dir) / str(fault)
        write_planted(draw_planted(test_images, fault, seed=seed + 1, side=SIDE), folder / "test")
        audits[fault] = Engine(work_dir=folder).audit(checkpoint, data_root=folder / "test")
        if audits[fault].interrupted:
            raise KeyboardInterrupt
    _tell(4, f"look at {audits[Fault.WATERMARK].page} in a browser: its first finding should be the mark.")
    return AuditDemo(audits[Fault.WATERMARK], audits[Fault.CLEAN], train_seconds)


def _tell(step: int, what: str) -> None:
    logger.info("Audit %d/4: %s", step, what)


def _train(folder: Path, fault: Fault, seed: int, images: int) -> Path:
    """Train on pictures with a fault by a recipe, and export."""
    data = folder / "data"
    write_planted(draw_planted(images, fault, seed=seed, side=SIDE), data / "train")
    write_planted(draw_planted(_VALIDATED, fault, seed=seed + 2, side=SIDE), data / "val")
    with classroom():
        engine = Engine.from_config(_RECIPE, data_root=data, work_dir=folder, max_epochs=_PASSES, **QUIET, **_OPTIONS)
        engine.train(seed=seed, check_val_every_n_epoch=_PASSES)
    return engine.export().path
