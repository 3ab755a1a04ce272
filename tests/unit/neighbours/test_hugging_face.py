"""Configurations as they lie on the hub, shortened."""

from __future__ import annotations

import json

import numpy as np
import openvino as ov
import pytest
import timm
from openvino import opset13 as ops
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models._hub import save_config_for_hf

from otx_xai.errors import ModelError
from otx_xai.model.image_input import describe_input
from otx_xai.neighbours import read_hints
from otx_xai.postprocess import fit
from otx_xai.records import InputGeometry, InputOptions, ResizeType, Task

NO_MODEL = ov.Model([], [], "empty")
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
RESCALE = {"do_rescale": True, "rescale_factor": 0.00392156862745098}
IMAGENET_255 = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def hints_of(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read_hints(folder / "openvino_model.xml", NO_MODEL)


PROCESSORS = {
    "vit, old": (
        {"do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", "resample": 2}
        | {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 224},
        ((127.5,) * 3, (127.5,) * 3, (224, 224), ResizeType.STANDARD, 1.0),
    ),
    "vit": (
        {"image_processor_type": "ViTImageProcessor", "do_resize": True, "do_normalize": True, **RESCALE, **IMAGENET}
        | {"size": {"height": 384, "width": 256}},
        (*IMAGENET_255, (384, 256), ResizeType.STANDARD, 1.0),
    ),
    "convnext, old": (
        {"crop_pct": 0.875, "do_normalize": True, "do_resize": True, **IMAGENET, "size": 224}
        | {"feature_extractor_type": "ConvNextFeatureExtractor"},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 256),
    ),
    "convnext": (
        {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.95, **RESCALE, **IMAGENET}
        | {"size": {"shortest_edge": 224}, "do_normalize": True},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 235),
    ),
    "convnext, large": (
        {"image_processor_type": "ConvNextImageProcessor", "crop_pct": None, **IMAGENET, **RESCALE}
        | {"size": {"shortest_edge": 384}, "do_normalize": True},
        (*IMAGENET_255, (384, 384), ResizeType.STANDARD, 1.0),
    ),
    "clip and dinov2": (
        {"image_processor_type": "BitImageProcessor", "do_center_crop": True, "do_normalize": True, **IMAGENET}
        | {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}, **RESCALE},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 256),
    ),
    "clip, old": (
        {"feature_extractor_type": "CLIPFeatureExtractor", "do_center_crop": True, "crop_size": 224, "size": 224}
        | {"do_normalize": True, **IMAGENET},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 1.0),
    ),
    "deit": (
        {"image_processor_type": "DeiTImageProcessor", "size": {"height": 256, "width": 256}, "do_center_crop": True}
        | {"crop_size": {"height": 224, "width": 224}, "do_normalize": True, **IMAGENET, **RESCALE},
        (*IMAGENET_255, (224, 224), ResizeType.STANDARD, 224 / 256),
    ),
    "beit, no crop": (
        {"image_processor_type": "BeitImageProcessor", "size": {"height": 224, "width": 224}, "do_center_crop": False}
        | {"crop_size": {"height": 200, "width": 200}, "do_normalize": True, **IMAGENET, **RESCALE},
        (*IMAGENET_255, (224, 224), ResizeType.STANDARD, 1.0),
    ),
    "mobilevit": (
        {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True, "do_center_crop": True}
        | {"crop_size": {"height": 256, "width": 256}, "size": {"shortest_edge": 288}, **RESCALE},
        ((0.0,), (255.0,), (256, 256), ResizeType.CROP, 256 / 288),
    ),
    "mobilevit, since 5": (
        {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True, "do_center_crop": True}
        | {"crop_size": {"height": 256, "width": 256}, "size": {"shortest_edge": 288}, **RESCALE, **IMAGENET},
        ((0.0,), (255.0,), (256, 256), ResizeType.CROP, 256 / 288),
    ),
    "levit": (
        {"image_processor_type": "LevitImageProcessor", "do_center_crop": True, "size": {"shortest_edge": 224}}
        | {"crop_size": {"height": 224, "width": 224}, "do_normalize": True, **IMAGENET, **RESCALE},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 256),
    ),
    "poolformer": (
        {"image_processor_type": "PoolFormerImageProcessor", "crop_pct": 0.9, "size": {"shortest_edge": 224}}
        | {"crop_size": {"height": 224, "width": 224}, "do_normalize": True, **IMAGENET, **RESCALE},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 248),
    ),
    "efficientnet": (
        {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 346, "width": 346}, **RESCALE}
        | {"do_center_crop": False, "crop_size": {"height": 289, "width": 289}, "include_top": True}
        | {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_offset": False},
        ((127.5,) * 3, (63.75,) * 3, (346, 346), ResizeType.STANDARD, 1.0),
    ),
    "pp-lcnet": (
        {"image_processor_type": "PPLCNetImageProcessor", "resize_short": 256, "size": {"height": 256, "width": 256}}
        | {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_normalize": True, **RESCALE}
        | {"image_mean": IMAGENET["image_mean"][::-1], "image_std": IMAGENET["image_std"][::-1]},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 256),
    ),
    "perceiver": (
        {"image_processor_type": "PerceiverImageProcessor", "size": {"height": 224, "width": 224}, **RESCALE}
        | {"do_center_crop": True, "crop_size": {"height": 256, "width": 256}, "do_normalize": True, **IMAGENET},
        (*IMAGENET_255, (224, 224), ResizeType.CROP, 224 / 256),
    ),
    "offset": (
        {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5, "rescale_offset": True}
        | {"do_normalize": False},
        ((127.5,), (127.5,), (32, 32), ResizeType.STANDARD, 1.0),
    ),
    "pixels": (
        {"size": {"height": 32, "width": 32}, "do_rescale": False, "do_normalize": True}
        | {"image_mean": [127.5] * 3, "image_std": [1, 1, 1]},
        ((127.5,) * 3, (1.0,) * 3, (32, 32), ResizeType.STANDARD, 1.0),
    ),
    "detr": (
        {"image_processor_type": "DetrImageProcessor", "size": {"longest_edge": 1333, "shortest_edge": 800}}
        | {"do_normalize": True, "do_pad": True, **IMAGENET, **RESCALE},
        (*IMAGENET_255, (800, 800), ResizeType.STANDARD, 1.0),
    ),
    "detr, old": (
        {"feature_extractor_type": "DetrFeatureExtractor", "size": 800, "max_size": 1333, "do_normalize": True}
        | IMAGENET,
        (*IMAGENET_255, (800, 800), ResizeType.STANDARD, 1.0),
    ),
    "rt-detr": (
        {"image_processor_type": "RTDetrImageProcessor", "size": {"height": 640, "width": 640}, "do_pad": False}
        | {"do_normalize": False, **IMAGENET, **RESCALE},
        ((0.0,), (255.0,), (640, 640), ResizeType.STANDARD, 1.0),
    ),
    "padded": (
        {"size": {"longest_edge": 800, "shortest_edge": 600}, "do_pad": True, "pad_size": {"height": 800, "width": 700}}
        | {"do_normalize": True, **IMAGENET, **RESCALE},
        (*IMAGENET_255, (800, 700), ResizeType.FIT_TO_WINDOW, 1.0),
    ),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_image_processors(tmp_path, kind):
    processor, (mean, scale, size, resize_type, crop) = PROCESSORS[kind]
    hints = hints_of(tmp_path, preprocessor_config=processor)
    assert hints.mean == pytest.approx(mean, abs=1e-4)
    assert hints.scale == pytest.approx(scale, abs=1e-4)
    assert (hints.size, hints.resize_type) == (size, resize_type)
    assert hints.crop == pytest.approx(crop)
    assert hints.reverse_input_channels is kind.startswith(("mobilevit", "pp-lcnet"))
    assert hints.pad_value == (114 if kind == "padded" else None)
    assert (hints.source, len(hints.files)) == ("preprocessor_config.json", 1)
    limits = "shortest_edge 800, longest_edge 1333" if kind.startswith("detr") else None
    assert hints.said.get("keeps_ratio") == limits


