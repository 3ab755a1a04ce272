"""How a classifier wants its images: layout, size, how they are fitted in, and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openvino as ov

from otx_xai.errors import ConfigError, ModelError
from otx_xai.graph.input_layout import channels_of, image_input, layout_of
from otx_xai.graph.view import View
from otx_xai.model.channel_order import channel_order
from otx_xai.model.image_layout import declared_layout, is_layout, layout_of_channels
from otx_xai.model.model_info import malformed, read_flag, read_share
from otx_xai.model.zero_input import graph_zero
from otx_xai.neighbours.hints import NO_HINTS, Hints, source_of, told_by
from otx_xai.neighbours.image_processor import BORDERED, KEEPS_RATIO, UNLIKE
from otx_xai.records import InputGeometry, InputOptions, Interpolation, ResizeType, Size, parse_numbers

NONE_GIVEN = "none given"
_DEFAULT = "default"
_LEAST_MEAN = 0.05
"""Means of real pictures are far from black and white."""


@dataclass(frozen=True)
class InputDescription:
    """What a model wants to be fed.

    Args:
        geometry: size of the input, and how images are fitted into it.
        layout: its axes, a permutation of ``NCHW``.
        mean: per channel, on the 0-255 scale; empty: nothing to subtract.
        scale: per channel divisor; empty: nothing to divide by.
        reverse_channels: whether it wants BGR.
        zero: per channel what the graph's own normalisation turns into 0.
        channels: number of channels.
        source: where geometry and layout come from, in words.
        normalisation_source: where mean, scale and channel order come from, in words.
        normalisation_known: somebody says how the input is normalised, or that it need not be.
        warning: what is done to images that the model was not trained on; empty: nothing.
    """

    geometry: InputGeometry
    layout: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    reverse_channels: bool
    zero: tuple[float, ...]
    channels: int
    source: str
    normalisation_source: str
    normalisation_known: bool = True
    warning: str = ""


def describe_input(
    model: ov.Model,
    info: dict[str, str],
    options: InputOptions,
    hints: Hints = NO_HINTS,
    view: View | None = None,
) -> InputDescription:
    """Describe the image input of a model.

    Args:
        model: the model as it was read.
        info: its ``model_info``, which outranks ``hints``.
        options: what the user says, which outranks both.
        hints: what else the exporter wrote.
        view: of the model, where the caller has it.

    Raises:
        ConfigError: an option is malformed, contradicts the graph, or is needed because the graph leaves it open.
        ModelError: ``model_info`` or ``hints`` are malformed, or the model's input is no batch of images.
    """
    view = view or View(model)
    layout, layout_source = _layout(view, options)
    shape = image_input(model).output(0).partial_shape
    channels = _channels(view, shape, layout)
    size, size_source = _size(shape, layout, info, options, hints)
    resize_type, resize_source = _resize_type(info, options, hints)
    crop, crop_source = _crop(info, options, hints)
    interpolation, filter_source = _interpolation(info, options, hints)
    zero = graph_zero(model, channels)
    kind = image_input(model).output(0).element_type
    mean, scale, normalisation_source = _normalisation(kind, zero, info, options, hints)
    order = channel_order(zero, info, options, hints)
    return InputDescription(
        geometry=InputGeometry(size, resize_type, _pad_value(info, options, hints), crop, interpolation),
        layout=layout,
        mean=mean,
        scale=scale,
        reverse_channels=order.is_reversed,
        zero=zero,
        channels=channels,
        source=f"size: {size_source}; layout: {layout_source}; resize: {resize_source}{crop_source}{filter_source}",
        normalisation_source=normalisation_source + order.source,
        normalisation_known=not normalisation_source.startswith(NONE_GIVEN),
        warning=order.warning or (_unlike_training(hints, size) if _follows(hints, options, resize_source) else ""),
    )


def _follows(hints: Hints, options: InputOptions, resize_source: str) -> bool:
    """Whether images are fitted in as ``hints`` say, and the user has not chosen the size for them."""
    told = hints.resize_type is not None
    return options.size is None and resize_source == (source_of(hints, "resize_type") if told else _DEFAULT)


def _unlike_training(hints: Hints, size: Size) -> str:
    """Say that images are stretched, where the model was trained on images of any ratio of sides, or lack a border."""
    if hints.said.get(UNLIKE):
        return (
            f"The model was trained on images that are {hints.said[UNLIKE]} ({hints.source}), which is not done here, "
            "and scores may differ. Pass --input.resize_type and --input.crop to say how else they are fitted in, or "
            "prepare images that way before."
        )
    if hints.said.get(BORDERED):
        return (
            f"The model was trained on images with a black border ({hints.source}: {hints.said[BORDERED]}); here they "
            "fill its input, and scores may differ. Pass --input.resize_type and --input.crop to say how else they "
            "are fitted in."
        )
    limits = hints.said.get(KEEPS_RATIO)
    if not limits:
        return ""
    return (
        f"The model was trained on images that keep the ratio of their sides ({hints.source}: {limits}), and its input "
        f"is {size[0]}x{size[1]} here: images of another ratio are stretched, and scores may differ. Pass --input.size "
        "height,width in the ratio of most images where the model leaves it open, or --input.resize_type fit_to_window "
        "to pad instead."
    )


def _layout(view: View, options: InputOptions) -> tuple[str, str]:
    """The axes of the input and who said so: operations leave no doubt, a flag outranks a mere declaration."""
    model, proven = view.model, layout_of(view)
    given = None if options.layout is None else str(options.layout).upper()
    if given is not None and not is_layout(given):
        raise ConfigError(
            f"--input.layout is {options.layout!r}; expected NCHW, NHWC or another order of these letters."
        )
    if given and proven and given != proven:
        raise ConfigError(
            f"--input.layout is {given}, but the model's first convolution or pooling reads its input as {proven}. "
            "Leave --input.layout away."
        )
    if proven:
        return proven, "graph"
    if given:
        return given, "--input.layout"
    declared = declared_layout(model)
    if declared is not None:
        return declared, "declared by the model"
    counted = layout_of_channels(model)
    if counted is None:
        raise ConfigError(
            f"The order of axes of the model's input {image_input(model).output(0).partial_shape} cannot be derived "
            "from its graph or its shape. Pass --input.layout NCHW or --input.layout NHWC, in Python "
            "input=InputOptions(layout='NCHW') or 'NHWC'."
        )
    return counted, "number of channels"


def _channels(view: View, shape: ov.PartialShape, layout: str) -> int:
    """How many channels the input has. Weights tell where the input leaves it open."""
    size = shape[layout.index("C")]
    channels = channels_of(view) if size.is_dynamic else int(size.get_length())
    if not channels:
        raise ModelError(
            f"The model's input is {shape} ({layout}), and its weights do not tell how many channels that are. "
            "Expected 3 (RGB), 1 (grey), or any other number. Export the model with a static channel axis."
        )
    return channels


def _size(
    shape: ov.PartialShape, layout: str, info: dict[str, str], options: InputOptions, hints: Hints
) -> tuple[Size, str]:
    """Height and width of the input, and who said so."""
    own = (shape[layout.index("H")], shape[layout.index("W")])
    words = ",".join(str(side) for side in own)
    if options.size is not None:
        given = _parse_size(options.size)
        if not _takes(own, given):
            raise ConfigError(
                f"--input.size is {given[0]},{given[1]}, but the model's own height,width is {words}. "
                "Leave --input.size away, or pass a size that the model takes."
            )
        return given, "--input.size"
    if all(side.is_static for side in own):
        return (int(own[0].get_length()), int(own[1].get_length())), hints.told_by.get("size", "graph")
    if read_flag(info, "embedded_processing") and {"orig_height", "orig_width"} <= info.keys():
        return (_positive(info, "orig_height"), _positive(info, "orig_width")), "model_info/orig_height, orig_width"
    if hints.size is not None and _takes(own, hints.size):
        return hints.size, hints.told_by.get("size", source_of(hints, "size"))
    raise ConfigError(
        f"The model's input {shape} ({layout}) leaves height and width open. Pass --input.size height,width with the "
        "size that the model was trained on, for example --input.size 224,224."
    )


def _takes(own: tuple[ov.Dimension, ov.Dimension], size: Size) -> bool:
    return all(side.compatible(ov.Dimension(wanted)) for side, wanted in zip(own, size, strict=True))


def _parse_size(value: Any) -> Size:
    numbers = parse_numbers(value)
    if not numbers or len(numbers) > 2 or any(number < 1 or number != int(number) for number in numbers):
        raise ConfigError(
            f"--input.size is {value!r}; expected height,width in pixels, or one number for both, for example 224,224."
        )
    return int(numbers[0]), int(numbers[-1])


def _positive(info: dict[str, str], key: str) -> int:
    numbers = parse_numbers(info[key])
    if not numbers or len(numbers) != 1 or numbers[0] < 1 or numbers[0] != int(numbers[0]):
        raise malformed(info, key, "a number of pixels", "pass --input.size height,width")
    return int(numbers[0])


def _resize_type(info: dict[str, str], options: InputOptions, hints: Hints) -> tuple[ResizeType, str]:
    if options.resize_type is not None:
        return options.resize_type, "--input.resize_type"
    if not info.get("resize_type"):
        if hints.resize_type is not None:
            return hints.resize_type, source_of(hints, "resize_type")
        return ResizeType.STANDARD, _DEFAULT
    try:
        return ResizeType(info["resize_type"]), told_by(hints, "resize_type")
    except ValueError as error:
        expected = "one of " + ", ".join(kind.value for kind in ResizeType)
        raise malformed(info, "resize_type", expected, "pass --input.resize_type") from error


def _crop(info: dict[str, str], options: InputOptions, hints: Hints) -> tuple[float, str]:
    """Share of the image that is left in its middle, and who said so, ready to be appended.

    A crop of ``hints`` belongs to the resize of ``hints``: it does not count where that was overruled.
    """
    if options.crop is not None:
        return options.crop, f"; middle {options.crop:.4g} of the sides: --input.crop"
    if info.get("crop") and options.resize_type is None:
        share = read_share(info, "crop")
        if share == 0:
            raise malformed(info, "crop", "a share of the sides, from more than 0 to 1", "pass --input.crop")
        return share, f"; middle {share:.4g} of the sides: {told_by(hints, 'crop')}"
    overruled = options.resize_type is not None or bool(info.get("resize_type"))
    if overruled or hints.crop is None or hints.crop == 1:
        return 1.0, ""
    return hints.crop, f"; middle {hints.crop:.4g} of the sides: {source_of(hints, 'crop')}"


def _interpolation(info: dict[str, str], options: InputOptions, hints: Hints) -> tuple[Interpolation, str]:
    """How images are resized, and who said so, ready to be appended."""
    key = "interpolation"
    if options.interpolation is not None:
        found, source = options.interpolation, "--input.interpolation"
    elif info.get(key):
        words = [word.value for word in Interpolation]
        if info[key] not in words:
            raise malformed(info, key, "one of " + ", ".join(words), "pass --input.interpolation")
        found, source = Interpolation(info[key]), told_by(hints, key)
    elif hints.interpolation is not None:
        found, source = hints.interpolation, source_of(hints, key)
    else:
        return Interpolation.LINEAR, ""
    return found, f"; {found}: {source}"


def _pad_value(info: dict[str, str], options: InputOptions, hints: Hints) -> int:
    key, fix = "pad_value", "pass --input.pad_value"
    if options.pad_value is None and not info.get(key):
        return hints.pad_value or 0
    numbers = parse_numbers(info[key] if options.pad_value is None else options.pad_value)
    if numbers and len(numbers) == 1 and 0 <= numbers[0] <= 255 and numbers[0] == int(numbers[0]):
        return int(numbers[0])
    if options.pad_value is None:
        raise malformed(info, key, "a grey level from 0 to 255", fix)
    raise ConfigError(f"--input.pad_value is {options.pad_value!r}; expected a grey level from 0 to 255.")


def _normalisation(
    kind: ov.Type, zero: tuple[float, ...], info: dict[str, str], options: InputOptions, hints: Hints
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean and scale for each channel, empty where they change nothing, and who said so."""
    channels = len(zero)
    told = hints if _may_normalise(info, kind) else Hints(told_by=hints.told_by)
    mean, mean_source = _per_channel("mean", options.mean, info, told, channels)
    if kind == ov.Type.i8 and not mean_source and hints.scale is not None:
        # quantised as TensorFlow Lite does it: the least pixel is the least number, whatever it stands for
        mean, mean_source = (128.0,) * channels, f"int8 as {source_of(hints, 'scale')} tells"
    scale, scale_source = _per_channel("scale", options.scale, info, told, channels)
    if kind == ov.Type.i8 and not any(mean):
        raise ConfigError(
            "The model's input is i8, which holds -128 to 127, and pixels are 0 to 255. Pass --input.mean 128 if the "
            "model was quantised with that offset."
        )
    words = [
        f"{name} {_words(numbers)} ({source})"
        for name, numbers, source in (("mean", mean, mean_source), ("scale", scale, scale_source))
        if source
    ]
    if not words and kind.is_real() and _are_shares(zero) and not read_flag(info, "embedded_processing"):
        scale = (255.0,) * channels
        words = [f"scale 255 (graph: it subtracts {_words(zero)} itself, from values of 0 to 1)"]
    elif any(zero) and not any(mean) and all(number == 1 for number in scale):
        words = [*words, f"the graph subtracts {_words(zero)} itself"]
    if not words:
        words = [_unnormalised(info, kind)]
    if options.mean is None and options.scale is None and "normalisation" in hints.told_by:
        words = [hints.told_by["normalisation"]]
    return mean if any(mean) else (), scale if any(number != 1 for number in scale) else (), ", ".join(words)


