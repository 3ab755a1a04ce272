"""``otx explain`` as a process of its own: what it prints, its exit codes, and how it dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import classifiers
import cv2
import openvino as ov
import pytest

from otx_xai.cli import main

COUNT = 400
OTX = (sys.executable, "-W", "error", "-m", "otx_xai.cli")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifiers.save_colour_classifier(
        tmp_path_factory.mktemp("model") / "colours.xml", "red green blue deep_purple"
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    picture = classifiers.coloured_image((120, 160))[..., ::-1]
    for i in range(COUNT):
        assert cv2.imwrite(str(folder / f"{i:03}.jpg"), picture)
    return folder


def otx(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OTX, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False)


def names(work_dir: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (work_dir / "predictions.jsonl").read_text().splitlines()]


def check_pictures(work_dir: Path) -> dict[Path, int]:
    """Every picture decodes; return when each was written."""
    ages = {path: path.stat().st_mtime_ns for path in (work_dir / "saliency_map").rglob("*.png")}
    assert all(cv2.imread(str(path)) is not None for path in ages)
    return ages


def test_one_image(model: Path, photos: Path, tmp_path: Path) -> None:
    run = otx(
        "explain", "--checkpoint", model, "--data_root", photos / "000.jpg", "--dump", "True", "--work_dir", tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert "Explained 1 of 1 image in" in run.stdout
    assert "4 labels (model_info/labels)" in run.stderr
    assert "\r" not in run.stderr  # no progress bar where nobody looks
    assert (tmp_path / "saliency_map" / "000_class_red_overlay.png").exists()


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--checkpoint", "absent.xml"], 3, "does not exist"),
        (["--checkpoint", "empty.onnx"], 3, "is empty"),
        (["--checkpoint", "lonely.xml"], 3, "weights of .* are missing"),
        (["--checkpoint", "cut.xml"], 3, "cannot be read|incomplete|broken"),
        (["--checkpoint", "torch.pth"], 3, "is no torch checkpoint"),
        (["--checkpoint", "detector.xml"], 3, "no detector whose outputs are known"),
        (["--checkpoint", "detector.xml", "--task", "detection"], 3, "may be read in 4 ways.*--format"),
        (["--data_root", "absent"], 5, "does not exist"),
        (["--data_root", "."], 5, "holds no image"),
        (["--work_dir", "empty.onnx/below"], 6, "--work_dir"),
        (["--labels", "a,b,c"], 2, "3 names"),
        (["--targets", "violet"], 2, "no class of the model"),
        (["--input.mean", "1,2"], 2, "--input.mean"),
        (["--input.size", "7"], 2, "--input.size"),
        (["--device", "nonsense"], 2, "--device"),
        (["--target_layer", "nonsense"], 4, "--target_layer"),
        (["--explain_method", "drise"], 2, "drise explains no classification"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_one_paragraph(
    model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.onnx").touch()
    Path("torch.pth").write_bytes(b"PK")
    for name, length in (("lonely", None), ("cut", 3000)):
        Path(f"{name}.xml").write_bytes(model.read_bytes()[:length])
    Path("cut.bin").write_bytes(model.with_suffix(".bin").read_bytes())
    _save_detector(Path("detector.xml"))
    options = {"--checkpoint": str(model), "--data_root": str(photos / "000.jpg"), "--work_dir": "out"}
    options |= dict(zip(argv[::2], argv[1::2], strict=True))
    assert main(["explain", *(text for option in options.items() for text in option)]) == code
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("otx: error: ")]
    assert len(messages) == 1
    assert re.search(words, messages[0])
    assert not Path("out").exists()


def _save_detector(path: Path) -> None:
    image = ov.opset13.parameter([1, 3, 32, 32], ov.Type.f32)
    boxes = ov.opset13.reshape(ov.opset13.relu(image), [1, 512, 6], False)
    ov.save_model(ov.Model([boxes], [image]), path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.usefixtures("ctrl_c")
def test_a_run_that_is_ended_leaves_whole_files_and_goes_on(
    model: Path, photos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = ["explain", "--checkpoint", str(model), "--data_root", str(photos), "--dump", "True"]
    command += ["--work_dir", str(tmp_path)]
    with subprocess.Popen([*OTX, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _wait_for_lines(tmp_path / "predictions.jsonl", 10)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, err
        assert "Interrupted" in out
        assert json.loads((tmp_path / "run.json").read_text())["status"] == "interrupted"
        assert names(tmp_path) == [f"{i:03}.jpg" for i in range(len(names(tmp_path)))]
    before = check_pictures(tmp_path)
    journal = (tmp_path / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    lines = [json.loads(line) for line in journal if line.endswith(b"\n")]
    # a kill may fall between a line and its pictures, which are then made anew
    done = [line for line in lines if all((tmp_path / file).is_file() for file in line["files"])]
    assert 10 <= len(lines) < COUNT
    assert len(lines) - 1 <= len(done) <= len(lines)

    run = otx(*command)
    assert run.returncode == 0, run.stderr
    assert f"{len(done)} of them by an earlier run" in run.stdout
    assert names(tmp_path) == [f"{i:03}.jpg" for i in range(COUNT)]
    after = check_pictures(tmp_path)
    assert len(after) == 2 * COUNT
    kept = [tmp_path / file for line in done for file in line["files"]]
    assert [after[path] for path in kept] == [before[path] for path in kept]


def test_a_job_in_the_background_ignores_ctrl_c_and_heeds_sigterm(model: Path, photos: Path, tmp_path: Path) -> None:
    """A shell without job control starts ``otx explain … &`` with SIGINT ignored, which ``trap`` does here."""
    command = ["explain", "--checkpoint", str(model), "--data_root", str(photos), "--dump", "True"]
    deaf = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *OTX, *command, "--work_dir", str(tmp_path)]
    journal = tmp_path / "predictions.jsonl"
    with subprocess.Popen(deaf, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _wait_for_lines(journal, 5)
        os.kill(process.pid, signal.SIGINT)
        _wait_for_lines(journal, 100)
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "interrupted"


def _wait_for_lines(path: Path, count: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    pytest.fail(f"{path} has not got {count} lines")
