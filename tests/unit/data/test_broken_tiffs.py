"""TIFF files that are broken in ways that fuzzing has found."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from otx_xai.data.reading import read_image
from otx_xai.errors import ImageError


def test_a_directory_beyond_any_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1) + bytes(64))
    with pytest.raises(ImageError, match="is a broken TIFF file"):
        read_image(path)
