from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from doors import describe, find_task
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, LabelError, ModelError, TaskError
from otx_xai.model import ModelOptions, open_model
from otx_xai.model.facts import log_line
from otx_xai.model.label_names import BoxClasses, box_class_names
from otx_xai.model.preprocessing import embed_preprocessing
from otx_xai.openvino_core import core
from otx_xai.records import InputGeometry, InputOptions, ResizeType, Task

OTX_INFO = {
    "model_type": "Classification",
    "task_type": "classification",
    "labels": "a b c d_e",
    "multilabel": "False",
    "hierarchical": "False",
    "output_raw_scores": "True",
    "mean_values": "123.675 116.28 103.53",
    "scale_values": "58.395 57.12 57.375",
    "resize_type": "standard",
    "pad_value": "0",
    "reverse_input_channels": "False",
}


def test_bare_model(build_classifier):
    info = describe(build_classifier((-1, 3, 8, 12)))
    assert info.task is Task.MULTI_CLASS_CLS
    assert info.labels == ("0", "1", "2", "3")
    assert info.geometry == InputGeometry((8, 12), ResizeType.STANDARD, 0)
    assert (info.input_layout, info.mean, info.scale) == ("NCHW", (), ())
    assert not info.reverse_input_channels
    assert not info.multilabel
    assert info.sources["task"] == "graph: output logits [?,4]"
    assert "pass --input.mean and --input.scale" in info.sources["normalisation"]
    line = log_line(info)
    assert "\n" not in line
    assert "4 labels (none given" in line
    assert "input 8x12 NCHW standard (size: graph; layout: graph; resize: default)" in line


def test_otx_model_info(build_classifier, tmp_path):
    model = build_classifier(model_info=OTX_INFO)
    info = describe(model)
    assert info.labels == ("a", "b", "c", "d e")
    assert info.mean == (123.675, 116.28, 103.53)
    assert info.scale == (58.395, 57.12, 57.375)
    assert info.sources["task"] == "model_info/multilabel"
    assert info.sources["normalisation"] == (
        "mean 123.675,116.28,103.53 (model_info/mean_values), scale 58.395,57.12,57.375 (model_info/scale_values)"
    )
    ov.save_model(model, tmp_path / "model.xml")
    assert describe(core().read_model(tmp_path / "model.xml")) == info


def test_values_that_are_no_text_read_as_after_saving(build_classifier, tmp_path):
    model_info = {
        "multilabel": True,
        "mean_values": [1.5, 2.0, 3.0],
        "labels": ["a b", "c", "d", "e"],
        "pad_value": 114,
    }
    model = build_classifier(model_info=model_info)
    info = describe(model)
    assert info.multilabel
    assert (info.mean, info.labels, info.geometry.pad_value) == ((1.5, 2.0, 3.0), ("a b", "c", "d", "e"), 114)


@pytest.mark.parametrize(
    ("model_info", "task", "activation", "expected", "source"),
    [
        ({}, None, None, Task.MULTI_CLASS_CLS, "graph: output logits [1,4]"),
        ({}, None, "softmax", Task.MULTI_CLASS_CLS, "graph: output logits [1,4]"),
        ({}, None, "sigmoid", Task.MULTI_LABEL_CLS, "graph: it ends in a sigmoid"),
        ({}, Task.CLASSIFICATION, "sigmoid", Task.MULTI_LABEL_CLS, "graph: it ends in a sigmoid"),
        ({}, Task.CLASSIFICATION, None, Task.MULTI_CLASS_CLS, "--task classification"),
        ({}, Task.MULTI_LABEL_CLS, None, Task.MULTI_LABEL_CLS, "--task multi_label_cls"),
        ({}, Task.MULTI_CLASS_CLS, "sigmoid", Task.MULTI_CLASS_CLS, "--task multi_class_cls"),
        ({"multilabel": "True"}, None, None, Task.MULTI_LABEL_CLS, "model_info/multilabel"),
        ({"multilabel": "YES"}, Task.CLASSIFICATION, None, Task.MULTI_LABEL_CLS, "model_info/multilabel"),
        ({"multilabel": "True"}, Task.MULTI_CLASS_CLS, None, Task.MULTI_CLASS_CLS, "--task multi_class_cls"),
        ({"hierarchical": "True"}, None, None, Task.H_LABEL_CLS, "model_info/hierarchical"),
        ({"task_type": "classification"}, None, None, Task.MULTI_CLASS_CLS, "model_info/task_type"),
        ({"task_type": "MULTI_LABEL_CLS"}, None, None, Task.MULTI_LABEL_CLS, "model_info/task_type"),
        ({"model_type": "classification"}, None, None, Task.MULTI_CLASS_CLS, "model_info/model_type"),
        ({"model_type": "my_wrapper"}, None, None, Task.MULTI_CLASS_CLS, "graph: output logits [1,4]"),
        ({"task_type": "detection"}, Task.CLASSIFICATION, None, Task.MULTI_CLASS_CLS, "--task classification"),
    ],
)
def test_task(build_classifier, model_info, task, activation, expected, source):
    info = describe(build_classifier(model_info=model_info, activation=activation), task=task)
    assert (info.task, info.sources["task"]) == (expected, source)
    assert info.multilabel == (expected is Task.MULTI_LABEL_CLS)


