"""Detectors whose export fixes how many images they take at once."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from doors import prepare
from toy_boxes import GREEN, RED, Cells, picture

from otx_xai import Engine
from otx_xai.errors import ModelError
from otx_xai.model import ModelOptions, open_model

LABELS = ["red", "green"]


def raw(batch: int) -> ov.Model:
    cells = Cells(batch)
    return cells.model(output0=ops.concat([cells.centres(), cells.scores], 2))


def rows_of_all_images(cells: Cells) -> ov.Model:
    """A row for each place of all images: number of the image, box, class, score."""
    best = ops.topk(cells.scores, np.int64(1), 2, "max", "none", "i64")
    number = ops.multiply(best.output(0), np.float32(0))
    rows = ops.concat([number, cells.corners, ops.convert(best.output(1), "f32"), best.output(0)], 2)
    return cells.model(output=ops.reshape(rows, np.array([-1, 7]), False))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The picture, and the same the other way round."""
    folder = tmp_path / "photos"
    folder.mkdir()
    image = picture()[0].transpose(1, 2, 0)[..., ::-1].astype(np.uint8)
    cv2.imwrite(str(folder / "a.png"), image)
    cv2.imwrite(str(folder / "b.png"), image[:, ::-1])
    return folder


def test_three_images_at_once_give_what_each_gives_alone(photos: Path, tmp_path: Path) -> None:
    lines, maps = [], []
    for batch in (1, 3):
        ov.save_model(raw(batch), tmp_path / "model.xml", compress_to_fp16=False)
        out = tmp_path / f"out{batch}"
        Engine(work_dir=out).explain(tmp_path / "model.xml", data_root=photos, labels=LABELS, dump=True)
        journal = (out / "predictions.jsonl").read_text().splitlines()
        lines.append([json.loads(line) for line in journal])
        maps.append([cv2.imread(str(out / name)) for line in lines[-1] for name in line["files"]])
    for alone, together in zip(*lines, strict=True):
        assert together["method"] == "detclassprobabilitymap"
        assert together["predictions"] == alone["predictions"]
        boxes = sorted(tuple(found["box"]) for found in together["predictions"])
        mirrored = sorted((64 - right, top, 64 - left, bottom) for left, top, right, bottom in (RED, GREEN))
        np.testing.assert_allclose(boxes, sorted((RED, GREEN)) if together["name"] == "a.png" else mirrored, atol=0.01)
    assert maps[0]
    for one, other in zip(*maps, strict=True):
        np.testing.assert_array_equal(one, other)


def test_queries_and_rows_are_read_as_those_of_single_images() -> None:
    cells = Cells(2)
    logits = ops.subtract(cells.logits, np.float32(0))
    model = cells.model(logits=logits, pred_boxes=ops.sigmoid(cells.rows(cells.layer(4), 4)))
    opened = open_model(model, ModelOptions(labels=LABELS))
    assert opened.boxes is not None
    assert (opened.boxes.format.name, opened.batch) == ("queries", 2)
    assert "[2,16,4]" in opened.boxes.match.reason


def test_rows_of_all_images_are_asked_of_one_image_where_the_graph_can() -> None:
    cells = Cells(-1)
    model = rows_of_all_images(cells)
    model.reshape([2, 3, 64, 64])
    plan = prepare(model, labels=LABELS)
    assert plan.batch == 1
    assert str(plan.model.inputs[0].get_partial_shape()) == "[1,3,64,64]"
    assert str(model.inputs[0].get_partial_shape()) == "[2,3,64,64]"


def test_rows_of_all_images_of_a_batch_that_is_fixed_inside() -> None:
    with pytest.raises(ModelError, match=r"takes 2 images at once.*output \[32,7\] has no axis.*dynamic batch"):
        open_model(rows_of_all_images(Cells(2)), ModelOptions(labels=LABELS))


def test_scores_that_are_no_row_an_image_are_refused() -> None:
    """The mean is taken over the batch and the width, so that rows are heights."""
    image = ops.parameter([1, 3, 4, 6], np.float32)
    layer = ops.convolution(image, np.ones((5, 3, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    scores = ops.transpose(ops.reduce_mean(layer, np.array([0, 3])), np.array([1, 0]))
    with pytest.raises(
        ModelError, match=r"class scores \[4,5\] for a batch of 1 images; expected one row for each image"
    ):
        open_model(ov.Model([scores], [image]))
