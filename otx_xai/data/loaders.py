"""Other people's data: tensors of a DataLoader, or of a LightningDataModule, one image after the other.

Nothing here imports torch: a loader is whatever yields batches, a tensor whatever numpy can look into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import DataError
from otx_xai.records import FloatArray, ImageInfo, UInt8Array

_IMAGE_KEYS = ("image", "images", "pixel_values", "img", "input", "inputs", "x")
"""Names under which batches that are mappings hold their images."""

_LOADERS = ("predict_dataloader", "test_dataloader", "val_dataloader")
"""Loaders of a LightningDataModule, the one to explain first."""


@dataclass(frozen=True)
class LoadedImage:
    """One image of a loader.

    Args:
        info: its number, as a name; there is no file.
        pixels: ``(C, H, W)``: ``uint8``, RGB or as many channels as the network takes, or floating point as the
            network wants it, normalised.
    """

    info: ImageInfo
    pixels: NDArray[Any]

    @property
    def name(self) -> str:
        """The name that its results go by."""
        return self.info.name


def find_loader(data: Any) -> Any:
    """Return the loader of whatever holds one.

    Args:
        data: a DataLoader, or a LightningDataModule with a loader for prediction, test or validation (the first of
            these that it has), which is prepared and set up.

    Raises:
        DataError: there is no loader of known length in it.
    """
    if hasattr(data, "prepare_data") and hasattr(data, "setup"):
        data.prepare_data()
        for stage, name in zip(("predict", "test", "validate"), _LOADERS, strict=True):
            if _defines(data, name):
                data.setup(stage)
                loader = getattr(data, name)()
                return loader[0] if isinstance(loader, list | tuple) else loader
        raise DataError(f"{type(data).__name__} has no loader; expected one of {', '.join(_LOADERS)}.")
    if hasattr(data, "__iter__"):
        return data
    raise DataError(
        f"{type(data).__name__} holds no images; expected an OTXDataModule, a LightningDataModule or a DataLoader."
    )


def _defines(data: Any, name: str) -> bool:
    """Whether a data module has a loader of its own, not only the empty one of its base class."""
    method = getattr(type(data), name, None)
    return method is not None and not getattr(method, "__module__", "").startswith(("lightning.", "pytorch_lightning."))


def image_count(loader: Any) -> int:
    """Return how many images a loader gives.

    Raises:
        DataError: it does not know.
    """
    for counted in (getattr(loader, "dataset", None), loader):
        try:
            count = len(counted)  # type: ignore[arg-type]
        except TypeError:
            continue
        if counted is loader:
            count *= getattr(loader, "batch_size", None) or 1
        if count:
            return count
    raise DataError(
        f"{type(loader).__name__} is empty or does not know its length; expected a data set with len() of at least 1."
    )


def first_pixels(loader: Any) -> NDArray[Any]:
    """Return the first image of a loader, ``(C, H, W)``.

    Raises:
        DataError: there is none, or it is of another form.
    """
    for batch in loader:
        for pixels in batch_images(batch):
            return _channels_first(pixels)
    raise DataError("The loader gives no image; expected at least one.")


def image_names(count: int) -> tuple[ImageInfo, ...]:
    """Return numbers as names, with as many digits as the largest needs."""
    digits = max(6, len(str(count - 1)))
    names = (f"{i:0{digits}d}" for i in range(count))
    return tuple(ImageInfo(name, name, name) for name in names)


def loaded_images(loader: Any, names: Sequence[ImageInfo]) -> Iterator[LoadedImage]:
    """Yield the images of a loader, one at a time, with these names.

    Args:
        loader: yields batches: a tensor ``(N, C, H, W)``, a list of ``(C, H, W)``, a tuple or list that begins with
            one of these, or a mapping that holds one under ``image``, ``images``, ``pixel_values``, …
        names: one an image.

    Raises:
        DataError: a batch is of another form, or there are more or fewer images than names.
    """
    remaining = iter(names)
    for batch in loader:
        for pixels in batch_images(batch):
            info = next(remaining, None)
            if info is None:
                raise DataError(f"The loader gives more than the {len(names)} images that its data set counts.")
            yield LoadedImage(info, _channels_first(pixels))
    missing = sum(1 for _ in remaining)
    if missing:
        raise DataError(
            f"The loader ended {missing} images before the {len(names)} that its data set counts. Expected every "
            "image once: make it without drop_last."
        )


def images_of_batch(batch: Any) -> list[NDArray[Any]]:
    """Return the images of one batch, ``(3, H, W)``, ``uint8`` or ``float32``; see :func:`loaded_images`.

    Raises:
        DataError: the batch is of another form.
    """
    return [_channels_first(pixels) for pixels in batch_images(batch)]


def batch_images(batch: Any) -> Any:
    """Return the images of one batch, as it holds them: an array ``(N, C, H, W)``, or a sequence of ``(C, H, W)``.

    Raises:
        DataError: the batch is of another form.
    """
    if isinstance(batch, Mapping):
        key = next((key for key in _IMAGE_KEYS if key in batch), None)
        if key is None:
            raise DataError(f"A batch holds {', '.join(map(str, batch))}; expected images as {', '.join(_IMAGE_KEYS)}.")
        return batch_images(batch[key])
    if isinstance(batch, list | tuple) and batch and getattr(batch[0], "ndim", 0) != 3:
        return batch_images(batch[0])
    if isinstance(batch, list | tuple) or getattr(batch, "ndim", 0) == 4:
        return batch
    shape = getattr(batch, "shape", None)
    raise DataError(
        f"A batch is {type(batch).__name__}{f' {tuple(shape)}' if shape is not None else ''}; expected images "
        "(N, C, H, W), or a tuple that begins with them."
    )


def _channels_first(pixels: Any) -> NDArray[Any]:
    values = np.asarray(pixels.detach().cpu() if hasattr(pixels, "detach") else pixels)
    if values.ndim != 3 or not values.size:
        raise DataError(f"An image of the loader has shape {values.shape}; expected (C, H, W).")
    return values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)


def recover_image(pixels: FloatArray, mean: Sequence[float], scale: Sequence[float]) -> UInt8Array:
    """Return the picture that a normalised tensor shows, to lay maps over.

    Args:
        pixels: ``float32`` ``(C, H, W)``.
        mean: what was subtracted, a channel, on the 0-255 scale; empty where it is not known.
        scale: what it was divided by, likewise.

    Returns:
        ``uint8`` ``(H, W, C)``: ``pixels * scale + mean``, clipped; where neither is known, the range of the tensor
        stretched to 0-255.
    """
    if len(mean) or len(scale):
        values = pixels * _column(scale, 1.0, len(pixels)) + _column(mean, 0.0, len(pixels))
    else:
        low, high = float(pixels.min()), float(pixels.max())
        values = (pixels - low) * (255 / (high - low) if high > low else 0.0)
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _column(values: Sequence[float], default: float, channels: int) -> FloatArray:
    given = np.asarray(values or [default], np.float32)
    return np.broadcast_to(given, (channels,)).reshape(channels, 1, 1)
