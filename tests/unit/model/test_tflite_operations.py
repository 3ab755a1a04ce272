"""TensorFlow Lite files over which OpenVINO's reader ends the process are refused before it sees them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from tflite_bytes import write_classifier, write_detector

from otx_xai.errors import ModelError
from otx_xai.model.model_files import read_model
from otx_xai.model.tflite_operations import unreadable_tflite

SHAPE = (5, 16, 16, 3)


def saved(path: Path, told: tuple[int, ...] = SHAPE) -> Path:
    """Write a classifier that tells a shape of the weights of its convolution."""
    write_classifier(path, np.ones(SHAPE, np.float32), np.zeros(5, np.float32))
    data = path.read_bytes()
    shape = struct.pack("<5i", 4, *SHAPE)
    assert data.count(shape) == 1
    path.write_bytes(data.replace(shape, struct.pack("<5i", 4, *told)))
    return path


@pytest.mark.parametrize("told", [(5, 16, 16, 0), (5, 16, 16, -16777213), (0, 16, 16, 3)])
def test_weights_without_length_are_refused(tmp_path: Path, told: tuple[int, ...]) -> None:
    file = saved(tmp_path / "model.tflite", told)
    assert unreadable_tflite(file)  # or the reader would end this process
    with pytest.raises(ModelError, match=r"is broken: its weights 'cells/w' have the shape .* of 1 or more"):
        read_model(file)


def test_other_files_are_left_to_the_reader(tmp_path: Path) -> None:
    file = saved(tmp_path / "model.tflite")
    assert unreadable_tflite(file) == ""
    assert read_model(file).outputs
    for size in (0, 9, 100, 700):
        (tmp_path / "cut.tflite").write_bytes(file.read_bytes()[:size])
        assert unreadable_tflite(tmp_path / "cut.tflite") == ""
    assert unreadable_tflite(tmp_path / "absent.tflite") == ""


@pytest.mark.parametrize(
    ("at", "byte", "words"),
    [
        (-1, 5, "its options lead out of it"),  # how wide the offset to the map is
        (-2, 1 << 2, "its options are no map"),
        (-3, 255, "its options lead out of it"),  # the offset itself
        (-16, 5 << 2 | 2, "its option max_detections is no number"),
    ],
)
def test_damaged_options_are_refused(tmp_path: Path, at: int, byte: int, words: str) -> None:
    """Whoever follows their offsets leaves the file."""
    weights = np.zeros((4, 16, 16, 3), np.float32)
    heads = {"boxes": weights, "classes": weights, "anchors": np.ones((16, 4), np.float32)}
    heads |= {f"{name}_bias": np.zeros(4, np.float32) for name in ("boxes", "classes")}
    file = write_detector(tmp_path / "ssd.tflite", heads, {})
    assert read_model(file).outputs
    data = bytearray(file.read_bytes())
    data[data.index(b"\x26\x04", data.index(b"max_detections")) + 2 + at] = byte
    file.write_bytes(data)
    with pytest.raises(ModelError, match=rf"is broken: {words} \(operation TFLite_Detection_PostProcess\)"):
        read_model(file)
