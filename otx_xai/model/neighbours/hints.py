"""What an exporter wrote about a model, into its file or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otx_xai.records import ResizeType, Size, Task


@dataclass(frozen=True)
class Hints:
    """What is said of a model outside of ``model_info``; what nobody says is ``None``.

    Args:
        task: what it does.
        labels: class names in order.
        mean: per channel, on the 0-255 scale.
        scale: per channel divisor, on the 0-255 scale.
        reverse_input_channels: whether it wants BGR.
        size: ``(height, width)`` of its input.
        resize_type: how images are fitted in.
        pad_value: grey level 0-255 of the padding.
        crop: share of the fitted image's sides that a central crop keeps, in (0, 1]; see
            :class:`~otx_xai.records.InputGeometry`.
        said: whatever else tells about the outputs, by key: ``task``, ``model_type``, ``stride``, ``nms``, …, as text.
        source: where this comes from, in words for the log: ``metadata.yaml``, ``ONNX metadata (Ultralytics)``, ….
        files: files that were read beside the model, which decide about results, and so count in the fingerprint.
        assumed: fields that are a guess by the architecture's usual weights rather than said for this very model.
    """

    task: Task | None = None
    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    reverse_input_channels: bool | None = None
    size: Size | None = None
    resize_type: ResizeType | None = None
    pad_value: int | None = None
    crop: float | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    files: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
