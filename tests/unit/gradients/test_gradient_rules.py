"""The table of operations and the rules know each other, and what has no gradient is told by name."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.gradient import add_gradient, gradients, missing_rules
from otx_xai.gradients.rule_table import RULES
from otx_xai.gradients.sweep import find_way
from otx_xai.graph.traits import TRAITS
from otx_xai.openvino_core import core


def scalar(value: float) -> ov.Node:
    return ops.constant(np.float32(value))


def test_every_name_in_the_table_is_a_rule_and_every_rule_has_a_row() -> None:
    named = {own.adjoint for own in TRAITS.values()} - {None, "none"}
    assert named == RULES.keys()


def net() -> tuple[ov.Model, ov.Output, ov.Output]:
    image = ops.parameter([1, 2, 3, 3], np.float32, name="image")
    features = ops.exp(image)
    features.set_friendly_name("features")
    scores = ops.reduce_sum(ops.multiply(features, features), ops.constant(np.array([2, 3])), False)
    return ov.Model([ops.result(scores)], [image]), features.output(0), scores.output(0)


def test_a_copy_of_the_model_gives_gradients_behind_its_outputs() -> None:
    model, features, scores = net()
    edited = add_gradient(model, scores, [features])
    assert [len(side.outputs) for side in (model, edited)] == [1, 2]
    assert edited.outputs[1].get_names() == {"gradient/0"}
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)
    result = core().compile_model(edited, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])
    np.testing.assert_allclose(result[1], 2 * np.exp(x), rtol=1e-5)


def test_operations_without_a_rule_are_named_with_what_they_lie_between() -> None:
    image = ops.parameter([1, 2, 3, 3], np.float32)
    image.set_friendly_name("image")
    odd = ops.acosh(image)
    odd.set_friendly_name("odd")
    end = ops.relu(odd)
    end.set_friendly_name("end")
    assert missing_rules([end.output(0)], [image.output(0)]) == ["Acosh 'odd' has no rule"]
    with pytest.raises(GraphError, match="between 'image' and 'end', Acosh 'odd' has no rule"):
        gradients([(end.output(0), end.output(0))], [image.output(0)])


def test_loops_are_refused_by_name() -> None:
    image = ops.parameter([1, 4], np.float32)
    inside = ops.parameter([1, 4], np.float32)
    loop = ops.tensor_iterator()
    loop.set_function(ov.Model([ops.result(ops.relu(inside))], [inside]))
    loop.set_invariant_input(inside, image.output(0))
    end = loop.get_iter_value(loop.get_function().get_results()[0].output(0), -1)
    assert missing_rules([end], [image.output(0)])[0].startswith("TensorIterator")


def test_what_chooses_and_what_rounds_carries_no_gradient() -> None:
    image = ops.parameter([1, 4], np.float32)
    best = ops.topk(image, ops.constant(np.int64(2)), 1, "max", "value")
    indices = ops.convert(best.output(1), "f32")
    rounded = ops.floor(image)
    end = ops.add(indices, ops.reduce_sum(rounded, ops.constant(np.array([1])), True))
    assert missing_rules([end.output(0)], [image.output(0)]) == []
    with pytest.raises(GraphError, match="no gradient"):
        gradients([(end.output(0), end.output(0))], [image.output(0)])


def test_empty_tensors_carry_no_gradient() -> None:
    """Ultralytics joins the masks of a detector that has none, of shape (n, 0), to its rows."""
    image = ops.parameter([4, 3], np.float32)
    none = ops.relu(ops.slice(image, [0], [0], [1], [1]))
    end = ops.concat([ops.exp(image), none], axis=1)
    assert none.output(0).get_partial_shape() == ov.PartialShape([4, 0])
    way = find_way([end.output(0)], [image.output(0)])
    assert [node.get_type_name() for node in way.nodes] == ["Exp", "Concat"]
    seed = ops.constant(np.ones((4, 3), np.float32)).output(0)
    (found,) = gradients([(end.output(0), seed)], [image.output(0)])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model = ov.Model([ops.result(found)], [image])
    result = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])
    np.testing.assert_allclose(result[0], np.exp(x), rtol=1e-5)


def test_only_what_lies_between_is_asked_for_rules() -> None:
    image = ops.parameter([1, 4], np.float32)
    features = ops.relu(ops.acosh(image))
    end = ops.multiply(features, scalar(2))
    assert missing_rules([end.output(0)], [features.output(0)]) == []


def test_seeds_of_another_rank_are_refused() -> None:
    _, features, scores = net()
    with pytest.raises(GraphError, match="do not fit"):
        gradients([(scores, ops.constant(np.ones(2, np.float32)).output(0))], [features], several=True)


def test_several_outputs_and_several_tensors_at_once() -> None:
    image = ops.parameter([2, 3], np.float32)
    first = ops.sin(image)
    second = ops.exp(first)
    third = ops.multiply(first, first)
    seeds = [ops.constant(np.full((2, 3), value, np.float32)).output(0) for value in (1, 2)]
    found = gradients(
        list(zip((second.output(0), third.output(0)), seeds, strict=True)), [first.output(0), image.output(0)]
    )
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    model = ov.Model([ops.result(value) for value in found], [image])
    result = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])
    inner = np.exp(np.sin(x)) + 4 * np.sin(x)
    np.testing.assert_allclose(result[0], inner, rtol=1e-4)
    np.testing.assert_allclose(result[1], inner * np.cos(x), rtol=1e-4)


def test_square_weights_are_not_mixed_up_with_their_transpose() -> None:
    """The CPU plugin packs weights once for all layers that read them."""
    weights = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    image = ops.parameter([1, 5, 8], np.float32)
    end = ops.matmul(
        ops.tanh(ops.matmul(image, ops.constant(weights), False, True)), ops.constant(weights), False, True
    )
    seed = np.random.default_rng(2).normal(size=(1, 5, 8)).astype(np.float32)
    (value,) = gradients([(end.output(0), ops.constant(seed).output(0))], [image.output(0)])
    x = np.random.default_rng(0).normal(size=(1, 5, 8)).astype(np.float32)
    model = ov.Model([ops.result(value), ops.result(end)], [image])
    result = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])
    slope = 1 - np.tanh(x @ weights.T) ** 2
    np.testing.assert_allclose(result[0], (seed @ weights * slope) @ weights, rtol=1e-4, atol=1e-4)
