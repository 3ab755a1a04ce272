"""From the parts of an audit to the evidence that one process would have left."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from otx_xai.audit.audit_folder import EVIDENCE, begin
from otx_xai.audit.evidence_joining import Joined, joined
from otx_xai.audit.evidence_reading import open_records
from otx_xai.counting import counted
from otx_xai.errors import ConfigError, OutputError
from otx_xai.explain.run import ExplainRun
from otx_xai.report import JOURNAL, locked
from otx_xai.report.files import write_lines
from otx_xai.report.journal import as_line
from otx_xai.report.manifest import Manifest
from otx_xai.shards.merging import Counted, refuse_missing
from otx_xai.shards.parts import clear_torn_parts, part_folder
from otx_xai.shards.shard_plan import SHARDS, ShardPlan, read_plan
from otx_xai.storage import Place, Url
from otx_xai.storage.objects import fetch_file, objects_in

logger = logging.getLogger("otx_xai")

PASSES = "passes"
"""Entry of the arguments of a plan: name of each pass over all images → what its manifest tells."""


def merge_audit(folder: Place, wait: float = 0) -> ExplainRun:
    """Put the evidence of all shards of an audit together; the audit itself is made of it by ``otx audit``.

    Args:
        folder: of the audit.
        wait: seconds that another process may take to let go of it.

    Raises:
        ConfigError: it is in a store, where evidence stays in parts.
        MissingPartsError: shards are not done; the error names them.
        BusyError: an audit, or another merge, is writing into the folder.
        OutputError: there is no plan, a part is broken, or a file cannot be written.
    """
    plan = read_plan(folder)
    refuse_missing(plan)
    if isinstance(folder, Url):
        raise ConfigError(
            f"{folder} holds the parts of an audit, which need no merge in a store. Expected `otx audit` with the "
            "options of its shards, and without --shard: it reads all parts."
        )
    with locked(folder, wait):
        begin(folder, resume=False, baseline=True)
        return merge_evidence(plan, folder)


def merge_evidence(plan: ShardPlan, folder: Path) -> ExplainRun:
    """Write the evidence of all passes as one process would have; nobody else may write into the folder.

    Args:
        plan: of an audit all of whose shards are done.
        folder: on this machine, where the audit is made.

    Returns:
        What was done of the audited model; its time is that of the merge.

    Raises:
        OutputError: a part is broken, or a file cannot be written.
    """
    start = time.monotonic()
    counts = {name: _merge_pass(plan, folder / name, name, told) for name, told in plan.arguments[PASSES].items()}
    clear_torn_parts(plan)
    if isinstance(plan.work_dir, Path):
        shutil.rmtree(plan.work_dir / SHARDS, ignore_errors=True)  # of processes that died when all was done
    logger.info("Merged the evidence of %s.", counted(plan.shards, "shard"))
    own = counts[EVIDENCE]
    explained, seconds = own.explained, time.monotonic() - start
    return ExplainRun(folder, plan.images, explained, explained, own.failures, own.files, seconds)


def _merge_pass(plan: ShardPlan, folder: Path, name: str, told: Mapping[str, Any]) -> Counted:
    shutil.rmtree(folder, ignore_errors=True)
    counted = Counted(plan, part_name(name))
    try:
        folder.mkdir(parents=True)
        with joined(folder) as records:
            write_lines(folder / JOURNAL, _lines(plan, name, counted, records))
    except OSError as error:
        raise OutputError(f"The evidence in {folder} cannot be merged: {error.strerror}.") from error
    counted.conclude(Manifest.again(folder, told, plan.images))
    return counted


def part_name(name: str) -> str:
    """Return what the part of a pass is called; that of the audited model says that the shard is done."""
    return "" if name == EVIDENCE else name


def _lines(plan: ShardPlan, name: str, counted: Counted, records: Joined) -> Iterator[bytes]:
    for number, part in counted.parts():
        with _records_here(part_folder(plan, number, name)) as here:
            first = records.add(open_records(here, part.lines))
        for row, line in enumerate(part.lines, first):
            yield as_line(line | {"row": row})


@contextmanager
def _records_here(place: Place) -> Iterator[Path]:
    """Give the folder of records on this machine; those of a store are fetched for as long as this context lasts."""
    if isinstance(place, Path):
        yield place
        return
    with TemporaryDirectory(prefix="otx_xai-") as folder:
        for name, entry in objects_in(place).items():
            fetch_file(place / name, Path(folder, name), entry.size)
        yield Path(folder)
