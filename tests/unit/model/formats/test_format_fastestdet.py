"""FastestDet's map is told from other maps by its parts, and read as its authors read it."""

from __future__ import annotations

import detectors
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from reference import fastestdet_boxes
from toy_boxes import Cells, described

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_detections, read_proposals
from otx_xai.model.formats.choice import find_format
from otx_xai.records import InputGeometry

SIZE = (160, 224)
GEOMETRY = InputGeometry(SIZE)


def found() -> Found:
    result = find_format(described(detectors.case("fastestdet").model, size=detectors.SIZE))
    assert result is not None
    assert (result.format.name, result.match.sure, result.match.num_classes) == ("fastestdet", True, detectors.CLASSES)
    return result


def test_as_its_authors_read_it() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(10, 5, 7)).astype(np.float32)
    raw[0], raw[5:] = rng.uniform(size=(5, 7)), rng.dirichlet([0.3] * 5, (5, 7)).transpose(2, 0, 1)
    expected = fastestdet_boxes(raw, (300, 400), threshold=0.4)
    name = found().match.roles["predictions"]
    seen = read_detections({name: raw[None]}, found(), (300, 400), GEOMETRY, threshold=0.4, iou_threshold=1.0)
    np.testing.assert_allclose(seen.scores, [item[0] for item in expected], rtol=1e-5)
    assert seen.labels.tolist() == [item[1] for item in expected]
    np.testing.assert_allclose(seen.boxes, [item[2] for item in expected], rtol=1e-4, atol=1e-3)
    proposals = read_proposals({name: raw[None]}, found(), SIZE, 5, threshold=0.5)
    np.testing.assert_array_equal(proposals.objectness, raw[0][raw[0] >= 0.5])
    np.testing.assert_array_equal(proposals.classes, raw[5:, raw[0] >= 0.5].T)


def test_arrays_of_something_else() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(1, 10, 8, 8)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    name = found().match.roles["predictions"]
    for output, reason in ((logits, "objectness is from -"), (softmax, "class scores add up to 0.*expected 1")):
        with pytest.raises(ModelError, match=rf"{reason}.*postprocess_fn"):
            read_detections({name: output}, found(), SIZE, GEOMETRY)


def other(maps: ov.Node, cells: Cells) -> ov.Model:
    return cells.model(maps=maps)


def test_other_maps_are_none() -> None:
    cells = Cells()
    for maps in (
        cells.layer(10),
        ops.softmax(cells.layer(10), 1),
        ops.concat([ops.relu(cells.layer(count)) for count in (1, 4, 5)], 1),
    ):
        assert find_format(described(other(maps, cells))) is None
    blind = other(ops.softmax(cells.layer(10), 1), cells)
    named = find_format(described(blind, num_names=5, declared=True))
    assert named is not None
    assert named.format.name == "fastestdet"
