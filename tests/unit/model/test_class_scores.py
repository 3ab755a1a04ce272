from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from doors import find_logits
from openvino import opset13 as ops

from otx_xai.errors import ModelError, TaskError


def _constant(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def _fake_quantize(x):
    return ops.fake_quantize(x, np.float32(0), np.float32(1), np.float32(0), np.float32(255), 256)


def _scores(shape=(1, 7), name: str = "scores") -> tuple[ov.Node, ov.Node]:
    """A parameter, and a node that stands for the last layer of a network."""
    image = ops.parameter(list(shape), np.float32)
    return image, ops.multiply(image, ops.constant(np.float32(2)), name=name)


def _model(image: ov.Node, **outputs: ov.Node | ov.Output) -> ov.Model:
    results = []
    for name, output in outputs.items():
        port = output if isinstance(output, ov.Output) else output.output(0)
        port.set_names({name})
        results.append(ops.result(port))
    return ov.Model(results, [image])


@pytest.mark.parametrize(
    ("activation", "found"),
    [(None, None), ("softmax", "softmax"), ("log_softmax", "softmax"), ("sigmoid", "sigmoid")],
)
def test_activations(build_classifier, activation, found):
    logits = find_logits(build_classifier((-1, 3, 8, 12), classes=6, activation=activation))
    assert (logits.activation, logits.num_classes, logits.result_index) == (found, 6, 0)
    assert logits.port.get_node().get_type_name() == "MatMul"


def test_port_gives_the_scores_before_softmax(build_classifier, run):
    model = build_classifier(activation="softmax")
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 12)).astype(np.float32)
    logits = run(ov.Model([find_logits(model).port], model.get_parameters()), image)
    exponents = np.exp(logits - logits.max())
    np.testing.assert_allclose(run(model, image), exponents / exponents.sum(), atol=1e-6)


def test_quantised_chain_as_in_tflite():
    image = ops.parameter([1, 7, 1, 1], np.float32)
    quantised = _fake_quantize(image)
    shaped = ops.transpose(_fake_quantize(ops.reshape(quantised, _constant(1, 7), special_zero=False)), _constant(0, 1))
    output = ops.convert(_fake_quantize(ops.softmax(shaped, 1)), "u8")
    logits = find_logits(_model(image, scores=output))
    assert logits.port == shaped.output(0)
    assert (logits.activation, logits.num_classes) == ("softmax", 7)


def test_quantised_output_without_activation_is_read_before_rounding():
    image, last = _scores()
    logits = find_logits(_model(image, scores=ops.convert(_fake_quantize(last), "u8")))
    assert logits.port == last.output(0)
    assert logits.activation is None


def test_fake_quantize_of_a_real_output_stays():
    image, last = _scores()
    quantised = _fake_quantize(last)
    assert find_logits(_model(image, scores=quantised)).port == quantised.output(0)


@pytest.mark.parametrize("shape", [(1, 7, 1, 1), (1, 1, 1, 7), (-1, 7, 1, 1)])
def test_unit_axes(shape):
    image, last = _scores(shape)
    axis = shape.index(7)
    logits = find_logits(_model(image, scores=ops.softmax(last, axis)))
    assert (logits.activation, logits.num_classes) == ("softmax", 7)
    flat = ops.reshape(ops.softmax(last, axis), _constant(-1, 7), special_zero=False)
    assert find_logits(_model(image, scores=flat)).port == last.output(0)


def test_squeeze_and_unit_transpose_are_copies():
    image, last = _scores((-1, 7, 1, 1))
    moved = ops.transpose(ops.sigmoid(last), _constant(0, 2, 3, 1))
    logits = find_logits(_model(image, scores=ops.squeeze(moved, _constant(1, 2))))
    assert (logits.port, logits.activation) == (last.output(0), "sigmoid")


