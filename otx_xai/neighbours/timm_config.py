"""timm: its ``config.json``, whose ``pretrained_cfg`` tells of the images; the latter may stand alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from otx_xai.neighbours.hints import Hints
from otx_xai.neighbours.image_processor import UNLIKE
from otx_xai.neighbours.small_files import broken, names_by_index, numbers_of, shown, sides_of
from otx_xai.records import Interpolation, ResizeType, Size, Task

_CROP_SHARE = 0.875  # where the configuration has none
_INTERPOLATIONS = [word.value for word in Interpolation if word is not Interpolation.LINEAR]
_NEARLY_GREY = 4.0
"""Levels that the channels of a colour may be apart."""
_AT_RANDOM = "random"
"""An interpolation that only training has."""
_RESIZES = {
    "center": ResizeType.CROP,
    "squash": ResizeType.STANDARD,
    "border": ResizeType.FIT_TO_WINDOW_LETTERBOX,
}


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of timm."""
    return "pretrained_cfg" in config or {"input_size", "mean", "std"} <= config.keys()


def timm_hints(config: Mapping[str, Any], path: Path, fed: tuple[int, ...] = ()) -> Hints:
    """Say what a configuration of timm means.

    Args:
        config: a whole one, or its ``pretrained_cfg`` alone.
        path: where it was read.
        fed: static shape of the model's input: timm recommends another crop for the larger size of its tests.

    Raises:
        ModelError: a value is of the wrong kind.
    """
    own = config.get("pretrained_cfg", config)
    if not isinstance(own, Mapping):
        raise broken(f"pretrained_cfg of {path}", f"is {shown(own)}", "named values")
    resize_type = _resize_type(own, path)
    size, crop = _size_and_crop(own, path, fed)
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
        crop=crop,
        interpolation=_interpolation(own, path),
        said={
            "exporter": "timm",
            "architecture": str(config.get("architecture") or own.get("architecture") or ""),
            **_unlike(resize_type, crop, mean),
        },
        source=path.name,
        files=(str(path),),
    )


_WITHOUT_PADDING = (ResizeType.CROP, ResizeType.STANDARD)


def _unlike(resize_type: ResizeType, crop: float, mean: tuple[float, ...] | None) -> dict[str, str]:
    """Say what of a border cannot be had here: a colour of its own, and a cut of the longer side alone."""
    if resize_type in _WITHOUT_PADDING:
        return {}
    if crop < 1:
        return {UNLIKE: f"cut to {crop:.4g} of their longer side alone, and padded on the other (crop_mode border)"}
    if mean and max(mean) - min(mean) > _NEARLY_GREY:
        return {UNLIKE: f"padded with the colour {','.join(str(round(level)) for level in mean)} (crop_mode border)"}
    return {}


def _on_255(own: Mapping[str, Any], key: str, path: Path) -> tuple[float, ...] | None:
    if own.get(key) is None:
        return None
    numbers = numbers_of(own[key], f"{key} of {path}")
    if key == "std" and 0 in numbers:
        raise broken(f"std of {path}", f"is {shown(own[key])}", "numbers other than 0")
    return tuple(float(f"{number * 255:.7g}") for number in numbers)


def _size_and_crop(own: Mapping[str, Any], path: Path, fed: tuple[int, ...]) -> tuple[Size | None, float]:
    """Height and width of the input, and the share of the image's sides that is left."""
    size, larger = _size(own, "input_size", path), _size(own, "test_input_size", path)
    if larger is not None and larger != size and larger in pairwise(fed):
        return larger, _crop(own.get("test_crop_pct") or own.get("crop_pct"), larger, path)
    return size, _crop(own.get("crop_pct"), size, path)


def _size(own: Mapping[str, Any], key: str, path: Path) -> Size | None:
    """Height and width under a key, which stand behind the number of channels."""
    value = own.get(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise broken(f"{key} of {path}", f"is {shown(value)}", "channels, height and width")
    return sides_of(value[1:], f"{key} of {path}")


def _resize_type(own: Mapping[str, Any], path: Path) -> ResizeType:
    mode = own.get("crop_mode") or "center"
    if mode not in _RESIZES:
        raise broken(f"crop_mode of {path}", f"is {shown(mode)}", "center, squash or border")
    return _RESIZES[mode]


def _interpolation(own: Mapping[str, Any], path: Path) -> Interpolation | None:
    word = own.get("interpolation")
    if not word or word == _AT_RANDOM:
        return None
    if word not in _INTERPOLATIONS:
        raise broken(f"interpolation of {path}", f"is {shown(word)}", ", ".join(_INTERPOLATIONS))
    return Interpolation(word)


def _crop(stated: Any, size: Size | None, path: Path) -> float:
    """Share that is left of the image's sides: timm resizes to whole pixels, and cuts the input's size out."""
    (share, *others) = numbers_of(stated or _CROP_SHARE, f"crop_pct of {path}")
    if share <= 0 or others:
        raise broken(f"crop_pct of {path}", f"is {shown(stated)}", "a share from 0 to 1")
    if size is None:
        return min(1.0, share)
    wanted = [math.floor(side / share) for side in size]
    # any factor between these gives both sides their whole pixels
    least = max((whole - 0.5) / side for whole, side in zip(wanted, size, strict=True))
    most = min((whole + 0.5) / side for whole, side in zip(wanted, size, strict=True))
    own = wanted[0] / size[0]
    if least <= own < most or least >= most:
        return min(1.0, size[0] / wanted[0])
    return min(1.0, 2 / (least + most))
