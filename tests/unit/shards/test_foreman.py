"""Who explains which shard, with a crew that is only simulated: it dies, refuses and fails as it is told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from otx_xai.errors import BusyError, ModelError, OutputError
from otx_xai.records import ImageInfo
from otx_xai.shards.foreman import Foreman, News, Order
from otx_xai.shards.parts import Part, missing_parts, read_part, write_part
from otx_xai.shards.shard_plan import ShardPlan, bounds, join_plan
from otx_xai.shards.shard_run import lethal_images


class PretendedCrew:
    """Carries out orders at once, in a random order, as a process that writes parts does.

    Args:
        plan: of the run.
        size: number of processes.
        lethal: names of images that kill.
        fate: what happens to an order instead, before anything is done; ``None``: nothing of the kind.
    """

    def __init__(
        self,
        plan: ShardPlan,
        size: int = 3,
        lethal: tuple[str, ...] = (),
        fate: Callable[[Order], News | None] = lambda _: None,
    ) -> None:
        self._plan, self._size, self._lethal, self._fate = plan, size, lethal, fate
        self._given: list[Order] = []
        self._random = random.Random(7)
        self.orders: list[Order] = []
        self.explained: Counter[str] = Counter()

    def idle(self) -> int:
        return self._size - len(self._given)

    def busy(self) -> int:
        return len(self._given)

    def hand(self, order: Order) -> None:
        assert self.idle() > 0
        assert order.shard not in [other.shard for other in self._given], "two processes at one shard"
        self._given.append(order)
        self.orders.append(order)

    def news(self, seconds: float) -> list[News]:
        if not self._given:
            return []
        order = self._given.pop(self._random.randrange(len(self._given)))
        return [self._fate(order) or self._carry_out(order)]

    def _carry_out(self, order: Order) -> News:
        known = lethal_images(self._plan, order.shard)
        names = [image.info.name for image in self._plan.images_of(order.shard)]
        for name in names[slice(*(order.only or (None, None)))]:
            if name in known:
                continue
            if name in self._lethal:
                return News(order, died="The worker died.")
            self.explained[name] += 1
        if order.only is None:
            lines = tuple({"name": name, "files": []} for name in names if name not in known)
            write_part(self._plan, order.shard, names, Part(lines, known, 0.0))
        return News(order, failed=len(known))


def planned(work_dir: Path, images: int, shards: int) -> ShardPlan:
    infos = [ImageInfo(f"nowhere/{i}.jpg", f"{i}.jpg", str(i)) for i in range(images)]
    return join_plan(work_dir, {"fingerprint": "1", "settings": {}}, {}, infos, shards)


def run(plan: ShardPlan, crew: Any, stop: Event | None = None) -> int:
    """Have a plan done, and return the number of images that were reported."""
    reported: list[int] = []
    Foreman(plan, crew, stop or Event(), reported.append).run()
    return sum(reported)


def failures(plan: ShardPlan) -> dict[str, str]:
    parts = [read_part(plan, number) for number in range(1, plan.shards + 1)]
    return {name: why for part in parts for name, why in part.failures.items()}


def test_every_shard_is_explained_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, 100, 7)
    crew = PretendedCrew(plan)
    assert run(plan, crew) == 100
    assert set(crew.explained.values()) == {1}
    assert sorted(order.shard for order in crew.orders) == list(range(1, 8))
    assert run(plan, crew) == 0, "what is done is not done again"


@pytest.mark.parametrize("lethal", [(0,), (63,), (17, 18), (3, 40, 99), tuple(range(8))], ids=str)
def test_images_that_kill_are_found_by_halving(tmp_path: Path, lethal: tuple[int, ...]) -> None:
    plan = planned(tmp_path, 100, 2)
    names = tuple(f"{i}.jpg" for i in lethal)
    crew = PretendedCrew(plan, lethal=names)
    assert run(plan, crew) == 100
    assert set(failures(plan)) == set(names)
    assert all("died 2 times: The worker died." in why for why in failures(plan).values())
    assert set(crew.explained) == {f"{i}.jpg" for i in range(100)} - set(names)
    deaths = len(crew.orders) - sum(order.only is None for order in crew.orders)
    assert deaths <= 2 * len(lethal) * (2 * 6 + 2), "halving, not trying one by one"


def test_a_process_that_dies_by_chance_costs_no_image(tmp_path: Path) -> None:
    plan = planned(tmp_path, 200, 20)
    chance = random.Random(3)

    def fate(order: Order) -> News | None:
        return News(order, died="The machine is gone.") if chance.random() < 0.25 else None

    assert run(plan, PretendedCrew(plan, fate=fate)) == 200
    assert not failures(plan)


def test_a_shard_that_another_run_is_at_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otx_xai.shards.foreman._BUSY", 0.01)
    plan = planned(tmp_path, 30, 3)
    refused: Counter[int] = Counter()

    def fate(order: Order) -> News | None:
        refused[order.shard] += 1
        return News(order, error=BusyError("busy")) if order.shard == 2 and refused[2] < 4 else None

    crew = PretendedCrew(plan, fate=fate)
    assert run(plan, crew) == 30
    assert refused[2] == 4


def test_what_another_run_has_done_meanwhile_is_not_handed_out(tmp_path: Path) -> None:
    plan = planned(tmp_path, 30, 3)

    def fate(order: Order) -> News | None:
        if order.shard == 1:
            PretendedCrew(plan)._carry_out(Order(3))
        return None

    crew = PretendedCrew(plan, size=1, fate=fate)
    assert run(plan, crew) == 30
    assert [order.shard for order in crew.orders] == [1, 2]


def test_an_error_ends_the_run_when_those_at_work_are_done(tmp_path: Path) -> None:
    plan = planned(tmp_path, 100, 10)

    def fate(order: Order) -> News | None:
        return News(order, error=OutputError("the disk is full")) if order.shard == 2 else None

    with pytest.raises(OutputError, match="the disk is full"):
        run(plan, PretendedCrew(plan, size=2, fate=fate))
    assert 2 in missing_parts(plan)
    assert len(missing_parts(plan)) >= 6


def test_stopping_hands_nothing_out_any_more(tmp_path: Path) -> None:
    plan = planned(tmp_path, 100, 10)
    stop = Event()

    def fate(order: Order) -> News | None:
        stop.set()
        return None

    crew = PretendedCrew(plan, size=3, fate=fate)
    assert run(plan, crew, stop) == 30
    assert len(missing_parts(plan)) == 7


def test_processes_that_always_die_at_work_end_the_run(tmp_path: Path) -> None:
    plan = planned(tmp_path, 1000, 1)
    crew = PretendedCrew(plan, fate=lambda order: News(order, died="Out of memory."))
    with pytest.raises(ModelError, match=r"die one after the other, whatever they are given: Out of memory\."):
        run(plan, crew)
    assert len(crew.orders) < 50


def test_processes_that_always_die_as_they_start_end_the_run(tmp_path: Path) -> None:
    class StillBorn(PretendedCrew):
        def idle(self) -> int:
            return 0

        def news(self, seconds: float) -> list[News]:
            return [News(None, died="The library is missing.")]

    plan = planned(tmp_path, 10, 1)
    with pytest.raises(ModelError, match="whatever they are given: The library is missing"):
        run(plan, StillBorn(plan))


def test_a_process_that_was_told_to_stop_gives_its_shard_back(tmp_path: Path) -> None:
    plan = planned(tmp_path, 30, 3)
    told: list[int] = []

    def fate(order: Order) -> News | None:
        told.append(order.shard)
        return News(order, stopped=True) if told == [1] else None

    assert run(plan, PretendedCrew(plan, size=1, fate=fate)) == 30
    assert told == [1, 2, 3, 1]


def test_sizes_of_shards_are_those_that_are_reported(tmp_path: Path) -> None:
    plan = planned(tmp_path, 11, 4)
    reported: list[int] = []
    Foreman(plan, PretendedCrew(plan, size=1), Event(), reported.append).run()
    assert reported == [behind - first for first, behind in (bounds(4, number, 11) for number in range(1, 5))]
