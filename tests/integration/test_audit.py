"""The whole audit: a network that has learned a planted fault, its data on disk, and everything that is written."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import openvino as ov
import planted_audit
import pytest
import torch
from pyarrow import parquet

import otx_xai as xai
from otx_xai.audit.findings import FindingState
from otx_xai.cli import main
from otx_xai.data.planted import PLANTED_LABELS, Fault, draw_planted
from otx_xai.engine import audit_job
from otx_xai.errors import ConfigError, DataError, LabelError

SIDE = planted_audit.SIDE
COUNT = 120
INPUT = xai.InputOptions(mean=127.5, scale=64)
LABELS = list(PLANTED_LABELS)
WORDS = ("--labels", ",".join(LABELS), "--input.mean", "127.5", "--input.scale", "64")


def write_coco(folder: Path, fault: Fault) -> Path:
    """Pictures below ``images``, in two folders, and their boxes."""
    data = draw_planted(COUNT, fault, seed=7)
    images, annotations = [], []
    for i, (image, box) in enumerate(zip(data.images, data.boxes.tolist(), strict=True)):
        name = f"{'even' if i % 2 == 0 else 'odd'}/{i:03}.png"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / name), image[..., ::-1])
        images.append({"id": i, "file_name": name, "width": SIDE, "height": SIDE})
        left, top, right, bottom = box
        area = (right - left) * (bottom - top)
        annotations.append(
            {
                "id": i + 1,
                "image_id": i,
                "category_id": int(data.targets[i]) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": area,
                "iscrowd": 0,
            }
        )
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(LABELS)]
    (folder / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def save_ir(path: Path, fault: Fault) -> Path:
    net = planted_audit.train(draw_planted(planted_audit.TRAINED, fault, seed=3))
    batch = ({0: torch.export.Dim("batch")},)
    model = ov.convert_model(torch.export.export(net, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=batch))
    model.reshape([-1, 3, SIDE, SIDE])
    ov.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_ir(folder / "model.xml", Fault.BACKGROUND)
    write_coco(folder / "val", Fault.BACKGROUND)
    return folder


def audit_of(desk: Path, work_dir: Path, **more: object) -> xai.Audit:
    arguments: dict[str, object] = {"data_root": desk / "val", "labels": LABELS, "input": INPUT}
    return xai.Engine(work_dir=work_dir).audit(desk / "model.xml", **{**arguments, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(desk: Path) -> xai.Audit:
    return audit_of(desk, desk / "out", fail_on="verified_background_reliance,accuracy=0.5,ap50=0.1")


def test_the_planted_fault_is_verified(done: xai.Audit) -> None:
    verified = [one for one in done.findings if one.state is FindingState.VERIFIED]
    assert "circle" in {one.subject for one in verified if one.kind == "background_reliance"}
    circle = next(one for one in verified if one.subject == "circle" and one.kind == "background_reliance")
    assert circle.effect.low > 0.3
    assert done.metrics["accuracy"].effect.value > 0.7
    assert done.metrics["energy_in_object"].effect.value < 0.5


def test_gates_decide_the_exit_code(done: xai.Audit) -> None:
    assert [gate.passed for gate in done.gates] == [False, True, False]
    assert done.exit_code == 8
    assert done.verdict.state == "fail"
    assert "this audit has no figure ap50" in done.gates[2].why
    suite = ElementTree.parse(done.folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")


def test_everything_is_written(done: xai.Audit) -> None:
    content = json.loads((done.folder / "audit.json").read_text())
    assert content["schema"] == 1
    assert content["title"] == "model.xml on val"
    assert [one["kind"] for one in content["findings"]] == [str(one.kind) for one in done.findings]
    assert sum(content["cases"].values()) == COUNT
    assert {row["class"] for row in content["per_class"]} == {0, 1, 2}
    lines = (done.folder / "findings.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == content["findings"]
    table = parquet.read_table(done.folder / "images.parquet").to_pydict()
    assert len(table["name"]) == COUNT
    assert set(table["slice_folder"]) == {"images/even", "images/odd"}
    assert {case: table["case"].count(case) for case in content["cases"]} == content["cases"]
    right = [
        score
        for score, given, own in zip(table["score"], table["given"], table["predicted"], strict=True)
        if [own] == given
    ]
    assert len(right) / COUNT == done.metrics["accuracy"].effect.value
    assert (done.folder / "index.html").stat().st_size < 2**20
    assert "FAIL" in (done.folder / "summary.md").read_text()
    assert done.page.is_file()
    assert "FAILED: verified_background_reliance" in done.summary() == str(done)
    findings = [line for line in done.summary().splitlines() if line.startswith("  ")]
    assert len(findings) > 10
    assert max(map(len, findings)) <= 100


def test_no_file_tells_where_it_was_made(done: xai.Audit, desk: Path) -> None:
    secret = str(desk).encode()
    files = [file for file in done.folder.rglob("*") if file.is_file()]
    assert len(files) > 12
    assert not [file.name for file in files if secret in file.read_bytes()]


def test_the_command_can_be_repeated(desk: Path, done: xai.Audit, tmp_path: Path) -> None:
    told = desk / "out" / "audit.yaml"
    assert str(desk / "val") in told.read_text()
    more = [
        "--work_dir",
        str(tmp_path / "again"),
        "--check_images",
        "0",
        "--max_images",
        "12",
        "--fail_on",
        "accuracy=0",
    ]
    assert main(["audit", "--config", str(told), *more]) == 0
    assert json.loads((tmp_path / "again" / "audit" / "audit.json").read_text())["data"]["images"] == 12


def test_an_interrupted_audit_goes_on(desk: Path, done: xai.Audit, tmp_path: Path) -> None:
    work_dir = tmp_path / "out"
    shutil.copytree(desk / "out", work_dir, symlinks=True)
    evidence = work_dir / "audit" / "evidence"
    journal = (evidence / "predictions.jsonl").read_text().splitlines(keepends=True)
    (evidence / "predictions.jsonl").write_text("".join(journal[:70]) + journal[70][:9])
    manifest = json.loads((evidence / "run.json").read_text())
    (evidence / "run.json").write_text(json.dumps(manifest | {"status": "running"}))
    (work_dir / "audit" / ".unfinished").touch()
    again = audit_of(desk, work_dir)
    assert json.loads((evidence / "run.json").read_text())["counts"]["explained"] == COUNT
    for name in ("images", "maps", "boxes", "thumbnails"):
        assert (evidence / f"{name}.bin").read_bytes() == (done.folder / "evidence" / f"{name}.bin").read_bytes()
    assert [one.content() for one in again.findings] == [one.content() for one in done.findings]


def test_an_audit_that_is_stopped_in_its_checks_keeps_its_evidence(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    config = xai.AuditConfig(max_images=20, check_images=2)
    with monkeypatch.context() as patched:
        patched.setattr(audit_job, "check", stopped)
        with pytest.raises(KeyboardInterrupt):
            audit_of(desk, tmp_path, audit_config=config, baseline=desk / "model.xml")
    assert not (tmp_path / "audit" / "index.html").exists()
    with caplog.at_level("INFO"):
        audit_of(desk, tmp_path, audit_config=config)
    assert "Resuming: 20 of 20 images are done." in caplog.text
    assert not (tmp_path / "audit" / "baseline").exists()  # nobody asks for it now
    caplog.clear()
    with caplog.at_level("INFO"):
        audit_of(desk, tmp_path, audit_config=config)
    assert "Resuming" not in caplog.text  # that one has ended


def test_without_annotations_what_needs_none_is_asked(desk: Path, tmp_path: Path) -> None:
    done = audit_of(
        desk, tmp_path, data_root=desk / "val" / "images" / "even", audit_config=xai.AuditConfig(max_images=20)
    )
    assert done.images == 20
    assert any("no labels" in note for note in done.notes)
    assert done.exit_code == 0
    content = json.loads((done.folder / "audit.json").read_text())
    assert content["cases"]["unlabelled"] + content["cases"]["torn"] == 20
    assert content["calibration"] is None


def test_a_page_without_pixels(desk: Path, tmp_path: Path) -> None:
    config = xai.AuditConfig(report="noimages", check_images=0, max_images=12)  # type: ignore[arg-type]
    done = audit_of(desk, tmp_path, audit_config=config)
    files = [file for file in done.folder.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in (".jpg", ".png") or b"\xff\xd8\xff" in file.read_bytes()]
    assert not [file.name for file in files if b"../" in file.read_bytes() and file.suffix != ".css"]
    assert any("Nothing was checked" in note for note in done.notes)
    single = audit_of(desk, tmp_path / "single", audit_config=xai.AuditConfig(report="single", check_images=0))  # type: ignore[arg-type]
    assert not (single.folder / "data").exists()


def test_a_forecast_audits_nothing(desk: Path, tmp_path: Path) -> None:
    done = audit_of(desk, tmp_path, dry_run=True)
    assert f"{COUNT} images would take about" in done.notes[0]
    assert done.summary().startswith("Nothing was audited. 120 images")
    assert [path.name for path in done.folder.iterdir() if path.name != ".lock"] == []


def test_a_review_goes_there_and_back(desk: Path, tmp_path: Path) -> None:
    root = tmp_path / "flipped"
    shutil.copytree(desk / "val", root)
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"][:60:6]:
        annotation["category_id"] = annotation["category_id"] % 3 + 1
    file.write_text(json.dumps(content))
    before = audit_of(desk, tmp_path / "before", data_root=root, audit_config=xai.AuditConfig(check_images=0))
    with open(before.folder / "label_review.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    flipped = {f"images/{'even' if i % 2 == 0 else 'odd'}/{i:03}.png" for i in range(0, 60, 6)}
    assert len(flipped & {row["image"] for row in rows[:15]}) >= 9
    for row in rows:
        row["verdict"] = "suggested" if row["image"] in flipped else "given"
    with open(tmp_path / "review.csv", "w", newline="") as table:
        writer = csv.DictWriter(table, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    after = audit_of(
        desk,
        tmp_path / "after",
        data_root=root,
        review=tmp_path / "review.csv",
        audit_config=xai.AuditConfig(check_images=0),
    )
    assert after.metrics["accuracy"].effect.value > before.metrics["accuracy"].effect.value + 0.05


def test_maps_that_know_no_classes_are_looked_at_once(
    desk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = xai.AuditConfig(max_images=8, check_images=0)
    with caplog.at_level("INFO"):
        done = audit_of(desk, tmp_path, explain_method="activationmap", audit_config=config)
    assert "Looking again" not in caplog.text
    assert any("no saliency maps of single classes" in note for note in done.notes)


def test_a_review_of_other_data_is_refused(desk: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    review.write_text("image,given,suggested,verdict\nother.png,circle,star,suggested\n")
    with pytest.raises(DataError, match=r"names 'other\.png', and none of the 120 images"):
        audit_of(desk, tmp_path / "out", review=review)


def test_the_command(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--checkpoint", str(desk / "model.xml"), "--data_root", str(desk / "val"), *WORDS, "--max_images", "30"]
    assert main(["audit", *common, "--work_dir", str(tmp_path / "a"), "--fail_on", "accuracy=0.99"]) == 8
    assert "FAILED: accuracy=0.99" in capsys.readouterr().out
    assert main(["audit", *common, "--work_dir", str(tmp_path / "b"), "--check_images", "0"]) == 0
    changes = str(tmp_path / "changes.json")
    assert main(["audit", "compare", str(tmp_path / "b"), str(tmp_path / "b"), "--json", changes]) == 0
    assert json.loads(Path(changes).read_text())["changes"] == []
    assert main(["audit", "compare", str(tmp_path / "b")]) == 2
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["audit", "compare", "--help"])
    assert "OLD NEW" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"fail_on": "acuracy=1"}, "Did you mean 'accuracy'"),
        ({"review": "none.csv"}, "is no file"),
        ({"baseline_input": xai.InputOptions(mean=3)}, "baseline_input.mean is given, and no --baseline"),
        ({"explain_method": "nothing"}, "nothing"),
    ],
)
def test_mistakes_are_told_at_once(desk: Path, tmp_path: Path, more: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        audit_of(desk, tmp_path, **more)


def test_what_cannot_be_read_is_told(desk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"no picture")
    done = audit_of(desk, tmp_path / "out", data_root=folder)
    assert done.exit_code == 5
    assert done.verdict.sentence == "No image could be explained, so nothing was audited."
    assert "nan" not in done.summary()
    assert not done.notes  # nothing is said of labels that nobody saw
    table = tmp_path / "table.csv"
    table.write_text("file,camera\nnone.png,A\n")
    config = xai.AuditConfig(metadata=table)
    with pytest.raises(DataError, match="names none of the 120 images"):
        audit_of(desk, tmp_path / "early", audit_config=config)
    assert not (tmp_path / "early" / "audit" / "evidence").exists()


def test_labels_in_another_order_are_told_before_all_else(desk: Path, tmp_path: Path) -> None:
    config = xai.AuditConfig(check_images=0)
    done = audit_of(desk, tmp_path, labels=["cross", "star", "circle"], audit_config=config)
    assert done.verdict.state == "attention"
    assert "whether --labels are in its order" in done.verdict.sentence


def test_a_baseline_of_another_method_is_compared_by_its_scores(desk: Path, tmp_path: Path) -> None:
    from openvino import opset13 as ops

    image = ops.parameter([1, 3, SIDE, SIDE], np.float32)
    weights = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, 3)).astype(np.float32) / 100
    logits = ops.matmul(ops.reshape(image, ops.constant([1, -1]), False), ops.constant(weights), False, False)
    ov.save_model(ov.Model([ops.softmax(logits, 1)], [image]), tmp_path / "flat.xml")
    done = audit_of(
        desk,
        tmp_path / "out",
        baseline=tmp_path / "flat.xml",
        num_masks=10,
        audit_config=xai.AuditConfig(max_images=8, check_images=4),
    )
    assert any("explained by rise, the model by multistridecam" in note for note in done.notes)
    assert "top1_agreement" in done.metrics
    assert "drift" not in done.metrics


def test_a_baseline_of_other_classes_is_refused(desk: Path, tmp_path: Path) -> None:
    from openvino import opset13 as ops

    image = ops.parameter([1, 3, SIDE, SIDE], np.float32)
    weights = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    logits = ops.matmul(ops.reduce_mean(image, [2, 3], keep_dims=False), ops.constant(weights), False, False)
    ov.save_model(ov.Model([ops.softmax(logits, 1)], [image]), tmp_path / "five.xml")
    with pytest.raises(ConfigError, match="5"):
        audit_of(desk, tmp_path, baseline=tmp_path / "five.xml", labels=None)
    with pytest.raises(LabelError, match="--baseline: --labels has 3 names"):
        audit_of(desk, tmp_path, baseline=tmp_path / "five.xml")
