"""Where maps are laid over an image, when the network's places do not divide its input evenly."""

from __future__ import annotations

import classifiers
import detectors
import numpy as np
import openvino as ov
import pytest
from doors import prepare
from openvino import opset13 as ops

from otx_xai.explain import Explainer, insert_xai
from otx_xai.explain.look import Canvas, Look, show
from otx_xai.explain.plan import EMBEDDED
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import InputGeometry, MapGrid, Method, ResizeType, Task

SIZE = (64, 96)
GRID = MapGrid((0.5, 0.5), (8, 8))
"""Of a padded 3×3 kernel with stride 8: half a cell further up and left than an even grid."""


@pytest.fixture(scope="module")
def model() -> ov.Model:
    image = ops.parameter([1, 3, *SIZE], np.float32)
    mix = np.tile((1.5 * np.eye(3) - 0.5)[:, :, None, None], (1, 1, 3, 3)).astype(np.float32) / 9
    features = ops.relu(ops.convolution(image, mix, [8, 8], [1, 1], [1, 1], [1, 1]))
    logits = ops.matmul(ops.reduce_mean(features, np.array([2, 3])), np.eye(3, dtype=np.float32) / 9, False, False)
    model = ov.Model([logits], [image])
    for key, value in {"task_type": "classification", "labels": "red green blue"}.items():
        model.set_rt_info(value, ["model_info", key])
    return model


@pytest.mark.parametrize("method", [None, Method.ACTIVATIONMAP])
def test_prepared_models_know_their_grid(model: ov.Model, method: Method | None):
    assert prepare(model, method=method, targets=-1).grid == GRID
    assert prepare(classifiers.colour_classifier(), targets=-1).grid == MapGrid((4, 4), (8, 8))


def test_maps_of_the_model_itself_have_none(model: ov.Model):
    prepared = prepare(insert_xai(model), targets=-1)
    assert (prepared.method, prepared.grid) == (EMBEDDED, None)


def test_a_map_lies_where_the_network_looks(model: ov.Model):
    """A dot that one place sees: its map has its peak there, whoever fitted the image in."""
    dot = np.full((*SIZE, 3), 100, np.uint8)
    dot[39:42, 63:66] = (255, 0, 0)  # around the pixel (40, 64), the eighth of a cell that the network looks at
    look = {"colormap": False, "targets": 0}
    shown = Explainer(model)(dot, **look).saliency_map[0]
    (rows, columns) = np.nonzero(shown == shown.max())
    assert (rows.mean(), columns.mean()) == (40, 64)
    fed = dot.transpose(2, 0, 1)[None].astype(np.float32)
    np.testing.assert_array_equal(Explainer(model)(fed, **look).saliency_map[0], shown)
    large = dot.repeat(2, axis=0).repeat(2, axis=1)
    shown = Explainer(model, preprocess_fn=lambda x: fed)(large, **look).saliency_map[0]
    (rows, columns) = np.nonzero(shown == shown.max())
    assert shown.shape == (128, 192)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (81, 129)  # the same place, in a picture twice as large


@pytest.mark.parametrize("resize_type", ResizeType)
@pytest.mark.parametrize("size", [(30, 50), (70, 40)])
def test_shown_as_it_lies_in_the_input(resize_type: ResizeType, size: tuple[int, int]):
    maps = np.random.default_rng(0).random((1, 8, 12), np.float32)
    geometry, grid = InputGeometry(SIZE, resize_type), MapGrid((0.5, 2.0), (8, 7))
    canvas = Canvas(np.zeros((*size, 3), np.uint8), size, geometry, grid)
    (shown,) = show(maps, canvas, Look(colormap=False))
    np.testing.assert_array_equal(shown, to_uint8(to_image(maps, size, geometry, grid=grid))[0])
    (even,) = show(maps, Canvas(canvas.picture, size, geometry), Look(colormap=False))
    assert np.abs(shown.astype(int) - even).max() > 20


def test_detectors():
    """Places of detectors answer for even cells, as the network was trained, whatever they look at."""
    detector = detectors.convert(detectors.build("classes_first"), detectors.images(1))
    for method in (None, Method.ACTIVATIONMAP):
        prepared = prepare(detector, task=Task.DETECTION, labels="a,b,c,d,e", method=method, targets=-1)
        assert prepared.grid is None