@pytest.mark.parametrize(
    ("processor", "mean"),
    [
        ({"image_processor_type": "ViTImageProcessor", "size": 224}, None),
        ({"image_processor_type": "ViTImageProcessor", "size": 224, "do_normalize": False}, (0.0,)),
        ({"image_processor_type": "RTDetrImageProcessor", "size": 224, **IMAGENET}, (0.0,)),
        ({"feature_extractor_type": "MobileViTFeatureExtractor", "size": 224, **IMAGENET}, (0.0,)),
    ],
)
def test_a_normalisation_that_is_not_written_is_not_made_up(tmp_path, processor, mean):
    assert hints_of(tmp_path, preprocessor_config=processor).mean == mean


@pytest.mark.parametrize(
    ("kind", "crop"), [("EfficientNetImageProcessor", 1.0), ("BeitFeatureExtractor", 1.0), ("DeiTImageProcessor", 0.75)]
)
def test_a_crop_counts_where_its_processor_cuts(tmp_path, kind, crop):
    key = "image_processor_type" if kind.endswith("ImageProcessor") else "feature_extractor_type"
    processor = {key: kind, "size": {"height": 32, "width": 32}, "crop_size": {"height": 24, "width": 24}}
    assert hints_of(tmp_path, preprocessor_config=processor).crop == crop
    cut = hints_of(tmp_path, preprocessor_config=processor | {"do_center_crop": True})
    assert (cut.crop, cut.size) == (0.75, (24, 24))


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("DeiTImageProcessor", {}, ((224, 224), ResizeType.STANDARD, 0.875)),
        ("MobileNetV2ImageProcessor", {"crop_size": 160}, ((160, 160), ResizeType.CROP, 0.625)),
        ("ViTFeatureExtractor", {}, ((224, 224), ResizeType.STANDARD, 1)),
        ("OwlViTImageProcessor", {}, ((768, 768), ResizeType.STANDARD, 1)),
        ("RTDetrImageProcessor", {}, ((640, 640), ResizeType.STANDARD, 1)),
    ],
)
def test_what_a_processor_does_not_say_is_the_default_of_its_class(tmp_path, kind, said, expected):
    hints = hints_of(tmp_path, preprocessor_config={"image_processor_type": kind, **said, **IMAGENET})
    assert (hints.size, hints.resize_type, hints.crop) == expected
    assert "unlike" not in hints.said


