"""What exporters wrote counts behind the user's options and ``model_info``, and before defaults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
import yaml
from classifiers import colour_classifier

from otx_xai.errors import LabelError, ModelError
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.model import open_model
from otx_xai.model.image_input import describe_input
from otx_xai.model.label_names import box_class_names, class_names, count_names
from otx_xai.neighbours import Hints
from otx_xai.records import InputGeometry, InputOptions, Interpolation, ResizeType, Task

SAID = Hints(
    labels=("a", "b", "c", "d"),
    mean=(123.675, 116.28, 103.53),
    scale=(58.395, 57.12, 57.375),
    reverse_input_channels=True,
    size=(16, 20),
    resize_type=ResizeType.CROP,
    pad_value=114,
    crop=0.875,
    source="preprocessor_config.json",
)


def test_the_input_by_hints_alone(build_classifier):
    image = describe_input(build_classifier((1, 3, -1, -1)), {}, InputOptions(), SAID)
    assert image.geometry == InputGeometry((16, 20), ResizeType.CROP, 114, 0.875)
    assert (image.mean, image.scale, image.reverse_channels) == (SAID.mean, SAID.scale, True)
    name = "preprocessor_config.json"
    assert image.source == f"size: {name}; layout: graph; resize: {name}; middle 0.875 of the sides: {name}"
    assert image.normalisation_source == (
        f"mean 123.675,116.28,103.53 ({name}), scale 58.395,57.12,57.375 ({name}); channels reversed to BGR ({name})"
    )


def test_the_graph_outranks_a_size(build_classifier):
    image = describe_input(build_classifier(), {}, InputOptions(), SAID)
    assert image.geometry.size == (8, 12)
    assert image.source.startswith("size: graph")


def test_model_info_outranks_hints(build_classifier):
    info = {"scale_values": "255", "resize_type": "fit_to_window", "pad_value": "3", "reverse_input_channels": "False"}
    image = describe_input(build_classifier(), info, InputOptions(), SAID)
    assert image.geometry == InputGeometry((8, 12), ResizeType.FIT_TO_WINDOW, 3)
    # a mean of one and a scale of the other would belong to neither
    assert (image.mean, image.scale, image.reverse_channels) == ((), (255.0,) * 3, False)
    embedded = describe_input(build_classifier(), {"embedded_processing": "True"}, InputOptions(), SAID)
    assert (embedded.mean, embedded.scale, embedded.reverse_channels) == ((), (), False)


def test_options_outrank_hints(build_classifier):
    options = InputOptions(mean=1, scale=2, pad_value=5, reverse_input_channels=False, crop=0.5)
    image = describe_input(build_classifier(), {}, options, SAID)
    assert image.geometry == InputGeometry((8, 12), ResizeType.CROP, 5, 0.5)
    assert (image.mean, image.scale, image.reverse_channels) == ((1.0,) * 3, (2.0,) * 3, False)
    assert image.source.endswith("resize: preprocessor_config.json; middle 0.5 of the sides: --input.crop")
    stretched = describe_input(build_classifier(), {}, InputOptions(resize_type="standard"), SAID)
    assert stretched.geometry.crop == 1  # the crop belongs to the resize that was overruled


def test_the_filter_of_a_resize(build_classifier):
    model, bicubic = build_classifier(), replace(SAID, interpolation=Interpolation.BICUBIC)
    image = describe_input(model, {}, InputOptions(), bicubic)
    assert image.geometry.interpolation is Interpolation.BICUBIC
    assert image.source.endswith("; bicubic: preprocessor_config.json")
    image = describe_input(model, {"interpolation": "lanczos"}, InputOptions(), bicubic)
    assert image.geometry.interpolation is Interpolation.LANCZOS
    assert image.source.endswith("; lanczos: model_info/interpolation")
    image = describe_input(model, {"interpolation": "lanczos"}, InputOptions(interpolation="linear"), bicubic)
    assert image.geometry.interpolation is Interpolation.LINEAR
    assert image.source.endswith("; linear: --input.interpolation")
    assert describe_input(model, {}, InputOptions()).geometry.interpolation is Interpolation.LINEAR
    with pytest.raises(
        ModelError, match="interpolation of the model is 'cubic'; expected one of linear, nearest, box, bilinear"
    ):
        describe_input(model, {"interpolation": "cubic"}, InputOptions())


def test_images_of_any_ratio_do_not_fit_one_size(build_classifier):
    hints = replace(SAID, resize_type=ResizeType.STANDARD, crop=None, said={"keeps_ratio": "shortest_edge 800"})
    model = build_classifier((1, 3, -1, -1))
    warning = describe_input(model, {}, InputOptions(), hints).warning
    assert "shortest_edge 800), and its input is 16x20 here: images of another ratio are stretched" in warning
    assert not describe_input(model, {}, InputOptions(resize_type="fit_to_window"), hints).warning
    assert not describe_input(model, {}, InputOptions(size="24,32"), hints).warning
    assert not describe_input(model, {}, InputOptions(), SAID).warning


def test_borders_are_not_drawn(build_classifier):
    hints = replace(SAID, resize_type=ResizeType.CROP, crop=None, said={"bordered": "crop_size 32x32 of images …"})
    warning = describe_input(build_classifier(), {}, InputOptions(), hints).warning
    assert "trained on images with a black border (preprocessor_config.json: crop_size 32x32 of images …)" in warning
    assert not describe_input(build_classifier(), {}, InputOptions(resize_type="standard"), hints).warning


def test_assumptions_are_called_so(build_classifier):
    image = describe_input(build_classifier(), {}, InputOptions(), replace(SAID, assumed=("mean", "scale")))
    assert "mean 123.675,116.28,103.53 (assumption: preprocessor_config.json)" in image.normalisation_source


def test_pixels_as_integers_are_not_normalised(build_classifier):
    model = build_classifier((1, 8, 12, 3), layout="NHWC", kind=np.uint8)
    image = describe_input(model, {}, InputOptions(), SAID)
    assert (image.mean, image.scale) == ((), ())
    assert image.normalisation_source.startswith("none needed: the model takes uint8 pixels")


def test_int8_inputs_of_known_normalisation_need_no_offset(build_classifier):
    model = build_classifier((1, 8, 12, 3), layout="NHWC", kind=np.int8)
    image = describe_input(model, {}, InputOptions(), Hints(mean=(127.5,), scale=(127.5,), source="TFLite metadata"))
    assert (image.mean, image.scale) == ((128.0,) * 3, ())
    assert image.normalisation_source == "mean 128 (int8 as TFLite metadata tells)"


def test_numbers_that_do_not_fit_the_channels(build_classifier):
    with pytest.raises(ModelError, match=r"The mean in preprocessor_config\.json is .*; expected one number"):
        describe_input(build_classifier((1, 1, 8, 12)), {}, InputOptions(), SAID)


def test_names():
    assert class_names(None, {}, 4, SAID) == (SAID.labels, SAID.source)
    assert class_names("e,f,g,h", {}, 4, SAID) == (("e", "f", "g", "h"), "--labels")
    assert class_names(None, {"labels": "1 2 3 4"}, 4, SAID)[1] == "model_info/labels"
    with pytest.raises(LabelError, match=r"preprocessor_config\.json has 4 names .* 5 classes.*Pass --labels"):
        class_names(None, {}, 5, SAID)
    assert (count_names(None, {}, SAID), count_names(None, {})) == (4, None)


def test_names_of_a_detector():
    assert box_class_names(None, {}, BoxClasses(), SAID) == (SAID.labels, SAID.source, 0)
    behind = replace(SAID, labels=("background", "a"))
    assert box_class_names(None, {}, BoxClasses(1), behind) == (
        ("a",),
        "preprocessor_config.json, without 'background'",
        1,
    )
    # names that come with the model count from its first score on
    assert box_class_names(None, {}, BoxClasses(4, background_first=True), SAID)[2] == 0


def test_the_task_that_an_exporter_names_outranks_a_family(tmp_path):
    """Ultralytics writes the family YOLO into classifiers too."""
    names = {number: f"thing {number}" for number in range(4)}
    info: dict[str, object] = {
        "model_type": "YOLO",
        "labels": " ".join(name.replace(" ", "_") for name in names.values()),
    }
    ov.save_model(colour_classifier((1, 3, 64, 64), model_info=info), tmp_path / "yolo.xml")
    metadata = {"description": "Ultralytics YOLO11n-cls model", "task": "classify", "stride": 1, "names": names}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(metadata | {"imgsz": [64, 64]}))
    facts = open_model(tmp_path).facts
    assert (facts.task, facts.geometry.resize_type) == (Task.MULTI_CLASS_CLS, ResizeType.CROP)
    (tmp_path / "metadata.yaml").unlink()
    with pytest.raises(ModelError, match="outputs of the detector are of no known format"):
        open_model(tmp_path / "yolo.xml")
