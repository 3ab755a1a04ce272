"""What the constructors of models are given, read and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from otx_xai.errors import ConfigError, LabelError
from otx_xai.records import Size


def read_labels(labels: Sequence[str] | int | None) -> tuple[str, ...]:
    """Return class names from names, or from their number.

    Raises:
        LabelError: there are none, or one is empty.
    """
    if labels is None:
        raise LabelError(
            "The model has no labels. Expected the class names in order, or their number; pass labels, or data with "
            "annotations, from which they are taken."
        )
    if isinstance(labels, str):
        raise LabelError(f"labels is the text {labels!r}; expected a list of names, such as [{labels!r}], or a number.")
    names = tuple(str(index) for index in range(labels)) if isinstance(labels, int) else tuple(map(str, labels))
    if not names:
        raise LabelError(f"labels is {labels!r}; expected at least one class.")
    empty = [index for index, name in enumerate(names) if not name.strip()]
    if empty:  # two classes may share a name, as the two cranes of ImageNet do
        raise LabelError(f"The labels of classes {empty[:5]} are empty; expected a name for each class.")
    return names


def read_size(size: int | Sequence[int]) -> Size:
    """Return height and width of an input in pixels, from both, or one number for both.

    Raises:
        ConfigError: they are no numbers of pixels.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise ConfigError(f"input_size is {size!r}; expected height and width in pixels, or one number for both.")
    return sides[0], sides[1]


def read_pad_value(value: int) -> int:
    """Return a grey level.

    Raises:
        ConfigError: it is not from 0 to 255.
    """
    if not 0 <= value <= 255:
        raise ConfigError(f"pad_value is {value}; expected a grey level from 0 to 255.")
    return int(value)


def read_channels(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    """Return one number for each of three channels, from these, or one number for all.

    Raises:
        ConfigError: there are more or fewer, or one is not finite.
    """
    numbers = (value,) * 3 if isinstance(value, (int, float)) else tuple(value)
    if len(numbers) not in (1, 3) or not all(math.isfinite(number) for number in numbers):
        raise ConfigError(
            f"{name} is {value!r}; expected one number, or one for each of the channels red, green, blue."
        )
    return tuple(float(number) for number in (numbers * 3 if len(numbers) == 1 else numbers))


def read_number(
    name: str,
    value: float,
    *,
    from_: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Return a number within its limits.

    Args:
        name: of the argument.
        value: what was given.
        from_: the least number.
        above: what it must exceed.
        below: what it must stay below.
        most: the largest number.

    Raises:
        ConfigError: it is beyond them.
    """
    if not (from_ <= value < below and above < value <= most):
        lowest = f"from {from_:g}" if math.isfinite(from_) else f"above {above:g}"
        highest = f" and below {below:g}" if math.isfinite(below) else f" to {most:g}" if math.isfinite(most) else ""
        raise ConfigError(f"{name} is {value}; expected a number {lowest}{highest}.")
    return float(value)


def read_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return one of the words of an argument.

    Raises:
        ConfigError: it is none of them.
    """
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")
    return value