@pytest.mark.parametrize(
    ("model_info", "task", "words"),
    [
        ({"task_type": "anomaly"}, None, "model_info/task_type of the model says anomaly"),
        ({"model_type": "Anomaly"}, None, "model_info/model_type of the model says anomaly detection"),
    ],
)
def test_other_tasks(build_classifier, model_info, task, words):
    with pytest.raises(TaskError, match=words):
        describe(build_classifier(model_info=model_info), task=task)


@pytest.mark.parametrize(
    ("model_info", "task", "expected"),
    [
        ({}, Task.DETECTION, (Task.DETECTION, "--task detection")),
        ({"task_type": "detection"}, None, (Task.DETECTION, "model_info/task_type")),
        (
            {"task_type": "instance_segmentation", "model_type": "ssd"},
            None,
            (Task.INSTANCE_SEGMENTATION, "model_info/task_type"),
        ),
        ({"model_type": "MaskRCNN"}, None, (Task.INSTANCE_SEGMENTATION, "model_info/model_type")),
        ({"model_type": "YOLOX"}, None, (Task.DETECTION, "model_info/model_type")),
    ],
)
def test_tasks_with_boxes(build_classifier, model_info, task, expected):
    assert find_task(build_classifier(model_info=model_info), task) == expected


@pytest.mark.parametrize(
    ("labels", "info", "classes", "expected"),
    [
        ("a,b", {}, BoxClasses(2), (("a", "b"), "--labels", 0)),
        ("a,b", {}, BoxClasses(2, background_first=True), (("a", "b"), "--labels", 1)),
        (None, {"labels": "a b"}, BoxClasses(2, background_first=True), (("a", "b"), "model_info/labels", 0)),
        (
            None,
            {"labels": "otx_empty_lbl a b"},
            BoxClasses(2),
            (("a", "b"), "model_info/labels, without 'otx empty lbl'", 1),
        ),
        ("__background__,a", {}, BoxClasses(), (("a",), "--labels, without '__background__'", 1)),
        (("background", "a"), {}, BoxClasses(2), (("background", "a"), "--labels", 0)),
        (None, {}, BoxClasses(2), (("0", "1"), "none given: classes are called by their index", 0)),
    ],
)
def test_names_of_a_detectors_classes(labels, info, classes, expected):
    assert box_class_names(labels, info, classes) == expected


def test_a_detector_of_unknown_classes():
    with pytest.raises(LabelError, match=r"does not tell its classes.*Pass --labels"):
        box_class_names(None, {}, BoxClasses())


def test_graph_contradicts_the_task(build_classifier):
    image = ops.parameter([1, 85, 22, 22], np.float32)
    with pytest.raises(TaskError, match="no classifier"):
        describe(ov.Model([ops.relu(image)], [image]), task=Task.CLASSIFICATION)
    for arguments in ({"task": Task.MULTI_LABEL_CLS}, {}):
        model = build_classifier(activation="softmax", model_info={"multilabel": "True"})
        with pytest.raises(TaskError, match=r"ends in a soft-max.*--task multi_class_cls"):
            describe(model, **arguments)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.5", (127.5,) * 3),
        (127.5, (127.5,) * 3),
        (128, (128.0,) * 3),
        ("123.7,116.3,103.5", (123.7, 116.3, 103.5)),
        ("[123.7, 116.3, 103.5]", (123.7, 116.3, 103.5)),
        ([1, 2, 3], (1.0, 2.0, 3.0)),
        ((1, 1, 1), (1.0, 1.0, 1.0)),
        (0, ()),
    ],
)
def test_mean_option(build_classifier, value, expected):
    assert describe(build_classifier(), options=InputOptions(mean=value)).mean == expected


