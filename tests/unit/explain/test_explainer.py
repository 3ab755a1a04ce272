from __future__ import annotations

import logging
from pathlib import Path

import classifiers
import cv2
import numpy as np
import openvino as ov
import pytest

import otx_xai as xai
from otx_xai.errors import ConfigError, GraphError, LabelError, ModelError, TargetError
from otx_xai.explain import Explainer
from otx_xai.records import InputOptions, Method

INFO = {"task_type": "classification", "labels": "red green blue dark_grey"}
SIZE = (120, 250)
PLACES = {"red": (0.3, 0.75), "green": (0.6, 0.25), "blue": (0.5, 0.5), "dark grey": (0.5, 0.5)}


def image(colour: str = "red", size: tuple[int, int] = SIZE) -> np.ndarray:
    return classifiers.coloured_image(size, colour, PLACES[colour])


def nchw(*colours: str, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    return np.stack([image(colour, size).transpose(2, 0, 1) for colour in colours]).astype(np.float32)


def peak(saliency_map: np.ndarray) -> tuple[float, float]:
    """Where the map is highest, as parts of height and width."""
    rows, columns = np.nonzero(saliency_map == saliency_map.max())
    return rows.mean() / saliency_map.shape[0], columns.mean() / saliency_map.shape[1]


def grey_map(explainer: Explainer, data: np.ndarray, colour: str, **options: object) -> np.ndarray:
    explanation = explainer(data, targets=colour, colormap=False, **options)
    assert len(explanation.targets) == 1
    return next(iter(explanation.saliency_map.values()))


@pytest.fixture
def model() -> ov.Model:
    return classifiers.colour_classifier(model_info=INFO)


@pytest.fixture
def explainer(model: ov.Model) -> Explainer:
    return Explainer(model)


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
@pytest.mark.parametrize("resize_type", ["standard", "fit_to_window", "fit_to_window_letterbox", "crop"])
def test_the_peak_lies_on_the_object_of_a_raw_image(resize_type: str, colour: str):
    info = INFO | {"resize_type": resize_type, "pad_value": "114"}
    explainer = Explainer(classifiers.colour_classifier((1, 3, 192, 192), model_info=info))
    y, x = (0.5, 0.6) if resize_type == "crop" else PLACES[colour]
    picture = classifiers.coloured_image(SIZE, colour, (y, x))
    found = grey_map(explainer, picture, colour)
    assert found.shape == SIZE
    assert peak(found) == pytest.approx((y, x), abs=0.07)


def test_normalisation_of_raw_images():
    info = INFO | {"mean_values": "10 20 30", "scale_values": "2 2 2", "reverse_input_channels": "True"}
    plain = Explainer(classifiers.colour_classifier(model_info=INFO), preprocess_fn=lambda x: x)
    wanted = image("red", (64, 96))
    by_hand = ((wanted[..., ::-1].astype(np.float32) - [10, 20, 30]) / 2)[None]
    given = Explainer(classifiers.colour_classifier(model_info=info))(wanted, targets="predicted")
    expected = plain(by_hand, targets="predicted")
    assert given.predictions[0].score == pytest.approx(expected.predictions[0].score, abs=1e-5)
    assert given.targets == expected.targets


def test_default_is_all_classes_coloured_in_the_size_of_the_image(explainer: Explainer):
    explanation = explainer(image())
    assert explanation.targets == [0, 1, 2, 3]
    assert explanation.shape == (*SIZE, 3)
    assert explanation.label_names == ["red", "green", "blue", "dark grey"]
    assert [prediction.label for prediction in explanation.predictions][:1] == ["red"]


def test_targets_keep_their_order(explainer: Explainer):
    everything = explainer(image()).saliency_map
    some = explainer(image(), targets=["dark_grey", 0, "Green"]).saliency_map
    assert list(some) == [3, 0, 1]
    for target, saliency_map in some.items():
        np.testing.assert_array_equal(saliency_map, everything[target])


def test_predicted(explainer: Explainer):
    assert explainer(image("blue"), targets="predicted").targets == [2]


@pytest.mark.parametrize("targets", [[], "", np.array([], int)])
def test_no_targets(explainer: Explainer, targets: object):
    explanation = explainer(image(), targets=targets)
    assert explanation.saliency_map == {}
    assert explanation.shape == ()
    assert explanation.predictions


def test_unknown_targets(explainer: Explainer):
    with pytest.raises(TargetError, match="Close names: 'green'"):
        explainer(image(), targets="gren")
    with pytest.raises(TargetError, match="from 0 to 3"):
        explainer(image(), target_explain_labels=[0, 4])


def test_label_names_of_a_call(explainer: Explainer, tmp_path: Path):
    explanation = explainer(image(), targets="b", label_names=["a", "b", "c", "d"])
    assert explanation.targets == [1]
    assert [path.name for path in explanation.save(tmp_path)] == ["target_b.jpg"]
    with pytest.raises(LabelError, match="has 3 names; expected 4"):
        explainer(image(), label_names=["a", "b", "c"])


def test_labels_of_the_constructor(model: ov.Model, tmp_path: Path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    for labels in (["a", "b", "c", "d"], "a,b,c,d", tmp_path / "labels.txt"):
        assert Explainer(model, labels=labels)(image(), targets="d").targets == [3]


# ---------------------------------------------------------------------------------------------------------------------
# The model's input given by the caller


def test_layouts_of_preprocessed_data(explainer: Explainer):
    data = nchw("green")
    expected = explainer(data, targets=1).saliency_map[1]
    assert expected.shape == (64, 96, 3)
    for same in (data.transpose(0, 2, 3, 1), data.astype(np.uint8), data.astype(np.float64)):
        np.testing.assert_array_equal(explainer(same, targets=1).saliency_map[1], expected)


def test_overlay_over_preprocessed_data(explainer: Explainer):
    data = nchw("green")
    for given in (data, data.transpose(0, 2, 3, 1)):
        below = explainer(given, targets=1, overlay=True, overlay_weight=0).saliency_map[1]
        np.testing.assert_array_equal(below, image("green", (64, 96)))


def test_preprocess_fn(model: ov.Model):
    explainer = Explainer(model, preprocess_fn=lambda x: cv2.resize(x, (96, 64))[None].astype(np.float64))
    found = grey_map(explainer, image("green"), "green")
    assert found.shape == SIZE
    assert peak(found) == pytest.approx(PLACES["green"], abs=0.07)
    np.testing.assert_array_equal(
        explainer(image("green"), targets=1, overlay=True, overlay_weight=0).saliency_map[1], image("green")
    )


@pytest.mark.parametrize(
    "postprocess_fn",
    [
        lambda x: np.eye(4)[2],
        lambda x: np.eye(4)[2:3].tolist(),
        lambda x: np.where(np.arange(4) == 2, 9.0, x["logits"]),
        lambda x: np.where(np.arange(4) == 2, 9.0, x[0] * 0),
    ],
)
def test_postprocess_fn_decides_what_is_predicted(model: ov.Model, postprocess_fn: object):
    explanation = Explainer(model, postprocess_fn=postprocess_fn)(image("red"), targets="predicted")
    assert explanation.targets == [2]
    assert explanation.predictions[0].score > 0.9


def test_postprocess_fn_of_independent_classes(model: ov.Model):
    explainer = Explainer(model, xai.Task.MULTI_LABEL_CLS, postprocess_fn=lambda _: [[3.0, -3.0, 3.0, -3.0]])
    assert explainer(image(), targets="predicted").targets == [0, 2]


@pytest.mark.parametrize("mode", ["whitebox", "blackbox"])
@pytest.mark.parametrize("key", ["probabilities", 7])
def test_a_postprocess_fn_that_looks_for_what_is_not_there_is_told_what_is(
    model: ov.Model, caplog: pytest.LogCaptureFixture, mode: str, key: object
):
    explainer = Explainer(model, explain_mode=mode, postprocess_fn=lambda outputs: outputs[key])
    with pytest.raises((KeyError, IndexError)) as raised:
        explainer(image("red"), targets=0)
    assert "postprocess_fn was given these outputs of the model, by number and name: 0 ('logits')." in caplog.messages
    assert any(entry.name == "<lambda>" for entry in raised.traceback), "the caller's own line stays in sight"


def test_postprocess_fn_with_other_classes(model: ov.Model):
    explainer = Explainer(model, postprocess_fn=lambda _: np.zeros(7))
    with pytest.raises(ConfigError, match=r"postprocess_fn returned \[7\]; expected class scores or logits \[1, 4\]"):
        explainer(image())


@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 96), (-1, 3, 64, 96), (3, 3, 64, 96), (2, 3, 64, 96), (-1, 3, -1, -1)], ids=str
)
def test_a_batch_equals_its_images(shape: tuple[int, ...]):
    explainer = Explainer(classifiers.colour_classifier(shape, model_info=INFO))
    data = nchw("red", "green", "blue")
    together = explainer(data, targets="predicted")
    assert [explanation.targets for explanation in together] == [[0], [1], [2]]
    for i, explanation in enumerate(together):
        alone = explainer(data[i : i + 1], targets="predicted")
        assert alone.targets == explanation.targets
        np.testing.assert_array_equal(alone.saliency_map[i], explanation.saliency_map[i])
        assert alone.predictions[0].score == pytest.approx(explanation.predictions[0].score, abs=1e-6)


