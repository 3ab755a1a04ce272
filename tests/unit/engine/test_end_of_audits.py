"""How an audit remembers that it has not ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.audit.audit_folder import EVIDENCE, UNFINISHED, begin, end
from otx_xai.errors import OutputError


def test_evidence_stays_until_the_audit_has_ended(tmp_path: Path) -> None:
    begin(tmp_path, resume=True, baseline=False)
    (tmp_path / EVIDENCE).mkdir()
    (tmp_path / ".0123456789abcdef.tmp").touch()  # a killed audit was writing it
    begin(tmp_path, resume=True, baseline=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([EVIDENCE, UNFINISHED])
    end(tmp_path)
    begin(tmp_path, resume=True, baseline=False)
    assert [path.name for path in tmp_path.iterdir()] == [UNFINISHED]


def test_an_end_that_cannot_be_remembered_is_told(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).mkdir()
    with pytest.raises(OutputError, match=rf"{UNFINISHED}' cannot be written"):
        end(tmp_path)