def test_scale_of_one_changes_nothing(build_classifier):
    assert describe(build_classifier(), options=InputOptions(scale="1,1,1")).scale == ()
    assert describe(build_classifier(), options=InputOptions(scale=[1, 2, 1])).scale == (1.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": "1,2"}, r"--input\.mean is '1,2'; expected one number or one per channel \(3\)"),
        ({"mean": "grey"}, r"--input\.mean is 'grey'"),
        ({"mean": "nan"}, r"--input\.mean is 'nan'"),
        ({"mean": []}, r"--input\.mean"),
        ({"mean": {"a": 1}}, r"--input\.mean"),
        ({"scale": "1,0,1"}, r"--input\.scale is '1,0,1'; expected .* none of them 0"),
        ({"pad_value": 256}, r"--input\.pad_value is 256; expected a grey level from 0 to 255"),
        ({"pad_value": -1}, r"--input\.pad_value is -1"),
        ({"size": "224"}, r"--input\.size is 224,224, but the model's own height,width is 8,12"),
        ({"size": "8,0"}, r"--input\.size is '8,0'; expected height,width"),
        ({"size": "8,12,3"}, r"--input\.size is '8,12,3'"),
        ({"size": "8.5"}, r"--input\.size is '8\.5'"),
        ({"layout": "HWC"}, r"--input\.layout is 'HWC'; expected NCHW, NHWC"),
        ({"layout": "NHWC"}, r"--input\.layout is NHWC, but .* as NCHW"),
    ],
)
def test_wrong_options(build_classifier, options, words):
    with pytest.raises(ConfigError, match=words):
        describe(build_classifier(), options=InputOptions(**options))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean_values", "1 2"),
        ("mean_values", "a b c"),
        ("scale_values", "1 0 1"),
        ("scale_values", "1 inf 1"),
        ("resize_type", "shrink"),
        ("pad_value", "300"),
        ("pad_value", "0 0"),
        ("multilabel", "maybe"),
        ("hierarchical", "?"),
        ("reverse_input_channels", "BGR"),
        ("embedded_processing", "some"),
        ("label_info", "{"),
    ],
)
def test_malformed_model_info(build_classifier, key, value):
    with pytest.raises(ModelError, match=f"model_info/{key} of the model is .*; expected .* To fix it"):
        describe(build_classifier(model_info={key: value}))


def test_options_outrank_model_info(build_classifier):
    model_info = OTX_INFO | {"resize_type": "crop", "pad_value": "114", "reverse_input_channels": "True"}
    info = describe(build_classifier(model_info=model_info))
    assert info.geometry == InputGeometry((8, 12), ResizeType.CROP, 114)
    assert info.reverse_input_channels
    assert info.sources["normalisation"].endswith("channels reversed to BGR (model_info/reverse_input_channels)")
    options = InputOptions(
        mean=0, resize_type=ResizeType.FIT_TO_WINDOW, pad_value=3, reverse_input_channels=False, size="8,12"
    )
    info = describe(build_classifier(model_info=model_info), labels="1,2,3,4", options=options)
    assert info.geometry == InputGeometry((8, 12), ResizeType.FIT_TO_WINDOW, 3)
    assert (info.mean, info.scale, info.labels) == ((), (58.395, 57.12, 57.375), ("1", "2", "3", "4"))
    assert not info.reverse_input_channels
    assert info.sources["input"] == "size: --input.size; layout: graph; resize: --input.resize_type"


