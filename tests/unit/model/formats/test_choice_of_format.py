"""One format a model: the one that graph or names prove, or that somebody names; other models have none."""

from __future__ import annotations

import re
from collections.abc import Callable

import detectors
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from toy_boxes import Cells, described

from otx_xai.errors import ConfigError
from otx_xai.model.formats.choice import BOX_FORMATS, find_format, unknown_outputs
from otx_xai.records import XAI_OUTPUTS

FAMILIES = {
    "fastestdet": "fastestdet",
    "yolox": "yolo_objectness",
    "yolov5": "yolo_objectness",
    "yolov8": "yolo",
    "classes_first": None,
}
"""What is read in another format than labelled boxes; the last one decodes no boxes."""


@pytest.mark.parametrize("family", detectors.FAMILIES)
def test_families(family: str) -> None:
    found = find_format(described(detectors.case(family).model, size=detectors.SIZE))
    assert (found and found.format.name) == FAMILIES.get(family, "labelled")


def rows(cells: Cells, channels: int) -> ov.Node:
    return cells.rows(cells.layer(channels), channels)


OTHERS: dict[str, Callable[[Cells], list[ov.Node]]] = {
    "classes": lambda cells: [ops.softmax(ops.reduce_mean(cells.layer(9), np.array([2, 3]), False), 1)],
    "two heads": lambda cells: [ops.reduce_mean(cells.layer(size), np.array([2, 3]), False) for size in (4, 9)],
    "segments": lambda cells: [ops.softmax(cells.layer(21, stride=4), 1)],
    "depth": lambda cells: [ops.sigmoid(cells.layer(1, stride=4))],
    "tokens": lambda cells: [rows(cells, 24)],
    "tokens and class": lambda cells: [rows(cells, 24), ops.reduce_mean(rows(cells, 24), np.array([1]), False)],
    "levels": lambda cells: [cells.layer(8, stride=stride) for stride in (8, 16, 32)],
    "joined levels": lambda cells: [ops.concat([ops.relu(cells.layer(size)) for size in (8, 16, 24)], 1)],
    "key points": lambda cells: [ops.sigmoid(cells.layer(17, stride=8))],
    "embedding": lambda cells: [ops.reshape(cells.layer(4), np.array([1, 64]), False)],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_have_none(name: str) -> None:
    cells = Cells()
    outputs = {f"out{number}": output for number, output in enumerate(OTHERS[name](cells))}
    assert find_format(described(cells.model(**outputs))) is None


def test_names_are_unlike_and_meanings_tell() -> None:
    names = [row.name for row in BOX_FORMATS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert all("[" in row.meaning for row in BOX_FORMATS)


def test_an_unknown_name() -> None:
    cells = Cells()
    outputs = described(cells.model(output=cells.logits))
    with pytest.raises(ConfigError, match=r"--format is 'yolo9000'; expected one of .* Did you mean yolo\w*\?"):
        find_format(outputs, "yolo9000")


def test_a_name_that_does_not_fit() -> None:
    cells = Cells()
    outputs = described(cells.model(scores=ops.reduce_mean(cells.logits, np.array([1]), False)))
    for row in BOX_FORMATS:
        with pytest.raises(ConfigError, match=rf"--format is {row.name}: expected .*the model are scores \[1,2\] f32"):
            find_format(outputs, row.name)


def test_the_user_decides_against_the_graph() -> None:
    """A name that the shapes allow is taken."""
    model = detectors.case("yolov8").model
    outputs = described(model, size=detectors.SIZE)
    found = find_format(outputs, " YOLO_objectness ")
    assert found is not None
    assert (found.format.name, found.match.num_classes) == ("yolo_objectness", 4)


def test_outputs_that_nobody_knows() -> None:
    cells = Cells()
    model = cells.model(maps=cells.layer(3), saliency_map=cells.layer(2))
    text = unknown_outputs(described(model, declared=True))
    assert "known format: maps [1,3,4,4] f32. Expected" in text
    assert not any(name in text for name in XAI_OUTPUTS)
    assert all(f"{row.name} (" in text for row in BOX_FORMATS)
    assert "--format" in text
