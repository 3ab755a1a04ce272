"""DIRECT: a search for the minimum of a function over a rectangle, which asks for many values at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otx_xai.records import Doubles

_NOWHERE = 99
"""So many thirds that nothing is left."""


class DirectSearch:
    """Dividing rectangles (Jones, Perttunen and Stuckman 1993), in two dimensions, driven from outside.

    ``ask`` gives the points of one iteration, ``tell`` takes their values, until ``ask`` gives none. So that the points
    of many searches can be evaluated together.

    Args:
        low: lower bounds ``(2,)``.
        high: upper bounds ``(2,)``.
        budget: number of points in all; the last iteration is cut short.
        epsilon: by which part of the least value a rectangle must promise to improve on it to be divided.
        locally_biased: measure a rectangle by its longest side rather than by its diagonal, and divide only one of
            those that are equally good (Gablonsky and Kelley 2001).
    """

    def __init__(
        self,
        low: Doubles,
        high: Doubles,
        budget: int,
        epsilon: float = 1e-4,
        *,
        locally_biased: bool = False,
    ) -> None:
        self._low: Doubles = np.asarray(low, np.float64)
        self._extent: Doubles = np.asarray(high, np.float64) - self._low
        self._budget = budget
        self._epsilon = epsilon
        self._locally_biased = locally_biased
        self._centres: Doubles = np.full((0, 2), 0.5)
        self._thirds = np.zeros((0, 2), np.int64)
        self._values: Doubles = np.zeros(0)
        self._asked: list[tuple[int, int]] = []  # rectangle and axis of each pair of points

    @property
    def points(self) -> Doubles:
        """All points so far ``(n, 2)``, in the order of evaluation."""
        return self._points(self._centres)

    @property
    def values(self) -> Doubles:
        """Their values ``(n,)``."""
        return self._values

    @property
    def rectangles(self) -> tuple[Doubles, Doubles]:
        """Centres and sides ``(n, 2)`` of the rectangles, as parts of the bounds; they cover all of them."""
        sides: Doubles = np.power(3.0, -self._thirds)
        return self._centres, sides

    @property
    def left(self) -> int:
        """Number of points that may still be asked for."""
        return self._budget - len(self._values)

    def ask(self) -> Doubles:
        """Return the points of the next iteration ``(m, 2)``; none when the budget is spent."""
        if self.left <= 0:
            return np.zeros((0, 2))
        if not len(self._values):
            return self._points(np.full((1, 2), 0.5))
        self._asked = [
            (int(rectangle), int(axis)) for rectangle in self._promising() for axis in self._longest(rectangle)
        ]
        return self._points(self._new_centres()[: self.left])

    def tell(self, values: Doubles) -> None:
        """Take the values of the points that were asked for, in their order, and divide the rectangles."""
        values = np.asarray(values, float)
        if not len(self._values):
            self._centres, self._thirds, self._values = np.full((1, 2), 0.5), np.zeros((1, 2), np.int64), values
            return
        first = len(self._values)
        self._centres = np.concatenate([self._centres, self._new_centres()[: len(values)]])
        self._values = np.concatenate([self._values, values])
        sides = np.full((len(values), 2), _NOWHERE)  # a point without its partner divides nothing
        pairs = [first + 2 * i for i in range(len(self._asked))]
        complete = [
            (asked, pair) for asked, pair in zip(self._asked, pairs, strict=True) if pair + 1 < len(self._values)
        ]
        # where both sides of a rectangle are divided, the better pair of points keeps the larger part
        for (rectangle, axis), pair in sorted(
            complete, key=lambda item: (item[0][0], self._values[item[1] : item[1] + 2].min())
        ):
            self._thirds[rectangle, axis] += 1
            sides[pair - first : pair - first + 2] = self._thirds[rectangle]
        self._thirds = np.concatenate([self._thirds, sides])

    def _new_centres(self) -> Doubles:
        """Return the points at a third of the longest sides, below and above the centres, pair by pair."""
        points = []
        for rectangle, axis in self._asked:
            step = np.zeros(2)
            step[axis] = 3.0 ** -(self._thirds[rectangle, axis] + 1)
            points += [self._centres[rectangle] - step, self._centres[rectangle] + step]
        return np.array(points).reshape(-1, 2)

    def _points(self, centres: Doubles) -> Doubles:
        return self._low + centres * self._extent

    def _longest(self, rectangle: int) -> NDArray[np.intp]:
        thirds = self._thirds[rectangle]
        return np.flatnonzero(thirds == thirds.min())

    def _promising(self) -> list[int]:
        """Return the rectangles that may hold the minimum, for some rate of change of the function."""
        sides = 3.0**-self._thirds
        sizes = sides.max(axis=1) / 2 if self._locally_biased else np.linalg.norm(sides, axis=1) / 2
        levels, group = np.unique(np.round(sizes, 12), return_inverse=True)
        least = np.array([self._values[group == i].min() for i in range(len(levels))])
        best = self._values.min()
        chosen: list[int] = []
        for i, (size, value) in enumerate(zip(levels, least, strict=True)):
            rise = (value - least[:i]) / (size - levels[:i]) if i else np.zeros(1)
            fall = (least[i + 1 :] - value) / (levels[i + 1 :] - size)
            slope = fall.min() if len(fall) else np.inf
            if max(0.0, float(rise.max())) > slope or slope < 0:
                continue
            if np.isfinite(slope) and value - slope * size > best - self._epsilon * abs(best):
                continue
            members = np.flatnonzero((group == i) & (self._values == value))
            chosen += [int(member) for member in (members[:1] if self._locally_biased else members)]
        return sorted(chosen)
