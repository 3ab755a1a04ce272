"""Maps of one-stage detectors against the literal definition in torch, for every family of heads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import detectors
import numpy as np
import openvino as ov
import pytest
import reference
import torch
from branches import insert_class_maps

from otx_xai import Engine, ExplainConfig, Explainer, InputOptions
from otx_xai.graph.detector_heads import find_class_heads
from otx_xai.graph.view import View
from otx_xai.openvino_core import core

TOLERANCE = 1e-4
F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture(params=detectors.FAMILIES, scope="module")
def case(request: pytest.FixtureRequest) -> detectors.Case:
    return detectors.case(request.param)


def infer(model: ov.Model, image: torch.Tensor) -> list[np.ndarray]:
    results = core().compile_model(model, "CPU", F32)(image.numpy())
    return [np.array(results[i]) for i in range(len(model.outputs))]


def test_maps_equal_the_literal_definition_and_outputs_stay(case: detectors.Case) -> None:
    model = case.model.clone()
    model.set_rt_info("a b", ["model_info", "labels"])
    explained = insert_class_maps(model)
    before, (*after, maps) = infer(model, case.image), infer(explained, case.image)
    assert maps.shape == case.literal.shape
    np.testing.assert_allclose(maps, reference.scaled(case.literal), atol=TOLERANCE * 255, rtol=0)
    assert explained.outputs[-1].get_names() == {"saliency_map"}
    assert [output.get_names() for output in explained.outputs[:-1]] == [o.get_names() for o in model.outputs]
    assert explained.get_rt_info(["model_info", "labels"]).value == "a b"
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["rtmdet", "background_last", "yolox"])
def test_maps_without_scaling_are_probabilities(name: str) -> None:
    case = detectors.case(name)
    maps = infer(insert_class_maps(case.model, embed_scaling=False), case.image)[-1]
    np.testing.assert_allclose(maps, case.literal, atol=TOLERANCE * np.ptp(case.literal), rtol=0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fastestdet", (3, 3, *detectors.SIZE)),
        ("yolov8", (3, 3, *detectors.SIZE)),
        ("yolox", (-1, 3, *detectors.SIZE)),
        ("yolov5", (-1, 3, -1, -1)),
        ("classes_first", (-1, 3, -1, -1)),
    ],
)
def test_batches_and_open_sizes(name: str, shape: tuple[int, ...]) -> None:
    family, module, batch = detectors.FAMILIES[name], detectors.case(name).module, detectors.images(3)
    explained = insert_class_maps(detectors.convert(module, batch, family.outputs, shape))
    expected = reference.scaled(detectors.literal(family, module, batch))
    np.testing.assert_allclose(infer(explained, batch)[-1], expected, atol=TOLERANCE * 255, rtol=0)


def test_some_classes_come_in_the_given_order() -> None:
    case = detectors.case("retinanet")
    maps = infer(insert_class_maps(case.model, classes=(3, 0)), case.image)[-1]
    np.testing.assert_allclose(maps, reference.scaled(case.literal[:, [3, 0]]), atol=TOLERANCE * 255, rtol=0)


def test_named_layers_are_the_levels() -> None:
    case = detectors.case("rtmdet")
    heads = find_class_heads(View(case.model))
    names = [level.output.get_node().get_friendly_name() for level in heads.levels[:2]]
    maps = infer(insert_class_maps(case.model, target_layers=names), case.image)[-1]
    two = replace(case.family, heads=case.family.heads[:2])
    expected = detectors.literal(two, case.module, case.image)
    np.testing.assert_allclose(maps, reference.scaled(expected), atol=TOLERANCE * 255, rtol=0)


def test_new_nodes_are_named_after_the_method() -> None:
    case = detectors.case("atss")
    known = {node.get_friendly_name() for node in case.model.get_ordered_ops()}
    new = [node for node in insert_class_maps(case.model).get_ordered_ops() if node.get_friendly_name() not in known]
    operations = [node for node in new if node.get_type_name() != "Result"]
    assert operations
    assert all(node.get_friendly_name().startswith("xai/detclassprobabilitymap/") for node in operations)


# ---------------------------------------------------------------------------------------------------------------------
# As a run: boxes, pictures and records


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(3)
    for i, size in enumerate([(60, 90), (120, 80), (96, 128)]):
        coarse = generator.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.mark.parametrize("name", ["fastestdet", "fcos"])
def test_a_run_writes_boxes_and_a_sheet_of_maps(name: str, photos: Path, tmp_path: Path) -> None:
    model_file = tmp_path / "model.xml"
    ov.save_model(detectors.case(name).model, model_file, compress_to_fp16=False)
    config = ExplainConfig(confidence_threshold=0.0 if name == "fcos" else 0.3, predicted_maps_conf_thr=0.0)
    labels = [f"kind {i}" for i in range(detectors.CLASSES)]
    run = Engine(work_dir=tmp_path / "out").explain(
        model_file, data_root=photos, labels=labels, dump=True, explain_config=config, input=InputOptions(scale=64)
    )
    assert (run.explained, run.failures) == (3, {})
    entries = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    found = [(entry["size"], prediction) for entry in entries for prediction in entry["predictions"]]
    assert found
    for (height, width), prediction in found:
        left, top, right, bottom = prediction["box"]
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height
    for entry in entries:
        assert [t["label"] for t in entry["targets"]] == list(dict.fromkeys(p["label"] for p in entry["predictions"]))
        endings = [file.rsplit("_", 1)[1] for file in entry["files"]]
        assert sorted(endings) == ["map.png"] * len(entry["targets"]) + ["sheet.png"]
        assert entry["method"] == "odam"


def test_an_image_without_boxes_gets_an_entry_and_a_sheet_of_the_image_alone(photos: Path, tmp_path: Path) -> None:
    model_file = tmp_path / "model.xml"
    ov.save_model(detectors.case("fcos").model, model_file, compress_to_fp16=False)
    run = Engine(work_dir=tmp_path / "out").explain(
        model_file, data_root=photos, dump=True, explain_config=ExplainConfig(confidence_threshold=1.0)
    )
    entries = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert (run.explained, run.exit_code, run.files) == (3, 0, 3)
    assert all((entry["predictions"], entry["targets"], len(entry["files"])) == ([], [], 1) for entry in entries)


def test_the_explainer_in_hand_finds_the_same(photos: Path) -> None:
    model = detectors.case("fcos").model
    image = cv2.imread(str(photos / "0.png"))[..., ::-1].copy()
    explainer = Explainer(model, task="detection", labels=[str(i) for i in range(detectors.CLASSES)])
    explanation = explainer(image, targets=[3, 1], colormap=False)
    assert explanation.targets == [3, 1]
    assert explanation.shape == (60, 90)
    resized = cv2.resize(image, detectors.SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    tensor = resized.transpose(2, 0, 1)[None].astype(np.float32)
    maps = infer(insert_class_maps(model), torch.from_numpy(tensor))[-1][0, [3, 1]]
    grey = explainer(image, targets=[3, 1], colormap=False, resize=False)
    for target, expected in zip((3, 1), maps, strict=True):
        np.testing.assert_allclose(grey.saliency_map[target], expected, atol=1)


def test_a_letterboxed_image_is_explained_as_the_padded_one(photos: Path) -> None:
    """Maps and boxes of an image that is fitted in are those of the padded input, brought back onto the image."""
    model, (height, width) = detectors.case("fcos").model, detectors.SIZE
    options = InputOptions(resize_type="fit_to_window_letterbox", pad_value=114)
    labels = [str(i) for i in range(detectors.CLASSES)]
    image = cv2.imread(str(photos / "1.png"))[..., ::-1].copy()  # 120 x 80 into 96 x 128: 64 columns are seen
    inner = cv2.resize(image, (64, 96), interpolation=cv2.INTER_LINEAR)
    padded = np.full((height, width, 3), 114, np.uint8)
    padded[:, 32:96] = inner
    fitted = Explainer(model, task="detection", labels=labels, input=options)(image, targets=-1, resize=False)
    whole = Explainer(model, task="detection", labels=labels)(padded, targets=-1, resize=False)
    for target, expected in whole.saliency_map.items():
        np.testing.assert_array_equal(fitted.saliency_map[target], expected)
    back = [((np.array(p.box) - [32, 0, 32, 0]) * 1.25, p.score) for p in whole.predictions]
    inside = [(box, score) for box, score in back if box[2] > 0 and box[0] < 80]
    assert len(fitted.predictions) == len(inside)
    for found, (box, score) in zip(fitted.predictions, inside, strict=True):
        np.testing.assert_allclose(found.box, np.clip(box, 0, [80, 120, 80, 120]), atol=1e-2)
        assert found.score == pytest.approx(score)
