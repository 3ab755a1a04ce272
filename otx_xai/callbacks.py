"""Saliency maps while a model trains: overlays of the same few validation images, epoch after epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray

from otx_xai.checkpoints import TorchOpened, TorchOptions, open_torch
from otx_xai.conversion import to_openvino
from otx_xai.data.loaders import images_of_batch, recover_image
from otx_xai.errors import ConfigError
from otx_xai.explain import Explainer
from otx_xai.explain.explanation import Explanation
from otx_xai.models import OTXModel, build_model
from otx_xai.neighbours import Hints
from otx_xai.records import Colormap, InputOptions, Targets, UInt8Array, parse_numbers
from otx_xai.report import annotate
from otx_xai.report.files import write_picture
from otx_xai.report.names import slugs
from otx_xai.report.overlays import WHOLE_IMAGE, caption

logger = logging.getLogger("otx_xai")


class SaliencyCallback(lightning.Callback):  # type: ignore[misc]
    """Explains a few validation images every few epochs, for every logger that takes images, and as files.

    ::

        engine = Engine("mobilenet_v2", data_root="photos", callbacks=[SaliencyCallback(every_n_epochs=5)])
        trainer = lightning.Trainer(callbacks=[SaliencyCallback()])  # for any LightningModule

    Any LightningModule will do whose ``forward`` takes a batch of images. Those of its validation batches are explained
    as they are. Where they are ``float``, pictures are recovered from them with the ``mean`` and ``scale`` that timm's
    or torchvision's network wants, or by stretching their range.

    Pictures are called ``saliency/<image>_<label>`` in loggers, with the global step, and
    ``<folder>/epoch_<epoch>/<image>_<label>.png`` on disk. Loggers take images if they have ``log_image`` (Weights &
    Biases, Comet, MLflow, Neptune), or an ``experiment`` with ``add_image`` (TensorBoard); others are passed over.

    Args:
        images: number of images: the first ones of the validation data.
        every_n_epochs: explain in epochs ``n``, ``2n``, …
        targets: classes, as ``Explainer`` takes them: ``"predicted"``, ``-1``, indices or names.
        folder: where files go; ``saliency`` in the folder of the run by default.
        labels: class names, one a class; those of the model by default, or numbers.
        input_options: ``mean`` and ``scale`` that the images were normalised with, for the pictures; and what else the
            model does not tell of its input.

    Raises:
        ConfigError: a number is less than 1.
    """

    def __init__(
        self,
        images: int = 4,
        every_n_epochs: int = 1,
        targets: Targets = "predicted",
        folder: str | Path | None = None,
        labels: Sequence[str] | None = None,
        input_options: InputOptions | None = None,
    ) -> None:
        for name, number in (("images", images), ("every_n_epochs", every_n_epochs)):
            if number < 1:
                raise ConfigError(f"SaliencyCallback({name}={number}); expected at least 1.")
        self.images = images
        self.every_n_epochs = every_n_epochs
        self.targets = targets
        self.folder = None if folder is None else Path(folder)
        self.labels = labels
        self.input_options = input_options or InputOptions()
        self._kept: list[NDArray[Any]] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the images of an earlier training."""
        self._kept = []

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first images of the validation data."""
        missing = self.images - len(self._kept)
        if missing > 0 and not self._is_known(batch_idx, dataloader_idx):
            images = batch[0] if isinstance(pl_module, OTXModel) else images_of_batch(batch)
            self._kept += [_picture(image) if isinstance(image, torch.Tensor) else image for image in images[:missing]]

    def _is_known(self, batch_idx: int, dataloader_idx: int) -> bool:
        """Whether the images of this batch were kept in an earlier epoch."""
        return dataloader_idx > 0 or (batch_idx == 0 and bool(self._kept))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Explain and log, when it is time; before the first epoch, find out whether that can be done.

        Raises:
            ModelError: the module cannot be converted; see :func:`otx_xai.conversion.module_to_openvino`.
        """
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking and self._kept and not isinstance(pl_module, OTXModel):
            self._open(pl_module)
        if trainer.sanity_checking or not self._kept or epoch % self.every_n_epochs or not trainer.is_global_zero:
            return
        folder = self.folder or Path(trainer.default_root_dir) / "saliency"
        for name, picture in self._explain(pl_module):
            write_picture(folder / f"epoch_{epoch:04d}" / f"{name}.png", picture)
            for each in trainer.loggers:
                log_picture(each, f"saliency/{name}", picture, trainer.global_step)

    def _explain(self, model: Any) -> Iterator[tuple[str, UInt8Array]]:
        """Yield the name of each overlay and the overlay, RGB ``uint8`` ``(H, W, 3)``."""
        return self._explain_own(model) if isinstance(model, OTXModel) else self._explain_other(model)

    def _explain_other(self, module: Any) -> Iterator[tuple[str, UInt8Array]]:
        """Explain anybody's module, which is given the images of its batches as they are."""
        opened = self._open(module)
        labels = self.labels or opened.hints.labels
        explainer = Explainer(opened.model, opened.hints.task, labels=labels)
        for number, pixels in enumerate(self._kept):
            picture = self._recovered(pixels, opened.hints)
            data = pixels[None].astype(np.float32)
            explanation = explainer(data, self.targets, original_input_image=picture, overlay=True)
            assert isinstance(explanation, Explanation)  # of one image
            yield from _named(number, explanation, explanation.label_names)

    def _open(self, module: Any) -> TorchOpened:
        _, height, width = self._kept[0].shape
        return open_torch(module, TorchOptions(normalised=True, size=(height, width)))

    def _recovered(self, pixels: NDArray[Any], hints: Hints) -> UInt8Array:
        """Return the picture that an image of a batch shows."""
        if pixels.dtype == np.uint8:
            return np.ascontiguousarray(pixels.transpose(1, 2, 0))
        given = [parse_numbers(value) for value in (self.input_options.mean, self.input_options.scale)]
        mean, scale = given if any(given) else (hints.mean, hints.scale)
        return recover_image(pixels, mean or (), scale or ())

    def _explain_own(self, model: OTXModel) -> Iterator[tuple[str, UInt8Array]]:
        copy = build_model(model.description())
        copy.load_state_dict({name: value.detach().cpu() for name, value in model.state_dict().items()})
        explainer = Explainer(to_openvino(copy.eval()))
        for number, image in enumerate(self._kept):
            explanation = explainer(image, targets=self.targets, overlay=True)
            assert isinstance(explanation, Explanation)  # of one image
            yield from _named(number, explanation, model.labels)