def test_embedded_processing_is_not_done_again(build_classifier):
    model_info = OTX_INFO | {"embedded_processing": "True", "reverse_input_channels": "True"}
    info = describe(build_classifier(model_info=model_info))
    assert (info.mean, info.scale, info.reverse_input_channels) == ((), (), False)
    assert info.sources["normalisation"] == "model_info/embedded_processing: it is in the graph"
    sized = model_info | {"orig_height": "16", "orig_width": "20"}
    assert describe(build_classifier((1, 3, -1, -1), model_info=sized)).geometry.size == (16, 20)
    with pytest.raises(ModelError, match="orig_width"):
        describe(build_classifier((1, 3, -1, -1), model_info=sized | {"orig_width": "wide"}))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((-1, 3, -1, -1), "16,20", (16, 20)),
        ((1, 3, -1, -1), 16, (16, 16)),
        ((1, 3, 8, -1), (8, 20), (8, 20)),
        ((1, 3, -1, 12), [7, 12], (7, 12)),
        ((1, 3, 8, 12), "8,12", (8, 12)),
    ],
)
def test_dynamic_size(build_classifier, shape, size, expected):
    assert describe(build_classifier(shape), options=InputOptions(size=size)).geometry.size == expected
    if -1 in shape[2:]:
        with pytest.raises(ConfigError, match=r"leaves height and width open\. Pass --input\.size"):
            describe(build_classifier(shape))


def test_size_outside_the_range_of_the_model(build_classifier):
    model = build_classifier((1, 3, ov.Dimension(4, 16), 12))
    assert describe(model, options=InputOptions(size="16,12")).geometry.size == (16, 12)
    with pytest.raises(ConfigError, match=r"height,width is 4\.\.16,12"):
        describe(model, options=InputOptions(size="17,12"))


def test_uint8_input(build_classifier):
    info = describe(build_classifier((1, 8, 12, 3), layout="NHWC", kind=np.uint8))
    assert info.input_layout == "NHWC"
    assert info.sources["normalisation"] == "none needed: the model takes uint8 pixels"


def test_int8_input_needs_an_offset(build_classifier):
    model = build_classifier(kind=np.int8)
    with pytest.raises(ConfigError, match=r"i8.*--input\.mean 128"):
        describe(model)
    assert describe(model, options=InputOptions(mean=128)).mean == (128.0,) * 3


def test_channels(build_classifier):
    info = describe(build_classifier((1, 1, 8, 12)), options=InputOptions(mean="128", reverse_input_channels=True))
    assert info.mean == (128.0,)
    assert not info.reverse_input_channels
    assert info.channels == 1


@pytest.mark.parametrize("channels", [2, 4, 7])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_any_number_of_channels_is_fed_and_normalised(build_classifier, channels, layout):
    mean, scale = tuple(range(1, channels + 1)), tuple(range(2, channels + 2))
    sizes = {"N": 1, "C": channels, "H": 8, "W": 12}
    model = build_classifier(tuple(sizes[axis] for axis in layout), layout=layout)
    info = describe(model, options=InputOptions(mean=mean, scale=scale))
    assert (info.channels, info.input_layout) == (channels, layout)
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 12, channels), dtype=np.uint8)
    normalised = ((image - np.float32(mean)) / np.float32(scale)).transpose(["NHWC".index(axis) for axis in layout])
    expected = ov.Core().compile_model(model, "CPU")(normalised)[0]
    found = ov.Core().compile_model(embed_preprocessing(model, info), "CPU")(image)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_weights_tell_the_channels_that_an_input_leaves_open(build_classifier, channels):
    model = build_classifier((1, channels, 8, 12))
    model.reshape([-1, -1, -1, -1])
    info = describe(model, options=InputOptions(size="8,12", mean="1,2,3" if channels == 3 else "1"))
    assert len(info.mean) == info.channels == channels
    fixed = embed_preprocessing(model, info)
    assert fixed.input(0).get_partial_shape() == ov.PartialShape([-1, 8, 12, 3 if channels == 1 else channels])


def test_open_channels_that_nothing_tells(build_classifier):
    model = build_classifier((1, -1, 8, 12), stem=lambda image: ops.concat([image, image], 1))
    with pytest.raises(ModelError, match=r"\[1,\?,8,12\] \(NCHW\), and its weights do not tell how many channels"):
        describe(model)


def test_layout_that_the_graph_does_not_tell():
    def model(layout: str = "") -> ov.Model:
        image = ops.parameter([1, 3, 3, 3], np.float32)
        if layout:
            image.layout = ov.Layout(layout)
        flat = ops.reshape(image, ops.constant(np.array([1, 27])), special_zero=False)
        return ov.Model([ops.matmul(flat, ops.constant(np.ones((27, 4), np.float32)), False, False)], [image])

    with pytest.raises(ConfigError, match=r"--input\.layout NHWC, in Python input=InputOptions\(layout='NCHW'"):
        describe(model())
    assert describe(model("NHWC")).input_layout == "NHWC"
    given = describe(model("NHWC"), options=InputOptions(layout="nchw"))
    assert (given.input_layout, given.sources["input"].split("; ")[1]) == ("NCHW", "layout: --input.layout")