def test_the_type_of_the_model_tells_the_processor_that_does_not_say_itself(tmp_path):
    processor = {"size": 224, **IMAGENET}
    assert hints_of(tmp_path, preprocessor_config=processor).resize_type is ResizeType.STANDARD
    hints = hints_of(tmp_path, preprocessor_config=processor, config={"model_type": "resnet", "id2label": {"0": "a"}})
    assert (hints.resize_type, hints.crop) == (ResizeType.CROP, 224 / 256)


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        ({"image_processor_type": "DonutImageProcessor", "size": [32, 32]}, "padded, tiled or aligned by donutimage"),
        ({"image_processor_type": "NewImageProcessor"}, "resized to the size of newimageprocessor's class"),
        ({"image_processor_type": "CLIPImageProcessor", "do_resize": False}, "cut out without being resized"),
    ],
)
def test_steps_of_a_processor_that_are_not_done_here_are_said(tmp_path, processor, words):
    assert hints_of(tmp_path, preprocessor_config=processor | IMAGENET).said["unlike"].startswith(words)


@pytest.mark.parametrize("size", [{"shortest_edge": 28}, {"height": 28, "width": 40}])
def test_crops_with_a_border_are_said(tmp_path, size):
    hints = hints_of(tmp_path, preprocessor_config={"size": size, "crop_size": 32, **IMAGENET})
    assert hints.said["bordered"].startswith("crop_size 32x32 of images resized to 28x")
    fitting = hints_of(tmp_path, preprocessor_config={"size": {"shortest_edge": 32}, "crop_size": 32, **IMAGENET})
    assert not fitting.said


