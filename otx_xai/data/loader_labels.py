"""What the batches of other people's loaders tell of their images beside the pixels: classes, or boxes with classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.data.loaders import batch_images
from otx_xai.records import FloatArray, ImageInfo

_LABEL_KEYS = ("label", "labels", "target", "targets", "y")
"""Names under which batches that are mappings hold what their images show."""


@dataclass(frozen=True, eq=False)
class LoadedLabels:
    """What a batch tells of one of its images.

    Args:
        classes: of the whole image, as the model numbers them.
        boxes: ``float32`` ``(B, 4)``, xyxy in pixels of the image; ``None``: nothing is told of boxes.
        box_labels: of the boxes, as the model numbers its labels.
    """

    classes: tuple[int, ...] = ()
    boxes: FloatArray | None = None
    box_labels: tuple[int, ...] = ()


class NotedLoader:
    """A loader that tells on the way what its batches say of their images.

    Args:
        loader: yields batches, see :func:`~otx_xai.data.loaders.loaded_images`.
        names: one an image, in its order.
        note: is told the name of an image and what its batch says of it, before its pixels are yielded.

    Attributes:
        loader: the one that it was made of, which tells nothing.
        most_classes: how many classes an image is given at most, by the first batch; 0 where it tells none.
    """

    def __init__(self, loader: Any, names: Sequence[ImageInfo], note: Callable[[str, LoadedLabels], None]) -> None:
        self.loader, self._names, self._note = loader, names, note
        self.most_classes = most_classes(loader)

    def __iter__(self) -> Iterator[Any]:
        position = 0
        for batch in self.loader:
            count = len(batch_images(batch))
            for info, labels in zip(self._names[position : position + count], labels_of(batch), strict=False):
                self._note(info.name, labels)
            position += count
            yield batch


def labels_of(batch: Any) -> list[LoadedLabels]:
    """Return what a batch tells of its images.

    Args:
        batch: ``(images, labels)``, or a mapping with ``label``, ``labels``, ``target``, ``targets`` or ``y``. Labels
            are integers ``(N,)`` or ``(N, 1)``; zeros and ones ``(N, K)`` of several classes; or a mapping an image
            with ``labels`` and, of detectors, ``boxes`` (xyxy in its pixels).

    Returns:
        One an image; empty where nothing is told in one of these forms.
    """
    told = _told(batch)
    if told is None:
        return []
    count = len(batch_images(batch))
    found: list[LoadedLabels] | None
    if isinstance(told, list | tuple) and told and all(isinstance(one, Mapping) for one in told):
        found = [_of_mapping(one) for one in told]
    else:
        found = _of_array(told)
    return found if found is not None and len(found) == count else []


def most_classes(loader: Any) -> int:
    """Return how many classes the images of a loader can have at most, by its first batch; 0 where it tells none."""
    for batch in loader:
        if not labels_of(batch):
            return 0
        shape: tuple[int, ...] = tuple(getattr(_told(batch), "shape", ()))
        return int(shape[1]) if len(shape) == 2 else 1
    return 0


def is_shuffled(loader: Any) -> bool:
    """Whether a loader gives its images in another order each time, by the samplers of torch that do."""
    return type(getattr(loader, "sampler", None)).__name__ in ("RandomSampler", "WeightedRandomSampler")


def _told(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[key] for key in _LABEL_KEYS if key in batch), None)
    return batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None


def _numbers(values: Any) -> NDArray[Any] | None:
    """Return an array of numbers; ``None`` where it is none."""
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "iufb" else None


def _of_array(told: Any) -> list[LoadedLabels] | None:
    values = _numbers(told)
    if values is None:
        return None
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "iu":
        values = values[:, 0]
    if values.ndim == 1 and values.dtype.kind in "iu":
        return [LoadedLabels((int(value),)) for value in values]
    if values.ndim == 2 and np.isin(values, (0, 1)).all():
        return [LoadedLabels(tuple(np.flatnonzero(row).tolist())) for row in values]
    return None


def _of_mapping(told: Mapping[str, Any]) -> LoadedLabels:
    labels, boxes = _numbers(told.get("labels")), _numbers(told.get("boxes"))
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return LoadedLabels()
    numbers = tuple(int(label) for label in labels)
    if boxes is None or boxes.size != 4 * len(labels):
        return LoadedLabels(numbers)
    return LoadedLabels(boxes=boxes.reshape(-1, 4).astype(np.float32), box_labels=numbers)
