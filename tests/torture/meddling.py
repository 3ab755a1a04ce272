"""Trials in which somebody else has his hands in the folder: other processes, other versions, other programs."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torture.children import Child
from torture.commands import jumping
from torture.faulty_files import Fault, Point
from torture.trials import Job, content, differences, outcome, settled

Trial = tuple[str, str]


def second_at(job: Job, expected: dict[str, bytes]) -> Callable[[Point], Trial]:
    """Return the trial that stops a job at a point, runs a second one in its folder, and lets the first go on."""

    def trial(point: Point) -> Trial:
        folder = job.folder()
        marker = Path(f"{folder}.waits")
        first = job.start(folder, Fault(point, marker=str(marker)))
        while first.lives and not marker.exists():
            time.sleep(0.005)
        second = job.run(folder)
        if marker.exists():
            marker.rmdir()
        ended = first.end()
        wrong = ended.fault or second.fault
        if {ended.code, second.code} - {0, 6} or 0 not in (ended.code, second.code):
            wrong = wrong or f"they end with {ended.code} and {second.code}"
        if second.code == 6 and "Another run is writing" not in second.said:
            wrong = wrong or f"the second one says {second.said!r}"
        if 0 in (ended.code, second.code):
            wrong = wrong or differences(expected, content(folder))
        wrong = wrong or settled(job, folder, expected)
        shutil.rmtree(folder)
        return f"first {outcome(ended.code)}, second {outcome(second.code)}", wrong

    return trial


def at_once(job: Job, expected: dict[str, bytes], count: int) -> Callable[[int], Trial]:
    """Return the trial that starts several at the same time."""

    def trial(_: int) -> Trial:
        folder = job.folder()
        ended = [child.end() for child in [job.start(folder) for _ in range(count)]]
        wrong = next((one.fault for one in ended if one.fault), "")
        codes = sorted(one.code for one in ended)
        if set(codes) - {0, 6} or 0 not in codes:
            wrong = wrong or f"they end with {codes}"
        wrong = wrong or differences(expected, content(folder)) or settled(job, folder, expected)
        shutil.rmtree(folder)
        return f"{codes.count(0)} done, {codes.count(6)} refused", wrong

    return trial


def given(job: Job, source: Path, expected: dict[str, bytes]) -> Callable[[tuple[str, bytes]], Trial]:
    """Return the trial that changes one file of a job that was stopped, and lets it go on.

    It has to end in what is expected, or to be refused, and in the latter case to say the same whenever it is tried.
    """

    def trial(case: tuple[str, bytes]) -> Trial:
        name, data = case
        folder = job.folder()
        shutil.copytree(source, folder, symlinks=True)
        (folder / name).write_bytes(data)
        ended = job.run(folder)
        wrong = ended.fault
        if ended.code == 0:
            wrong = wrong or differences(expected, content(folder))
        elif ended.code == 6:
            again = job.run(folder)
            wrong = wrong or ("" if again.said == ended.said else f"at first {ended.said!r}, then {again.said!r}")
        else:
            wrong = wrong or f"exit code {ended.code}"
        shutil.rmtree(folder)
        return outcome(ended.code), wrong

    return trial


def read_badly(job: Job, data: Path, expected: dict[str, bytes]) -> Callable[[Fault], Trial]:
    """Return the trial in which a file changes before it is read, and is put right for the next run.

    One at a time: ``data`` is changed.
    """
    right = Path(f"{data}.right")
    shutil.copytree(data, right)

    def trial(fault: Fault) -> Trial:
        folder = job.folder()
        first = job.run(folder, fault)
        shutil.rmtree(data)
        shutil.copytree(right, data)
        wrong = first.fault
        if first.code == 7:
            failures = json.loads((folder / "run.json").read_bytes())["failures"]
            wrong = wrong or ("" if len(failures) == 1 else f"{len(failures)} failures are told")
        wrong = wrong or settled(job, folder, expected)
        shutil.rmtree(folder, ignore_errors=True)
        return outcome(first.code), wrong

    return trial


def clock(job: Job, expected: dict[str, bytes]) -> Callable[[int], Trial]:
    """Return the trial in which the clock jumps, in a job that is stopped and goes on."""

    def trial(seed: int) -> Trial:
        folder = job.folder()
        job.run(folder, Fault(("write", "predictions.jsonl", 1 + seed % 2), kill=True))
        ended = Child(jumping, (job.argvs(folder)[0], seed), Path(f"{folder}.log")).end()
        wrong = ended.fault or differences(expected, content(folder))
        shutil.rmtree(folder)
        return outcome(ended.code), wrong

    return trial


def torn_lines(journal: bytes, step: int = 1) -> Iterator[bytes]:
    """Yield a journal cut at every byte of its last line, and with what file systems leave in place of its rest."""
    whole = journal[: journal[:-1].rfind(b"\n") + 1]
    last = len(journal) - len(whole)
    for size in range(0, last, step):
        yield journal[: len(whole) + size]
    yield whole + bytes(last)
    yield whole + journal[-last : -last // 2] + bytes(last // 2)
    yield whole + b"\xff" * last
    yield b""


def other_manifests(manifest: bytes) -> Iterator[bytes]:
    """Yield a ``run.json`` of other versions, and what a fault may make of it."""
    told = json.loads(manifest)
    for name in told:
        yield json.dumps({other: value for other, value in told.items() if other != name}).encode()
        yield json.dumps(told | {name: None}).encode()
        yield json.dumps(told | {name: [1, "two"]}).encode()
    older = told | {"fingerprint": "0" * 64, "versions": told["versions"] | {"otx_xai": "0.0.1"}}
    yield json.dumps(older).encode()
    yield json.dumps({"status": "running", "settings": {}, "version": 1}).encode()
    yield from (b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe{}", bytes(len(manifest)))
    yield manifest[: len(manifest) // 2]
    yield b"[" * 100_000


def reading_faults(points: Sequence[Point]) -> list[Fault]:
    """Return what may happen to files that are about to be read."""
    found = list(dict.fromkeys(point for point in points if point[0] == "read"))
    meddled = [Fault(point, meddle=how) for point in found for how in ("vanish", "shorten", "overwrite")]
    failing = [Fault(point, error=number) for point in found for number in (errno.EIO, errno.EACCES)]
    return meddled + failing
