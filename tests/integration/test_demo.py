"""The claim of the demo, with the settings that users get."""

from __future__ import annotations

from pathlib import Path

import cv2

from otx_xai.demo import demonstrate_task
from otx_xai.records import Task
from otx_xai.report import read_journal


def test_maps_point_at_the_drawn_shapes(tmp_path: Path) -> None:
    result = demonstrate_task(tmp_path / "demo", Task.CLASSIFICATION, test_images=36)

    assert result.objects == 36
    assert result.accuracy >= 0.85
    assert result.chance < 0.25
    assert result.hit_rate >= 0.9

    page = cv2.imread(str(result.contact_sheet))
    assert min(page.shape[:2]) > 500
    journal = read_journal(result.work_dir / "predictions.jsonl")
    assert len(journal) == 36
    assert all((result.work_dir / name).is_file() for record in journal for name in record["files"])