def test_a_layout_by_the_number_of_channels():
    image = ops.parameter([1, 6, 5, 3], np.float32)
    info = describe(ov.Model([ops.reduce_max(image, ops.constant(np.array([1, 2])))], [image]))
    assert (info.input_layout, info.geometry.size) == ("NHWC", (6, 5))
    assert "layout: number of channels" in log_line(info)


@pytest.mark.parametrize(
    ("activation", "task", "expected"),
    [
        (None, None, Task.MULTI_LABEL_CLS),
        ("sigmoid", None, Task.MULTI_LABEL_CLS),
        ("softmax", None, Task.MULTI_CLASS_CLS),
        (None, Task.CLASSIFICATION, Task.MULTI_LABEL_CLS),
        (None, Task.MULTI_CLASS_CLS, Task.MULTI_CLASS_CLS),
    ],
)
def test_a_single_class_score_goes_through_a_sigmoid(build_classifier, activation, task, expected):
    assert describe(build_classifier(classes=1, activation=activation), task=task).task is expected


@pytest.mark.parametrize("info", [{}, {"task_type": "instance_segmentation"}])
def test_no_masks_no_instance_segmentation(info):
    def model(*shapes):
        parameters = [ops.parameter(shape, kind) for kind, shape in shapes]
        result = ov.Model([ops.result(ops.abs(parameter)) for parameter in parameters], parameters)
        for key, value in info.items():
            result.set_rt_info(value, ["model_info", key])
        return result

    task = None if info else Task.INSTANCE_SEGMENTATION
    boxes, labels, masks = (np.float32, [1, 9, 5]), (np.int64, [1, 9]), (np.float32, [1, 9, 28, 28])
    assert find_task(model(boxes, labels, masks), task)[0] is Task.INSTANCE_SEGMENTATION
    for outputs in ((boxes, labels), ((np.float32, [1, 1, 100, 7]),)):
        with pytest.raises(TaskError, match=r"(--task|task_type).*gives no masks.*--task detection"):
            find_task(model(*outputs), task)


def test_the_model_is_not_changed(build_classifier):
    model = build_classifier((-1, 3, -1, -1), model_info=OTX_INFO)
    describe(model, options=InputOptions(size=8))
    assert model.inputs[0].partial_shape == ov.PartialShape([-1, 3, -1, -1])


def normalising_model(mean):
    """Return a classifier whose graph subtracts the mean before anything else."""
    image = ops.parameter([1, 3, 8, 8], np.float32)
    shifted = ops.divide(ops.subtract(image, ops.constant(mean)), ops.constant(np.float32(0.22)))
    kernel = ops.constant(np.ones((4, 3, 1, 1), np.float32))
    features = ops.convolution(shifted, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([ops.reduce_mean(features, ops.constant(np.array([2, 3])))], [image])


def test_a_graph_that_subtracts_shares_is_fed_shares():
    """torchvision's detectors normalise inside, and take values of 0 to 1."""
    model = normalising_model(np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
    facts = describe(model)
    assert facts.scale == (255, 255, 255)
    assert facts.normalisation_known
    assert "graph: it subtracts 0.485,0.456,0.406 itself" in facts.sources["normalisation"]
    assert describe(model, options=InputOptions(scale=1)).scale == ()


def test_a_graph_that_subtracts_grey_levels_is_said_to_normalise():
    model = normalising_model(np.float32([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1))
    facts = describe(model)
    assert (facts.mean, facts.scale) == ((), ())
    assert facts.normalisation_known
    assert facts.sources["normalisation"] == "the graph subtracts 123.675,116.28,103.53 itself"
    model.set_rt_info("0 0 0", ["model_info", "mean_values"])
    told = describe(model).sources["normalisation"]
    assert told == "mean 0 (model_info/mean_values), the graph subtracts 123.675,116.28,103.53 itself"


def test_a_threshold_of_boxes_is_told_to_mean_nothing_to_a_classifier(build_classifier, caplog):
    open_model(build_classifier(), ModelOptions(confidence_threshold=0.4))
    assert "confidence_threshold: no effect with a classifier" in caplog.text
    caplog.clear()
    open_model(build_classifier(), ModelOptions())
    assert "confidence_threshold" not in caplog.text
