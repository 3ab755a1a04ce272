from __future__ import annotations

from itertools import product

import numpy as np
import openvino as ov
import pytest
from doors import describe, effective_batch, fixed
from openvino import opset13 as ops

from otx_xai.errors import ModelError
from otx_xai.model import embed_preprocessing, preprocessing
from otx_xai.model.preprocessing import fix_shapes
from otx_xai.records import InputOptions

MEAN = np.array([123.7, 116.3, 103.5], np.float32)
SCALE = np.array([58.4, 57.1, 57.4], np.float32)


def _images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _kinds(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]


def _hard_coded_batch(size: int = 8) -> ov.Model:
    """Takes any batch by its input, yet flattens to one row, as exported vision transformers do."""
    image = ops.parameter([-1, 3, -1, -1], np.float32, name="image")
    kernel = ops.constant(np.ones((4, 3, size, size), np.float32))
    features = ops.convolution(image, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([ops.reshape(features, ops.constant(np.array([1, 4])), special_zero=False)], [image])


@pytest.mark.parametrize(
    ("shape", "layout", "batch"),
    [
        ((-1, 3, 8, 12), "NCHW", None),
        ((-1, -1, -1, 3), "NHWC", None),
        ((2, 3, 8, 12), "NCHW", 2),
        ((5, 3, -1, -1), "NCHW", 5),
        ((3, 8, 12, 6), "CHWN", 6),
    ],
)
def test_effective_batch(build_classifier, shape, layout, batch):
    assert effective_batch(build_classifier(shape, layout=layout)) == batch


def test_effective_batch_of_fixed_logits():
    assert effective_batch(_hard_coded_batch()) == 1


@pytest.mark.parametrize(
    ("shape", "layout", "batch", "expected"),
    [
        ((-1, 3, -1, -1), "NCHW", 4, [4, 3, 16, 20]),
        ((-1, -1, -1, 3), "NHWC", 4, [4, 16, 20, 3]),
        ((-1, 3, -1, -1), "NCHW", None, [-1, 3, 16, 20]),
        ((2, 3, -1, -1), "NCHW", 4, [2, 3, 16, 20]),
        ((-1, 3, 16, 20), "NCHW", 4, [4, 3, 16, 20]),
        ((2, 3, 16, 20), "NCHW", 4, [2, 3, 16, 20]),
    ],
)
def test_fix_shapes(build_classifier, shape, layout, batch, expected):
    model = build_classifier(shape, layout=layout, model_info={"labels": "a b c d"})
    made = fix_shapes(model, layout, (16, 20), batch)
    assert made.inputs[0].partial_shape == ov.PartialShape(expected)
    assert made.outputs[0].partial_shape == ov.PartialShape([expected[0], 4])
    assert made.inputs[0].get_names() == {"image"}
    assert made.outputs[0].get_names() == {"logits"}
    assert made.get_rt_info(["model_info", "labels"]).value == "a b c d"
    assert model.inputs[0].partial_shape == ov.PartialShape(list(shape))


def test_fix_shapes_keeps_the_batch_of_fixed_logits():
    model = _hard_coded_batch()
    assert fixed(model, 4, InputOptions(size=8)).inputs[0].partial_shape == ov.PartialShape([1, 3, 8, 8])


def test_fix_shapes_refuses_a_size_that_the_graph_cannot_take():
    model = _hard_coded_batch()
    with pytest.raises(ModelError, match=r"cannot take an input \[1,3,9,9\] \(NCHW\): .*--input\.size"):
        fixed(model, 4, InputOptions(size=9))


def test_fix_shapes_refuses_a_graph_that_mixes_images():
    image = ops.parameter([-1, 3, 8, 8], np.float32)
    kernel = ops.constant(np.ones((4, 3, 8, 8), np.float32))
    features = ops.convolution(image, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([ops.reshape(features, ops.constant(np.array([-1, 8])), special_zero=False)], [image])
    with pytest.raises(ModelError, match=r"class scores \[2,8\] for a batch of 4 images"):
        fixed(model, 4)


@pytest.mark.parametrize(
    ("layout", "mean", "scale", "reverse"),
    list(product(["NCHW", "NHWC", "NWHC"], [None, MEAN, 127.5], [None, SCALE, 127.5], [False, True])),
)
def test_embedded_preprocessing_equals_numpy(build_classifier, run, layout, mean, scale, reverse):
    sizes = {"N": 2, "C": 3, "H": 8, "W": 12}
    model = build_classifier([sizes[axis] for axis in layout], layout=layout)
    as_option = [list(map(float, value)) if isinstance(value, np.ndarray) else value for value in (mean, scale)]
    options = InputOptions(mean=as_option[0], scale=as_option[1], reverse_input_channels=reverse)
    embedded = embed_preprocessing(model, describe(model, options=options))
    images = _images(2, 8, 12, 3)

    x = images[..., ::-1] if reverse else images
    x = (x.astype(np.float32) - (0 if mean is None else mean)) / (1 if scale is None else scale)
    x = np.ascontiguousarray(x.transpose(["NHWC".index(axis) for axis in layout]), np.float32)
    expected = run(model, x)
    np.testing.assert_allclose(run(embedded, images), expected, atol=1e-4 * np.abs(expected).max())
    assert embedded.inputs[0].element_type == ov.Type.u8
    assert embedded.inputs[0].shape == ov.Shape([2, 8, 12, 3])


def test_what_cannot_be_prepared_in_the_graph_is_told(build_classifier, monkeypatch):
    def fail(_self):
        raise RuntimeError("Exception from src/core/src/runtime/allocator.cpp:79:\nstd::bad_alloc\n")

    model = build_classifier()
    facts = describe(model)
    monkeypatch.setattr(preprocessing.PrePostProcessor, "build", fail)
    with pytest.raises(ModelError, match=r"images of 8x12 pixels, which cannot be prepared .*: std::bad_alloc\."):
        embed_preprocessing(model, facts)


def test_embedding_keeps_names_order_and_rt_info(build_classifier):
    base = build_classifier((-1, 3, -1, -1), model_info={"labels": "a b c d", "mean_values": "1 2 3"})
    extra = ops.relu(base.outputs[0].get_node().input_value(0))
    extra.output(0).set_names({"feature_vector"})
    base.add_results([ops.result(extra)])
    base.set_rt_info("pytorch", ["framework"])
    embedded = embed_preprocessing(base, describe(base, options=InputOptions(size="16,20")))
    assert embedded.inputs[0].get_names() == {"image"}
    assert embedded.inputs[0].partial_shape == ov.PartialShape([-1, 16, 20, 3])
    assert [output.get_names() for output in embedded.outputs] == [{"logits"}, {"feature_vector"}]
    assert embedded.get_rt_info(["model_info"]).value == {"labels": "a b c d", "mean_values": "1 2 3"}
    assert embedded.get_rt_info(["framework"]).value == "pytorch"
    assert base.inputs[0].partial_shape == ov.PartialShape([-1, 3, -1, -1])
    assert base.inputs[0].element_type == ov.Type.f32


def test_a_batch_equals_single_images(build_classifier, run):
    model = build_classifier((-1, 3, 8, 12), activation="softmax")
    info = describe(model, options=InputOptions(mean=127.5, scale=127.5))
    images = _images(3, 8, 12, 3)
    many = run(embed_preprocessing(fixed(model, 3), info), images)
    single = embed_preprocessing(fixed(model, 1), info)
    np.testing.assert_allclose(many, np.concatenate([run(single, image[None]) for image in images]), atol=1e-6)


def test_uint8_nhwc_input_gets_nothing_added(build_classifier):
    model = build_classifier((1, 8, 12, 3), layout="NHWC", kind=np.uint8)
    assert _kinds(embed_preprocessing(model, describe(model))) == _kinds(model)


def test_float_nchw_input_gets_only_type_and_layout(build_classifier):
    model = build_classifier()
    added = _kinds(embed_preprocessing(model, describe(model)))
    assert sorted(added) == sorted([*_kinds(model), "Convert", "Transpose"])


@pytest.mark.parametrize(("kind", "offset"), [(np.float16, 0), (np.int32, 0), (np.int8, 128)])
def test_other_input_types(build_classifier, run, kind, offset):
    model = build_classifier(kind=kind)
    embedded = embed_preprocessing(model, describe(model, options=InputOptions(mean=offset)))
    images = _images(1, 8, 12, 3)
    expected = run(model, (images.transpose(0, 3, 1, 2).astype(np.int32) - offset).astype(kind))
    np.testing.assert_allclose(run(embedded, images), expected, rtol=1e-5)


def test_quantised_uint8_model(run):
    """The shape of a TensorFlow Lite classifier: NHWC uint8 in, quantised soft-max out."""
    image = ops.parameter([1, 8, 8, 3], np.uint8, name="image")
    x = ops.convert(ops.transpose(image, np.array([0, 3, 1, 2])), "f32")
    x = ops.fake_quantize(x, np.float32(0), np.float32(255), np.float32(-1), np.float32(1), 256)
    kernel = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    x = ops.reshape(ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1]), np.array([1, 4]), special_zero=False)
    x = ops.fake_quantize(ops.softmax(x, 1), np.float32(0), np.float32(1), np.float32(0), np.float32(255), 256)
    model = ov.Model([ops.convert(x, "u8")], [image])
    info = describe(model)
    embedded = embed_preprocessing(model, info)
    images = _images(1, 8, 8, 3)
    np.testing.assert_array_equal(run(embedded, images), run(model, images))
    assert (info.input_layout, len(embedded.get_ops())) == ("NHWC", len(model.get_ops()))


def test_grey_model(build_classifier, run):
    model = build_classifier((1, 1, 8, 12))
    embedded = embed_preprocessing(model, describe(model, options=InputOptions(mean=100, scale=50)))
    images = _images(1, 8, 12, 3)
    grey = np.round(images @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    expected = run(model, ((grey - 100) / 50)[:, None])
    assert embedded.inputs[0].shape == ov.Shape([1, 8, 12, 3])
    np.testing.assert_allclose(run(embedded, images), expected, atol=0.02 * np.abs(expected).max())


def test_embedding_works_on_what_embedding_made(build_classifier, run):
    model = build_classifier()
    once = embed_preprocessing(model, describe(model, options=InputOptions(mean=MEAN.tolist())))
    info = describe(once)
    assert info.input_layout == "NHWC"
    images = _images(1, 8, 12, 3)
    np.testing.assert_array_equal(run(embed_preprocessing(once, info), images), run(once, images))
