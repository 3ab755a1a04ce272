from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from otx_xai.data.shape_sets import SceneFile, write_coco, write_image_folder
from otx_xai.demo import TASKS, demonstrate_task, run_demo, task_demo
from otx_xai.demo.classroom import classroom
from otx_xai.demo.judging_maps import count_found, judge_picture, mean_covered, write_contact_sheet
from otx_xai.errors import ConfigError, DataError
from otx_xai.records import Task
from otx_xai.report import read_journal, write_picture


@pytest.mark.parametrize("task", TASKS)
def test_the_whole_road_with_a_network_that_knows_nothing(
    task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "otx_xai"):
        result = demonstrate_task(tmp_path, task, train_images=8, test_images=2, epochs=1)
    assert 0 <= result.hits <= result.maps <= 2 * 6
    assert 0 <= result.found <= result.objects
    assert len(read_journal(tmp_path / "predictions.jsonl")) == 2
    assert result.checkpoint.is_file()
    assert result.contact_sheet.is_file()
    steps = [record.message for record in caplog.records if "/5:" in record.message]
    assert [step.split(":")[0][-3:] for step in steps] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert f"look at {result.contact_sheet}" in steps[-1]
    config = (tmp_path / ".latest" / "train" / "config.yaml").read_text()
    assert "_slim" in config  # trained by a recipe
    if task is not Task.CLASSIFICATION:
        assert result.objects == sum(len(list_) for list_ in _drawn(tmp_path))


def _drawn(tmp_path: Path) -> list[list[object]]:
    content = json.loads((tmp_path / "data" / "annotations" / "instances_test.json").read_text())
    return [[it for it in content["annotations"] if it["image_id"] == image["id"]] for image in content["images"]]


def test_detectors_begin_with_the_classifier_that_was_trained_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Task, Any]] = []

    def demonstrate(folder: Path, task: Task, *, seed: int, start_from: Path | None) -> Task:
        told.append((task, start_from))
        (folder / ".latest" / "train").mkdir(parents=True)
        (folder / ".latest" / "train" / "best.ckpt").touch()
        return task

    monkeypatch.setattr("otx_xai.demo.demonstrate_task", demonstrate)
    monkeypatch.setattr("otx_xai.demo.demonstrate_audit", lambda folder, seed: folder.name)
    assert list(run_demo(tmp_path)) == [*TASKS, "audit"]
    classifier = (tmp_path / "classification" / ".latest" / "train" / "best.ckpt").resolve()
    assert told == [(TASKS[0], None), (TASKS[1], classifier), (TASKS[2], classifier)]
    told.clear()
    assert list(run_demo(tmp_path / "alone", "detection")) == [Task.DETECTION]
    assert told == [(Task.DETECTION, None)]


# ---------------------------------------------------------------------------------------------------------------------
# Maps are held against what was drawn


def _entry(work_dir: Path, file: SceneFile, maps: dict[int, np.ndarray]) -> dict[str, Any]:
    """What a run writes of a picture: a map of each class."""
    files = []
    for target, grey in maps.items():
        files.append(f"{file.path.stem}_{target}_saliency_map.png")
        write_picture(work_dir / files[-1], grey.astype(np.uint8))
    targets = [{"target": target, "label": str(target), "score": 0.9} for target in maps]
    return {"targets": targets, "files": files}


@pytest.mark.parametrize("task", TASKS)
def test_a_map_that_is_the_shape_hits_and_the_rest_does_not(task: Task, tmp_path: Path) -> None:
    draw = write_image_folder if task is Task.CLASSIFICATION else write_coco
    for file in draw(tmp_path / "data", 6, size=64):
        for target in set(file.scene.targets):
            own = [mask for mask, drawn in zip(file.scene.masks, file.scene.targets, strict=True) if drawn == target]
            shape = np.any(own, axis=0)
            (found,) = judge_picture(tmp_path, task, file, _entry(tmp_path, file, {target: shape * 255}))
            assert found.hit
            assert found.caption.endswith("hit")
            (missed,) = judge_picture(tmp_path, task, file, _entry(tmp_path, file, {target: _corner(file, target)}))
            assert not missed.hit
            assert missed.caption.endswith("missed")
            if task is not Task.DETECTION:
                assert found.covered == pytest.approx(shape.mean())
            else:
                assert found.covered >= shape.mean()
        absent = next(target for target in range(6) if target not in file.scene.targets)
        (other,) = judge_picture(tmp_path, task, file, _entry(tmp_path, file, {absent: np.ones(shape.shape) * 9}))
        assert (other.hit, other.covered) == (False, 0)
        assert other.caption.endswith("not in the picture")