def _are_shares(zero: tuple[float, ...]) -> bool:
    """Whether what a graph subtracts from its input is the mean of pixels from 0 to 1."""
    return bool(zero) and all(_LEAST_MEAN < value < 1 - _LEAST_MEAN for value in zero)


def _may_normalise(info: dict[str, str], kind: ov.Type) -> bool:
    """Whether what is said outside of ``model_info`` counts: not for pixels as integers, nor beside ``model_info``."""
    told = read_flag(info, "embedded_processing") or any(
        info.get(key, "").strip() for key in ("mean_values", "scale_values")
    )
    return kind.is_real() and not told


def _unnormalised(info: dict[str, str], kind: ov.Type) -> str:
    if read_flag(info, "embedded_processing"):
        return "model_info/embedded_processing: it is in the graph"
    if kind == ov.Type.u8:
        return "none needed: the model takes uint8 pixels"
    return (
        f"{NONE_GIVEN}: pixels are fed as 0-255; if the model was trained on normalised images, "
        "pass --input.mean and --input.scale"
    )


def _per_channel(
    name: str, option: Any, info: dict[str, str], hints: Hints, channels: int
) -> tuple[tuple[float, ...], str]:
    """One number a channel from the flag, from ``model_info`` or from ``hints``; empty where none tells."""
    key = f"{name}_values"
    hinted = hints.mean if name == "mean" else hints.scale
    if option is not None:
        numbers, source = parse_numbers(option), f"--input.{name}"
    elif info.get(key, "").strip() and not read_flag(info, "embedded_processing"):
        numbers, source = parse_numbers(info[key]), told_by(hints, key)
    elif hinted is not None:
        numbers, source = hinted, source_of(hints, name)
    else:
        return (), ""
    is_valid = numbers is not None and len(numbers) in (1, channels) and not (name == "scale" and 0 in numbers)
    if numbers is None or not is_valid:
        expected = _expected_numbers(name, channels)
        if option is not None:
            raise ConfigError(f"--input.{name} is {option!r}; expected {expected}.")
        if info.get(key):
            raise malformed(info, key, expected, f"pass --input.{name}")
        raise ModelError(f"The {name} in {source} is {hinted}; expected {expected}. Pass --input.{name}.")
    return numbers if len(numbers) == channels else numbers * channels, source


def _expected_numbers(name: str, channels: int) -> str:
    count = "one number" if channels == 1 else f"one number or one per channel ({channels})"
    return f"{count}, none of them 0" if name == "scale" else count


def _words(numbers: tuple[float, ...]) -> str:
    shown = numbers[:1] if len(set(numbers)) == 1 else numbers
    return ",".join(f"{number:.6g}" for number in shown)
