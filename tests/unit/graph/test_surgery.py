from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.graph.surgery import Twin, batch_obstacle, graft
from otx_xai.graph.view import View, kind, port_of
from otx_xai.openvino_core import core


def ints(*values: int) -> ov.op.Constant:
    return ops.constant(np.array(values, np.int64))


def obstacle(step, shape: tuple[int, ...] = (2, 6, 4)) -> str | None:
    start = ops.parameter(list(shape), np.float32)
    relu = ops.relu(start)
    model = ov.Model([step(relu)], [start])
    return batch_obstacle(View(model), [relu.output(0)], [model.get_results()[0].input_value(0)])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (ops.tanh, None),
        (lambda x: ops.reshape(x, ints(2, 24), False), None),
        (lambda x: ops.reshape(x, ints(2, 24, 1), False), None),
        (lambda x: ops.reshape(x, ints(12, 4), False), "merges the batch axis"),
        (lambda x: ops.reshape(x, ints(-1), False), "merges the batch axis"),
        (lambda x: ops.unsqueeze(x, ints(1)), None),
        (lambda x: ops.unsqueeze(x, ints(0)), "touches the batch axis"),
        (lambda x: ops.squeeze(ops.reduce_mean(x, ints(1), True), ints(1)), None),
        (lambda x: ops.concat([x, x], 1), None),
        (lambda x: ops.concat([ops.constant(np.ones((2, 1, 4), np.float32)), x], 1), "joins a tensor"),
    ],
)
def test_obstacles_to_a_growing_batch(step, reason: str | None):
    found = obstacle(step)
    assert found is None if reason is None else found is not None and reason in found


def test_a_batch_of_one_is_no_exception():
    found = obstacle(lambda x: ops.squeeze(ops.reduce_mean(x, ints(1), False), ints(0)), (1, 6, 4))
    assert found is not None
    assert "touches the batch axis" in found


def test_shapes_that_the_part_asks_of_itself_follow_the_copy():
    """A reshape by the shape of a tensor of the part, with two dynamic axes."""
    image = ops.parameter([-1, 3, -1], np.float32)
    start = ops.relu(image)
    inner = ops.tanh(start)
    batch = ops.gather(ops.shape_of(inner), ints(0), ops.constant(np.int64(0)))
    length = ops.gather(ops.shape_of(start), ints(2), ops.constant(np.int64(0)))
    end = ops.reshape(inner, ops.concat([batch, length, ints(3)], 0), False)
    model = ov.Model([end], [image])
    view = View(model)
    assert batch_obstacle(view, [start.output(0)], [end.output(0)]) is None

    other = ops.parameter([5, 3, 7], np.float32)
    starts = {port_of(start.output(0)): other.output(0)}
    (copy,) = graft(view, starts, [end.output(0)], outside=pytest.fail, prefix="x", free_batch=True)
    copied = core().compile_model(ov.Model([copy], [other]), "CPU")
    assert copied(np.zeros((5, 3, 7), np.float32))[0].shape == (5, 7, 3)


def test_sizes_from_outside_are_an_obstacle():
    image = ops.parameter([-1, 3, -1], np.float32)
    start = ops.relu(image)
    sizes = ops.gather(ops.shape_of(image), ints(0, 2, 1), ops.constant(np.int64(0)))
    end = ops.reshape(start, sizes, False)
    view = View(ov.Model([end], [image]))
    assert "dynamic axes beside the batch" in (batch_obstacle(view, [start.output(0)], [end.output(0)]) or "")


def test_copies_leave_quantisers_of_activations_out_and_the_model_alone():
    image = ops.parameter([1, 3], np.float32)
    low, high = (ops.constant(np.float32(number)) for number in (0, 1))
    start = ops.relu(image)
    end = ops.exp(ops.fake_quantize(start, low, high, low, high, 256))
    model = ov.Model([end], [image])
    view = View(model)
    twin = Twin(view)
    (copy,) = graft(
        view,
        {port_of(start.output(0)): twin.output(start.output(0))},
        [end.output(0)],
        outside=twin.output,
        prefix="xai/test",
        free_batch=False,
    )
    assert kind(copy.get_node().input_value(0).get_node()) == "Relu"
    assert copy.get_node().get_friendly_name() == f"xai/test/{end.get_friendly_name()}"
    assert [kind(node) for node in model.get_ordered_ops()].count("Exp") == 1
    assert [kind(node) for node in twin.model.get_ordered_ops()].count("Exp") == 1


@pytest.mark.parametrize(("channels_last", "stays"), [((6, 1, 1), False), ((6, 3, 3), True)])
def test_pointwise_convolutions_of_single_places_become_products(channels_last: tuple[int, ...], stays: bool) -> None:
    random = np.random.default_rng(0)
    image = ops.parameter([1, *channels_last], np.float32)
    start = ops.relu(image)
    weights = ops.constant(random.normal(size=(4, 6, 1, 1)).astype(np.float32))
    end = ops.tanh(ops.convolution(start, weights, [1, 1], [0, 0], [0, 0], [1, 1]))
    view = View(ov.Model([end], [image]))
    rows = ops.parameter([5, *channels_last], np.float32)
    (copy,) = graft(
        view,
        {port_of(start.output(0)): rows.output(0)},
        [end.output(0)],
        outside=lambda output: output,
        prefix="copy",
        free_batch=True,
    )
    grafted = ov.Model([copy], [rows])
    assert any(kind(node) == "Convolution" for node in grafted.get_ops()) is stays
    data = random.normal(size=(5, *channels_last)).astype(np.float32)
    expected = np.tanh(np.einsum("nchw,kc->nkhw", data, weights.data[..., 0, 0]))
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    np.testing.assert_allclose(core().compile_model(grafted, "CPU", config)(data)[0], expected, atol=1e-5)
