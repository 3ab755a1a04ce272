from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.demo import DemoResult
from otx_xai.records import Task


def result(tmp_path: Path, task: Task, **changes: int) -> DemoResult:
    return DemoResult(
        task=task,
        network="a network",
        work_dir=tmp_path,
        checkpoint=tmp_path / "exported_model.xml",
        contact_sheet=tmp_path / "contact_sheet.png",
        **{"objects": 60, "found": 57, "maps": 57, "hits": 54} | changes,
        chance=0.112,
        train_seconds=61.4,
    )


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task.CLASSIFICATION, "54 of these 57"),
        (Task.DETECTION, "54 of 57 maps"),
        (Task.INSTANCE_SEGMENTATION, "outlines"),
    ],
)
def test_rates_and_summary(tmp_path: Path, task: Task, words: str) -> None:
    shown = result(tmp_path, task)
    assert shown.accuracy == pytest.approx(0.95)
    assert shown.hit_rate == pytest.approx(54 / 57)
    for part in ("61 s", "57 of 60", "95%", "11%", str(shown.contact_sheet), words):
        assert part in shown.summary()


def test_no_map_gives_a_hit_rate_of_zero(tmp_path: Path) -> None:
    assert result(tmp_path, Task.DETECTION, maps=0, hits=0).hit_rate == 0