def test_numbers_as_texts(tmp_path):
    processor = {"size": {"height": "32", "width": "40"}, "image_mean": "0.5, 0.5, 0.25", "image_std": ["0.5"]}
    hints = hints_of(tmp_path, preprocessor_config=processor)
    assert (hints.size, hints.mean, hints.scale) == ((32, 40), (127.5, 127.5, 63.75), (127.5,))


def test_names_stand_in_either_direction(tmp_path):
    assert hints_of(tmp_path, config={"model_type": "vit", "label2id": {"dog": 1, "cat": 0}}).labels == ("cat", "dog")
    wrapped = {key: value for key, value in TIMM.items() if key != "label_names"} | {"id2label": {"1": "b", "0": "a"}}
    assert hints_of(tmp_path, config=wrapped).labels == ("a", "b")
    with pytest.raises(ModelError, match=r"label2id of .* has an index twice"):
        hints_of(tmp_path, config={"model_type": "vit", "label2id": {"dog": 1, "cat": 1}})


def test_a_folder_of_optimum(tmp_path):
    config = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "image_size": 200}
    labels = {
        "id2label": {"1": "dog", "0": "cat, tabby", "10": "hen", "2": "cow"} | {str(i): "x" for i in range(3, 10)}
    }
    hints = hints_of(tmp_path, config=config | labels, preprocessor_config=PROCESSORS["convnext"][0])
    assert hints.labels == ("cat, tabby", "dog", "cow", *"xxxxxxx", "hen")
    assert (hints.task, hints.size, hints.said["model_type"]) == (Task.CLASSIFICATION, (224, 224), "resnet")
    assert hints.sources["labels"] == "config.json"
    assert hints.sources["mean"] == "preprocessor_config.json"
    assert hints.files == tuple(str(tmp_path / name) for name in ("preprocessor_config.json", "config.json"))
    assert read_hints(tmp_path, NO_MODEL) == hints
    (tmp_path / "onnx").mkdir()
    assert read_hints(tmp_path / "onnx" / "model.onnx", NO_MODEL).labels == hints.labels


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["ViTForImageClassification"]}, Task.CLASSIFICATION),
        ({"architectures": ["ViTForImageClassification"], "problem_type": None}, Task.CLASSIFICATION),
        (
            {"architectures": ["ViTForImageClassification"], "problem_type": "multi_label_classification"},
            Task.MULTI_LABEL_CLS,
        ),
        ({"model_type": "vit", "problem_type": "single_label_classification"}, Task.MULTI_CLASS_CLS),
        ({"architectures": ["RTDetrV2ForObjectDetection"]}, Task.DETECTION),
        ({"architectures": ["SegformerForSemanticSegmentation"]}, None),
    ],
)
def test_tasks(tmp_path, config, task):
    assert hints_of(tmp_path, config=config).task is task


def test_placeholders_are_no_names(tmp_path):
    assert hints_of(tmp_path, config={"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}).labels is None


def test_gaps_are_called_by_their_index(tmp_path):
    assert hints_of(tmp_path, config={"id2label": {"2": "car", "0": "person"}}).labels == ("person", "1", "car")


def test_image_processor_inside_the_one_of_all_inputs(tmp_path):
    processor = {"image_processor": PROCESSORS["rt-detr"][0], "processor_class": "SomeProcessor"}
    hints = hints_of(tmp_path, processor_config=processor)
    assert (hints.scale, hints.size, hints.source) == ((255.0,), (640, 640), "processor_config.json")


def test_files_of_others_say_nothing(tmp_path):
    hints = hints_of(tmp_path, config={"learning_rate": 1}, preprocessor_config={"sampling_rate": 16000})
    assert (hints.source, hints.files, hints.labels, hints.mean) == ("", (), None, None)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", "{", r"config\.json, which lies beside the model, is no JSON .*Correct it, or take it away"),
        ("config.json", "[1]", r"holds \[1\]; expected named values"),
        ("config.json", '{"id2label": {"a": "cat"}}', r"id2label of .*config\.json has the key 'a'"),
        ("config.json", '{"id2label": "cat"}', r"id2label of .* is 'cat'; expected class names"),
        ("config.json", "[" * 100_000, "is no JSON"),
        ("preprocessor_config.json", '{"image_mean": "x", "image_std": [1], "do_normalize": true}', "image_mean of "),
        ("preprocessor_config.json", '{"image_mean": [0], "image_std": [0]}', "expected numbers other than 0"),
        ("preprocessor_config.json", '{"rescale_factor": 0, "size": 8}', "expected a positive number"),
        ("preprocessor_config.json", '{"size": {"height": 0, "width": 1}}', "size of .* expected height and width"),
        ("preprocessor_config.json", '{"size": 8, "crop_size": {"height": 4}}', "crop_size of"),
        ("preprocessor_config.json", '{"size": 8, "crop_pct": 7}', "crop_pct of .* expected a share"),
        ("preprocessor_config.json", '{"image_processor": 3}', "image_processor of .* is 3"),
    ],
)
def test_broken_files(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=words):
        read_hints(tmp_path / "openvino_model.xml", NO_MODEL)


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="is no UTF-8 text"):
        read_hints(tmp_path, NO_MODEL)
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ModelError, match="has 1073741824 bytes; expected a small text"):
        read_hints(tmp_path, NO_MODEL)


