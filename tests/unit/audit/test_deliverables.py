"""The files beside the page: read back, hostile names and labels included."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from otx_xai.audit.deliverables import (
    read_review,
    write_findings,
    write_images,
    write_junit,
    write_review,
    write_summary,
)
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState
from otx_xai.audit.gates import Figure, GateResult, Verdict, VerdictState
from otx_xai.errors import DataError

HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> | `x` \x07 \udc80"
LABELS = ("cat", "dog", "=1+1")


def finding(subject: str = HOSTILE) -> Finding:
    effect = Effect(0.5, 0.4, 0.6, 10)
    return Finding(
        FindingKind.SHORTCUT, subject, f"About {subject}.", effect, FindingState.VERIFIED, 0.2, ("a.png", HOSTILE)
    )


def test_findings_come_back(tmp_path: Path) -> None:
    write_findings(tmp_path, [finding(), finding("b")])
    lines = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert [line["subject"] for line in lines] == [HOSTILE, "b"]
    assert lines[0]["images"] == ["a.png", HOSTILE]
    assert lines[0]["severity"] == pytest.approx(0.1)


def test_the_table_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    columns = {"name": ["a.png", HOSTILE], "score": [0.5, None], "given": [[1], [0, 2]]}
    assert write_images(tmp_path, columns) == tmp_path / "images.parquet"
    read = parquet.read_table(tmp_path / "images.parquet").to_pydict()
    assert read["score"] == columns["score"]
    assert read["given"] == columns["given"]
    assert read["name"][1] == HOSTILE.replace("\udc80", "\\udc80")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert write_images(tmp_path, columns) == tmp_path / "images.jsonl"
    lines = [json.loads(line) for line in (tmp_path / "images.jsonl").read_text().splitlines()]
    assert lines == [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_a_review_goes_there_and_back(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "given": 0, "suggested": 2, "confidence": 0.9, "reason": "swapped"},
        {"image": "-b.png", "given": 2, "suggested": 0, "confidence": -0.5, "reason": "swapped"},
        {"image": "c.png", "given": 0, "suggested": 1, "confidence": 0.7, "reason": "swapped"},
        {"image": "d.png", "given": -1, "suggested": 1, "box": "1 2 3 4", "reason": "overlooked"},
    ]
    write_review(tmp_path, rows, LABELS)
    with open(tmp_path / "label_review.csv", newline="") as file:
        read = list(csv.DictReader(file))
    cells = [cell for row in read for cell in row.values()]
    assert not any(cell.startswith(("=", "+", "@", "-b")) for cell in cells)
    for row, verdict in zip(read, ["suggested", "Given", "", "suggested"], strict=True):
        row["verdict"] = verdict
    with open(tmp_path / "filled.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, read[0].keys())
        writer.writeheader()
        writer.writerows(read)
    assert read_review(tmp_path / "filled.csv", LABELS) == {"a.png": 2, "-b.png": 2}


def test_reviews_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read.*label_review\.csv"):
        read_review(tmp_path / "none.csv", LABELS)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is no review"):
        read_review(tmp_path / "other.csv", LABELS)
    (tmp_path / "wrong.csv").write_text("image,given,suggested,verdict\na.png,cat,dog,bird\n")
    with pytest.raises(DataError, match=r"Line 2 of .* says 'bird'"):
        read_review(tmp_path / "wrong.csv", LABELS)
    (tmp_path / "empty.csv").write_text("")
    assert read_review(tmp_path / "empty.csv", LABELS) == {}


def test_the_summary_holds_no_markup_of_others(tmp_path: Path) -> None:
    figure = Figure("accuracy", "Right", Effect(0.9, 0.8, 0.95, 50), True, "")
    gate = GateResult("verified_shortcut", False, HOSTILE)
    write_summary(tmp_path, HOSTILE, Verdict(VerdictState.FAIL, HOSTILE), [figure], [finding()], [gate], [HOSTILE])
    text = (tmp_path / "summary.md").read_text()
    assert "<script>" not in text
    assert "| Right | 90.0 %, 95 % interval 80.0-95.0 % | 50 |" in text
    assert "\n## Not asked, or not checked\n" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 4 for line in rows)


def test_junit_counts_gates(tmp_path: Path) -> None:
    gates = [GateResult("accuracy=0.9", True, "fine"), GateResult("verified_shortcut", False, HOSTILE)]
    write_junit(tmp_path, gates, [])
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.find("failure") is None for case in suite] == [True, False]
    write_junit(tmp_path, [], [finding()])
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"
