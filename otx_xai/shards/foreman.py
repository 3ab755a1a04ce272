"""Who explains which shard: hands shards to processes, again where one dies, and finds the image that kills them."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from otx_xai.counting import counted
from otx_xai.errors import BusyError, ModelError
from otx_xai.shards.parts import has_part, missing_parts
from otx_xai.shards.shard_plan import ShardPlan
from otx_xai.shards.shard_run import note_lethal

logger = logging.getLogger("otx_xai")

TRIES = 2
"""Deaths of a process at a whole shard after which it is halved, and at a single image after which that is given up."""

_DEATHS_IN_A_ROW = 40
"""Without a success in between: then it is not the images that kill. Finding one of 2**15 images takes 17."""

_STARTS_IN_A_ROW = 4
"""Processes that die before they can explain anything: then it is the model, or the machine."""

_PATIENCE = 0.5
"""Seconds to wait for news before the user's wish to stop is looked at."""

_BUSY = 1.0
"""Seconds after which a shard is asked for again that another run is at."""


@dataclass(frozen=True)
class Order:
    """What a process is to do.

    Args:
        shard: its number, from 1.
        only: the first of its images that are wanted, from 0, and the one behind the last; ``None``: all of them, and
            then the shard is committed.
    """

    shard: int
    only: tuple[int, int] | None = None


@dataclass(frozen=True)
class News:
    """What has become of an order.

    Args:
        order: which one; ``None``: the process has not become ready.
        died: how the process died that had it, in words.
        error: what it raised.
        stopped: it was told by somebody else to stop, and has not finished.
        failed: number of images that could not be explained.
    """

    order: Order | None
    died: str = ""
    error: Exception | None = None
    stopped: bool = False
    failed: int = 0


class Crew(Protocol):
    """Processes that carry out orders, one each at a time; one that dies is replaced."""

    def idle(self) -> int:
        """Return how many processes wait for an order."""

    def busy(self) -> int:
        """Return how many orders are being carried out."""

    def hand(self, order: Order) -> None:
        """Give an order to one that waits."""

    def news(self, seconds: float) -> list[News]:
        """Wait for news, so long at most."""


class Foreman:
    """Has all shards of a plan done by a crew.

    Args:
        plan: of the run.
        crew: who explains.
        stop: once set, no shard is begun any more; those at work are finished.
        report: is told of every shard that is done: how many images it has.
    """

    def __init__(self, plan: ShardPlan, crew: Crew, stop: Event, report: Callable[[int], object]) -> None:
        self._plan = plan
        self._crew = crew
        self._stop = stop
        self._report = report
        self._orders = deque(Order(number) for number in missing_parts(plan))
        self._elsewhere: deque[tuple[float, Order]] = deque()
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._deaths: Counter[Order] = Counter()
        self._in_a_row = 0
        self._starts_in_a_row = 0
        self._error: Exception | None = None

    def run(self) -> None:
        """Return when all shards are done, or those at work when it was stopped.

        Raises:
            OtxXaiError: a shard cannot be explained; those at work were finished.
            ModelError: processes die whatever they are given.
        """
        while self._hand_out():
            for one in self._crew.news(_PATIENCE):
                self._hear(one)
        if self._error is not None:
            raise self._error

    def _hand_out(self) -> bool:
        """Keep everybody busy; return whether there is anything to wait for."""
        ending = self._stop.is_set() or self._error is not None
        while self._elsewhere and self._elsewhere[0][0] <= time.monotonic():
            self._orders.append(self._elsewhere.popleft()[1])
        while self._orders and self._crew.idle() and not ending:
            order = self._orders.popleft()
            if order.only is None and has_part(self._plan, order.shard):  # another run was faster
                self._done(order.shard)
            else:
                self._crew.hand(order)
        return self._crew.busy() > 0 or bool((self._orders or self._elsewhere) and not ending)

    def _hear(self, news: News) -> None:
        order = news.order
        if news.died:
            self._bury(order, news.died)
        elif order is not None and isinstance(news.error, BusyError):
            self._elsewhere.append((time.monotonic() + _BUSY, order))
        elif news.error is not None:
            self._error = self._error or news.error
        elif order is None:
            self._starts_in_a_row = 0
        elif news.stopped:
            self._orders.append(order)
        else:
            self._in_a_row = 0
            if order.only is None:
                if news.failed:
                    logger.warning("Shard %d: %s failed.", order.shard, counted(news.failed, "image"))
                self._done(order.shard)
            else:
                self._orders.appendleft(self._next(order.shard))

    def _done(self, shard: int) -> None:
        first, behind = self._plan.bounds(shard)
        self._report(behind - first)

    def _bury(self, order: Order | None, why: str) -> None:
        """Try again what a process died at: first the same, then its halves, down to the image that kills."""
        self._in_a_row += 1
        self._starts_in_a_row += order is None
        if self._starts_in_a_row >= _STARTS_IN_A_ROW or self._in_a_row >= _DEATHS_IN_A_ROW:
            self._error = self._error or ModelError(
                f"The processes that explain die one after the other, whatever they are given: {why} Expected a model "
                "that a process of its own can explain; try `otx explain` without --ray on one image."
            )
        if order is None:
            return
        logger.warning("A process died at shard %d: %s", order.shard, why)
        self._deaths[order] += 1
        first, behind = order.only or self._all(order.shard)
        ranges = self._ranges.setdefault(order.shard, []) if order.only or self._deaths[order] >= TRIES else None
        if ranges is None:
            self._orders.appendleft(order)
            return
        if behind - first > 1:
            middle = (first + behind) // 2
            ranges += [(middle, behind), (first, middle)]
        elif self._deaths[order] < TRIES or order.only is None:
            ranges.append((first, behind))
        else:
            name = note_lethal(
                self._plan, order.shard, first, f"The process that explained it died {TRIES} times: {why}"
            )
            logger.warning("%s kills the process that explains it, and is given up.", name)
        self._orders.appendleft(self._next(order.shard))

    def _next(self, shard: int) -> Order:
        """Return what is to be done next of a shard that is looked through for what kills."""
        if self._ranges.get(shard):
            return Order(shard, self._ranges[shard].pop())
        self._ranges.pop(shard, None)
        self._deaths.pop(Order(shard), None)
        return Order(shard)

    def _all(self, shard: int) -> tuple[int, int]:
        first, behind = self._plan.bounds(shard)
        return 0, behind - first
