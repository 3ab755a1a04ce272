from __future__ import annotations

from pathlib import Path

import classifiers
import detectors
import numpy as np
import openvino as ov
import pytest
from doors import prepare
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, GraphError, LabelError, ModelError, TargetError, TaskError
from otx_xai.explain import insert_xai
from otx_xai.explain.plan import EMBEDDED
from otx_xai.explain.targets import choose
from otx_xai.openvino_core import core
from otx_xai.records import ExplainMode, Method, Task

INFO = {
    "task_type": "classification",
    "labels": "red green blue dark_grey",
    "custom": "kept",
    "confidence_threshold": "0.4",
}
IMAGES = np.stack(
    [classifiers.coloured_image((64, 96), colour).transpose(2, 0, 1) for colour in classifiers.COLOURS]
).astype(np.float32)


@pytest.fixture
def model() -> ov.Model:
    model = classifiers.colour_classifier((-1, 3, 64, 96), model_info=INFO)
    model.set_rt_info("elsewhere", ["other", "entry"])
    return model


def run(model: ov.Model, images: np.ndarray = IMAGES) -> dict[str, np.ndarray]:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(images)
    return {output.get_any_name(): np.array(results[output]) for output in compiled.outputs}


def interface(model: ov.Model) -> list[tuple]:
    return [
        (sorted(port.get_names()), str(port.get_partial_shape()), str(port.get_element_type()))
        for port in (*model.inputs, *model.outputs)
    ]


