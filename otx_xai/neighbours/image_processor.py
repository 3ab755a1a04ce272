"""What an image processor of transformers does to an image, from its ``preprocessor_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otx_xai.neighbours.hints import Hints
from otx_xai.neighbours.processor_defaults import kind_of, with_defaults
from otx_xai.neighbours.small_files import broken, numbers_of, shown, sides_of
from otx_xai.postprocess.resizing import by_number
from otx_xai.records import Interpolation, ResizeType, Size

KEEPS_RATIO = "keeps_ratio"
"""What is said where images of any ratio are fed as they are, which an input of one size cannot do."""
UNLIKE = "unlike"
"""What is said of steps that images went through in training, and do not go through here."""
BORDERED = "bordered"
"""What is said where an image is resized to less than the crop, which then has a black border."""

_SHORT_SIDE = (
    "bit",
    "clip",
    "convnext",
    "efficientformer",
    "levit",
    "mobilenet",
    "mobilevit",
    "poolformer",
    "vithybrid",
)
"""Processors to which a size of one number means the shorter side of the image; to others, both sides."""
_WHOLE_FROM = 384  # from this size on ConvNeXT's processor stretches images, and crops nothing
_CONVNEXT_SHARE = 224 / 256
_LEVIT_SHARE = 224 / 256
_REVERSED = ("pplcnet",)
"""Processors that turn channels round, to BGR, without saying so; they do it after normalisation."""
_UNNORMALISED = ("mobilevit", "rtdetr")
"""Processors that may write mean and std, and use neither where nothing else is said."""
_UNCROPPED = ("beit", "efficientnet", "owlvit", "sapiens", "textnet")
"""Processors that may write a size of crops, and cut nothing where nothing else is said."""
_OTHERWISE = (
    *("aria", "chameleon", "deepseek", "donut", "janus", "kimi"),
    *("minicpm", "nougat", "owlv2", "ppformulanet", "ppocr", "slanext", "unlimitedocr", "zoedepth"),
)
"""Processors of language models, readers of text and the like, which pad, tile or align images in ways of their own."""


@dataclass(frozen=True)
class _Fit:
    """How images are fitted in: the network's size, the rule, what a central crop keeps.

    ``keeps_ratio`` and ``bordered`` say what of it an input of one size cannot have.
    """

    size: Size
    resize_type: ResizeType
    crop: float = 1.0
    keeps_ratio: str = ""
    bordered: str = ""

    @property
    def said(self) -> dict[str, str]:
        """What cannot be had, by key."""
        told = {KEEPS_RATIO: self.keeps_ratio, BORDERED: self.bordered}
        return {key: words for key, words in told.items() if words}


def processor_hints(processor: Mapping[str, Any], path: Path) -> Hints:
    """Say what an image processor does.

    Raises:
        ModelError: a value is of the wrong kind.
    """
    if not {"image_mean", "image_std", "size", "do_rescale", "do_resize", "do_normalize"} & processor.keys():
        return Hints()  # a processor of something else than images
    mean, scale = _normalisation(processor, path)
    turned = _is(processor, *_REVERSED)
    processor = with_defaults(processor)
    fit = _fit(processor, path)
    return Hints(
        mean=mean[::-1] if mean and turned else mean,
        scale=scale[::-1] if scale and turned else scale,
        reverse_input_channels=turned or bool(processor.get("do_flip_channel_order", False)),
        size=fit.size if fit else None,
        resize_type=fit.resize_type if fit else None,
        crop=fit.crop if fit else None,
        interpolation=_interpolation(processor, path),
        pad_value=_pad_value(mean) if fit and fit.resize_type is ResizeType.FIT_TO_WINDOW else None,
        said={**(fit.said if fit else {}), **_unlike(processor)},
        source=path.name,
        files=(str(path),),
    )


def _interpolation(processor: Mapping[str, Any], path: Path) -> Interpolation | None:
    """How images are resized: by a number of Pillow; ``None`` where it does not say, or resizes nothing."""
    number = processor.get("resample")
    if number is None or not processor.get("do_resize", True):
        return None
    found = by_number(number) if isinstance(number, int) else None
    if found is None:
        raise broken(f"resample of {path}", f"is {shown(number)}", "a number of Pillow from 0 to 5")
    return found


def _normalisation(
    processor: Mapping[str, Any], path: Path
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and scale on the 0-255 scale; ``None`` where images are normalised by numbers that are not there."""
    factor = _factor(processor, path)
    # EfficientNet's may move pixels to -1 to 1 before
    shift = 1.0 if processor.get("rescale_offset") and processor.get("do_rescale", True) else 0.0
    if not processor.get("do_normalize", not _is(processor, *_UNNORMALISED)):
        return (_rounded(shift / factor),), (_rounded(1 / factor),)
    if "image_mean" not in processor or "image_std" not in processor:
        return None, None
    mean = numbers_of(processor["image_mean"], f"image_mean of {path}")
    std = numbers_of(processor["image_std"], f"image_std of {path}")
    if 0 in std:
        raise broken(f"image_std of {path}", f"is {shown(processor['image_std'])}", "numbers other than 0")
    # with include_top EfficientNet's divides twice
    divisor = tuple(number * number for number in std) if _is(processor, "efficientnet") and _top(processor) else std
    return (
        tuple(_rounded((number + shift) / factor) for number in mean),
        tuple(_rounded(number / factor) for number in divisor),
    )


