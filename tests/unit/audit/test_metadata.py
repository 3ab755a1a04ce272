"""Columns that images are sliced by."""

from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.audit.metadata import folders_of, read_metadata
from otx_xai.errors import DataError

NAMES = ("day/a.png", "night/b.png", "night/c.png", "day/c.png")


def test_folders_are_a_column_where_there_are_several() -> None:
    assert folders_of(NAMES) == {"folder": ["day", "night", "night", "day"]}
    assert folders_of(["a.png", "b.png"]) == {}
    assert folders_of([]) == {}


def test_a_table_of_the_users(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("\ufefffile,camera,,site\nday/a.png,A,x,1\nnight\\b.png,B,x\n\nc.png,C,x,3\nother.png,D,x,4\n")
    assert read_metadata(file, NAMES) == {"camera": ["A", "B", "", ""], "site": ["1", "", "", ""]}
    file.write_text("file,camera\nb.png,B\n")
    assert read_metadata(file, NAMES) == {"camera": ["", "B", "", ""]}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            b"file,camera\nx.png,A\n",
            "names none of the 4 images; its first line says 'x.png'.*the first of them is 'day/a.png'",
        ),
        (b"", "is empty"),
        (b"file;camera\nday/a.png;A\n", "separated by commas"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_metadata(tmp_path / "table.csv", NAMES)
    with pytest.raises(DataError, match="cannot be read"):
        read_metadata(tmp_path / "none.csv", NAMES)
