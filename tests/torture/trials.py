"""Jobs of ``otx`` that are disturbed, and what must come out: the bytes of the undisturbed job, or a reason."""

from __future__ import annotations

import errno
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.children import Child, Ended
from torture.commands import command
from torture.faulty_files import Fault, Point

_TIMES = re.compile(rb'"(created|started|seconds|identity|plan)": ?("[^"]*"|[0-9.e+-]+)')
"""What tells the time, or a random name of a plan, in files that are JSON or hold some."""


@dataclass
class Row:
    """One line of the matrix.

    Args:
        what: was done to the job.
        where: at which points.
        trials: how many.
        came_out: how often what came out.
        wrong: what should not have.
    """

    what: str
    where: str
    trials: int = 0
    came_out: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        came_out = ", ".join(f"{count} {what}" for what, count in self.came_out.most_common())
        return f"| {self.what} | {self.where} | {self.trials} | {came_out} | {len(self.wrong)} |"


class Job:
    """A job that is repeated in one folder after the other.

    Args:
        place: folder for all of them.
        argvs: of ``otx``, one after the other; ``{work_dir}`` stands for the folder.
        read: folder whose files are watched while they are read.
    """

    def __init__(self, place: Path, *argvs: Sequence[str], read: Path | None = None) -> None:
        self.place, self._argvs = place, argvs
        self._read = None if read is None else str(read)
        self._numbers = itertools.count()
        place.mkdir(parents=True, exist_ok=True)

    def folder(self) -> Path:
        """Return a new folder."""
        return self.place / f"job{next(self._numbers)}"

    def argvs(self, folder: Path, more: Sequence[str] = ()) -> list[list[str]]:
        """Return the arguments in a folder, with more of them for the first command."""
        filled = [[str(folder) if word == "{work_dir}" else word for word in argv] for argv in self._argvs]
        return [[*filled[0], *more], *filled[1:]]

    def start(self, folder: Path, fault: Fault | None = None, points: str = "", more: Sequence[str] = ()) -> Child:
        log = self.place / f"log{next(self._numbers)}"
        return Child(command, (self.argvs(folder, more), str(folder), fault, points, self._read), log)

    def run(self, folder: Path, fault: Fault | None = None, points: str = "", more: Sequence[str] = ()) -> Ended:
        """Run it once to its end."""
        return self.start(folder, fault, points, more).end()

    def points(self, folder: Path, more: Sequence[str] = ()) -> list[Point]:
        """Run it undisturbed, and return the points that it comes by."""
        file = self.place / f"points{next(self._numbers)}"
        ended = self.run(folder, points=str(file), more=more)
        assert ended.code == 0, ended.said
        return [(kind, name, number) for kind, name, number in json.loads(file.read_text())]


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a job without what tells the time: path → bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink():
            found[name] = _timeless(path, folder)
    return found


def _timeless(path: Path, folder: Path) -> bytes:
    return _TIMES.sub(rb'"\1": 0', path.read_bytes()).replace(str(folder).encode(), b"<folder>")


def differences(expected: dict[str, bytes], found: dict[str, bytes]) -> str:
    """Say how two folders differ; empty where they do not."""
    words = [f"{name} is missing" for name in expected.keys() - found.keys()]
    words += [f"{name} is left over" for name in found.keys() - expected.keys()]
    words += [f"{name} differs" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return ", ".join(sorted(words))


def tally(row: Row, trial: Callable[[Any], tuple[str, str]], cases: Sequence[Any], jobs: int = 1) -> Row:
    """Try every case, and note what came out, and what is wrong with it.

    Args:
        row: takes the notes.
        trial: case → what came out, and what is wrong (empty: nothing).
        cases: of the trial.
        jobs: so many at once.
    """
    with ThreadPoolExecutor(jobs) as pool:
        for case, (came_out, wrong) in zip(cases, pool.map(trial, cases), strict=True):
            row.trials += 1
            row.came_out[came_out] += 1
            if wrong:
                row.wrong.append(f"{row.what}, {case}: {wrong}")
    return row


def disturbed(
    job: Job,
    expected: dict[str, bytes],
    *,
    before: Callable[[Path], object] = lambda folder: None,
    more: Sequence[str] = (),
) -> Callable[[Fault], tuple[str, str]]:
    """Return the trial that disturbs a job once by a fault, and lets it go on undisturbed.

    Args:
        job: to be disturbed.
        expected: what the undisturbed job leaves.
        before: fills the folder beforehand.
        more: arguments.
    """

    def trial(fault: Fault) -> tuple[str, str]:
        folder = job.folder()
        before(folder)
        first = job.run(folder, fault, more=more)
        killed = fault.kill and first.code == -9
        wrong = "" if killed else first.fault
        wrong = wrong or settled(job, folder, expected, more)
        shutil.rmtree(folder)
        return outcome(first.code, killed=killed), wrong

    return trial


def settled(job: Job, folder: Path, expected: dict[str, bytes], more: Sequence[str] = ()) -> str:
    """Let a job go on, and say what is wrong then; empty where it ends in what the undisturbed one leaves."""
    ended = job.run(folder, more=more)
    if ended.code:
        return ended.fault or f"the next run ends with {ended.code}: {ended.said.strip().splitlines()[-1]}"
    return differences(expected, content(folder))


def outcome(code: int, *, killed: bool = False) -> str:
    """Say in words how a job ended."""
    if killed:
        return "killed"
    return {0: "done (0)", 7: "some failed (7)", -99: "hung"}.get(code, f"refused ({code})")


def kills(points: Iterable[Point]) -> list[Fault]:
    """Return a kill at every point."""
    return [Fault(point, kill=True) for point in points]


def errors(points: Iterable[Point], number: int, *, stays: bool = False) -> list[Fault]:
    """Return an error at every point where it can happen."""
    room = ("open", "write", "close", "mkdir", "symlink", "replace")
    kinds = {errno.ENOSPC: room, errno.EACCES: tuple(kind for kind in _ALL if kind not in ("write", "close"))}
    return [Fault(point, error=number, stays=stays) for point in points if point[0] in kinds.get(number, _ALL)]


_ALL = ("open", "write", "close", "replace", "rename", "symlink", "unlink", "remove", "mkdir", "rmdir", "truncate")