def test_softmax_over_another_axis_is_no_class_activation():
    image, last = _scores((5, 7))
    softmax = ops.softmax(last, 0)
    logits = find_logits(_model(image, scores=softmax))
    assert (logits.port, logits.activation) == (softmax.output(0), None)


def test_log_of_softmax():
    image, last = _scores()
    logits = find_logits(_model(image, scores=ops.log(ops.softmax(last, 1))))
    assert (logits.port, logits.activation) == (last.output(0), "softmax")


def test_clamp_is_part_of_the_network():
    image, last = _scores()
    clamped = ops.clamp(ops.sigmoid(last), 0.0, 1.0)
    assert find_logits(_model(image, scores=clamped)).port == clamped.output(0)


def test_one_class():
    image, last = _scores((-1, 1))
    logits = find_logits(_model(image, score=ops.sigmoid(last)))
    assert (logits.num_classes, logits.activation) == (1, "sigmoid")


def test_named_logits_are_taken():
    image, last = _scores()
    logits = find_logits(_model(image, other=ops.relu(last), logits=last))
    assert (logits.result_index, logits.port) == (1, last.output(0))


def test_xai_and_index_outputs_are_passed_over():
    image, last = _scores((2, 7))
    best = ops.convert(ops.reduce_max(last, _constant(1), keep_dims=True), "i64")
    logits = find_logits(_model(image, best=best, feature_vector=ops.relu(last), saliency_map=ops.abs(last), x=last))
    assert logits.result_index == 3


def test_raw_scores_and_their_softmax_are_one():
    image, last = _scores()
    logits = find_logits(_model(image, probabilities=ops.softmax(last, 1), raw=last))
    assert (logits.port, logits.result_index, logits.activation) == (last.output(0), 0, "softmax")


def test_several_candidates():
    image, last = _scores()
    with pytest.raises(ModelError, match=r"scores: first \[1,7\], second \[1,7\]\. Expected one: .*--output NAME"):
        find_logits(_model(image, first=last, second=ops.relu(last)))


def test_dynamic_number_of_classes():
    image, last = _scores((1, -1))
    with pytest.raises(ModelError, match="no fixed number of classes"):
        find_logits(_model(image, scores=last))


@pytest.mark.parametrize("shape", [(1, 85, 22, 22), (1, 84, 8400), (1, 21, -1, -1)])
def test_dense_outputs_are_refused(shape):
    image, last = _scores(shape)
    with pytest.raises(TaskError, match=r"no classifier.*expected one output of class scores.*--task detection"):
        find_logits(_model(image, dense=last))


def test_detector_outputs_are_refused():
    image, last = _scores((1, 100))
    boxes = ops.unsqueeze(last, _constant(2))
    with pytest.raises(TaskError, match=r"boxes \[1,100,1\].*holds boxes.*--task detection"):
        find_logits(_model(image, boxes=boxes, labels=ops.convert(last, "i64"), scores=ops.abs(last)))
    rows = ops.unsqueeze(ops.concat([boxes, boxes], 2), _constant(2))
    masks = ops.concat([rows, rows], 2)
    with pytest.raises(TaskError, match="--task instance_segmentation"):
        find_logits(_model(image, boxes=boxes, labels=ops.convert(last, "i64"), masks=masks))


def test_non_maximum_suppression_means_detector():
    image = ops.parameter([1, 6, 4], np.float32)
    scores = ops.reshape(ops.reduce_max(image, _constant(2)), _constant(1, 1, 6), special_zero=False)
    picked = ops.non_max_suppression(image, scores, ops.constant(np.int64(3)), box_encoding="corner")
    with pytest.raises(TaskError, match="holds NonMaxSuppression"):
        find_logits(_model(image, picked=picked.output(1), first=ops.relu(ops.reduce_max(image, _constant(2)))))


def test_nothing_like_class_scores():
    image, last = _scores((7,))
    with pytest.raises(
        TaskError, match=r"outputs are values \[7\]; expected one output of class scores \[N, classes\]"
    ):
        find_logits(_model(image, values=last))
