"""One shard of a run: explained as a run of its own, and committed by one atomic file."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from otx_xai.errors import OutputError
from otx_xai.explain.plan import Plan
from otx_xai.explain.run import ExplainRun, Run
from otx_xai.records import Decode, ExplainConfig
from otx_xai.report import JOURNAL, locked, read_journal, write_json
from otx_xai.report.files import unwritable_text
from otx_xai.report.lock import LOCK
from otx_xai.report.manifest import Manifest
from otx_xai.report.tar_shelf import Packing
from otx_xai.runtime import Session
from otx_xai.shards.parts import Part, has_part, part_file, read_part, write_part
from otx_xai.shards.shard_plan import PlannedImage, ShardPlan, refuse_changed
from otx_xai.storage import Place, Url, read_bytes, remove
from otx_xai.storage.json_text import parse_json
from otx_xai.storage.objects import objects_below, remove_objects

logger = logging.getLogger("otx_xai")

LETHAL = "lethal.json"
"""File in the folder of a shard: image → why it is not tried again: the process that explained it died."""


@dataclass(frozen=True, eq=False)
class Workplace:
    """What explains any shard of a run, in one process.

    Args:
        plan: of the run.
        planned: what explains.
        session: it, compiled.
        config: which files of an image to write.
        dump: write them.
        decode: how files of images are decoded.
    """

    plan: ShardPlan
    planned: Plan
    session: Session
    config: ExplainConfig
    dump: bool
    decode: Decode = Decode.EXACT


def explain_shard(
    place: Workplace, number: int, *, resume: bool = True, only: tuple[int, int] | None = None
) -> ExplainRun:
    """Explain a shard, unless it is done, and commit it.

    Args:
        place: what explains.
        number: of the shard, from 1.
        resume: go on where an earlier try has stopped; else do it again, even if it is done.
        only: the first of its images that are wanted, from 0, and the one behind the last: nothing is committed then.

    Returns:
        What was done, earlier tries included.

    Raises:
        BusyError: another process is at this shard.
        ConfigError: its images have changed since the plan was made.
        OutputError, ModelError: as of a run.
    """
    plan, folder = place.plan, place.plan.folder(number)
    if resume and has_part(plan, number):
        return _finished(plan, number)
    _make(folder)
    with locked(folder):
        if resume and has_part(plan, number):
            return _finished(plan, number)
        if not resume:
            remove(part_file(plan, number))
            remove(folder / LETHAL)
        images = plan.images_of(number)
        refuse_changed(plan, number, images)
        lethal = lethal_images(plan, number)
        run = Run(
            folder,
            _manifest(plan, number, len(images)),
            place.planned,
            place.config,
            [image.info for image in images if image.info.name not in lethal],
            dump=place.dump,
            keep=False,
            root=plan.work_dir,
            packing=_packing(plan, number, images),
            decode=place.decode,
        )
        wanted = None if only is None else {image.info.name for image in images[slice(*only)]}
        done = run.execute(place.session, resume=resume, only=wanted)
        failures = done.failures | lethal
        if only is None and not done.interrupted:
            part = Part(tuple(read_journal(folder / JOURNAL)), failures, done.seconds)
            write_part(plan, number, [image.info.name for image in images], part)
            _remove(folder)
            logger.info("Shard %d of %d is done.", number, plan.shards)
    return replace(done, work_dir=plan.work_dir, images=len(images), failures=failures)


def lethal_images(plan: ShardPlan, number: int) -> dict[str, str]:
    """Return the images of a shard that are not tried again, and why."""
    try:
        found: dict[str, str] = parse_json(read_bytes(plan.folder(number) / LETHAL))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OutputError(f"{plan.folder(number) / LETHAL} cannot be read: {error}. Remove it.") from error
    return found


def note_lethal(plan: ShardPlan, number: int, place: int, why: str) -> str:
    """Note that an image is not to be tried again, and return its name.

    Args:
        plan: of the run.
        number: of the shard, from 1.
        place: of the image in it, from 0.
        why: in words.

    Raises:
        OutputError: it cannot be written.
    """
    name = plan.images_of(number)[place].info.name
    write_json(plan.folder(number) / LETHAL, lethal_images(plan, number) | {name: why})
    return name


def _packing(plan: ShardPlan, number: int, images: Sequence[PlannedImage]) -> Packing | None:
    first = plan.bounds(number)[0]
    places = {image.info.name: place for place, image in enumerate(images, first)}
    return Packing(plan.packed, places) if plan.packed else None


def _manifest(plan: ShardPlan, number: int, images: int) -> Manifest:
    told = plan.told
    settings: Mapping[str, Any] = told["settings"] | {"shard": number, "plan": plan.identity}
    return Manifest(plan.folder(number), told["command"], settings, told["model_sha256"], images, keeps_complete=True)


def _finished(plan: ShardPlan, number: int) -> ExplainRun:
    _remove(plan.folder(number))  # whoever wrote the part may have died before
    part = read_part(plan, number)
    explained = len(part.lines)
    images = explained + len(part.failures)
    return ExplainRun(plan.work_dir, images, explained, explained, dict(part.failures), part.files, 0.0)


def _make(folder: Place) -> None:
    if isinstance(folder, Url):  # a store has no folders
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(unwritable_text(folder, error)) from error


def _remove(folder: Place) -> None:
    """Remove the folder of a shard that is done, and that of all shards where it is the last."""
    if isinstance(folder, Url):
        with suppress(OSError):
            remove_objects(folder / name for name in objects_below(folder) if name != LOCK)
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