def test_a_raw_image_for_a_static_batch():
    explainer = Explainer(classifiers.colour_classifier((3, 3, 64, 96), model_info=INFO))
    found = grey_map(explainer, image("green"), "green")
    assert peak(found) == pytest.approx(PLACES["green"], abs=0.07)


def test_a_batch_through_preprocess_fn(model: ov.Model):
    explainer = Explainer(model, preprocess_fn=lambda x: np.stack([cv2.resize(one, (96, 64)) for one in x]))
    together = explainer(np.stack([image("red"), image("blue")]), targets=[0, 2], overlay=True, overlay_weight=0)
    for explanation, colour in zip(together, ("red", "blue"), strict=True):
        np.testing.assert_array_equal(explanation.saliency_map[2], image(colour))


def test_original_images_of_a_batch(explainer: Explainer):
    data, others = nchw("red", "green"), [image("red"), image("green", (50, 40))]
    look = {"targets": 0, "overlay": True, "overlay_weight": 0}
    for explanation, other in zip(explainer(data, original_input_image=others, **look), others, strict=True):
        np.testing.assert_array_equal(explanation.saliency_map[0], other)
    for explanation in explainer(data, original_input_image=others[0], **look):
        np.testing.assert_array_equal(explanation.saliency_map[0], others[0])
    with pytest.raises(ConfigError, match="holds 3 images; expected one, or 2"):
        explainer(data, original_input_image=[image()] * 3)