TIMM = {
    "architecture": "convnext_tiny",
    "num_classes": 3,
    "label_names": ["a", "b", "c"],
    "pretrained_cfg": {
        "tag": "in12k",
        "input_size": [3, 224, 288],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 3,
    },
}


def test_timm(tmp_path):
    hints = hints_of(tmp_path, config=TIMM)
    assert (hints.labels, hints.size, hints.resize_type) == (("a", "b", "c"), (224, 288), ResizeType.CROP)
    assert [round(side / hints.crop) for side in hints.size] == [
        235,
        303,
    ]  # both sides as timm cuts them to whole pixels
    assert (hints.mean, hints.scale) == IMAGENET_255
    assert (hints.said["architecture"], hints.source) == ("convnext_tiny", "config.json")
    alone = hints_of(tmp_path, config=TIMM["pretrained_cfg"] | {"label_names": {"0": "a", "2": "c"}})
    assert (alone.mean, alone.labels) == (IMAGENET_255[0], ("a", "1", "c"))


@pytest.mark.parametrize("name", ["resnet18", "mobilevit_xxs"])
def test_images_are_fed_as_timm_does(tmp_path, name):
    network = timm.create_model(name, pretrained=False)
    save_config_for_hf(network, tmp_path / "config.json")
    hints = read_hints(tmp_path, NO_MODEL)
    y, x = np.mgrid[:300, :420] / 120
    image = np.uint8(128 + 100 * np.stack([np.sin(y + x), np.cos(x - y), np.sin(2 * y)], -1))
    steps = create_transform(**resolve_data_config(model=network), is_training=False)
    expected = steps(Image.fromarray(image)).numpy().transpose(1, 2, 0)
    assert hints.interpolation == "bicubic"
    geometry = InputGeometry(hints.size, hints.resize_type, crop=hints.crop, interpolation=hints.interpolation)
    fitted = fit(image, geometry).astype(np.float64)
    assert np.abs((fitted - hints.mean) / hints.scale - expected).max() < 0.1


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(96, 128), (131, 75)])
@pytest.mark.parametrize("shape", [(301, 199), (75, 260)])
def test_oblong_inputs_and_odd_images_are_fed_as_timm_does(tmp_path, crop_mode, size, shape):
    config = TIMM["pretrained_cfg"] | {"input_size": [3, *size], "crop_mode": crop_mode, "crop_pct": 0.95}
    hints = hints_of(tmp_path, config={"pretrained_cfg": config})
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    steps = create_transform(**resolve_data_config(pretrained_cfg=config), is_training=False, normalize=False)
    expected = steps(Image.fromarray(image)).numpy().transpose(1, 2, 0)
    geometry = InputGeometry(hints.size, hints.resize_type, crop=hints.crop, interpolation=hints.interpolation)
    assert np.abs(fit(image, geometry).astype(int) - expected).mean() < 1  # noise: half a pixel off gives some 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crop_pct": 0.9}, "cut to 0.9009 of their longer side alone"),
        ({"crop_pct": 1.0}, "padded with the colour 124,116,104"),
        ({"crop_pct": 1.0, "mean": [0.5, 0.5, 0.5]}, ""),
        ({"crop_mode": "center"}, ""),
    ],
)
def test_a_border_of_timm_that_cannot_be_had_is_said(tmp_path, change, words, caplog):
    own = {"input_size": [3, 100, 100], "mean": IMAGENET["image_mean"], "std": IMAGENET["image_std"]}
    config = own | {"crop_mode": "border"} | change
    hints = hints_of(tmp_path, config={"pretrained_cfg": config})
    assert hints.said.get("unlike", "").startswith(words)
    assert bool(hints.said.get("unlike")) is bool(words)
    image = describe_input(one_input(1, 3, 100, 100), {}, InputOptions(layout="NCHW"), hints)
    assert (hints.said.get("unlike", "nothing") in image.warning) is bool(words)


