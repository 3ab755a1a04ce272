"""From the parts of a run to the files that one process would have written."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from otx_xai.counting import counted
from otx_xai.errors import MissingPartsError
from otx_xai.explain.run import ExplainRun
from otx_xai.report import JOURNAL, locked
from otx_xai.report.depots import Depot, FolderDepot
from otx_xai.report.files import write_lines
from otx_xai.report.journal import as_line
from otx_xai.report.leftovers import remove_leftovers, set_journal_aside
from otx_xai.report.manifest import Manifest, write_config
from otx_xai.report.stored_journal import StoredJournal
from otx_xai.shards.parts import Part, clear_torn_parts, missing_parts, read_part
from otx_xai.shards.shard_plan import PLAN, SHARDS, ShardPlan, read_plan
from otx_xai.storage import Place, Url
from otx_xai.storage.objects import objects_below, remove_objects

logger = logging.getLogger("otx_xai")

_SHOWN = 12
"""So many spans of missing shards are named."""


def merge_parts(work_dir: Place, wait: float = 0) -> ExplainRun:
    """Write ``predictions.jsonl``, ``run.json`` and ``config.yaml`` of all shards, in the order of the plan.

    They are byte for byte those of a run of one process, apart from times: ``seconds`` is the sum of those of all
    shards. Plan and parts stay.

    Args:
        work_dir: folder of the run.
        wait: seconds that another merge may take to let go.

    Returns:
        What was done; its time is that of the merge.

    Raises:
        MissingPartsError: shards are not done; the error names them.
        BusyError: another merge, or a run of one process, is writing into the folder.
        OutputError: there is no plan, a part is broken, or a file cannot be written.
    """
    start = time.monotonic()
    plan = read_plan(work_dir)
    refuse_missing(plan)
    with locked(work_dir, wait):
        counts = Counted(plan)
        write_config(work_dir, plan.arguments)
        if isinstance(work_dir, Url):
            _merge_in_store(work_dir, plan, counts)
        else:
            _write_journal(work_dir / JOURNAL, FolderDepot(work_dir), plan, counts)
            shutil.rmtree(work_dir / SHARDS, ignore_errors=True)  # of processes that died when all was done
        counts.conclude(Manifest.again(work_dir, plan.told, plan.images))
        clear_torn_parts(plan)
    logger.info("Merged %s.", counted(plan.shards, "shard"))
    return ExplainRun(
        work_dir,
        plan.images,
        counts.explained,
        counts.explained,
        counts.failures,
        counts.files,
        time.monotonic() - start,
    )


def _write_journal(journal: Path, depot: Depot, plan: ShardPlan, counts: Counted) -> None:
    set_journal_aside(journal)
    write_lines(journal, counts.lines())
    if plan.arguments.get("dump"):
        remove_leftovers(journal, depot)


def _merge_in_store(url: Url, plan: ShardPlan, counts: Counted) -> None:
    """Make the journal on this machine, beside what an earlier run has left in the store, and put it."""
    stored = StoredJournal(url, JOURNAL)
    try:
        stored.pull()
        _write_journal(stored.folder / JOURNAL, stored.depot, plan, counts)
        stored.conclude()
    finally:
        stored.close()
    with suppress(OSError):
        remove_objects(url / f"{SHARDS}/{name}" for name in objects_below(url / SHARDS))


def refuse_missing(plan: ShardPlan) -> None:
    """Raise MissingPartsError where shards of a plan are not done, and name them."""
    missing = missing_parts(plan)
    if missing:
        file, verb = plan.work_dir / PLAN, plan.told["command"]
        raise MissingPartsError(
            f"{len(missing)} of {plan.shards} shards of {file} are not done: {spans(missing)}. Expected all of them; "
            f"{verb} each with --shard K/{plan.shards}, then merge again."
        )


class Counted:
    """The parts of a run, counted as they go by.

    Args:
        plan: of the run.
        name: of a further pass over its images.
    """

    def __init__(self, plan: ShardPlan, name: str = "") -> None:
        self._plan = plan
        self._name = name
        self.explained = self.files = self.warned = 0
        self.seconds = 0.0
        self.failures: dict[str, str] = {}

    def parts(self) -> Iterator[tuple[int, Part]]:
        """Yield the number of each shard, and what was done of it."""
        for number in range(1, self._plan.shards + 1):
            part = read_part(self._plan, number, self._name)
            self.explained += len(part.lines)
            self.files += part.files
            self.warned += part.warned
            self.seconds += part.seconds
            self.failures |= part.failures
            yield number, part

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of all images that were explained."""
        for _, part in self.parts():
            yield from map(as_line, part.lines)

    def conclude(self, manifest: Manifest) -> None:
        """Write the manifest of the whole, all parts having gone by.

        Raises:
            OutputError: it cannot be written.
        """
        figures = {"seconds": round(self.seconds, 3), "files": self.files, "images_with_warnings": self.warned}
        manifest.write("complete", self.explained, self.failures, **figures)


def spans(numbers: Iterable[int]) -> str:
    """Write numbers that rise in few words.

    >>> spans([1, 2, 3, 7, 9, 10])
    '1-3, 7, 9-10'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    words = [f"{first}-{last}" if first != last else str(first) for first, last in found[:_SHOWN]]
    return ", ".join(words + ["…"] * (len(found) > _SHOWN))
