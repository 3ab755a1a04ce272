"""What a run says and leaves when it is stopped, started twice, or started again with other settings."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import classifiers
import cv2
import detectors
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai import Engine, ExplainConfig, InputOptions
from otx_xai.data import slow_reads
from otx_xai.errors import OutputError
from otx_xai.explain import run_sources
from otx_xai.explain.run import ExplainRun
from otx_xai.report import Journal, locked, read_journal, results
from otx_xai.report.shelves import PlainShelf
from otx_xai.runtime import Session

COUNT = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifiers.save_colour_classifier(
        tmp_path_factory.mktemp("model") / "colours.xml", "red green blue mixture"
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(COUNT):
        assert cv2.imwrite(str(folder / f"{i}.png"), classifiers.coloured_image((40, 52))[..., ::-1])
    return folder


def explain(model: Path, photos: Path, work_dir: Path, **options: Any) -> ExplainRun:
    return Engine(work_dir=work_dir).explain(model, data_root=photos, dump=True, **options)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder, links included: name -> when it was made, and its content."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def status(work_dir: Path) -> str:
    content = json.loads((work_dir / "run.json").read_text())
    return str(content["status"])


def signal_after_each_image(patch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    append = Journal.append

    def signalled(self: Journal, record: Any) -> None:
        append(self, record)
        signal.raise_signal(number)

    patch.setattr(Journal, "append", signalled)
    patch.setattr(Session, "_window", lambda *_: 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("ctrl_c")
def test_a_second_signal_leaves_a_manifest_that_tells(
    model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: signal.Signals,
) -> None:
    with monkeypatch.context() as patch:
        signal_after_each_image(patch, number)
        with pytest.raises(KeyboardInterrupt):
            explain(model, photos, tmp_path / "out")
    assert caplog.messages.count("Stopping: images on their way are finished; Ctrl-C again ends at once.") == 1
    assert status(tmp_path / "out") == "interrupted"
    assert not (tmp_path / "out" / ".lock").exists()
    # other settings: what is lost, and why, is told
    caplog.clear()
    config = ExplainConfig(content="maps")  # type: ignore[arg-type]
    run = explain(model, photos, tmp_path / "out", targets="red", explain_config=config)
    assert (run.resumed, run.explained) == (0, COUNT)
    (told,) = (message for message in caplog.messages if "Beginning anew" in message)
    assert "targets (not given before, 'red' now)" in told
    assert "explain_config.content ('both' before, 'maps' now)" in told
    # nothing is lost, nothing told: the last run was complete
    caplog.clear()
    explain(model, photos, tmp_path / "out")
    assert "Beginning anew" not in caplog.text


def test_a_second_run_at_the_same_time_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    explain(model, photos, tmp_path / "out", output_model=tmp_path / "out" / "explained.xml")
    before = contents(tmp_path / "out")
    with locked(tmp_path / "out"), pytest.raises(OutputError, match="Another run is writing into"):
        explain(model, photos, tmp_path / "out", targets="red", output_model=tmp_path / "out" / "explained.xml")
    assert contents(tmp_path / "out") == before


def pictures(work_dir: Path) -> set[str]:
    return {path.relative_to(work_dir).as_posix() for path in (work_dir / "saliency_map").rglob("*") if path.is_file()}


def listed(work_dir: Path) -> set[str]:
    return {file for line in read_journal(work_dir / "predictions.jsonl") for file in line["files"]}


def test_pictures_of_images_that_are_gone_go_when_a_run_begins_anew(
    model: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    explain(model, photos, out)
    first = listed(out)
    own = out / "saliency_map" / "my_overlay.png"
    own.touch()
    (photos / "0.png").unlink()
    (photos / "1.png").rename(photos / "new.png")
    Engine(work_dir=out).explain(model, data_root=photos, targets="red", keep_explanations=False)
    assert pictures(out) == first | {"saliency_map/my_overlay.png"}, "a run that writes no pictures leaves them alone"
    with caplog.at_level("INFO", "otx_xai"):
        explain(model, photos, out)
    assert pictures(out) == listed(out) | {"saliency_map/my_overlay.png"}
    assert {file.partition("_class_")[0] for file in first - listed(out)} == {"saliency_map/0", "saliency_map/1"}
    assert "Removed 4 files of an earlier run" in caplog.text
    assert sorted(path.name for path in out.iterdir()) == [
        ".latest",
        "config.yaml",
        "predictions.jsonl",
        "run.json",
        "saliency_map",
    ]
    config = ExplainConfig(content="sheet,npz")  # type: ignore[arg-type]
    explain(model, photos, out, explain_config=config)
    assert pictures(out) == listed(out) | {"saliency_map/my_overlay.png"}
    assert {file.rpartition("_")[2] for file in listed(out)} == {"sheet.png", "maps.npz"}


def cut_short(patch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Interrupt a stage of the results when it is called for the n-th time."""
    owner = PlainShelf if name == "put" else results
    function, calls = getattr(owner, name), iter(range(100))

    def called(*arguments: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments)

    patch.setattr(owner, name, called)


