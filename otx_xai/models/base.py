"""What all models share: normalisation inside, labels, input geometry, the loops' steps, and their own description."""

from __future__ import annotations

import math
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning
import torch
from torch import Tensor, nn

from otx_xai.errors import ConfigError, OutputError
from otx_xai.models.architectures import build_network, input_defaults
from otx_xai.models.arguments import read_channels, read_choice, read_labels, read_number, read_pad_value, read_size
from otx_xai.records import InputGeometry, Interpolation, ResizeType, Task

DESCRIPTION_KEY = "otx_xai"
"""Under this key a checkpoint holds the description of its model."""
DESCRIPTION_FORMAT = 1
_DIVISOR = 1e4
"""The rate ends at this part of what it began with, in the schedules that fall."""


class OTXModel(lightning.LightningModule, ABC):  # type: ignore[misc]
    """A network with all it needs to be used: normalisation inside, labels, task and input geometry.

    What is trained is what is exported: images go in as RGB on the 0-255 scale, sized as ``geometry`` says.

    Args:
        architecture: a name of :mod:`otx_xai.models.architectures`: ``mobilenet_v2``, ``timm/vit_tiny_patch16_224``,
            ``fcos_resnet18``.
        labels: the class names in order, or their number (names ``0``, ``1``, …). A recipe leaves them out; they then
            come from the data before the model is built.
        input_size: ``(height, width)`` of the network's input in pixels, or one number for both; the architecture's
            own where it is not given.
        mean: one number, or one a channel, subtracted on the 0-255 scale; what the architecture's published weights
            were trained with where it is not given, which mostly is ImageNet's.
        scale: one number, or one a channel, to divide by, on the 0-255 scale; likewise.
        resize_type: the rule that fits an image into the input.
        pad_value: grey level 0-255 of the padding.
        crop: share of the image's height and width, in (0, 1], that is cut out of its middle before it is fitted in.
        interpolation: how images are resized: ``linear``, as OTX does it, or a filter of Pillow, such as ``bicubic``.
        pretrained: begin with published weights; they are downloaded on first use. Layers that depend on the number
            of classes begin anew if it differs.
        learning_rate: the highest rate of the schedule.
        weight_decay: of all weights but biases and those of normalisation layers.
        optimizer: ``adamw``, or ``sgd`` with Nesterov momentum 0.9.
        scheduler: what happens to the rate after its linear rise: ``onecycle`` (cosine fall, momentum follows),
            ``cosine`` (cosine fall), ``none`` (it stays).
        warmup: the part of all steps during which the rate rises, from 0 up to, but not including, 1.
        network_options: further keyword arguments of the architecture's builder in torchvision or timm.

    Attributes:
        task: what the model does.
        architecture: as given.
        labels: one name a class; a *target* is an index into them.
        geometry: how images are fitted into the input.
        mean: three numbers.
        scale: three numbers.
        network: normalised ``float32`` ``(N, 3, H, W)`` in.

    Raises:
        ConfigError: an argument has a wrong value, or the architecture is unknown.
        LabelError: there are no labels, or one is empty.
    """

    task: ClassVar[Task]

    def __init__(
        self,
        architecture: str,
        labels: Sequence[str] | int | None = None,
        *,
        input_size: int | Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        scale: float | Sequence[float] | None = None,
        resize_type: ResizeType | str = ResizeType.STANDARD,
        pad_value: int = 0,
        crop: float = 1.0,
        interpolation: Interpolation | str = Interpolation.LINEAR,
        pretrained: bool = False,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        scheduler: Literal["onecycle", "cosine", "none"] = "onecycle",
        warmup: float = 0.1,
        network_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        defaults = input_defaults(self.task, architecture)
        self.architecture = architecture
        self.labels = read_labels(labels)
        self.geometry = InputGeometry(
            size=defaults.size if input_size is None else read_size(input_size),
            resize_type=ResizeType(resize_type),
            pad_value=read_pad_value(pad_value),
            crop=read_number("crop", crop, above=0, most=1),
            interpolation=Interpolation(interpolation),
        )
        self.mean = defaults.mean if mean is None else read_channels("mean", mean)
        self.scale = defaults.scale if scale is None else read_channels("scale", scale)
        if 0 in self.scale:
            raise ConfigError(f"scale is {self.scale}; expected numbers other than 0 to divide by.")
        self.learning_rate = read_number("learning_rate", learning_rate, above=0)
        self.weight_decay = read_number("weight_decay", weight_decay, from_=0)
        self.warmup = read_number("warmup", warmup, from_=0, below=1)
        self.optimizer = read_choice("optimizer", optimizer, ("adamw", "sgd"))
        self.scheduler = read_choice("scheduler", scheduler, ("onecycle", "cosine", "none"))
        self.network_options = dict(network_options or {})
        self.network: nn.Module = build_network(
            self.task,
            architecture,
            num_classes=len(self.labels),
            size=self.geometry.size,
            pretrained=pretrained,
            options=self.network_options,
        )
        self.normalise = Normalise(self.mean, self.scale)
        self.metrics = nn.ModuleDict()

    # ----------------------------------------------------------------------------------------------------------------
    # What a task has of its own
    # ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, images: Tensor) -> Any:
        """Normalise ``float32`` or ``uint8`` ``(N, 3, H, W)`` RGB on the 0-255 scale, and run the network."""

    @abstractmethod
    def export_module(self) -> nn.Module:
        """Return what is traced: images as in :meth:`forward` in, a tuple of tensors out.

        It shares the model's weights, and puts the network into evaluation mode.
        """

    @abstractmethod
    def loss(self, images: Any, targets: Any) -> Tensor:
        """Return the loss of a batch of training, a scalar."""

    @abstractmethod
    def evaluate(self, images: Any, targets: Any, metric: nn.Module) -> Tensor:
        """Add a batch to the metric, and return its loss, a scalar."""

    @abstractmethod
    def predict(self, images: Any) -> dict[str, Any]:
        """Return what the model says of the images of a batch."""

    @abstractmethod
    def make_metric(self) -> nn.Module:
        """Return a torchmetrics metric or collection, empty."""

    @abstractmethod
    def summarise(self, metric: nn.Module) -> dict[str, Tensor]:
        """Return the scores of a metric: name → scalar in [0, 1]."""

    # ----------------------------------------------------------------------------------------------------------------
    # The steps of Lightning's loops
    # ----------------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make the metrics, where a loop needs them."""
        if stage in ("fit", "validate"):
            self.metrics["val"] = self.make_metric()
        if stage == "test":
            self.metrics["test"] = self.make_metric()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Return the loss of a batch, and log ``train/loss``."""
        images, targets = batch
        loss = self.loss(images, targets)
        self.log("train/loss", loss.detach(), batch_size=len(images), prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Log ``val/loss``, and add the batch to the scores."""
        self._evaluation_step("val", batch)

    def test_step(self, batch: Any, batch_index: int) -> None:
        """Log ``test/loss``, and add the batch to the scores."""
        self._evaluation_step("test", batch)

    def predict_step(self, batch: Any, batch_index: int) -> dict[str, Any]:
        """Return :meth:`predict` of a batch of images, and the ``sizes`` of the originals where the batch has them."""
        found = self.predict(_images_of(batch))
        sizes = _sizes_of(batch)
        return found if sizes is None else found | {"sizes": sizes}

    def on_validation_epoch_end(self) -> None:
        """Log the scores of validation."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test."""
        self._log_scores("test")

    def _evaluation_step(self, stage: str, batch: Any) -> None:
        images, targets = batch
        loss = self.evaluate(images, targets, self.metrics[stage])
        self.log(f"{stage}/loss", loss, batch_size=len(images), prog_bar=True, sync_dist=True)

    def _log_scores(self, stage: str) -> None:
        metric = self.metrics[stage]
        scores = self.summarise(metric)
        self.log_dict({f"{stage}/{name}": score for name, score in scores.items()}, prog_bar=True)
        metric.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer, and the schedule of its rate over all steps of the run.

        Raises:
            ConfigError: the schedule ends with the run, and the run has no end.
        """
        optimizer = self._make_optimizer()
        steps = self.trainer.estimated_stepping_batches
        if self.scheduler == "none" and self.warmup == 0:
            return {"optimizer": optimizer}
        if not math.isfinite(steps):
            raise ConfigError(
                f"The run has no end, and scheduler {self.scheduler!r} with warmup {self.warmup} needs one. Expected a "
                "number of epochs or steps; set max_epochs or max_steps, or scheduler 'none' and warmup 0."
            )
        schedule = self._make_schedule(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _make_optimizer(self) -> torch.optim.Optimizer:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, self.learning_rate, momentum=0.9, nesterov=True)
        return torch.optim.AdamW(groups, self.learning_rate)

    def _make_schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        rise = round(self.warmup * steps)
        if self.scheduler == "onecycle" and rise > 1:  # torch divides by the number of steps that rise, less one
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self.learning_rate, total_steps=steps, pct_start=rise / steps, final_div_factor=_DIVISOR
            )
        falls = self.scheduler != "none"

        def part(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            progress = (step - rise) / max(steps - rise, 1)
            return max(0.5 * (1 + math.cos(math.pi * min(progress, 1))), 1 / _DIVISOR) if falls else 1.0

        return torch.optim.lr_scheduler.LambdaLR(optimizer, part)

    # ----------------------------------------------------------------------------------------------------------------
    # Checkpoints
    # ----------------------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Return what :func:`otx_xai.models.build_model` needs to build the model again, fit for JSON.

        Weights are not part of it; ``pretrained`` is false, since they come from the checkpoint.
        """
        return {
            "format": DESCRIPTION_FORMAT,
            "class": type(self).__name__,
            "init": {
                "architecture": self.architecture,
                "labels": list(self.labels),
                "input_size": list(self.geometry.size),
                "mean": list(self.mean),
                "scale": list(self.scale),
                "resize_type": str(self.geometry.resize_type),
                "pad_value": self.geometry.pad_value,
                "crop": self.geometry.crop,
                "interpolation": str(self.geometry.interpolation),
                "pretrained": False,
                "learning_rate": self.learning_rate,
                "weight_decay": self.weight_decay,
                "optimizer": self.optimizer,
                "scheduler": self.scheduler,
                "warmup": self.warmup,
                "network_options": self.network_options,
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description to a checkpoint of Lightning, so that the file needs nothing else."""
        checkpoint[DESCRIPTION_KEY] = self.description()

    def save_weights(self, path: str | Path) -> Path:
        """Write weights and description, ``{"state_dict": …, "otx_xai": …}``, whole or not at all.

        Args:
            path: where to, with the suffix ``.pth`` by custom; folders are created, an existing file is replaced.

        Returns:
            The path.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                torch.save({"state_dict": self.state_dict(), DESCRIPTION_KEY: self.description()}, file)
            os.replace(temporary, path)
        except OSError as error:
            raise OutputError(
                f"The weights cannot be written to {str(path)!r}: {error.strerror}. Expected a folder with write "
                "permission and free space; free it, or choose another path."
            ) from error
        finally:
            with suppress(OSError):  # the folder is gone or locked: the error that led here says so
                temporary.unlink(missing_ok=True)
        return path


class Normalise(nn.Module):  # type: ignore[misc]
    """``(images - mean) / scale`` for each channel of ``(N, 3, H, W)``; the result has the weights' float type."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        # Not persistent: the description tells them, and so a state dict holds weights only.
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images."""
        return (images.to(self.mean.dtype) - self.mean) / self.scale


def _images_of(batch: Any) -> Any:
    """Return the images of a batch: ``(images, targets)``, or images alone, stacked or as a list."""
    if isinstance(batch, Tensor):
        return batch
    is_list_of_images = isinstance(batch[0], Tensor) and batch[0].ndim == 3
    return batch if is_list_of_images else batch[0]


def _sizes_of(batch: Any) -> Tensor | None:
    """Return the original sizes, ``int64`` ``(N, 2)``, with which OTXDataModule's batches to predict end."""
    last = batch[-1] if isinstance(batch, list | tuple) else None
    is_sizes = isinstance(last, Tensor) and last.dtype == torch.int64 and last.ndim == 2 and last.shape[1] == 2
    return last if is_sizes else None