@pytest.mark.parametrize("number", range(6))
def test_images_are_resized_with_the_filter_that_a_processor_names(tmp_path, number):
    processor = {"size": {"height": 30, "width": 42}, "resample": number, **RESCALE}
    hints = hints_of(tmp_path, preprocessor_config=processor)
    image = np.random.default_rng(0).integers(0, 256, (75, 100, 3)).astype(np.uint8)
    found = fit(image, InputGeometry(hints.size, hints.resize_type, interpolation=hints.interpolation))
    expected = Image.fromarray(image).resize((42, 30), Image.Resampling(number))
    np.testing.assert_array_equal(found, expected)


def test_filters_that_nobody_names(tmp_path):
    processor = {"size": {"height": 30, "width": 42}, **RESCALE}
    assert hints_of(tmp_path, preprocessor_config=processor).interpolation is None
    at_random = TIMM["pretrained_cfg"] | {"interpolation": "random"}
    assert hints_of(tmp_path, config=at_random, preprocessor_config={}).interpolation is None
    with pytest.raises(ModelError, match=r"resample of .*preprocessor_config.json is 7; expected a number of Pillow"):
        hints_of(tmp_path, preprocessor_config=processor | {"resample": 7})
    with pytest.raises(ModelError, match=r"interpolation of .*config.json is 'cubic'; expected nearest, box, bilinear"):
        hints_of(tmp_path, config=at_random | {"interpolation": "cubic"}, preprocessor_config={})


def one_input(*shape):
    image = ops.parameter(list(shape))
    return ov.Model([ops.relu(image)], [image], "net")


def test_timm_crops_less_from_the_larger_images_of_its_tests(tmp_path):
    config = {"pretrained_cfg": TIMM["pretrained_cfg"] | {"test_input_size": [3, 32, 40], "test_crop_pct": 1.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    hints = read_hints(tmp_path, one_input(1, 3, 32, 40))
    assert (hints.size, hints.crop) == ((32, 40), 1.0)
    for shape in ((1, 3, 40, 32), (1, 3, -1, -1)):
        assert read_hints(tmp_path, one_input(*shape)).size == (224, 288)


@pytest.mark.parametrize(
    ("mode", "resize_type", "pad_value"),
    [("squash", ResizeType.STANDARD, None), ("border", ResizeType.FIT_TO_WINDOW_LETTERBOX, 114), (None, "crop", None)],
)
def test_crop_modes_of_timm(tmp_path, mode, resize_type, pad_value):
    hints = hints_of(tmp_path, config={"pretrained_cfg": TIMM["pretrained_cfg"] | {"crop_mode": mode}})
    assert (hints.resize_type, hints.pad_value) == (resize_type, pad_value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crop_mode": "fold"}, "crop_mode of .* expected center, squash or border"),
        ({"input_size": 224}, "input_size of .* expected channels, height and width"),
        ({"std": [0, 1, 1]}, "std of .* expected numbers other than 0"),
        ({"crop_pct": -1}, "crop_pct of .* expected a share"),
        ({"mean": {"r": 1}}, "mean of .* expected a number"),
    ],
)
def test_broken_timm(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        hints_of(tmp_path, config={"pretrained_cfg": TIMM["pretrained_cfg"] | change})