def _named(number: int, explanation: Explanation, labels: Sequence[str]) -> Iterator[tuple[str, UInt8Array]]:
    scores: dict[int, float] = {}
    for found in explanation.predictions:  # best first
        scores.setdefault(found.target, found.score)
    names = slugs(labels)
    for target, picture in explanation.saliency_map.items():
        if not isinstance(target, int):
            yield f"{number:02d}", annotate(picture, caption(WHOLE_IMAGE), scale=Colormap.TURBO)
            continue
        score = f" {scores[target]:.2f}" if target in scores else ""
        yield f"{number:02d}_{names[target]}", annotate(picture, labels[target] + score, scale=Colormap.TURBO)


def _picture(image: torch.Tensor) -> UInt8Array:
    """Return an image of a batch, ``(3, H, W)`` on the 0-255 scale, as RGB ``uint8`` ``(H, W, 3)``."""
    values = image.detach().float().clamp(0, 255).round().to(torch.uint8).cpu()
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())


def log_picture(to: Any, name: str, picture: UInt8Array, step: int) -> bool:
    """Give a picture to a Lightning logger.

    Args:
        to: the logger.
        name: of the picture.
        picture: RGB ``uint8`` ``(H, W, 3)``.
        step: global step.

    Returns:
        Whether the logger takes pictures.
    """
    if hasattr(to, "log_image"):
        to.log_image(key=name, images=[picture], step=step)
        return True
    add_image = getattr(getattr(to, "experiment", None), "add_image", None)
    if add_image is None:
        return False
    add_image(name, picture, step, dataformats="HWC")
    return True
