"""What an axis of a tensor can mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from otx_xai.graph.view import Port


@dataclass(frozen=True)
class Tokens:
    """A token axis: ``prefix`` tokens that are no place of the image, then the places in row-major order.

    Args:
        height: rows of the grid; ``None`` when dynamic.
        width: columns of the grid; ``None`` when dynamic.
        source: the tensor whose ``H`` and ``W`` axes (``source_axes``) were merged, to ask for dynamic sizes; ``None``
            where sizes are static and no such tensor is known.
        source_axes: positions of ``H`` and ``W`` there.
        prefix: how many tokens stand before the grid.
    """

    height: int | None
    width: int | None
    source: Port | None = field(default=None, compare=False)
    source_axes: tuple[int, int] = field(default=(0, 0), compare=False)
    prefix: int = 0


@dataclass(frozen=True)
class Rows:
    """Batch and tokens merged into one axis, batch first."""

    tokens: Tokens


@dataclass(frozen=True)
class Digit:
    """A part of the number of a row, a column or an image.

    Args:
        axis: ``H``, ``W`` or ``N``.
        step: how many rows (columns) lie between places that differ by one in this digit.
        size: how many values it has; ``None``: a dynamic batch.
        total: how many rows (columns) all digits together number.
    """

    axis: str
    step: int
    size: int | None
    total: int | None

    @property
    def is_leading(self) -> bool:
        """Whether it is the most significant one: what is left when all others are gone is a coarser image."""
        return self.size is not None and self.step * self.size == self.total


@dataclass(frozen=True)
class Blocks:
    """Places in another order than row-major, or only a part of their number: windows, unrolled tokens.

    Args:
        digits: the most significant one first.
    """

    digits: tuple[Digit, ...]

    @property
    def batch(self) -> bool:
        """Whether the batch is merged with them."""
        return any(digit.axis == "N" for digit in self.digits)


Label = str | Tokens | Rows | Blocks | None
Labels = tuple[Label, ...]

ORDERED = (Tokens, Rows, Blocks)
"""Labels of axes along which places have an order that cutting or moving breaks."""


def is_map(own: Labels) -> bool:
    """Whether axes are batch, channels, height and width, in any order."""
    return len(own) == 4 and set(own) == set("NCHW")
