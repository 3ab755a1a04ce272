"""JSON that is nested so deep that Python gives up is broken JSON, wherever a file of a run is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.audit.comparison import read_audit
from otx_xai.audit.evidence_files import Layout
from otx_xai.errors import DataError, ModelError, OutputError
from otx_xai.model.model_info import read_json
from otx_xai.report import read_journal
from otx_xai.report.manifest import Manifest
from otx_xai.storage.json_text import parse_json

DEEP = b"[" * 100_000


def test_it_is_a_value_error() -> None:
    assert parse_json('{"a": [1, null]}') == parse_json(b'{"a": [1, null]}') == {"a": [1, None]}
    for text in (DEEP, b"", b"\xff", "{"):
        with pytest.raises(ValueError, match=r"nested|Expecting|decode"):
            parse_json(text)


def test_files_of_runs(tmp_path: Path) -> None:
    for name in ("run.json", "audit.json", "layout.json"):
        (tmp_path / name).write_bytes(DEEP)
    manifest = Manifest(tmp_path, "explain", {}, "digest", 1)
    with pytest.raises(OutputError, match=r"run.json cannot be read \(it is nested too deep\)"):
        manifest.continues()
    with pytest.raises(DataError, match=r"audit.json cannot be read: it is nested too deep"):
        read_audit(tmp_path)
    with pytest.raises(OutputError, match="nested too deep"):
        Layout.read(tmp_path)
    with pytest.raises(ModelError, match="nested too deep"):
        read_json({"labels_map": DEEP.decode()}, "labels_map")
    (tmp_path / "predictions.jsonl").write_bytes(b'{"name": "a"}\n' + DEEP + b"\n")
    assert read_journal(tmp_path / "predictions.jsonl") == [{"name": "a"}]
