"""The plan of a run in shards: which images, in which order and parts, of which model and settings."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otx_xai.counting import counted
from otx_xai.errors import ConfigError, OutputError
from otx_xai.records import ImageInfo
from otx_xai.report import locked
from otx_xai.report.files import unwritable_text, utf8, write_lines
from otx_xai.report.manifest import differences
from otx_xai.shards.file_marks import NO_MARK, Mark, planned_marks, present_marks
from otx_xai.storage import Place, Url, exists, is_url
from otx_xai.storage.fetching import file_here
from otx_xai.storage.json_text import parse_json
from otx_xai.storage.objects import write_object

logger = logging.getLogger("otx_xai")

PLAN = "plan.jsonl"
"""File in the folder of a run: a line about the whole, then a line a shard."""

SHARDS = "shards"
"""Folder in that of a run, with one for each shard that has been begun and is not done."""

_FORMAT = 1
_PATIENCE = 60.0
"""Seconds that another process may take to write the plan."""

_SHOWN = 5
"""So many images that have changed are named."""


@dataclass(frozen=True)
class PlannedImage:
    """An image as it was when the plan was made.

    Args:
        info: the image.
        mark: of its file.
    """

    info: ImageInfo
    mark: Mark


@dataclass(frozen=True)
class ShardPlan:
    """The plan of a run in shards.

    Args:
        work_dir: folder of the run.
        file: the plan on this machine.
        identity: differs between any two plans.
        shards: number of shards, called 1, 2, …
        images: number of images.
        names_sha256: of the names of all images, in order.
        told: what ``run.json`` tells of the whole run before anything is done.
        arguments: what ``config.yaml`` tells.
        offsets: where the line of each shard begins in the file, in bytes.
        below: folder that the files of images are told from, on this machine; empty where the plan tells all of it.
    """

    work_dir: Place
    file: Path
    identity: str
    shards: int
    images: int
    names_sha256: str
    told: Mapping[str, Any]
    arguments: Mapping[str, Any]
    offsets: tuple[int, ...]
    below: str = ""

    @property
    def packed(self) -> int:
        """Images whose files go into one tar file, which are never in two shards; 0: each file lies by itself."""
        return _packed(self.arguments)

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the place of the first image of a shard, from 0, and the one behind its last.

        Args:
            number: of the shard, from 1.
        """
        return bounds(self.shards, number, self.images, self.packed or 1)

    def images_of(self, number: int) -> tuple[PlannedImage, ...]:
        """Return the images of a shard, in order.

        Args:
            number: of the shard, from 1.

        Raises:
            OutputError: the plan cannot be read any more.
        """
        try:
            with open(self.file, "rb") as file:
                file.seek(self.offsets[number - 1])
                rows = parse_json(file.readline())["images"]
            files = [os.path.join(self.below, row[0]) for row in rows]
            infos = (ImageInfo(file, *row[1:3]) for file, row in zip(files, rows, strict=True))
            return tuple(PlannedImage(info, (row[3], row[4])) for info, row in zip(infos, rows, strict=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _broken(self.work_dir / PLAN, error) from error

    def folder(self, number: int) -> Place:
        """Return the folder in which a shard has its journal, manifest and lock until it is done."""
        return self.work_dir / f"{SHARDS}/{number:05d}"


def join_plan(
    work_dir: Place,
    told: Mapping[str, Any],
    arguments: Mapping[str, Any],
    images: Sequence[ImageInfo],
    shards: int,
    root: str = "",
    below: str = "",
) -> ShardPlan:
    """Read the plan of a run, or write it where nobody has yet.

    Args:
        work_dir: folder of the run, which exists.
        told: what ``run.json`` tells of the whole run before anything is done.
        arguments: what ``config.yaml`` tells.
        images: all images, in order.
        shards: number of shards; where there are fewer images, some are empty.
        root: what the images were found by.
        below: folder that all their files lie in, which the plan does not tell then.

    Raises:
        DataError: a store cannot be read.
        ConfigError: there is a plan already, and settings, model, images or number of shards differ.
        OutputError: the plan cannot be written or read.
    """
    if not has_plan(work_dir):
        content = _content(told, arguments, images, shards, (root, below))
        if isinstance(work_dir, Url):
            _put_plan(work_dir / PLAN, content)
        else:
            with locked(work_dir, _PATIENCE):
                if not has_plan(work_dir):
                    write_lines(work_dir / PLAN, content)
        numbers = counted(len(images), "image"), counted(shards, "shard")
        logger.info("Planned %s in %s: %s.", *numbers, work_dir / PLAN)
    found = replace(read_plan(work_dir), below=below)
    refuse_others(found, told, images, shards)
    return found


def read_plan(work_dir: Place) -> ShardPlan:
    """Read the plan of a run.

    Raises:
        OutputError: there is none, or it cannot be read.
    """
    path = work_dir / PLAN
    try:
        here = file_here(path)
        with open(here, "rb") as file:
            lines = iter(file)
            first = next(lines, b"")
            head = parse_json(first)
            offsets = [len(first)]
            offsets += (offsets[-1] + len(line) for line in lines)
        if head["plan"] != _FORMAT or len(offsets) != head["shards"] + 1:
            raise ValueError("it is not whole")
        told = {name: head[name] for name in ("identity", "shards", "images", "names_sha256", "told", "arguments")}
        return ShardPlan(work_dir, here, **told, offsets=tuple(offsets[:-1]))
    except FileNotFoundError as error:
        raise OutputError(
            f"{str(work_dir)!r} holds no {PLAN}; expected the work directory of a run in shards. Explain with --shard "
            "K/N, or with --ray, first."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(path, error) from error


def has_plan(work_dir: Place) -> bool:
    """Whether a folder is that of a run in shards.

    Raises:
        OutputError: a store does not say.
    """
    try:
        return exists(work_dir / PLAN)
    except OSError as error:
        raise _broken(work_dir / PLAN, error) from error


def _put_plan(url: Url, content: Iterable[bytes]) -> None:
    """Put a plan into a store, unless somebody else has: the store says who was first."""
    try:
        write_object(url, b"".join(content), only_new=True)
    except FileExistsError:
        return
    except OSError as error:
        raise OutputError(unwritable_text(url, error)) from error


def bounds(shards: int, number: int, images: int, together: int = 1) -> tuple[int, int]:
    """Return the first image of a shard, and the one behind its last: shards differ by one group at most.

    >>> [bounds(3, number, 10) for number in (1, 2, 3)]
    [(0, 3), (3, 6), (6, 10)]
    >>> [bounds(3, number, 10, 4) for number in (1, 2, 3)]
    [(0, 4), (4, 8), (8, 10)]

    Args:
        shards: number of shards.
        number: of the shard, from 1.
        images: number of images.
        together: images that make a group: they follow one another, and are in one shard.
    """
    groups = -(-images // together)
    first, behind = ((number - less) * groups // shards * together for less in (1, 0))
    return min(images, first), min(images, behind)


def _packed(arguments: Mapping[str, Any]) -> int:
    return int(arguments["pack_size"]) if arguments.get("pack") else 0


def changed_images(images: Sequence[PlannedImage]) -> list[str]:
    """Say which files are no longer what they were when the plan was made, and how.

    Raises:
        DataError: a store cannot be read.
    """
    known = [image for image in images if image.mark != NO_MARK or not is_url(image.info.file)]
    changes = []
    for image, now in zip(known, present_marks([image.info for image in known]), strict=True):
        if now != image.mark:
            was, is_now = (f"{size} bytes" if size is not None else "missing" for size in (image.mark[0], now[0]))
            changes.append(f"{image.info.name} ({was} before, {is_now} now)" if was != is_now else image.info.name)
    return changes


def refuse_changed(plan: ShardPlan, number: int, images: Sequence[PlannedImage]) -> None:
    """Refuse a shard whose images are no longer what they were.

    Raises:
        ConfigError: some have changed.
    """
    changes = changed_images(images)
    if changes:
        more = ", …" if len(changes) > _SHOWN else ""
        raise ConfigError(
            f"{len(changes)} of {len(images)} images of shard {number} have changed since {plan.work_dir / PLAN} was "
            f"made: {', '.join(changes[:_SHOWN])}{more}. Expected the same files on every machine; restore them, or "
            "begin anew in another --work_dir."
        )


def refuse_others(plan: ShardPlan, told: Mapping[str, Any], images: Sequence[ImageInfo], shards: int) -> None:
    """Refuse to go on with a plan of another run.

    Args:
        plan: that is there.
        told: what ``run.json`` tells of the whole run.
        images: all images, in order.
        shards: number of shards.

    Raises:
        ConfigError: settings, model, images or number of shards differ.
    """
    others = []
    if plan.told["fingerprint"] != told["fingerprint"]:
        others += differences(plan.told, told) or ["fingerprint"]
    if plan.images != len(images):
        others.append(f"images ({plan.images} before, {len(images)} now)")
    elif plan.names_sha256 != _digest(image.name for image in images):
        others.append("names of images")
    if plan.shards != shards:
        others.append(f"shards ({plan.shards} before, {shards} now)")
    if others:
        raise ConfigError(
            f"{plan.work_dir / PLAN} is of another run. What differs: {', '.join(others)}. Expected the settings, "
            "model and images that the plan was made of; give them, or another --work_dir."
        )


def _content(
    told: Mapping[str, Any],
    arguments: Mapping[str, Any],
    images: Sequence[ImageInfo],
    shards: int,
    place: tuple[str, str],
) -> list[bytes]:
    (root, below), lines = place, []
    marks = planned_marks(images, root)
    for number in range(1, shards + 1):
        first, behind = bounds(shards, number, len(images), _packed(arguments) or 1)
        pairs = zip(images[first:behind], marks[first:behind], strict=True)
        rows = [[_told_file(image, below), image.name, image.stem, *mark] for image, mark in pairs]
        lines.append(_line({"shard": number, "images": rows}))
    head = {
        "plan": _FORMAT,
        "shards": shards,
        "images": len(images),
        "names_sha256": _digest(image.name for image in images),
        "told": told,
        "arguments": arguments,
    }
    whole = hashlib.sha256(_line(head))
    for line in lines:
        whole.update(line)
    return [_line({"identity": whole.hexdigest(), **head}), *lines]


def _told_file(image: ImageInfo, below: str) -> str:
    return os.path.relpath(image.file, below) if below else image.file


def _line(record: Mapping[str, Any]) -> bytes:
    return utf8(json.dumps(record, ensure_ascii=False) + "\n")


def _digest(names: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for name in names:
        whole.update(name.encode("utf-8", "surrogatepass") + b"\n")
    return whole.hexdigest()


def _broken(path: Place, error: Exception) -> OutputError:
    return OutputError(
        f"{path} cannot be read ({error}); expected the plan of a run in shards. Check its rights, or begin anew in "
        "another --work_dir."
    )