def test_the_map_lies_right_over_an_original_image(explainer: Explainer):
    found = grey_map(explainer, nchw("green"), "green", original_input_image=image("green"))
    assert found.shape == SIZE
    assert peak(found) == pytest.approx(PLACES["green"], abs=0.07)


def test_open_height_and_width():
    explainer = Explainer(classifiers.colour_classifier((-1, 3, -1, -1), model_info=INFO))
    for size in ((64, 96), (120, 40)):
        found = grey_map(explainer, nchw("green", size=size), "green")
        assert found.shape == size
        assert peak(found) == pytest.approx(PLACES["green"], abs=0.12)
    with pytest.raises(ConfigError, match="input=InputOptions"):
        explainer(image())
    sized = Explainer(classifiers.colour_classifier((-1, 3, -1, -1)), input=InputOptions(size=(64, 96)))
    assert sized(image(), targets=0).shape == (*SIZE, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((1, 3, 60, 96), np.float32), r"is \[1,3,64,96\] \(NCHW\), what it is given is \[1, 3, 60, 96\]"),
        (np.zeros((0, 3, 64, 96), np.float32), "what it is given is"),
        (np.zeros((1, 4, 64, 96), np.float32), "what it is given is"),
        (np.zeros((3, 64, 96), np.float32), "The data is float32"),
        (np.zeros((64, 96, 5), np.uint8), "expected RGB"),
        (np.zeros(64, np.uint8), "expected a uint8 image"),
        (np.zeros((1, 1, 3, 64, 96), np.uint8), "expected a uint8 image"),
        ("photo.jpg", "expected a uint8 image"),
        (None, "expected a uint8 image"),
    ],
)
def test_data_that_does_not_fit(explainer: Explainer, data: object, message: str):
    with pytest.raises(ConfigError, match=message):
        explainer(data)


