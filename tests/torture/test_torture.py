"""The short form of the torture suite: some of the kills, errors and meddling, and some dozens of broken files a kind.

``make torture`` tries every kill, and more of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torture.children import prepare
from torture.faulty_files import Fault
from torture.fuzzing import NEEDED, fuzz
from torture.matrix import Matrix
from torture.mutations import mutated
from torture.subjects import SUBJECTS
from torture.trials import Job, Row, content, disturbed, tally

STEP = 90
"""Of the cases every so manieth is tried."""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    prepare(*NEEDED)
    return Matrix(tmp_path_factory.mktemp("torture"), STEP)


def wrong(rows: Iterator[Row]) -> list[str]:
    rows_ = list(rows)
    assert all(row.trials for row in rows_)
    return [text for row in rows_ for text in row.wrong]


def test_explaining(matrix: Matrix) -> None:
    assert not wrong(matrix.explaining())


def test_spreading(matrix: Matrix) -> None:
    assert not wrong(matrix.spreading())


def test_auditing(matrix: Matrix) -> None:
    assert not wrong(matrix.auditing())


@pytest.mark.parametrize("kind", SUBJECTS)
def test_broken_files(tmp_path: Path, kind: str) -> None:
    prepare(*NEEDED)
    result = fuzz(kind, range(24), tmp_path)
    assert sum(result.came_out.values()) == 24
    assert not result.found


def test_a_kill_between_a_line_and_its_pictures_is_made_good(matrix: Matrix) -> None:
    """The line is there and its pictures are not: they are made anew, and counted as such."""
    job = matrix.explain("kill")
    job.points(whole := job.folder())
    folder = job.folder()
    picture = "saliency_map/1_class_red_saliency_map.png"
    assert job.run(folder, Fault(("replace", picture, 0), kill=True)).code == -9
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert not (folder / picture).exists()
    ended = job.run(folder)
    assert "1 of them by an earlier run" in ended.said
    assert content(folder) == content(whole)


def test_what_is_wrong_is_found(matrix: Matrix) -> None:
    """The suite itself can fail: a job that leaves something else, or ends with a traceback, is told."""
    job = matrix.explain("other")
    job.points(whole := job.folder())
    expected = content(whole) | {"config.yaml": b"other", "more": b""}
    row = tally(Row("kill", "x"), disturbed(job, expected), [Fault(("write", "predictions.jsonl", 1), kill=True)])
    assert [text.rpartition(": ")[2] for text in row.wrong] == ["config.yaml differs, more is missing"]
    broken = Job(job.place / "broken", ["explain", "--checkpoint", str(job.place), "--data_root", "absent"])
    assert broken.run(broken.folder()).code == 5
    assert broken.run(broken.folder()).fault == ""


@pytest.mark.parametrize("text", [False, True])
def test_mutations_are_repeated_and_differ(text: bool) -> None:
    sample = bytes(range(256)) * 4
    several = [mutated([sample], number, text=text) for number in range(200)]
    assert several == [mutated([sample], number, text=text) for number in range(200)]
    assert len(set(several)) > 180
    assert max(map(len, several)) < 50_000
