"""What a run writes, what it takes up again, and what it does when something breaks."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import classifiers
import cv2
import numpy as np
import openvino as ov
import pytest

from otx_xai import Engine, ExplainConfig, InputOptions, OTXDataModule
from otx_xai import cli as command_line
from otx_xai.errors import ConfigError, ModelError, OutputError
from otx_xai.explain.run import ExplainRun
from otx_xai.openvino_core import core
from otx_xai.postprocess import fit
from otx_xai.report import Journal
from otx_xai.runtime import Session

pytestmark = pytest.mark.usefixtures("ctrl_c")

LABELS = ("red", "green", "blue", "mixture")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.xml"
    ov.save_model(classifiers.colour_classifier(), path, compress_to_fp16=False)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images in two folders."""
    for i in range(9):
        write_photo(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", ("red", "green", "blue")[i % 3])
    return tmp_path / "photos"


def write_photo(path: Path, colour: str = "red", size: tuple[int, int] = (40, 52)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), classifiers.coloured_image(size, colour)[..., ::-1])


def explain(model: Path, photos: Path, work_dir: Path, **options: Any) -> ExplainRun:
    return Engine(work_dir=work_dir).explain(model, data_root=photos, **({"dump": True, "labels": LABELS} | options))


def lines(work_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work_dir / "predictions.jsonl").read_text().splitlines()]


def manifest(work_dir: Path) -> dict[str, Any]:
    content = json.loads((work_dir / "run.json").read_text())
    assert isinstance(content, dict)
    return content


def names(work_dir: Path) -> list[str]:
    return [line["name"] for line in lines(work_dir)]


def ages(work_dir: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (work_dir / "saliency_map").rglob("*.png")}


IN_ORDER = [f"a/{i}.png" for i in (0, 2, 4, 6, 8)] + [f"b/{i}.png" for i in (1, 3, 5, 7)]


def stop_after(patch: pytest.MonkeyPatch, count: int) -> None:
    """Let Ctrl-C be pressed when so many images have been written."""
    append = Journal.append

    def counted(self: Journal, record: Any) -> None:
        nonlocal count
        append(self, record)
        count -= 1
        if count == 0:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(Journal, "append", counted)
    patch.setattr(Session, "_window", lambda *_: 2)


def test_a_run_writes_pictures_journal_manifest_and_config(model: Path, photos: Path, tmp_path: Path) -> None:
    run = explain(model, photos, tmp_path / "out")
    assert (run.images, run.explained, run.failures, run.interrupted, run.exit_code) == (9, 9, {}, False, 0)
    assert names(tmp_path / "out") == IN_ORDER
    pictures = [file for line in lines(tmp_path / "out") for file in line["files"]]
    assert len(pictures) == run.files == len(set(pictures)) == len(ages(tmp_path / "out"))
    assert "saliency_map/a/0_class_red_overlay.png" in pictures
    content = manifest(tmp_path / "out")
    assert content["status"] == "complete"
    assert content["counts"] == {"images": 9, "explained": 9, "failed": 0}
    assert content["settings"]["explain_config"]["content"] == "both"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".latest",
        "config.yaml",
        "predictions.jsonl",
        "run.json",
        "saliency_map",
    ]


def test_what_is_no_image_is_told_and_what_cannot_be_read_fails(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "README").write_text("no image")
    os.mkfifo(photos / "pipe.jpg")
    run = explain(model, photos, tmp_path / "out")
    assert (run.explained, run.exit_code, list(run.failures)) == (9, 7, ["pipe.jpg"])
    content = manifest(tmp_path / "out")
    assert content["not_read"] == ["1 file that is no image (README)"]
    assert "is a named pipe" in content["failures"][0]["error"]