@pytest.mark.parametrize("stages", [["put"], ["put", "restore_order"], ["put", "remove_leftovers"]])
def test_a_run_that_is_cut_short_anywhere_leaves_nothing_behind_in_the_end(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: list[str]
) -> None:
    """Neither of the complete run before it, nor of itself, when it goes on with fewer images."""
    out = tmp_path / "out"
    explain(model, photos, out)
    before = pictures(out)
    config = ExplainConfig(content="overlays", image_format="jpg")  # type: ignore[arg-type]
    for stage in stages:
        with monkeypatch.context() as patch:
            cut_short(patch, stage, 3 if stage == "put" else 0)
            with pytest.raises(KeyboardInterrupt):
                explain(model, photos, out, targets="red", explain_config=config)
        assert status(out) == "interrupted"
        assert before <= pictures(out), "until a run is complete, nothing is removed"
        assert not (out / ".staging").exists()
    (photos / "0.png").unlink()
    run = explain(model, photos, out, targets="red", explain_config=config)
    assert run.resumed == (2 if stages == ["put"] else COUNT - 1)
    assert pictures(out) == listed(out)
    assert len(listed(out)) == COUNT - 1


def test_a_run_that_fails_before_it_begins_takes_no_lines_of_another_for_its_own(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the journal of the run before it is to be put aside."""
    out = tmp_path / "out"
    explain(model, photos, out)

    def full(_: Path) -> None:
        raise OutputError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(results, "set_journal_aside", full)
        with pytest.raises(OutputError, match="No space left"):
            explain(model, photos, out, targets="blue")
    run = explain(model, photos, out, targets="blue")
    assert (run.resumed, run.explained) == (0, COUNT)
    assert pictures(out) == listed(out)
    assert all("class_blue" in name for name in listed(out))


def test_an_image_that_takes_long_to_be_read_is_named_once(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A drive hangs under one image, until the log has named it."""
    monkeypatch.setattr(slow_reads, "LONG", 0.05)
    monkeypatch.setattr(slow_reads, "LOOKED_EVERY", 0.01)
    read, named = run_sources.read_for_network, "3.png has been read for "

    def hanging(file: str, *more: Any) -> Any:
        end = time.monotonic() + 20
        while file.endswith("3.png") and named not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
        return read(file, *more)

    monkeypatch.setattr(run_sources, "read_for_network", hanging)
    assert explain(model, photos, tmp_path / "out").explained == COUNT
    assert caplog.text.count(named) == 1


def test_boxes_that_seem_to_be_misread_are_told_once(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = ops.parameter([1, 3, 64, 64], np.float32, name="image")
    nothing = ops.multiply(ops.reduce_mean(image, np.array([1, 2, 3]), False), np.float32(0))
    boxes = ops.add(np.float32([[[0.1, 0.2, 0.5, 0.4, 0.9], [0.5, 0.5, 1, 1, 0.8]]]), nothing)
    labels = ops.convert(ops.add(np.float32([[0, 1]]), nothing), "i64")
    for node, name in ((boxes, "boxes"), (labels, "labels")):
        node.output(0).get_tensor().set_names({name})
    ov.save_model(ov.Model([ops.result(boxes), ops.result(labels)], [image], "shares"), tmp_path / "model.xml")
    told = []
    for name in (None, "labelled_shares"):
        caplog.clear()
        out = tmp_path / str(name)
        explain(tmp_path / "model.xml", photos, out, labels=["a", "b"], format=name, num_masks=4)
        told.append(
            sum("they seem to be shares of it (0 to 1), and were read as pixels" in one for one in caplog.messages)
        )
    assert told == [1, 0]


@pytest.mark.parametrize(("threshold", "told"), [(1.0, True), (0.01, False)])
def test_no_box_in_any_image_is_told(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, threshold: float, told: bool
) -> None:
    ov.save_model(detectors.case("fastestdet").model, tmp_path / "model.xml")
    run = explain(
        tmp_path / "model.xml",
        photos / "0.png",
        tmp_path / "out",
        input=InputOptions(scale=64),
        labels=[str(i) for i in range(detectors.CLASSES)],
        explain_config=ExplainConfig(confidence_threshold=threshold),
    )
    assert run.exit_code == 0
    hint = "No box in any image has a score of 1 or more. Lower --explain_config.confidence_threshold"
    assert (hint in caplog.text) is told
    assert ("No box" in caplog.text) is told
