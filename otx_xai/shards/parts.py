"""What is done of a run in shards: one file a shard, which is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from otx_xai.errors import OutputError
from otx_xai.report import Line, write_atomic
from otx_xai.report.journal import as_line
from otx_xai.report.staging import clear_torn
from otx_xai.shards.shard_plan import ShardPlan
from otx_xai.storage import Place, Url, read_bytes
from otx_xai.storage.json_text import parse_json
from otx_xai.storage.objects import read_head

PARTS = "parts"
"""Folder in that of a run."""

_HEAD = 4096
"""Bytes that hold the first line of a part."""
_AT_ONCE = 16
"""Parts in a store that are looked at side by side."""


@dataclass(frozen=True)
class Part:
    """A shard that is done.

    Args:
        lines: of its images that were explained, in order, as in ``predictions.jsonl``.
        failures: image → why it could not be explained, in order.
        seconds: that it took, of the try that ended it.
    """

    lines: tuple[Line, ...]
    failures: Mapping[str, str]
    seconds: float

    @property
    def files(self) -> int:
        """Number of files of its images."""
        return sum(len(line["files"]) for line in self.lines)

    @property
    def warned(self) -> int:
        """Number of its images with warnings."""
        return sum("warnings" in line for line in self.lines)


def part_file(plan: ShardPlan, number: int, name: str = "") -> Place:
    """Return where the part of a shard is, or what a further pass over its images has left, by name."""
    return plan.work_dir / f"{PARTS}/{number:05d}{name and '/'}{name}.jsonl"


def part_folder(plan: ShardPlan, number: int, name: str) -> Place:
    """Return where the records of a pass over the images of a shard are."""
    return plan.work_dir / f"{PARTS}/{number:05d}/{name}"


def write_part(plan: ShardPlan, number: int, names: Sequence[str], part: Part, name: str = "") -> None:
    """Say that a shard is done, all its pictures, or records, being in their places.

    Args:
        plan: of the run.
        number: of the shard, from 1.
        names: of its images, in order; each has a line or a failure.
        part: what was done.
        name: of a further pass over its images, which says nothing of the shard.

    Raises:
        OutputError: it cannot be written.
    """
    rows: dict[str, Mapping[str, Any]] = {line["name"]: line for line in part.lines}
    rows |= {image: {"name": image, "error": error} for image, error in part.failures.items()}
    head = {"shard": number, "plan": plan.identity, "images": len(names), "seconds": round(part.seconds, 3)}
    write_atomic(part_file(plan, number, name), b"".join(map(as_line, (head, *(rows[image] for image in names)))))


def has_part(plan: ShardPlan, number: int) -> bool:
    """Whether a shard of this very plan is done.

    Raises:
        OutputError: a store, or the disk, does not say.
    """
    path = part_file(plan, number)
    try:
        head = parse_json(_first_line(path))
    except (FileNotFoundError, ValueError):
        return False
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}. Check the rights to it, and try again.") from error
    return isinstance(head, dict) and head.get("plan") == plan.identity


def _first_line(place: Place) -> bytes:
    if isinstance(place, Url):
        return read_head(place, _HEAD).partition(b"\n")[0]
    with open(place, "rb") as file:
        return file.readline()


def missing_parts(plan: ShardPlan) -> list[int]:
    """Return the numbers of the shards that are not done."""
    numbers = range(1, plan.shards + 1)
    if isinstance(plan.work_dir, Path):
        return [number for number in numbers if not has_part(plan, number)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [
            number
            for number, there in zip(numbers, pool.map(partial(has_part, plan), numbers), strict=True)
            if not there
        ]


def clear_torn_parts(plan: ShardPlan) -> None:
    """Remove what processes were writing that were killed; all parts are there, so that nobody writes any more."""
    if isinstance(plan.work_dir, Url):  # an object is there as a whole or not at all
        return
    parts = plan.work_dir / PARTS
    for folder in (plan.work_dir, parts, *(path for path in parts.iterdir() if path.is_dir())):
        clear_torn(folder)


def read_part(plan: ShardPlan, number: int, name: str = "") -> Part:
    """Read what was done of a shard, or what a further pass over its images has left.

    Raises:
        OutputError: it is not there, or not what the plan asks for.
    """
    path = part_file(plan, number, name)
    try:
        head, *rows = [parse_json(line) for line in read_bytes(path).splitlines()]
        names = [row["name"] for row in rows]
        if head["plan"] != plan.identity or names != [image.info.name for image in plan.images_of(number)]:
            raise ValueError("it is of other images than the plan")
        failures = {row["name"]: row["error"] for row in rows if "error" in row}
        return Part(tuple(row for row in rows if "error" not in row), failures, head["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} cannot be read ({error}); expected what was done of shard {number}. Remove it, and explain the "
            "shard again."
        ) from error
