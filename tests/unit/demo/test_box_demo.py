from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.demo import TASKS, run_demo
from otx_xai.demo import box_demo as boxes
from otx_xai.errors import ConfigError
from otx_xai.records import Task
from otx_xai.report import read_journal


@pytest.mark.parametrize("task", TASKS[1:])
def test_the_whole_road_with_a_network_that_knows_nothing(task: Task, tmp_path: Path) -> None:
    result = boxes.demonstrate_boxes(tmp_path, task, train_images=8, test_images=2, epochs=1)
    assert result.objects == sum(len(list_) for list_ in _drawn(tmp_path))
    assert 0 <= result.hits <= result.maps
    assert len(read_journal(tmp_path / "predictions.jsonl")) == 2
    assert result.checkpoint.is_file()


def _drawn(tmp_path: Path) -> list[list[object]]:
    import json

    content = json.loads((tmp_path / "data" / "annotations" / "instances_test.json").read_text())
    return [[it for it in content["annotations"] if it["image_id"] == image["id"]] for image in content["images"]]


def test_no_demo_of_other_tasks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no demo of multi_label_cls; expected one of classification, detection"):
        next(run_demo(tmp_path, "multi_label_cls"))


@pytest.mark.parametrize("name", ["train_images", "test_images", "epochs"])
def test_numbers_below_one_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        boxes.demonstrate_boxes(tmp_path, Task.DETECTION, **{name: 0})
