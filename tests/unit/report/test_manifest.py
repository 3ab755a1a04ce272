from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otx_xai.report.manifest import Manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    return path


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return content


def test_it_keeps_why_other_methods_were_refused_and_what_was_not_read(model: Path) -> None:
    refusals = ("reciprocam: no layer has places", "aise: finds no boxes")
    manifest = Manifest(model.parent, "explain", {}, "digest", 2, refusals=refusals, not_read=iter(["a/notes.txt"]))
    manifest.write("complete", 2, {})
    content = written(model.parent)
    assert content["refusals"] == list(refusals)
    assert content["not_read"] == ["a/notes.txt"]
    Manifest(model.parent, "explain", {}, "digest", 2).write("complete", 2, {})
    assert (written(model.parent)["refusals"], written(model.parent)["not_read"]) == ([], [])


def test_what_was_not_read_makes_no_other_run(model: Path) -> None:
    Manifest(model.parent, "explain", {"seed": 0}, "digest", 2).write("interrupted", 1, {})
    assert Manifest(model.parent, "explain", {"seed": 0}, "digest", 2, refusals=["a: b"], not_read=["c"]).continues()
    assert not Manifest(model.parent, "explain", {"seed": 1}, "digest", 2).continues()
