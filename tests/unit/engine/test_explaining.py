"""What a run leaves behind apart from its results: the model with its maps inside."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
import reference
from openvino import opset13 as ops

from otx_xai import Engine, Task, insert_xai
from otx_xai.errors import LabelError
from otx_xai.openvino_core import core

SIZE = (32, 48)
BOXES = np.array([[4, 4, 28, 20], [20, 8, 44, 30]], np.float32)
MASKS = np.random.default_rng(0).uniform(0, 1, (2, 7, 7)).astype(np.float32)
CLASSES = np.array([2, 0])


def segmenter() -> ov.Model:
    """Two regions, pooled, scored by their mean, clipped: nothing tells how many classes there are."""
    image = ops.parameter([1, 3, *SIZE], np.float32, name="image")
    image.set_layout(ov.Layout("NCHW"))
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    features = ops.relu(ops.convolution(image, weights, [4, 4], [1, 1], [1, 1], [1, 1]))
    pooled = ops.roi_align(features, ops.constant(BOXES), ops.constant(np.zeros(2, np.int32)), 1, 1, 2, 0.25, "avg")
    mean = ops.reduce_mean(pooled, np.array([1, 2, 3]), keep_dims=False)
    scores = ops.clamp(ops.multiply(mean, ops.constant(np.float32(0.018))), 0.5, 0.9)
    constants = {"boxes": BOXES, "labels": CLASSES, "masks": MASKS}
    outputs = {name: ops.constant(value) for name, value in constants.items()} | {"scores": scores}
    results = []
    for name, value in outputs.items():
        result = ops.result(ops.unsqueeze(value, ops.constant(0)))
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    return ov.Model(results, [image], "segmenter")


def test_an_instance_segmenter_without_model_info_is_saved_with_the_labels_of_the_user(tmp_path: Path) -> None:
    ov.save_model(segmenter(), tmp_path / "model.xml", compress_to_fp16=False)
    picture = np.random.default_rng(2).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    run = Engine(work_dir=tmp_path / "out").explain(
        tmp_path / "model.xml",
        data_root=tmp_path / "photo.png",
        labels="cat,cow,dog",
        output_model=tmp_path / "saved.xml",
    )
    assert sorted(run.explanations[0].targets) == [0, 2]
    saved = core().read_model(tmp_path / "saved.xml")
    tensor = picture[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    results = core().compile_model(saved, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tensor)
    assert np.ptp(results["scores"]) > 0.01
    literal = reference.instance_maps(BOXES, CLASSES, results["scores"][0], MASKS, 3, SIZE)
    np.testing.assert_allclose(results["saliency_map"][0], reference.scaled(literal), atol=0.1)


def test_labels_that_nobody_tells() -> None:
    with pytest.raises(LabelError, match="does not tell its classes"):
        insert_xai(segmenter(), Task.INSTANCE_SEGMENTATION)
    explained = insert_xai(segmenter(), Task.INSTANCE_SEGMENTATION, labels=["cat", "cow", "dog"], targets="dog")
    assert explained.output("saliency_map").shape == (1, 1, *SIZE)


def staged_classifier(classes: int) -> ov.Model:
    """A network of two strides."""
    rng = np.random.default_rng(0)
    image = ops.parameter([1, 3, *SIZE], np.float32, name="image")
    image.set_layout(ov.Layout("NCHW"))
    x = image
    for channels in (3, 4):
        weights = rng.normal(size=(4, channels, 2, 2)).astype(np.float32)
        x = ops.relu(ops.convolution(x, weights, [2, 2], [0, 0], [0, 0], [1, 1]))
    pooled = ops.reduce_mean(x, np.array([2, 3]), keep_dims=False)
    scores = ops.matmul(pooled, rng.normal(size=(4, classes)).astype(np.float32), False, False)
    scores.output(0).set_names({"logits"})
    return ov.Model([scores], [image], "classifier")


@pytest.mark.parametrize(
    ("classes", "said", "branch", "maps"),
    [
        (5, {}, "reciprocam", 5),
        (150, {"preset": "balance"}, "reciprocam", 150),
        (5, {"explain_method": "multistridecam"}, "multistridecam", 5),
        (150, {"explain_method": "multistridecam"}, "multistridecam", 1),
    ],
)
def test_what_is_saved_of_a_method_whose_classes_cost(
    classes: int, said: dict[str, str], branch: str, maps: int, tmp_path: Path
) -> None:
    ov.save_model(staged_classifier(classes), tmp_path / "model.xml", compress_to_fp16=False)
    cv2.imwrite(str(tmp_path / "photo.png"), np.random.default_rng(2).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    Engine(work_dir=tmp_path / "out").explain(
        tmp_path / "model.xml", data_root=tmp_path / "photo.png", output_model=tmp_path / "saved.xml", **said
    )
    saved = core().read_model(tmp_path / "saved.xml")
    assert saved.output("saliency_map").partial_shape[1] == maps
    assert any(node.get_friendly_name().startswith(f"xai/{branch}/") for node in saved.get_ops())
