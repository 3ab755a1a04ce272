"""timm: its ``config.json``, whose ``pretrained_cfg`` tells of the images; the latter may stand alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otx_xai.neighbours.hints import Hints
from otx_xai.neighbours.small_files import broken, names_by_index, numbers_of, shown, sides_of
from otx_xai.records import ResizeType, Size, Task

_CROP_SHARE = 0.875  # where the configuration has none
_RESIZES = {
    "center": ResizeType.CROP,
    "squash": ResizeType.STANDARD,
    "border": ResizeType.FIT_TO_WINDOW_LETTERBOX,
}


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of timm."""
    return "pretrained_cfg" in config or {"input_size", "mean", "std"} <= config.keys()


def timm_hints(config: Mapping[str, Any], path: Path) -> Hints:
    """Say what a configuration of timm means.

    Args:
        config: a whole one, or its ``pretrained_cfg`` alone.
        path: where it was read.

    Raises:
        ModelError: a value is of the wrong kind.
    """
    own = config.get("pretrained_cfg", config)
    if not isinstance(own, Mapping):
        raise broken(f"pretrained_cfg of {path}", f"is {shown(own)}", "named values")
    resize_type = _resize_type(own, path)
    size = _size(own, path)
    mean = _on_255(own, "mean", path)
    names = config.get("label_names") or own.get("label_names")
    return Hints(
        task=Task.CLASSIFICATION,
        labels=names_by_index(names, f"label_names of {path}") if names else None,
        mean=mean,
        scale=_on_255(own, "std", path),
        reverse_input_channels=False,
        size=size,
        resize_type=resize_type,
        pad_value=round(sum(mean) / len(mean)) if mean and resize_type not in _WITHOUT_PADDING else None,
        crop=_crop(own, size, path),
        said={"exporter": "timm", "architecture": str(config.get("architecture") or own.get("architecture") or "")},
        source=path.name,
        files=(str(path),),
    )


_WITHOUT_PADDING = (ResizeType.CROP, ResizeType.STANDARD)


def _on_255(own: Mapping[str, Any], key: str, path: Path) -> tuple[float, ...] | None:
    if own.get(key) is None:
        return None
    numbers = numbers_of(own[key], f"{key} of {path}")
    if key == "std" and 0 in numbers:
        raise broken(f"std of {path}", f"is {shown(own[key])}", "numbers other than 0")
    return tuple(float(f"{number * 255:.7g}") for number in numbers)


def _size(own: Mapping[str, Any], path: Path) -> Size | None:
    """Height and width of the input, which stands as channels, height, width."""
    value = own.get("input_size")
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise broken(f"input_size of {path}", f"is {shown(value)}", "channels, height and width")
    return sides_of(value[1:], f"input_size of {path}")


def _resize_type(own: Mapping[str, Any], path: Path) -> ResizeType:
    mode = own.get("crop_mode") or "center"
    if mode not in _RESIZES:
        raise broken(f"crop_mode of {path}", f"is {shown(mode)}", "center, squash or border")
    return _RESIZES[mode]


def _crop(own: Mapping[str, Any], size: Size | None, path: Path) -> float:
    """Share that is left of the image's sides: timm resizes to whole pixels, and cuts the input's size out."""
    value = own.get("crop_pct") or _CROP_SHARE
    (share, *others) = numbers_of(value, f"crop_pct of {path}")
    if share <= 0 or others:
        raise broken(f"crop_pct of {path}", f"is {shown(value)}", "a share from 0 to 1")
    return min(1.0, size[0] / math.floor(size[0] / share) if size else share)
