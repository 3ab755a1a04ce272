"""One shard of a run: explained as a run of its own, and committed by one atomic file."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from otx_xai.errors import OutputError
from otx_xai.explain.plan import Plan
from otx_xai.explain.run import ExplainRun, Run
from otx_xai.records import Decode, ExplainConfig, ImageInfo
from otx_xai.report import JOURNAL, Line, locked, read_journal, write_json
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


@dataclass(frozen=True)
class Shard:
    """A shard in hand, whose folder is locked.

    Args:
        number: of the shard, from 1.
        images: all of them, in order.
        lethal: images that are not tried again, and why.
        resume: go on where an earlier try has stopped.
        only: names of the images that are wanted this time; ``None``: all, and then the shard is committed.
    """

    number: int
    images: tuple[PlannedImage, ...]
    lethal: Mapping[str, str]
    resume: bool
    only: frozenset[str] | None

    @property
    def tried(self) -> list[ImageInfo]:
        """The images that do not kill."""
        return [image.info for image in self.images if image.info.name not in self.lethal]


@dataclass(frozen=True)
class Tried:
    """What a try at a shard has come to.

    Args:
        run: what was done, earlier tries included.
        lines: puts all that the part rests on in its place, and returns the lines of the images that were explained.
    """

    run: ExplainRun
    lines: Callable[[], Sequence[Line]]


class Workplace(Protocol):
    """What does any shard of a run, in one process."""

    @property
    def plan(self) -> ShardPlan:
        """The plan of the run."""

    def attempt(self, shard: Shard) -> Tried:
        """Do a shard as a run of its own, in its own folder."""


@dataclass(frozen=True, eq=False)
class Explaining:
    """A workplace that explains.

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

    def attempt(self, shard: Shard) -> Tried:
        """Explain the images of a shard; its pictures go into the folder of the whole run."""
        plan, folder = self.plan, self.plan.folder(shard.number)
        run = Run(
            folder,
            shard_manifest(plan, shard, folder, plan.told),
            self.planned,
            self.config,
            shard.tried,
            dump=self.dump,
            keep=False,
            root=plan.work_dir,
            packing=_packing(plan, shard.number, shard.images),
            decode=self.decode,
        )
        done = run.execute(self.session, resume=shard.resume, only=shard.only)
        return Tried(done, partial(read_journal, folder / JOURNAL))


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
        wanted = None if only is None else frozenset(image.info.name for image in images[slice(*only)])
        tried = place.attempt(Shard(number, images, lethal, resume, wanted))
        failures = tried.run.failures | lethal
        if only is None and not tried.run.interrupted:
            part = Part(tuple(tried.lines()), failures, tried.run.seconds)
            write_part(plan, number, [image.info.name for image in images], part)
            _remove(folder)
            logger.info("Shard %d of %d is done.", number, plan.shards)
    return replace(tried.run, work_dir=plan.work_dir, images=len(images), failures=failures)


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


def shard_manifest(plan: ShardPlan, shard: Shard, folder: Place, told: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a run that does a shard, or a pass over its images.

    Args:
        plan: of the whole run.
        shard: in hand.
        folder: of the run, which exists.
        told: what the manifest of the whole says before anything is done.
    """
    settings: Mapping[str, Any] = told["settings"] | {"shard": shard.number, "plan": plan.identity}
    return Manifest(folder, told["command"], settings, told["model_sha256"], len(shard.images), keeps_complete=True)


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