def test_preprocess_fn_without_batch_axis(model: ov.Model):
    with pytest.raises(ConfigError, match=r"what it is given is \[64, 96, 3\]"):
        Explainer(model, preprocess_fn=lambda x: cv2.resize(x, (96, 64)))(image())


def test_grey_raw_image(explainer: Explainer):
    assert explainer(image()[..., 0], targets=0).shape == (*SIZE, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Looks


def test_looks(explainer: Explainer):
    data = image()
    assert explainer(data, targets=0, resize=False).shape == (8, 12, 3)
    assert explainer(data, targets=0, resize=False, colormap=False).shape == (8, 12)
    assert explainer(data, targets=0, output_size=(33, 44)).shape == (33, 44, 3)
    assert explainer(data, targets=0, output_size=(33, 44), overlay=True).shape == (33, 44, 3)
    with pytest.raises(ConfigError, match="overlay_weight"):
        explainer(data, overlay=True, overlay_weight=2)
    with pytest.raises(ConfigError, match="output_size"):
        explainer(data, output_size=(0, 1))


# ---------------------------------------------------------------------------------------------------------------------
# Models and settings


@pytest.mark.parametrize("embed_scaling", [True, False])
def test_embed_scaling_changes_nothing(model: ov.Model, embed_scaling: bool):
    data = image("green")
    expected = Explainer(model)(data).saliency_map
    found = Explainer(model, embed_scaling=embed_scaling)(data, embed_scaling=not embed_scaling).saliency_map
    for target, saliency_map in found.items():
        assert np.abs(saliency_map.astype(int) - expected[target]).max() <= 4


def test_methods(model: ov.Model):
    explanation = Explainer(model, explain_method="activationmap")(image(), targets=-1)
    assert explanation.targets == ["per_image_map"]
    assert explanation.shape == (*SIZE, 3)
    with pytest.raises(GraphError, match="needs a transformer"):
        Explainer(model, explain_method=Method.VITRECIPROCAM)


def test_settings_of_a_call_are_for_this_call(explainer: Explainer):
    assert explainer(image(), explain_method=Method.ACTIVATIONMAP).targets == ["per_image_map"]
    assert explainer(image(), explain_mode="whitebox", target_layer="features").targets == [0, 1, 2, 3]
    assert explainer(image()).targets == [0, 1, 2, 3]
    with pytest.raises(GraphError, match="nowhere"):
        explainer(image(), target_layer="nowhere")


def test_contradicting_settings(model: ov.Model):
    with pytest.raises(ConfigError, match="rise is no whitebox method"):
        Explainer(model, explain_mode="whitebox", explain_method="rise")
    with pytest.raises(ConfigError, match="reciprocam is no blackbox method"):
        Explainer(model, explain_mode="blackbox", explain_method="reciprocam")


def test_parameters_of_black_box_methods_have_no_effect(explainer: Explainer, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "otx_xai"):
        explainer(image(), targets=0, num_masks=100)
    assert "num_masks: no effect with reciprocam" in caplog.text


def test_other_tasks(model: ov.Model):
    with pytest.raises(GraphError, match=r"class heads .* cannot be read off its graph"):
        Explainer(model, task="detection", explain_mode="whitebox", postprocess_fn=lambda outputs: outputs)
    with pytest.raises(ModelError, match=r"outputs of the detector are of no known format: logits.*--format"):
        Explainer(model, task="detection")


def test_broken_files(tmp_path: Path):
    with pytest.raises(ModelError, match="does not exist"):
        Explainer(tmp_path / "none.xml")


@pytest.mark.parametrize("word", ["device", "device_name"])
def test_an_unknown_device(model: ov.Model, word: str):
    with pytest.raises(ConfigError, match="NOPE"):
        Explainer(model, **{word: "NOPE"})(image())


@pytest.mark.parametrize("half", [True, False])
def test_files(model: ov.Model, tmp_path: Path, half: bool):
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=half)
    expected = Explainer(model)(image("green"), targets=1, colormap=False).saliency_map[1]
    for path in (tmp_path / "model.xml", str(tmp_path / "model.xml")):
        explanation = Explainer(path)(image("green"), targets="green", colormap=False)
        assert np.abs(explanation.saliency_map[1].astype(int) - expected).max() <= 2


