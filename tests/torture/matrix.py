"""The kill matrix: everything that is done to jobs of ``otx``, and what comes out; a table of it.

Run it with ``python tests/torture/matrix.py``, which takes some twenty minutes of two cores; with ``--errors 3`` as
``make torture`` does; or in a short form as a part of the tests.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import classifiers
from torture.children import prepare
from torture.faulty_files import Fault, Point
from torture.meddling import (
    at_once,
    clock,
    given,
    other_manifests,
    read_badly,
    reading_faults,
    second_at,
    torn_lines,
)
from torture.trials import Job, Row, content, disturbed, errors, kills, tally

HEAD = "| what | where | trials | what came out | wrong |\n|---|---|---|---|---|"


class Matrix:
    """All trials in one folder.

    Args:
        place: the folder.
        step: of the cases of each kind only every so manieth is tried.
        jobs: trials at once.
        errors: of the errors that a disk tells only every so manieth, beside that.
    """

    def __init__(self, place: Path, step: int = 1, jobs: int = 1, errors: int = 1) -> None:
        self._place, self._step, self._jobs, self._errors = place, step, jobs, errors
        self._model = classifiers.save_colour_classifier(place / "colours.xml", "red green blue deep_purple")
        self._photos = place / "photos"
        _save_images(self._photos)

    def explaining(self) -> Iterator[Row]:
        """Pictures and numbers of an explain run."""
        job, folder = self.explain("explain"), self._place / "explain" / "undisturbed"
        points = job.points(folder)
        expected = content(folder)
        for what, faults in self._faults(points):
            yield self._tally(Row(what, "explain"), disturbed(job, expected), faults)

        def stopped(folder: Path) -> None:
            job.run(folder, Fault(("write", "predictions.jsonl", 2), kill=True))

        stopped(again := job.folder())
        resumed = job.points(again)
        yield self._tally(Row("SIGKILL", "the resume"), disturbed(job, expected, before=stopped), kills(resumed))
        yield from self._over_other_settings(job)
        yield from self._meddled(job, points, expected)

    def _over_other_settings(self, job: Job) -> Iterator[Row]:
        """A run of fewer pictures in the folder of one of more, which removes what it does not write."""
        less = ("--explain_config.content", "overlays")
        fewer = job.folder()
        job.points(fewer, more=less)
        expected = content(fewer)

        def full(folder: Path) -> None:
            job.run(folder)

        full(again := job.folder())
        points = job.points(again, more=less)
        trial = disturbed(job, expected, before=full, more=less)
        yield self._tally(Row("SIGKILL", "over other settings"), trial, kills(points))
        yield self._tally(Row("EIO", "over other settings"), trial, errors(points, errno.EIO)[:: self._errors])

    def _meddled(self, job: Job, points: Sequence[Point], expected: dict[str, bytes]) -> Iterator[Row]:
        stopped = job.folder()
        job.run(stopped, Fault(("write", "predictions.jsonl", 3), kill=True))
        journal, manifest = ((stopped / name).read_bytes() for name in ("predictions.jsonl", "run.json"))
        journal = journal[: journal.rfind(b"\n") + 1]
        (stopped / "predictions.jsonl").write_bytes(journal)
        trial = given(job, stopped, expected)
        torn = [_Case(("predictions.jsonl", data)) for data in torn_lines(journal)]
        yield self._tally(Row("last line torn", "predictions.jsonl"), trial, torn)
        others = [_Case(("run.json", data)) for data in other_manifests(manifest)]
        yield self._tally(Row("of another version, broken", "run.json"), trial, others)
        yield self._tally(Row("a second process", "at every point"), second_at(job, expected), list(points))
        yield self._tally(Row("three processes", "from the start"), at_once(job, expected, 3), list(range(12)))
        yield self._tally(Row("clock jumps by up to a year", "at every look"), clock(job, expected), list(range(12)))
        yield self._read_badly()

    def _read_badly(self) -> Row:
        """Of images and models that change while they are read."""
        data = self._place / "changing"
        shutil.copytree(self._photos, data / "photos")
        for file in (self._model, self._model.with_suffix(".bin")):
            shutil.copy(file, data / file.name)
        argv = [*_EXPLAIN, "--checkpoint", str(data / self._model.name), "--data_root", str(data / "photos")]
        job = Job(self._place / "reading", argv, read=data)
        folder = job.folder()
        points = job.points(folder)
        trial = read_badly(job, data, content(folder))
        row = Row("vanish, shrink, change, EIO, EACCES", "images, model when read")
        return tally(row, trial, reading_faults(points)[:: self._step])

    def spreading(self) -> Iterator[Row]:
        """Pictures in tar files, and shards that are merged."""
        shards = [self._argv("--shard", f"{number}/2") for number in (1, 2)]
        jobs = {
            "packed": Job(self._place / "packed", self._argv("--pack", "tar", "--pack_size", "2")),
            "two shards and their merge": Job(self._place / "shards", *shards, ["merge", "{work_dir}"]),
        }
        for name, job in jobs.items():
            points = job.points(folder := job.folder())
            expected = content(folder)
            for what, faults in self._faults(points):
                yield self._tally(Row(what, name), disturbed(job, expected), faults)

    def auditing(self) -> Iterator[Row]:
        """The evidence of an audit, and the files of its conclusions."""
        job = Job(self._place / "audit", self._audit())
        points = job.points(folder := job.folder())
        expected = content(folder)
        for what, faults in self._faults(points):
            yield self._tally(Row(what, "audit"), disturbed(job, expected), faults)
        yield self._torn_evidence(job, expected)

    def gathering(self) -> Iterator[Row]:
        """An audit whose evidence is taken in two shards; each trial is six commands, so that a fifth is tried."""
        argv = self._audit()
        job = Job(self._place / "gathered", *([*argv, "--shard", f"{number}/2"] for number in (1, 2)), argv)
        points = job.points(folder := job.folder())
        expected = content(folder)
        for what, faults in self._faults(points):
            yield self._tally(Row(what, "two shards and their audit"), disturbed(job, expected), faults[::5])

    def _torn_evidence(self, job: Job, expected: dict[str, bytes]) -> Row:
        stopped = job.folder()
        job.run(stopped, Fault(("write", "audit/evidence/predictions.jsonl", 4), kill=True))
        cases = []
        for path in sorted((stopped / "audit" / "evidence").glob("*.bin")):
            data = path.read_bytes()
            cases += [_Case((path.relative_to(stopped).as_posix(), data[:size])) for size in range(0, len(data), 97)]
        return self._tally(Row("cut short", "evidence *.bin"), given(job, stopped, expected), cases)

    def explain(self, name: str) -> Job:
        """Return a job of pictures and numbers, in a folder of this name."""
        return Job(self._place / name, self._argv())

    def _audit(self) -> list[str]:
        data = self._place / "sorted"
        for colour in classifiers.COLOURS if not data.exists() else ():
            _save_images(data / colour, colour, 2)
        return ["audit", "--checkpoint", str(self._model), "--data_root", str(data), "--work_dir", "{work_dir}"]

    def _argv(self, *more: str) -> list[str]:
        return [*_EXPLAIN, "--checkpoint", str(self._model), "--data_root", str(self._photos), *more]

    def _tally(self, row: Row, trial: Any, cases: Sequence[Any]) -> Row:
        return tally(row, trial, cases[len(cases) // 2 % self._step :: self._step], self._jobs)

    def _faults(self, points: Sequence[Point]) -> Iterator[tuple[str, list[Fault]]]:
        yield "SIGKILL", kills(points)
        yield "ENOSPC once", errors(points, errno.ENOSPC)[:: self._errors]
        yield "ENOSPC from then on", errors(points, errno.ENOSPC, stays=True)[:: self._errors]
        yield "EIO", errors(points, errno.EIO)[:: self._errors]
        yield "EACCES", errors(points, errno.EACCES)[:: self._errors]


class _Case(tuple[str, bytes]):
    """A file and its content, of which little is shown."""

    def __repr__(self) -> str:
        return f"{self[0]} = {self[1][-60:]!r} ({len(self[1])} bytes)"


_EXPLAIN = ("explain", "--dump", "True", "--explain_config.content", "maps,overlays,npz", "--work_dir", "{work_dir}")

_PARTS = ("explaining", "spreading", "auditing", "gathering")


def _save_images(folder: Path, colour: str = "red", count: int = 4) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        picture = classifiers.coloured_image((48, 64), colour, (0.3, 0.2 + number / 10))
        assert cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", type=int, default=1, help="try every so manieth case only")
    parser.add_argument(
        "--errors", type=int, default=1, help="of errors of the disk every so manieth only, beside that"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=_PARTS)
    options = parser.parse_args()
    prepare()
    wrong = []
    with tempfile.TemporaryDirectory() as place:
        matrix = Matrix(Path(place), options.step, options.jobs, options.errors)
        print(HEAD, flush=True)
        for part in _PARTS:
            for row in getattr(matrix, part)() if options.only in (None, part) else ():
                print(row.line(), flush=True)
                wrong += row.wrong
    print("\n".join(["", *wrong]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
