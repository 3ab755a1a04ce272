"""Training of the demos' own small networks on pictures in memory, by Lightning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.records import IntArray, UInt8Array

MEAN = 127.5
SCALE = 64.0
"""Pixels become ``(pixel - MEAN) / SCALE`` before the network; the exported model says so in its ``model_info``."""

_BATCH_SIZE = 16


class Batches:
    """Shuffled batches of ``(normalised images, targets)``.

    Args:
        pixels: ``uint8`` ``(N, 3, side, side)``.
        targets: ``int64`` ``(N,)``.
        turns: turn and mirror them at random.
    """

    def __init__(self, pixels: UInt8Array, targets: IntArray | NDArray[Any], *, turns: bool = True) -> None:
        import torch

        self.pixels = torch.from_numpy(pixels)
        self.targets = torch.from_numpy(targets)
        self.turns = turns

    def __len__(self) -> int:
        return math.ceil(len(self.targets) / _BATCH_SIZE)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        import torch

        for chosen in torch.randperm(len(self.targets)).split(_BATCH_SIZE):
            images = self.pixels[chosen]
            if self.turns:
                images = images.rot90(int(torch.randint(4, ())), dims=(2, 3))
                images = images.flip(3) if torch.rand(()) < 0.5 else images
            yield (images.float() - MEAN) / SCALE, self.targets[chosen]


def fit(network: Any, batches: Batches, *, peak_rate: float, passes: int) -> None:
    """Train a network with one cycle of the learning rate, on whatever accelerator Lightning finds.

    Args:
        network: a ``torch.nn.Module`` from images to logits; it is changed.
        batches: what it learns.
        peak_rate: the highest learning rate.
        passes: over all pictures.
    """
    import lightning

    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=passes,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(_lightning_module(network, peak_rate, steps=passes * len(batches)), batches)


@contextmanager
def classroom(seed: int) -> Iterator[None]:
    """Train on one thread and from a seed: layers this small gain little from two, and lose much where cores are busy.

    Raises:
        ConfigError: torch or Lightning is missing.
    """
    try:
        import lightning  # noqa: F401
        import torch
    except ImportError as error:
        raise ConfigError(
            f"The demo trains a network, and {error.name} is not installed. Run: pip install otx-xai[train]"
        ) from error
    from otx_xai.engine.training import lightning_manners

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(), lightning_manners():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _lightning_module(network: Any, peak_rate: float, steps: int) -> Any:
    """Return a LightningModule that trains the network with one cycle of the learning rate."""
    import lightning
    import torch

    class ShapeClassifier(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[Any, Any], batch_index: int) -> Any:
            images, targets = batch
            return torch.nn.functional.cross_entropy(self.network(images), targets, label_smoothing=0.05)

        def configure_optimizers(self) -> dict[str, Any]:
            optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=1e-2)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return ShapeClassifier()
