"""Judging and auditing with files that are decoded smaller than they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import classifiers
import cv2
import numpy as np
import pytest
from pyarrow import parquet

from otx_xai import AuditConfig, Engine, InputOptions
from otx_xai.data import reduced
from otx_xai.records import Size, UInt8Array

SIZE = (640, 960)
"""Of the photos, ten times that of the network, of which a half is enough; where looks need more, too."""
AVERAGING = InputOptions(interpolation="bilinear")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.xml"
    classifiers.save_colour_classifier(path, "red green blue mix")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, colour in enumerate(("red", "green", "blue", "red")):
        picture = classifiers.coloured_image(SIZE, colour, (0.3 + 0.1 * number, 0.5))
        (folder / colour).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / colour / f"{number}.jpg"), picture[..., ::-1])
    return folder


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much smaller each file was decoded that might be."""
    found: list[int] = []
    read_reduced = reduced.read_reduced

    def noted(path: str | Path, channels: int, most: Callable[[Size], float]) -> tuple[UInt8Array, int]:
        image, factor = read_reduced(path, channels, most)
        found.append(factor)
        return image, factor

    monkeypatch.setattr(reduced, "read_reduced", noted)
    return found


def test_maps_are_judged_as_in_full_size(model: Path, photos: Path, tmp_path: Path, factors: list[int]) -> None:
    judged: list[Any] = []
    for decode in ("exact", "fast"):
        engine = Engine(work_dir=tmp_path / decode)
        found = engine.judge(
            model, data_root=photos, methods="reciprocam", steps=4, decode=decode, input=AVERAGING, images=3
        )
        judged.append(found.scores["reciprocam"].insertion_zero)
        assert json.loads((found.work_dir / "judge.json").read_text())["settings"]["decode"] == decode
        assert factors == ([] if decode == "exact" else [2, 2, 2])
    np.testing.assert_allclose(*judged, atol=0.02)


def test_evidence_tells_the_size_of_the_original(
    model: Path, photos: Path, tmp_path: Path, factors: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    config = AuditConfig(check_images=0, report="noimages")
    audit = Engine(work_dir=tmp_path / "out").audit(
        model, data_root=photos, audit_config=config, decode="fast", input=AVERAGING
    )
    assert factors == [2, 2, 2, 2]
    looks = parquet.read_table(audit.folder / "images.parquet", columns=["height", "width"]).to_pydict()
    assert (set(looks["height"]), set(looks["width"])) == ({SIZE[0]}, {SIZE[1]})
    assert "images are decoded in full size" not in caplog.text


def test_an_audit_says_where_it_reads_all_pixels(
    model: Path, photos: Path, tmp_path: Path, factors: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "otx_xai")
    config = AuditConfig(check_images=0, report="noimages", max_images=2)
    Engine(work_dir=tmp_path / "out").audit(model, data_root=photos, audit_config=config, decode="fast")
    assert set(factors) == {1}
    assert "images are decoded in full size, since linear" in caplog.text
