"""Metadata of TensorFlow Lite, in files whose bytes are laid out here."""

from __future__ import annotations

import io
import json
import logging
import struct
import zipfile

import openvino as ov
import pytest
from tflite_bytes import flatbuffer

from otx_xai.neighbours import read_hints
from otx_xai.neighbours.flatbuffer import Damaged, child, children, content, floats, integer, root, text
from otx_xai.records import ResizeType, Task

NO_MODEL = ov.Model([], [], "empty")


def tflite(path, metadata=None, files=None):
    """A file with metadata and appended files, without a graph: only the reader of metadata opens it."""
    value = {0: 3, 4: [{}, {0: b"weights"}]}
    if metadata is not None:
        value[4].append({0: metadata if isinstance(metadata, bytes) else flatbuffer(b"M001", metadata)})
        value[6] = [{0: "min_runtime_version", 1: 1}, {0: "TFLITE_METADATA", 1: 2}]
    archive = io.BytesIO()
    if files:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content_ in files.items():
                zipped.writestr(name, content_)
    path.write_bytes(flatbuffer(b"TFL3", value) + archive.getvalue())
    return path


def metadata_of(mean, std, label_file="labels.txt", kind=2):
    inputs = [{0: "image", 4: [{0: 2, 1: {0: 1}}, {0: 1, 1: {0: mean, 1: std}}]}]
    german = {0: "german.txt", 2: kind, 3: "de"}
    outputs = [{0: "probability", 6: [{0: "readme.txt", 2: 1}, german, {0: label_file, 2: kind}]}]
    return {0: "net", 3: [{2: inputs, 3: outputs}]}


def test_the_reader_of_buffers():
    value = {0: "täxt", 1: 7, 3: [{0: "a"}, {}, {2: [0.5, -2.0]}], 4: {0: b"\1\2"}, 5: 255}
    table = root(flatbuffer(b"TEST", value), b"TEST")
    assert (text(table, 0), integer(table, 1), integer(table, 5, "<B")) == ("täxt", 7, 255)
    assert (text(table, 2), integer(table, 9), child(table, 9), children(table, 2), floats(table, 9)) == (
        "",
        0,
        None,
        [],
        (),
    )
    first, second, third = children(table, 3)
    assert (text(first, 0), text(second, 0), floats(third, 2)) == ("a", "", (0.5, -2.0))
    assert content(child(table, 4), 0) == b"\1\2"
    with pytest.raises(Damaged, match="its mark is b'TEST'"):
        root(flatbuffer(b"TEST", value), b"M001")


@pytest.mark.parametrize("kind", [2, 3])
def test_labels_and_normalisation(tmp_path, kind):
    files = {"german.txt": "Katze\nHund", "labels.txt": "cat\ndog, small\r\ncow\n\n", "readme.txt": "x"}
    path = tflite(tmp_path / "m.tflite", metadata_of([127.5], [127.5], kind=kind), files)
    hints = read_hints(path, NO_MODEL)
    assert (hints.mean, hints.scale, hints.labels) == ((127.5,), (127.5,), ("cat", "dog, small", "cow"))
    assert (hints.source, hints.sources["labels"], hints.files) == (
        "TFLite metadata",
        "labels.txt in the TFLite file",
        (),
    )


def test_outputs_with_names_of_their_own_are_told(tmp_path, caplog):
    heads = [{0: name, 6: [{0: f"{name}.txt", 2: 2}]} for name in ("age", "colour")]
    files = {"age.txt": "young\nold", "colour.txt": "red\nblue"}
    hints = read_hints(tflite(tmp_path / "m.tflite", {0: "net", 3: [{2: [{0: "image"}], 3: heads}]}, files), NO_MODEL)
    assert hints.labels == ("young", "old")
    assert "names of their own (age.txt, colour.txt): those of the first count. Pass --labels" in caplog.text


def test_labels_without_metadata(tmp_path):
    hints = read_hints(tflite(tmp_path / "m.TFLITE", files={"labelmap.txt": "a\nb\n"}), NO_MODEL)
    assert (hints.labels, hints.mean) == (("a", "b"), None)


def test_a_file_without_both_says_nothing(tmp_path):
    assert read_hints(tflite(tmp_path / "m.tflite"), NO_MODEL).source == ""
    assert read_hints(tflite(tmp_path / "m.tflite", {3: []}, {"x.txt": "y"}), NO_MODEL).labels is None


@pytest.mark.parametrize("written", ["json", "python"])
def test_ultralytics(tmp_path, written):
    metadata = {
        "author": "Ultralytics",
        "names": {0: "cat", 1: "dog"},
        "stride": 32,
        "task": "detect",
        "imgsz": [64, 64],
    }
    content_ = {"json": {"metadata.json": json.dumps(metadata)}, "python": {"temp_meta.txt": str(metadata)}}[written]
    hints = read_hints(tflite(tmp_path / "m.tflite", files=content_), NO_MODEL)
    assert (hints.labels, hints.scale, hints.task) == (("cat", "dog"), (255.0,), Task.DETECTION)
    assert hints.resize_type is ResizeType.FIT_TO_WINDOW_LETTERBOX
    assert (hints.source, hints.said["normalized_boxes"]) == ("TFLite metadata (Ultralytics)", "True")


def test_damaged_metadata_is_told(tmp_path, caplog):
    whole = flatbuffer(b"M001", metadata_of([127.5], [127.5]))
    files = {"labels.txt": "cat\ndog"}
    told = 0
    for place in range(0, len(whole) - 4, 4):
        damaged = bytearray(whole)
        struct.pack_into("<I", damaged, place, 0x7FFFFFF0)
        caplog.clear()
        hints = read_hints(tflite(tmp_path / "m.tflite", bytes(damaged), files), NO_MODEL)
        assert hints.labels in (("cat", "dog"), None)
        assert hints.mean is not None or hints.labels is not None
        told += any("is damaged" in record.message for record in caplog.records)
    assert told > 10
    for length in (0, 3, 7, 12, len(whole) // 2):
        caplog.clear()
        assert read_hints(tflite(tmp_path / "m.tflite", whole[:length], files), NO_MODEL).labels == ("cat", "dog")
        assert "normalisation in it, if any, does not count" in caplog.text


def test_damaged_archives_are_told(tmp_path, caplog):
    path = tflite(tmp_path / "m.tflite", files={"labels.txt": "cat\n" * 500})
    whole = path.read_bytes()
    place = whole.index(b"labels.txt") + len("labels.txt")
    path.write_bytes(whole[: place + 2] + b"\xff" * 8 + whole[place + 10 :])
    with caplog.at_level(logging.WARNING):
        assert read_hints(path, NO_MODEL).labels is None
    assert "m.tflite cannot be read" in caplog.text
    path.write_bytes(whole[:-10])
    assert read_hints(path, NO_MODEL).labels is None


def test_labels_of_other_encodings_and_huge_files_are_told(tmp_path, caplog):
    path = tflite(tmp_path / "m.tflite", files={"labels.txt": b"D\xe4ne", "big.txt": bytes(5_000_000)})
    assert read_hints(path, NO_MODEL).labels is None
    assert "labels.txt inside" in caplog.text
    assert "big.txt inside" in caplog.text
