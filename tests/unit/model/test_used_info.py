"""A model that is saved says of itself what was said of it: opened alone, it is read as in the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import toy_boxes
from classifiers import colour_classifier
from openvino import opset13 as ops

from otx_xai.errors import ModelError
from otx_xai.graph.rt_info import written
from otx_xai.model import ModelOptions, open_model
from otx_xai.model.used_info import tell_of_use
from otx_xai.records import InputOptions, Interpolation, ModelFacts, ResizeType, Task


def yolo() -> ov.Model:
    cells = toy_boxes.Cells()
    rows = ops.concat([cells.centres(), cells.scores], 2)
    return cells.model(output0=ops.transpose(rows, np.array([0, 2, 1])))


def queries() -> ov.Model:
    """Logits of which nothing tells whether the last class is for nothing."""
    cells = toy_boxes.Cells()
    nothing = ops.constant(np.full((1, toy_boxes.CELLS, 1), -8, np.float32))
    return cells.model(logits=ops.concat([cells.logits, nothing], 2), pred_boxes=cells.centres(64))


FED = InputOptions(
    mean="123.675,116.28,103.53", scale="58.395,57.12,57.375", reverse_input_channels=True, interpolation="bicubic"
)
CASES = {
    "named": (colour_classifier, ModelOptions(labels="a cat,b,c,d")),
    "fed": (colour_classifier, ModelOptions(input=FED)),
    "fitted": (colour_classifier, ModelOptions(input=InputOptions(scale=255, resize_type="crop", crop=0.875))),
    "padded": (colour_classifier, ModelOptions(input=InputOptions(resize_type="fit_to_window", pad_value=114))),
    "many": (colour_classifier, ModelOptions(task=Task.MULTI_LABEL_CLS, labels="a,b,c,d")),
    "right": (colour_classifier, ModelOptions(input=InputOptions(scale=1))),
    "boxes": (yolo, ModelOptions(labels="red,green", confidence_threshold=0.31, input=InputOptions(scale=255))),
    "format": (queries, ModelOptions(format="queries", labels="a,b,c")),
    "softmax": (queries, ModelOptions(format="queries_softmax", labels="a,b")),
}


def told(model: ov.Model, options: ModelOptions) -> tuple[ModelFacts, ov.Model]:
    """Return the facts of a model with all that is said of it, and a copy that says it itself."""
    facts, copy = open_model(model, options).facts, model.clone()
    tell_of_use(copy, facts, options.format)
    return facts, copy


@pytest.mark.parametrize("name", CASES)
def test_what_was_said_is_read_off_the_model_alone(name: str, tmp_path: Path) -> None:
    build, options = CASES[name]
    facts, copy = told(build(), options)
    ov.save_model(copy, tmp_path / "saved.xml", compress_to_fp16=False)
    again = open_model(tmp_path / "saved.xml", ModelOptions()).facts
    assert replace(again, sources={}) == replace(facts, sources={})
    assert (
        replace(open_model(build(), ModelOptions(format=options.format, task=options.task)).facts, sources={}) != facts
    )


def test_options_outrank_what_the_model_said_before() -> None:
    model = colour_classifier(
        model_info={"mean_values": "1 2 3", "scale_values": "2", "labels": "p q r s", "crop": "0.9"}
    )
    options = ModelOptions(
        labels="a,b,c,d", input=InputOptions(mean=7, resize_type=ResizeType.CROP, interpolation=Interpolation.BOX)
    )
    facts, copy = told(model, options)
    again = open_model(copy).facts
    assert again.mean == (7, 7, 7)
    assert replace(again, sources={}) == replace(facts, sources={})
    assert written(copy, "model_info", "scale_values") == "2"  # it means the same, and stays as it is written


def test_what_nobody_knows_is_not_made_up() -> None:
    _, copy = told(colour_classifier(), ModelOptions())
    info = written(copy, "model_info")
    assert not {"mean_values", "scale_values", "labels", "label_info", "confidence_threshold", "crop"} & info.keys()
    assert "nobody" not in open_model(copy).facts.sources["normalisation"]
    assert not open_model(copy).facts.normalisation_known


def test_a_format_that_nobody_knows_in_a_model() -> None:
    model = yolo()
    model.set_rt_info("yolo9000", ["model_info", "box_format"])
    with pytest.raises(ModelError, match=r"model_info/box_format .*'yolo9000'; expected one of .*yolo.*--format"):
        open_model(model)
