from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.graph.view import View, constant_ints, constant_value, dimensions, kind


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


@pytest.fixture
def diamond() -> ov.Model:
    """image → a → (b, c) → d → (e → f, and back to d's sum) → end."""
    image = named(ops.parameter([1, 4], np.float32), "image")
    a = named(ops.relu(image), "a")
    b, c = named(ops.tanh(a), "b"), named(ops.sigmoid(a), "c")
    d = named(ops.add(b, c), "d")
    e = named(ops.abs(d), "e")
    f = named(ops.add(e, d), "f")
    end = named(ops.exp(f), "end")
    return ov.Model([end], [image])


def output_of(view: View, name: str) -> ov.Output:
    return view.by_layer_name[name]


def friendly(view: View, names: set[str]) -> set[str]:
    return {node.get_friendly_name() for node in view.ordered(names)}


def test_cuts_are_what_every_path_runs_through(diamond: ov.Model):
    view = View(diamond)
    cuts = [output.get_node().get_friendly_name() for output in view.cuts(output_of(view, "end"))]
    assert cuts == ["end", "f", "d", "a", "image"]
    cuts = [
        output.get_node().get_friendly_name() for output in view.cuts(output_of(view, "f"), start=output_of(view, "a"))
    ]
    assert cuts == ["f", "d", "a"]


def test_cuts_equal_removing_one_node_at_a_time():
    """On random graphs: a cut is a node without which the end is not reached from the image."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = ops.parameter([1, 4], np.float32)
        nodes: list[ov.Node] = [image]
        edges: dict[int, list[int]] = {}
        for i in range(1, 12):
            sources = sorted({int(rng.integers(max(0, i - 3), i)) for _ in range(rng.integers(1, 3))})
            edges[i] = sources
            nodes.append(ops.relu(nodes[sources[0]]) if len(sources) == 1 else ops.add(*(nodes[j] for j in sources)))
        view = View(ov.Model([nodes[-1]], [image]))

        def reaches(i: int, gone: int, edges: dict[int, list[int]] = edges) -> bool:
            return i != gone and (i == 0 or any(reaches(j, gone, edges) for j in edges[i]))

        expected = {nodes[gone].get_name() for gone in range(12) if not reaches(11, gone)}
        assert {output.get_node().get_name() for output in view.cuts(nodes[-1].output(0))} == expected


def test_what_lies_between(diamond: ov.Model):
    view = View(diamond)
    between = view.between([output_of(view, "a")], [output_of(view, "d")])
    assert friendly(view, between) == {"b", "c", "d"}
    assert friendly(view, view.ancestors([output_of(view, "c")])) == {"image", "a", "c"}
    assert friendly(view, view.descendants([output_of(view, "e")])) - {"f", "end"} <= {
        node.get_friendly_name() for node in diamond.get_results()
    }


def test_shapes_are_no_image_content():
    image = ops.parameter([-1, 4], np.float32)
    shape = ops.shape_of(image)
    noise = ops.broadcast(ops.constant(np.float32(1)), shape)
    view = View(ov.Model([ops.add(ops.relu(image), noise)], [image]))
    assert not view.is_data(shape.output(0))
    assert not view.is_data(noise.output(0))
    assert noise.get_name() not in view.constant
    assert len(view.cuts(view.model.get_results()[0].input_value(0))) == 3


def test_layers_have_node_and_tensor_names():
    image = ops.parameter([1, 4], np.float32, name="image")
    node = named(ops.relu(image), "layer")
    node.output(0).set_names({"tensor", "alias"})
    view = View(ov.Model([node], [image]))
    assert [kind(view.by_layer_name[name].get_node()) for name in ("layer", "tensor", "alias")] == ["Relu"] * 3


def test_dimensions():
    assert dimensions(ops.parameter([-1, 3], np.float32).output(0)) == [None, 3]
    assert dimensions(ops.parameter(ov.PartialShape.dynamic(), np.float32).output(0)) is None


def test_values_that_no_input_changes():
    start, stop, step = (ops.constant(np.int64(number)) for number in (1, 7, 2))
    assert constant_ints(ops.range(start, stop, step, "i64").output(0)) == [1, 3, 5]
    assert constant_ints(ops.convert(ops.constant(np.array([4, 5], np.int32)), "i64").output(0)) == [4, 5]
    image = ops.parameter([2, 4], np.int64)
    assert constant_ints(image.output(0)) is None
    assert constant_ints(ops.add(image, ops.constant(np.int64(1))).output(0)) is None


def test_weights_are_not_computed():
    weights = ops.constant(np.ones((100, 100), np.float32))
    assert constant_value(ops.multiply(weights, weights).output(0)) is None
    assert constant_value(weights.output(0)).shape == (100, 100)


def test_outputs_that_somebody_added_are_left_out() -> None:
    image = ops.parameter([1, 3], np.float32)
    results = []
    for name, node in (("own", ops.relu(image)), ("added", ops.abs(image))):
        node.output(0).set_names({name})
        results.append(ops.result(node))
    model = ov.Model(results, [image])
    assert [kind(output.get_node()) for output in View(model).outputs] == ["Relu", "Abs"]
    assert [kind(output.get_node()) for output in View(model, {"added", "other"}).outputs] == ["Relu"]


def test_numbers_computed_from_known_sizes_are_constant() -> None:
    image = ops.parameter([1, 3, 6, 8])
    sizes = ops.gather(ops.shape_of(image), ops.constant([2, 3]), ops.constant(0))
    assert constant_ints(ops.multiply(sizes, ops.constant(np.array([2, 1]))).output(0)) == [12, 8]
    open_sizes = ops.shape_of(ops.parameter([-1, 3, 6, 8]))
    assert constant_ints(ops.multiply(open_sizes, ops.constant(np.array([2]))).output(0)) is None