def test_all_classes(model: ov.Model):
    results = run(insert_xai(model))
    assert list(results) == ["logits", "saliency_map"]
    maps = results["saliency_map"]
    assert (maps.shape, maps.dtype) == ((3, 4, 8, 12), np.float32)
    np.testing.assert_allclose(maps.min(axis=(2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(maps.max(axis=(2, 3)), 255, atol=1e-2)
    np.testing.assert_allclose(results["logits"], run(model)["logits"], rtol=1e-5)


@pytest.mark.parametrize(
    "targets", [[2, 0], ["blue", "red"], "blue,red", np.array([2, 0]), ["blue", "0"], ("Blue", 0)], ids=str
)
def test_given_classes_in_their_order(model: ov.Model, targets: object):
    everything = run(insert_xai(model))["saliency_map"]
    np.testing.assert_allclose(
        run(insert_xai(model, targets=targets))["saliency_map"], everything[:, [2, 0]], atol=0.05
    )


def test_names_of_the_caller_outrank_those_of_the_model(model: ov.Model, tmp_path: Path):
    everything = run(insert_xai(model))["saliency_map"]
    names = ["a", "b", "c", "d"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for labels in (names, "a,b,c,d", tmp_path / "names.txt"):
        maps = run(insert_xai(model, targets=["c", "a"], labels=labels))["saliency_map"]
        np.testing.assert_allclose(maps, everything[:, [2, 0]], atol=0.05)
    with pytest.raises(TargetError, match="'red' is no class"):
        insert_xai(model, targets="red", labels=names)


def test_all_classes_in_another_order(model: ov.Model):
    everything = run(insert_xai(model))["saliency_map"]
    turned = run(insert_xai(model, targets=[3, 2, 1, 0]))["saliency_map"]
    np.testing.assert_allclose(turned, everything[:, ::-1], atol=0.05)


def test_predicted_class(model: ov.Model):
    everything, results = run(insert_xai(model)), run(insert_xai(model, targets="predicted"))
    best = everything["logits"].argmax(axis=1)
    np.testing.assert_array_equal(results["saliency_targets"], best[:, None])
    np.testing.assert_allclose(results["saliency_map"][:, 0], everything["saliency_map"][range(3), best], atol=0.05)


def test_activation_map_and_feature_vector(model: ov.Model):
    results = run(insert_xai(model, Task.MULTI_LABEL_CLS, "activationmap", feature_vector=True))
    assert results["saliency_map"].shape == (3, 8, 12)
    assert results["feature_vector"].shape == (3, 3)


def test_without_scaling_maps_hold_class_scores(model: ov.Model):
    raw = run(insert_xai(model, embed_scaling=False))["saliency_map"]
    scaled = run(insert_xai(model))["saliency_map"]
    low, high = raw.min(axis=(2, 3), keepdims=True), raw.max(axis=(2, 3), keepdims=True)
    assert high.max() < 200
    np.testing.assert_allclose((raw - low) / (high - low) * 255, scaled, atol=0.05)


@pytest.mark.parametrize("options", [{}, {"targets": "predicted", "feature_vector": True}], ids=str)
def test_saved_and_read_it_runs_in_plain_openvino(model: ov.Model, tmp_path: Path, options: dict[str, object]):
    explained = insert_xai(model, **options)
    ov.save_model(explained, tmp_path / "explained.xml", compress_to_fp16=False)
    read = core().read_model(tmp_path / "explained.xml")
    assert interface(read) == interface(explained)
    assert interface(read)[:2] == interface(model)
    expected, found = run(explained), run(read)
    assert list(found) == list(expected)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-3)
    for key, value in INFO.items():
        assert read.get_rt_info(["model_info", key]).value == value
    assert read.get_rt_info(["other", "entry"]).value == "elsewhere"


@pytest.mark.parametrize("path_type", [str, Path])
def test_from_a_file(model: ov.Model, tmp_path: Path, path_type: type):
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=True)
    maps = run(insert_xai(path_type(tmp_path / "model.xml")))["saliency_map"]
    np.testing.assert_allclose(maps, run(insert_xai(model))["saliency_map"], atol=1)


def test_the_model_of_the_caller_is_not_changed(model: ov.Model):
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    insert_xai(model, feature_vector=True)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == names
    assert len(model.outputs) == 1


def test_an_explained_model_stays_as_it_is(model: ov.Model):
    once = insert_xai(model, targets=[1])
    twice = insert_xai(once, targets=-1, explain_method=Method.ACTIVATIONMAP)
    assert interface(twice) == interface(once)
    for name, values in run(twice).items():
        np.testing.assert_array_equal(values, run(once)[name])


def test_names_in_the_model_do_not_matter_where_all_classes_are_wanted():
    model = classifiers.colour_classifier(model_info={"labels": "too few"})
    assert insert_xai(model).output("saliency_map").shape == (1, 4, 8, 12)
    with pytest.raises(LabelError, match="2 names"):
        insert_xai(model, targets=["too"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "instance_segmentation"}, GraphError, "class heads"),
        ({"task": "detection", "explain_method": "reciprocam"}, ConfigError, "reciprocam explains no detection"),
        ({"explain_method": "detclassprobabilitymap"}, ConfigError, "explains no classification; .* vitreciprocam"),
        ({"explain_method": "rise"}, ConfigError, "perturbs the input"),
        ({"explain_method": "instsegexplainalgo"}, ConfigError, "explains no classification"),
        ({"explain_method": Method.VITRECIPROCAM}, GraphError, "class token"),
        ({"target_layer": "nowhere"}, GraphError, "'features'"),
        ({"targets": [4]}, TargetError, "from 0 to 3"),
        ({"targets": "gren"}, TargetError, "'green'"),
        ({"targets": []}, TargetError, "targets is empty"),
        ({"labels": "a,b,c"}, LabelError, "3 names .* the model has 4 classes"),
    ],
)
def test_refusals(model: ov.Model, options: dict[str, object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        insert_xai(model, **options)


def test_a_file_that_is_missing(tmp_path: Path):
    with pytest.raises(ModelError, match="does not exist"):
        insert_xai(tmp_path / "none.xml")


# ---------------------------------------------------------------------------------------------------------------------
# prepare(), as Engine calls it


def outputs_of(prepared, images: np.ndarray = IMAGES[:1]) -> dict[str, np.ndarray]:
    return {name: values[0] for name, values in run(prepared.model, images).items()}


@pytest.mark.parametrize("targets", [[3, 2, 1, 0], [1, 3], "green", -1, "predicted", None])
def test_prepared_models_give_the_wanted_maps(model: ov.Model, targets: object):
    everything = prepare(model, targets=-1)
    maps = outputs_of(everything)["saliency_map"] / 255
    prepared = prepare(model, targets=targets)
    choice = choose(outputs_of(prepared), prepared.facts.labels, prepared.wanted, scaled=prepared.scaled)
    chosen, found = choice.targets, choice.maps
    expected = {"green": [1], -1: [0, 1, 2, 3], "predicted": [0], None: [0]}
    assert [one.target for one in chosen] == (targets if isinstance(targets, list) else expected[targets])
    np.testing.assert_allclose(found, maps[[one.target for one in chosen]], atol=1e-3)


def test_prepared_models_of_equal_scores(model: ov.Model):
    grey = np.zeros_like(IMAGES[:1])
    prepared = prepare(model, targets="predicted", threshold=0.9)
    choice = choose(outputs_of(prepared, grey), prepared.facts.labels, prepared.wanted, scaled=prepared.scaled)
    assert len(choice.predictions) == len(choice.targets) == len(choice.maps) == 1
    assert not choice.maps.any()


def test_prepared_shapes(model: ov.Model):
    assert str(prepare(model, batch=5).model.inputs[0].get_partial_shape()) == "[5,3,64,96]"
    assert str(prepare(model, keep_open=True).model.inputs[0].get_partial_shape()) == "[?,3,64,96]"


def test_prepared_embedded(model: ov.Model):
    prepared = prepare(insert_xai(model), targets=[1])
    assert (prepared.method, prepared.scaled) == (EMBEDDED, False)
    choice = choose(outputs_of(prepared), prepared.facts.labels, prepared.wanted, scaled=False)
    chosen, found = choice.targets, choice.maps
    assert [one.target for one in chosen] == [1]
    np.testing.assert_allclose(found[0], run(insert_xai(model))["saliency_map"][0, 1] / 255, atol=1e-3)


def test_prepared_without_targets(model: ov.Model):
    with pytest.raises(TargetError, match="targets is empty"):
        prepare(model, targets=[])


def test_prepared_for_any_size(caplog: pytest.LogCaptureFixture):
    model = classifiers.colour_classifier((-1, 3, -1, -1), model_info=INFO)
    with caplog.at_level("INFO", "otx_xai"):
        prepared = prepare(model, keep_open=True)
    assert prepared.facts.geometry.size == (-1, -1)
    assert "input -1x-1 NCHW standard (height and width are open)" in caplog.text


@pytest.mark.parametrize("mode", ExplainMode)
@pytest.mark.parametrize("count", [4, 6, 3])
def test_names_for_raw_outputs_are_counted_before_anything_runs(mode: ExplainMode, count: int):
    """Soft-max over five classes beside objectness: no class is a background, and no method gets round the names."""
    with pytest.raises(LabelError, match=rf"{count} names .* the model has 5 classes"):
        prepare(detectors.case("fastestdet").model, labels=[f"name {i}" for i in range(count)], mode=mode)


def test_a_detector_without_masks_segments_nothing():
    model = detectors.case("fastestdet").model
    for refuse in (prepare, insert_xai):
        with pytest.raises(TaskError, match="gives no masks"):
            refuse(model, task=Task.INSTANCE_SEGMENTATION, labels="a,b,c,d,e")


@pytest.mark.parametrize("method", [Method.DETCLASSPROBABILITYMAP, Method.INSTSEGEXPLAINALGO])
def test_methods_of_other_tasks(model: ov.Model, method: Method):
    with pytest.raises(ConfigError, match=f"{method} explains no classification"):
        prepare(model, method=method)
    with pytest.raises(ConfigError, match="reciprocam explains no detection"):
        prepare(detectors.case("fastestdet").model, method=Method.RECIPROCAM)


def test_black_box_needs_no_layer(model: ov.Model, caplog: pytest.LogCaptureFixture):
    prepare(model, mode=ExplainMode.BLACKBOX, target_layer="nope")
    assert "target_layer: no effect with rise" in caplog.text


def test_a_single_logit_is_no_certainty():
    image = ops.parameter([1, 3, 8, 8], np.float32)
    features = ops.relu(
        ops.convolution(image, ops.constant(np.ones((2, 3, 1, 1), np.float32)), [1] * 2, *[[0] * 2] * 2, [1] * 2)
    )
    pooled = ops.reduce_mean(features, ops.constant(np.array([2, 3])))
    one = ov.Model([ops.matmul(pooled, ops.constant(np.array([[-0.1], [-0.2]], np.float32)), False, False)], [image])
    for value in (0, 1, 9):
        found = run(prepare(one, targets=-1).model, np.full((1, 3, 8, 8), value, np.float32))["saliency_scores"]
        np.testing.assert_allclose(found, [[1 / (1 + np.exp(0.9 * value))]], rtol=1e-4)