def _factor(processor: Mapping[str, Any], path: Path) -> float:
    if not processor.get("do_rescale", True):
        return 1.0
    (factor, *others) = numbers_of(processor.get("rescale_factor", 1 / 255), f"rescale_factor of {path}")
    if factor <= 0 or others:
        raise broken(f"rescale_factor of {path}", f"is {shown(processor['rescale_factor'])}", "a positive number")
    return factor


def _top(processor: Mapping[str, Any]) -> bool:
    return bool(processor.get("include_top", True))


def _is(processor: Mapping[str, Any], *kinds: str) -> bool:
    return kind_of(processor).startswith(kinds)


def _rounded(number: float) -> float:
    """Return a number without the last digits, which only tell that 1 / 255 is no decimal number."""
    return float(f"{number:.7g}")


def _unlike(processor: Mapping[str, Any]) -> dict[str, str]:
    """Say what a processor does that is not done here."""
    kind = kind_of(processor)
    if _is(processor, *_OTHERWISE):
        return {UNLIKE: f"padded, tiled or aligned by {kind}"}
    if not processor.get("do_resize", True):
        return {UNLIKE: "cut out without being resized"} if _crops(processor) else {}
    if kind and not {"size", "resize_short", "crop_size"} & processor.keys():
        return {UNLIKE: f"resized to the size of {kind}'s class, which its configuration does not name"}
    return {}


def _pad_value(mean: tuple[float, ...] | None) -> int:
    """Return the grey level of padding that is 0 after normalisation."""
    return round(min(255.0, max(0.0, sum(mean) / len(mean)))) if mean else 0


def _fit(processor: Mapping[str, Any], path: Path) -> _Fit | None:
    """How images are fitted in; ``None`` where the configuration does not tell."""
    sides = _sides(processor, path)
    crop = _crop_size(processor, path)
    if not processor.get("do_resize", True) or not sides:
        return _Fit(crop, ResizeType.CROP) if crop else None
    if processor.get("do_pad") and processor.get("pad_size") is not None:
        padded = _rectangle(processor["pad_size"], f"pad_size of {path}")
        return _Fit(padded, ResizeType.FIT_TO_WINDOW)
    if {"height", "width"} <= sides.keys():
        return _stretched((sides["height"], sides["width"]), crop, processor, path)
    if "shortest_edge" in sides and "longest_edge" not in sides:
        return _short_side(sides["shortest_edge"], crop, processor, path)
    if "shortest_edge" in sides:
        side = sides["shortest_edge"]
        limits = f"shortest_edge {side}, longest_edge {sides['longest_edge']}"
        return _Fit((side, side), ResizeType.STANDARD, keeps_ratio=limits)
    if "longest_edge" in sides:
        return _Fit((sides["longest_edge"],) * 2, ResizeType.FIT_TO_WINDOW)
    if {"max_height", "max_width"} <= sides.keys():
        return _Fit((sides["max_height"], sides["max_width"]), ResizeType.FIT_TO_WINDOW)
    return None