def test_a_tensorflow_model():
    explainer = Explainer(classifiers.tensorflow_classifier((1, 64, 96, 3), 5))
    found = explainer(image("green"), targets=1, colormap=False).saliency_map[1]
    assert peak(found) == pytest.approx(PLACES["green"], abs=0.07)


def test_the_model_of_the_caller_is_not_changed(model: ov.Model):
    before = [node.get_name() for node in model.get_ordered_ops()]
    Explainer(model)(image())
    assert [node.get_name() for node in model.get_ordered_ops()] == before
    assert len(model.outputs) == 1


@pytest.mark.parametrize("method", [Method.RECIPROCAM, Method.ACTIVATIONMAP])
def test_a_saliency_map_of_the_model_itself(
    model: ov.Model, method: Method, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ov.save_model(xai.insert_xai(model, explain_method=method), tmp_path / "explained.xml", compress_to_fp16=False)
    expected = Explainer(model, explain_method=method)(image("green"))
    with caplog.at_level(logging.INFO, "otx_xai"):
        found = Explainer(tmp_path / "explained.xml", explain_method=Method.VITRECIPROCAM)(image("green"))
    assert "used as it is" in caplog.text
    assert "no effect" in caplog.text
    assert found.targets == expected.targets
    for target, saliency_map in found.saliency_map.items():
        assert np.abs(saliency_map.astype(int) - expected.saliency_map[target]).max() <= 4


def test_a_saliency_map_of_the_model_that_does_not_fit(model: ov.Model):
    explained = xai.insert_xai(model, targets="predicted")
    with pytest.raises(GraphError, match=r"expected \[N, 4, h, w\]"):
        Explainer(explained)


def test_a_constant_map_is_all_zeros(explainer: Explainer):
    explanation = explainer(np.zeros((*SIZE, 3), np.uint8), targets=0, colormap=False)
    assert not explanation.saliency_map[0].any()


def test_a_method_whose_classes_cost_is_asked_for_the_wanted_ones_only() -> None:
    model = classifiers.colour_classifier(classes=150, strength=20.0)
    explainer = Explainer(model, explain_method="layercam")
    image = classifiers.coloured_image((64, 96), "green")
    predicted = explainer(image, "predicted")
    assert predicted.predictions[0].target == 1
    assert list(predicted.saliency_map) == [1]
    several = explainer(image, [0, 1])
    assert list(several.saliency_map) == [0, 1]
    np.testing.assert_array_equal(several.saliency_map[1], predicted.saliency_map[1])
    with pytest.raises(GraphError, match="The gradients of 150 classes at once"):
        explainer(image)
