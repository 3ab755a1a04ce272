"""Where an audit is made, and where it is left: the same folder, or one of this machine and one in a store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otx_xai.audit.audit_folder import BASELINE, EVIDENCE, UNFINISHED
from otx_xai.audit.audit_result import PAGE
from otx_xai.audit.comparison import AUDIT
from otx_xai.engine.workspace import make
from otx_xai.errors import OutputError
from otx_xai.report import JOURNAL, locked
from otx_xai.report.files import unwritable_text
from otx_xai.report.lock import LOCK
from otx_xai.report.manifest import MANIFEST, write_config
from otx_xai.report.staging import move
from otx_xai.settings import AuditSettings
from otx_xai.shards.parts import PARTS
from otx_xai.shards.shard_plan import PLAN, SHARDS, has_plan
from otx_xai.storage import Place, Url
from otx_xai.storage.fetching import scratch_folder
from otx_xai.storage.objects import (
    fetch_file,
    look,
    objects_below,
    remove_object,
    remove_objects,
    send_files,
    write_object,
)

CONFIG = "audit.yaml"
"""What repeats an audit; it lies beside its folder."""

_LAST = (JOURNAL, MANIFEST, AUDIT, PAGE)
"""Files that are put when all others are there, which they tell of."""
_STAYS = (PLAN, LOCK, UNFINISHED)
"""Objects in the folder of an audit that it does not make."""


@contextmanager
def worked_in(folder: Place, *, leaves: bool) -> Iterator[Path]:
    """Keep others out of the folder of an audit, and give one on this machine in which it is made.

    That of an audit in a store is a scratch folder: at the end of this context, by an error as well, its files are put
    as whole objects, the page last, and objects of an earlier audit are removed. One that was interrupted goes on from
    them on any machine; of one that was killed, this machine still has the evidence.

    Args:
        folder: of the audit.
        leaves: the audit leaves files; else nothing is put.

    Raises:
        BusyError: somebody else writes into the folder.
        OutputError: it cannot be written to.
    """
    if isinstance(folder, Path):
        make(folder)
        with locked(folder):
            yield folder
        return
    with locked(folder):
        here = scratch_folder(folder)
        try:
            _pull(folder, here, leaves=leaves)
            try:
                yield here
            except Exception:
                if leaves:
                    with suppress(OSError):  # what led here is worse
                        _put(here, folder)
                raise
            if leaves:
                _put(here, folder)
        except OSError as error:
            raise OutputError(unwritable_text(folder, error)) from error


def remember(settings: AuditSettings, here: Path, folder: Place) -> None:
    """Write what repeats an audit, beside its folder: it holds absolute paths, which nothing in the folder does.

    Args:
        settings: of the audit.
        here: where it is made: what a killed audit leaves half written is in there, and is cleared by the next one.
        folder: of the audit.

    Raises:
        OutputError: it cannot be written.
    """
    if isinstance(folder, Url):
        write_config(folder.parent, settings.arguments(), CONFIG)
        return
    write_config(here, settings.arguments(), CONFIG)
    try:
        move(here / CONFIG, folder.parent / CONFIG)
    except OSError as error:
        raise OutputError(unwritable_text(folder.parent / CONFIG, error)) from error


def _pull(folder: Url, here: Path, *, leaves: bool) -> None:
    """Begin with nothing, or with what an audit that has not ended has left, here or in the store."""
    goes_on = look(folder / UNFINISHED) is not None
    if not goes_on:
        shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True, exist_ok=True)
    if goes_on and not (here / UNFINISHED).exists():
        for name, entry in objects_below(folder).items():
            if _is_own(name):
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                fetch_file(folder / name, here / name, entry.size)
        (here / UNFINISHED).touch()
    elif not goes_on and leaves:
        write_object(folder / UNFINISHED, b"")


def _put(here: Path, folder: Url) -> None:
    """Put all files, those last that tell of others, and remove what an earlier audit has left beside them."""
    in_parts = (f"{EVIDENCE}/", f"{BASELINE}/") if has_plan(folder) else ()
    files = {path.relative_to(here).as_posix(): path for path in sorted(here.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if _is_own(name) and not name.startswith(in_parts)}
    for last in (False, True):
        send_files({folder / name: path for name, path in files.items() if (path.name in _LAST) == last})
    remove_objects(folder / name for name in objects_below(folder) if _is_own(name) and name not in files)
    if not (here / UNFINISHED).exists():
        remove_object(folder / UNFINISHED)


def _is_own(name: str) -> bool:
    """Whether an audit makes a file, rather than those who take its evidence in shards."""
    return name not in _STAYS and not name.startswith((f"{PARTS}/", f"{SHARDS}/"))
