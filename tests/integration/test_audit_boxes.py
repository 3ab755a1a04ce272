"""The audit of detectors: one that finds red things on blue only, and one that finds them anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
import toy_boxes
from shard_runs import differing, left_by

import otx_xai as xai
from otx_xai.audit.findings import FindingState

COUNT = 24
BLUE, GREY = (20, 20, 200), (40, 40, 40)
INPUT = xai.InputOptions(mean=0, scale=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red cells on blue, green ones on grey: one object an image, in COCO's form."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(COUNT):
        label = i % 2
        image = np.full((64, 64, 3), (BLUE, GREY)[label], np.uint8)
        left, top = (int(side) * 16 for side in rng.integers(0, 4, 2))
        image[top : top + 16, left : left + 16] = ((255, 0, 0), (0, 255, 0))[label]
        image = np.clip(image + rng.integers(-9, 9, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.png"), image[..., ::-1])
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 64})
        box = {"bbox": [left, top, 16, 16], "area": 256, "iscrowd": 0}
        annotations.append({"id": i + 1, "image_id": i, "category_id": label + 1, **box})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(("red", "green"))]
    (folder / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def save_detector(path: Path, *, wants_blue: bool, bias: float = 0) -> Path:
    cells = toy_boxes.Cells()
    logits = cells.logits
    if wants_blue:
        blue = ops.reduce_mean(ops.gather(cells.image, np.array(2), np.int64(1)), np.array([1, 2]), False)
        logits = ops.add(
            logits, ops.multiply(ops.subtract(blue, np.float32(150 + 10 * bias)), np.array([0.09, 0], np.float32))
        )
    ov.save_model(cells.model(boxes=cells.corners, scores=ops.sigmoid(logits)), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("wants_blue", [True, False])
def test_reliance_on_the_background(data: Path, tmp_path: Path, wants_blue: bool) -> None:
    model = save_detector(tmp_path / "model.xml", wants_blue=wants_blue)
    done = xai.Engine(work_dir=tmp_path).audit(model, data_root=data, labels=["red", "green"], input=INPUT)
    assert done.metrics["missed"].effect.value == 0
    verified = [one for one in done.findings if one.state is FindingState.VERIFIED]
    if not wants_blue:
        assert not verified
        assert abs(done.metrics["background_reliance"].effect.value) < 0.05
        return
    assert [(one.kind, one.subject) for one in verified] == [("background_reliance", "red")]
    (reliance,) = verified
    assert reliance.effect.low > 0.5
    assert abs(reliance.check["own"]["value"]) < 0.05
    assert set(reliance.images) <= {f"images/{i}.png" for i in range(0, COUNT, 2)}
    assert reliance.share == 0.5
    assert done.metrics["background_reliance"].effect.value > 0.5
    assert done.verdict.state == "attention"


def test_what_changed_from_a_baseline(data: Path, tmp_path: Path) -> None:
    strict = save_detector(tmp_path / "strict.xml", wants_blue=True, bias=30)
    usual = save_detector(tmp_path / "usual.xml", wants_blue=False)
    config = xai.AuditConfig(check_images=0)
    more = {"data_root": data, "labels": ["red", "green"], "input": INPUT, "audit_config": config}
    done = xai.Engine(work_dir=tmp_path / "out").audit(strict, baseline=usual, **more)  # type: ignore[arg-type]
    found = {(str(one.kind), one.subject): one for one in done.findings}
    assert found["drift", "objects"].check == {"lost": COUNT // 2, "won": 0}
    assert found["drift", "boxes"].check == {"lost": COUNT // 2, "new": 0, "paired": COUNT // 2}
    assert done.metrics["box_agreement"].effect.value == pytest.approx(2 / 3)
    table = json.loads((done.folder / "audit.json").read_text())["drift"]
    numbers = {name: table[name] for name in ("objects_lost", "objects_won", "boxes_lost", "boxes_new", "baseline")}
    assert list(numbers.values()) == [COUNT // 2, 0, COUNT // 2, 0, "usual.xml"]
    assert table["box_agreement"]["value"] == pytest.approx(2 / 3)
    same = xai.Engine(work_dir=tmp_path / "same").audit(usual, baseline=usual, fail_on="box_agreement=0.5", **more)  # type: ignore[arg-type]
    assert not [one for one in same.findings if "drift" in str(one.kind)]
    assert same.metrics["box_agreement"].effect.value == 1
    assert same.metrics["drift"].effect.value == pytest.approx(0, abs=1e-6)
    assert same.exit_code == 0


def test_boxes_in_shards_are_those_of_one_process(data: Path, tmp_path: Path) -> None:
    model = save_detector(tmp_path / "model.xml", wants_blue=True)
    usual = save_detector(tmp_path / "usual.xml", wants_blue=False)
    config = xai.AuditConfig(check_images=0)
    more = {"data_root": data, "labels": ["red", "green"], "input": INPUT, "audit_config": config, "baseline": usual}
    for folder, shards in (("single", (None,)), ("parted", ("2/2", "1/2", None))):
        for shard in shards:
            xai.Engine(work_dir=tmp_path / folder).audit(model, shard=shard, **more)  # type: ignore[arg-type]
    single, parted = (left_by(tmp_path / folder / "audit") for folder in ("single", "parted"))
    assert not differing(parted, single)
    assert {"evidence/boxes.bin", "baseline/boxes.bin", "coco_results.json", "index.html"} <= single.keys()
