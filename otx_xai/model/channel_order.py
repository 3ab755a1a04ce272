"""Whether a network takes the channels of its images as RGB, as they are read, or as BGR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otx_xai.model.model_info import read_flag
from otx_xai.neighbours.hints import Hints, source_of, told_by
from otx_xai.neighbours.ultralytics import ULTRALYTICS
from otx_xai.records import InputOptions, parse_numbers

_MEAN_BGR = (103.5, 116.3, 123.7)
"""Mean of ImageNet's pixels, blue first, as every network with BGR input subtracts it: 103.53 or 103.939, 104, ..."""

_NEAR = 3.0
"""Mean values differ by less among networks; those of red and blue by 20."""


@dataclass(frozen=True)
class ChannelOrder:
    """The order of the channels that a network takes.

    Args:
        is_reversed: it wants BGR.
        source: who said so, ready to be appended to a line of the log; empty for RGB.
        warning: what the user should look at; empty: nothing.
    """

    is_reversed: bool = False
    source: str = ""
    warning: str = ""


def channel_order(zero: Sequence[float], info: dict[str, str], options: InputOptions, hints: Hints) -> ChannelOrder:
    """Find the order of channels: what the user says, then ``model_info``, a neighbour, and the mean that is taken off.

    OpenVINO writes an exchange of channels into the weights, so that a graph does not show it; its mean does.
    Ultralytics writes ``reverse_input_channels`` for those who read images as BGR: their networks want RGB.

    Args:
        zero: value of each channel that the graph itself turns into 0.
        info: ``model_info``.
        options: of the user.
        hints: of what lies beside the model.
    """
    embedded = read_flag(info, "embedded_processing")
    theirs = hints.said.get("exporter") == ULTRALYTICS
    warning = ""
    if options.reverse_input_channels is not None:
        wanted, source = options.reverse_input_channels, "--input.reverse_input_channels"
    elif info.get("reverse_input_channels") and not theirs:
        wanted = read_flag(info, "reverse_input_channels") and not embedded
        source = told_by(hints, "reverse_input_channels")
    elif hints.reverse_input_channels is None and is_blue_first(zero) and not embedded:
        wanted, source = True, "graph: it subtracts the mean of photographs, blue first"
    else:
        wanted, source = bool(hints.reverse_input_channels) and not embedded, source_of(hints, "reverse_input_channels")
        if not wanted and is_blue_first(parse_numbers(options.mean) or ()):
            warning = (
                f"--input.mean {options.mean} is the mean of photographs with blue first, and images are fed as RGB. "
                "If the model was trained on BGR, pass --input.reverse_input_channels True; False keeps RGB."
            )
    if not wanted or len(zero) == 1:
        return ChannelOrder(warning=warning)
    return ChannelOrder(True, f"; channels reversed to BGR ({source})")


def is_blue_first(mean: Sequence[float]) -> bool:
    """Whether a mean, of pixels from 0 to 255 or from 0 to 1, is ImageNet's in the order blue, green, red."""
    factor = 255 if mean and max(mean) <= 1 else 1
    return len(mean) == len(_MEAN_BGR) and all(
        abs(factor * value - usual) < _NEAR for value, usual in zip(mean, _MEAN_BGR, strict=True)
    )