def _stretched(size: Size, crop: Size | None, processor: Mapping[str, Any], path: Path) -> _Fit:
    if crop is not None and _is(processor, "perceiver"):  # crops first
        return _Fit(size, ResizeType.CROP, min(1.0, size[0] / crop[0]))
    share = _share(processor, path)
    if share is not None:
        return _Fit(size, ResizeType.STANDARD, size[0] / int(size[0] / share))
    if crop is None:
        return _Fit(size, ResizeType.STANDARD)
    return _Fit(crop, ResizeType.STANDARD, min(1.0, crop[0] / size[0]), bordered=_border(crop, size))


def _short_side(side: int, crop: Size | None, processor: Mapping[str, Any], path: Path) -> _Fit:
    if _is(processor, "convnext"):
        if side >= _WHOLE_FROM:
            return _Fit((side, side), ResizeType.STANDARD)
        share = _share(processor, path) or _CONVNEXT_SHARE
        return _Fit((side, side), ResizeType.CROP, side / int(side / share))
    if crop is None:
        return _Fit((side, side), ResizeType.STANDARD, keeps_ratio=f"shortest_edge {side}")
    share = _LEVIT_SHARE if _is(processor, "levit") else _share(processor, path) or 1.0
    whole = int(side / share)
    return _Fit(crop, ResizeType.CROP, min(1.0, max(crop) / whole), bordered=_border(crop, (whole, whole)))


def _border(crop: Size, size: Size) -> str:
    """Say that a crop is larger than what it is cut out of; empty where it is not."""
    is_larger = crop[0] > size[0] or crop[1] > size[1]
    return f"crop_size {crop[0]}x{crop[1]} of images resized to {size[0]}x{size[1]}" if is_larger else ""


def _share(processor: Mapping[str, Any], path: Path) -> float | None:
    value = processor.get("crop_pct")
    if value is None:
        return None
    (share, *others) = numbers_of(value, f"crop_pct of {path}")
    if not 0 < share <= 1 or others:
        raise broken(f"crop_pct of {path}", f"is {shown(value)}", "a share from 0 to 1")
    return share


def _crop_size(processor: Mapping[str, Any], path: Path) -> Size | None:
    """Size of a central crop; ``None`` where there is none."""
    value = processor.get("crop_size")
    if value is None or not _crops(processor):
        return None
    return _rectangle(value, f"crop_size of {path}")


def _crops(processor: Mapping[str, Any]) -> bool:
    return bool(processor.get("crop_size") and processor.get("do_center_crop", not _is(processor, *_UNCROPPED)))


def _rectangle(value: Any, where: str) -> Size:
    if not isinstance(value, Mapping):
        return sides_of(value, where)
    if "shortest_edge" in value:
        return sides_of(value["shortest_edge"], where)
    if not {"height", "width"} <= value.keys():
        raise broken(where, f"is {shown(value)}", "height and width")
    return sides_of([value["height"], value["width"]], where)


def _sides(processor: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Return the ``size`` of a processor by its words: height, width, shortest_edge, longest_edge, ….

    One number means what it means to the kind of processor, and with ``max_size`` beside it, the limits of DETR's.
    """
    if processor.get("resize_short") is not None:
        return {"shortest_edge": sides_of(processor["resize_short"], f"resize_short of {path}")[0]}
    size, where = processor.get("size"), f"size of {path}"
    if size is None:
        return {}
    if isinstance(size, Mapping):
        return {str(key): sides_of(value, where)[0] for key, value in size.items() if value is not None}
    height, width = sides_of(size, where)
    if processor.get("max_size") is not None:
        return {"shortest_edge": height, "longest_edge": sides_of(processor["max_size"], f"max_size of {path}")[0]}
    if not isinstance(size, list | tuple) and _is(processor, *_SHORT_SIDE):
        return {"shortest_edge": height}
    return {"height": height, "width": width}