def _corner(file: SceneFile, target: int) -> np.ndarray:
    """A map whose peak is a pixel that no box of a class holds."""
    free = np.ones(file.scene.image.shape[:2], bool)
    for (x1, y1, x2, y2), drawn in zip(file.scene.boxes.astype(int), file.scene.targets, strict=True):
        if drawn == target:
            free[y1:y2, x1:x2] = False
    grey = np.zeros(free.shape)
    grey[tuple(np.argwhere(free)[0])] = 200
    return grey


def test_of_a_classifier_the_map_of_the_best_class_counts(tmp_path: Path) -> None:
    (file,) = write_image_folder(tmp_path / "data", 1, size=64)
    both = {0: file.scene.masks[0] * 255, 3: file.scene.masks[0] * 255}
    assert len(judge_picture(tmp_path, Task.CLASSIFICATION, file, _entry(tmp_path, file, both))) == 1
    assert len(judge_picture(tmp_path, Task.DETECTION, file, _entry(tmp_path, file, both))) == 2


def test_shapes_that_were_found_are_counted(tmp_path: Path) -> None:
    file = write_coco(tmp_path, 1, shapes=(3, 3), size=96)[0]
    boxes = [
        {"target": target, "box": box}
        for target, box in zip(file.scene.targets, file.scene.boxes.tolist(), strict=True)
    ]
    assert count_found(Task.DETECTION, file, boxes) == len(boxes) == 3
    moved = [{**one, "box": [side + 60 for side in one["box"]]} for one in boxes]
    assert count_found(Task.DETECTION, file, moved) == 0
    renamed = [{**one, "target": 99} for one in boxes]
    assert count_found(Task.DETECTION, file, [*renamed, boxes[1]]) == 1
    best = [{"target": file.scene.targets[0]}]
    assert count_found(Task.CLASSIFICATION, file, best) == 1
    assert count_found(Task.CLASSIFICATION, file, [{"target": 99}, *best]) == 0


def test_a_sheet_of_nothing(tmp_path: Path) -> None:
    (file,) = write_image_folder(tmp_path, 1, size=64)
    assert write_contact_sheet(tmp_path / "sheet.png", [], file.path).stat().st_size > 500
    assert mean_covered([]) == 0


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


class Untrained:
    """Stands in for the engine: nothing is trained, and explaining ends as told."""

    failures: ClassVar[dict[str, str]] = {}
    interrupted = False

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir

    @classmethod
    def from_config(cls, recipe: str, work_dir: Path, **options: Any) -> Untrained:
        return cls(work_dir)

    def train(self, **options: Any) -> None:
        return None

    def export(self) -> Any:
        return SimpleNamespace(path=self.work_dir / "model.xml")

    def explain(self, **options: Any) -> Any:
        return SimpleNamespace(interrupted=self.interrupted, failures=self.failures)


def test_pictures_that_fail_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_demo, "Engine", type("Failing", (Untrained,), {"failures": {"circle/0000.jpg": "broken"}}))
    with pytest.raises(DataError, match=r"1 of the pictures .* cannot be explained"):
        demonstrate_task(tmp_path, Task.CLASSIFICATION, train_images=1, test_images=1, epochs=1)


def test_ctrl_c_while_explaining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_demo, "Engine", type("Interrupted", (Untrained,), {"interrupted": True}))
    with pytest.raises(KeyboardInterrupt):
        demonstrate_task(tmp_path, Task.CLASSIFICATION, train_images=1, test_images=1, epochs=1)


def test_no_demo_of_other_tasks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no demo of multi_label_cls; expected one of classification, detection"):
        next(run_demo(tmp_path, "multi_label_cls"))


@pytest.mark.parametrize("name", ["train_images", "test_images", "epochs"])
def test_numbers_below_one_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        demonstrate_task(tmp_path, Task.DETECTION, **{name: 0})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["torch", "lightning"])
def test_missing_package_is_named_with_its_remedy(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package} is not installed.*pip install otx-xai\[train\]"):
        demonstrate_task(tmp_path, Task.CLASSIFICATION, train_images=1, test_images=1, epochs=1)


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), classroom():  # noqa: PT012
        assert torch.get_num_threads() == 1
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before