def test_config_yaml_repeats_the_run(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExplainConfig(content="sheet", predicted_maps_conf_thr=0.2)  # type: ignore[arg-type]
    explain(
        model, photos, tmp_path / "out", explain_config=config, targets=np.array([2, 0]), input=InputOptions(mean=3)
    )
    before = manifest(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["explain", "--config", str(tmp_path / "out" / "config.yaml")]) == 0
    after = manifest(tmp_path / "out")
    assert after["settings"] == before["settings"]
    assert after["fingerprint"] == before["fingerprint"]


@pytest.mark.parametrize("batch", [1, 4])
def test_without_dump_the_explanations_are_returned(model: Path, photos: Path, tmp_path: Path, batch: int) -> None:
    for _ in range(2):
        run = explain(model, photos, tmp_path / "out", dump=False, batch_size=batch)
        assert len(run.explanations) == 9
        assert run.files == 0
        assert not (tmp_path / "out" / "saliency_map").exists()
    assert explain(model, photos, tmp_path / "out", dump=False, keep_explanations=False).explanations == ()


def test_words_may_be_plain_text(model: Path, photos: Path, tmp_path: Path) -> None:
    config = ExplainConfig(content="SHEET", image_format="jpg")  # type: ignore[arg-type]
    run = explain(model, photos, tmp_path / "out", explain_config=config, explain_method="ReciproCAM")
    assert run.files == 9
    assert len(list((tmp_path / "out").rglob("*_sheet.jpg"))) == 9


def test_images_come_from_the_engine_a_data_module_or_the_call(model: Path, photos: Path, tmp_path: Path) -> None:
    module = OTXDataModule(photos / "a")
    assert Engine(work_dir=tmp_path / "1", datamodule=module).explain(model).images == 5
    assert Engine(work_dir=tmp_path / "2", data_root=photos).explain(model, datamodule=module).images == 5
    assert Engine(work_dir=tmp_path / "3", datamodule=module, checkpoint=model).explain(data_root=photos).images == 9
    assert len(module.images()) == 5
    with pytest.raises(ConfigError, match="No images were given"):
        Engine(work_dir=tmp_path / "4").explain(model)
    with pytest.raises(ConfigError, match="No checkpoint was given"):
        Engine(work_dir=tmp_path / "4", data_root=photos).explain()


def test_without_a_work_dir_the_latest_run_is_linked(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run = Engine().explain(model, data_root=photos)
        assert (tmp_path / "otx-workspace" / ".latest" / "explain").resolve() == run.work_dir.resolve()


def test_trainer_arguments_are_accepted(
    model: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert explain(model, photos, tmp_path / "out", max_epochs=3).explained == 9
    assert "max_epochs: not used" in caplog.text


def test_the_model_is_saved_with_its_saliency_map(model: Path, photos: Path, tmp_path: Path) -> None:
    saved = tmp_path / "new" / "saved.xml"
    explain(model, photos, tmp_path / "out", output_model=saved)
    outputs = [name for output in core().read_model(saved).outputs for name in output.get_names()]
    assert "saliency_map" in outputs
    assert sorted(path.name for path in saved.parent.iterdir()) == ["saved.bin", "saved.xml"]


@pytest.mark.parametrize("name", ["saved.onnx", "file/saved.xml"])
def test_a_model_that_cannot_be_saved(model: Path, photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((ConfigError, OutputError), match="--output_model"):
        explain(model, photos, tmp_path / "out", output_model=tmp_path / name)
    with pytest.raises(ConfigError, match="checkpoint itself"):
        explain(model, photos, tmp_path / "out", output_model=model)


def test_bad_images_among_good_ones(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "3.jpg").write_bytes(b"no image")
    run = explain(model, photos, tmp_path / "out")
    assert (run.images, run.explained, run.exit_code) == (10, 9, 7)
    assert list(run.failures) == ["a/3.jpg"]
    assert names(tmp_path / "out") == IN_ORDER
    content = manifest(tmp_path / "out")
    assert content["status"] == "complete"
    assert [failure["name"] for failure in content["failures"]] == ["a/3.jpg"]
    assert "1 failed" in run.summary()


def test_only_bad_images(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    run = explain(model, tmp_path / "bad.jpg", tmp_path / "out")
    assert (run.explained, run.exit_code) == (0, 5)


@pytest.mark.parametrize(
    "error", [cv2.error("too large"), MemoryError(), ValueError("2 of 4 scores are NaN")], ids=repr
)
@pytest.mark.parametrize("stage", ["otx_xai.explain.run_sources.fit", "otx_xai.explain.plan.choose"])
def test_an_image_that_breaks_a_library_is_one_failure(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: Exception
) -> None:
    original, calls = resolve_name(stage), iter(range(100))

    def fragile(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 4:
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(stage, fragile)
    run = explain(model, photos, tmp_path / "out")
    assert (run.explained, len(run.failures), run.exit_code) == (8, 1, 7)


@pytest.mark.parametrize(
    "stage", ["explain.run_sources.read_for_network", "explain.plan.choose", "report.results.record"]
)
def test_a_fault_in_a_thread_ends_the_run(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(f"otx_xai.{stage}", broken)
    with pytest.raises(ZeroDivisionError):
        explain(model, photos, tmp_path / "out")
    assert manifest(tmp_path / "out")["status"] == "failed"


def test_a_full_disk_ends_the_run_which_can_be_resumed(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, written = os.replace, iter(range(1000))

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".png") and next(written) >= 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OutputError, match="No space left on device"):
            explain(model, photos, tmp_path / "out")
    assert manifest(tmp_path / "out")["status"] == "failed"
    assert not list((tmp_path / "out").rglob("*.tmp"))
    there = [all((tmp_path / "out" / file).exists() for file in line["files"]) for line in lines(tmp_path / "out")]
    assert there == [True, True, True, False], "the disk was full at the eighth picture"
    run = explain(model, photos, tmp_path / "out")
    assert (run.resumed, run.explained) == (3, 9)
    assert names(tmp_path / "out") == IN_ORDER


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_work_dir_that_cannot_be_made(model: Path, photos: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--work_dir"):
        explain(model, photos, tmp_path / place)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read(model: Path, photos: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_bytes(content)
    with pytest.raises(OutputError, match=r"run\.json"):
        explain(model, photos, tmp_path / "out")
    assert explain(model, photos, tmp_path / "out", resume=False).explained == 9


def interrupted(
    model: Path, photos: Path, work_dir: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> ExplainRun:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run = explain(model, photos, work_dir, **options)
    assert run.interrupted
    assert run.exit_code == 130
    assert manifest(work_dir)["status"] == "interrupted"
    assert 2 <= len(lines(work_dir)) < 9
    return run


def test_an_interrupted_run_goes_on_without_redoing_anything(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = interrupted(model, photos, tmp_path / "out", monkeypatch)
    before = ages(tmp_path / "out")
    run = explain(model, photos, tmp_path / "out")
    assert (run.resumed, run.explained, run.exit_code) == (first.explained, 9, 0)
    assert names(tmp_path / "out") == IN_ORDER
    after = ages(tmp_path / "out")
    assert before == {path: after[path] for path in before}
    assert run.files == len(after)


def test_order_is_restored_when_a_failed_image_is_repaired(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "a" / "0.png").write_bytes(b"no image")
    interrupted(model, photos, tmp_path / "out", monkeypatch)
    write_photo(photos / "a" / "0.png")
    assert explain(model, photos, tmp_path / "out").explained == 9
    assert names(tmp_path / "out") == IN_ORDER


def test_images_and_pictures_that_are_gone(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(model, photos, tmp_path / "out", monkeypatch)
    first, second = lines(tmp_path / "out")[:2]
    (photos / first["name"]).unlink()
    (tmp_path / "out" / second["files"][0]).unlink()
    run = explain(model, photos, tmp_path / "out")
    assert (run.images, run.explained, run.interrupted) == (8, 8, False)
    assert names(tmp_path / "out") == IN_ORDER[1:]
    assert (tmp_path / "out" / second["files"][0]).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"targets": "red"},
        {"resume": False},
        {"explain_config": ExplainConfig(predicted_maps_conf_thr=0.9)},
        {"input": InputOptions(mean=1)},
        {"labels": ("r", "g", "b", "m")},
        {"decode": "fast"},
        {"explain_config": ExplainConfig(colormap="inferno")},
        {"explain_config": ExplainConfig(max_size=100)},
    ],
    ids="-".join,
)
def test_another_setting_begins_anew(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    interrupted(model, photos, tmp_path / "out", monkeypatch)
    run = explain(model, photos, tmp_path / "out", **change)
    assert (run.resumed, run.explained) == (0, 9)
    assert names(tmp_path / "out") == IN_ORDER


@pytest.mark.parametrize("interpolation", ["bilinear", "linear"])
@pytest.mark.parametrize("dump", [False, True])
def test_fast_decoding_tells_the_same_of_large_images(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    interpolation: str,
    dump: bool,
) -> None:
    """Read are 1200 x 1600 pixels for a small network: a quarter is enough, a half where pictures are of 800."""
    rng = np.random.default_rng(0)
    colours = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (1600, 1200), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.jpg"), colours)
    decoded: list[int] = []

    def fitted(image: np.ndarray, geometry: object, reduced: int = 1) -> np.ndarray:
        decoded.append(reduced)
        return fit(image, geometry, reduced)

    monkeypatch.setattr("otx_xai.explain.run_sources.fit", fitted)
    rows = []
    caplog.set_level("INFO", "otx_xai")
    for decode in ("exact", "fast"):
        out = tmp_path / decode
        config = ExplainConfig(max_size=800)
        told = InputOptions(interpolation=interpolation)
        Engine(work_dir=out).explain(
            model,
            data_root=tmp_path / "photos",
            dump=dump,
            decode=decode,
            labels=LABELS,
            input=told,
            explain_config=config,
        )
        rows.append(json.loads((out / "predictions.jsonl").read_text()))
        assert manifest(out)["settings"]["decode"] == decode
    exact, fast = rows
    assert decoded == [1, 1 if interpolation == "linear" else 2 if dump else 4]
    assert ("images are decoded in full size, since linear" in caplog.text) is (interpolation == "linear")
    assert fast["size"] == exact["size"] == [1200, 1600]
    assert fast.get("picture_size") == exact.get("picture_size") == ([600, 800] if dump else None)
    for one, other in zip(exact["predictions"], fast["predictions"], strict=True):
        assert one["label"] == other["label"]
        assert abs(one["score"] - other["score"]) < 0.01
    for file in exact["files"]:
        one, other = (cv2.imread(str(tmp_path / decode / file)).astype(int) for decode in ("exact", "fast"))
        assert one.shape == other.shape == (600, 800, 3)
        assert np.abs(one - other).mean() < 2


def test_another_model_of_the_same_name_begins_anew(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.xml"
    ov.save_model(classifiers.colour_classifier(strength=0.2), own, compress_to_fp16=False)
    interrupted(own, photos, tmp_path / "out", monkeypatch)
    ov.save_model(classifiers.colour_classifier(strength=0.3), own, compress_to_fp16=False)
    run = explain(own, photos, tmp_path / "out")
    assert (run.resumed, run.explained) == (0, 9)


def test_a_complete_run_begins_anew(model: Path, photos: Path, tmp_path: Path) -> None:
    explain(model, photos, tmp_path / "out")
    assert explain(model, photos, tmp_path / "out").resumed == 0


@pytest.mark.parametrize(
    "options",
    [
        {"explain_method": "cooking"},
        {"batch_size": 0},
        {"targets": "violet"},
        {"labels": ("red", "green")},
        {"explain_method": "reciprocam", "explain_config": ExplainConfig(target_explain_group="IMAGE")},  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_wrong_options(model: Path, photos: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        explain(model, photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_wrong_task_and_missing_model(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        Engine(task="cooking")
    with pytest.raises(ModelError, match="does not exist"):
        explain(model.with_name("absent.xml"), photos, tmp_path / "out")


def test_groups_of_targets(model: Path, photos: Path, tmp_path: Path) -> None:
    for group, count in (("ALL", 4), ("IMAGE", 1)):
        config = ExplainConfig(target_explain_group=group, content="maps")  # type: ignore[arg-type]
        assert explain(model, photos, tmp_path / group, explain_config=config).files == 9 * count


def test_a_run_outside_of_the_main_thread(model: Path, photos: Path, tmp_path: Path) -> None:
    runs: list[ExplainRun] = []
    thread = threading.Thread(target=lambda: runs.append(explain(model, photos, tmp_path / "out")))
    thread.start()
    thread.join()
    assert runs[0].explained == 9
