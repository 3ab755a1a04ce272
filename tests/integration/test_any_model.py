"""Kinds of models that people have, from the door to the journal: at the first try, or with the flag that is named."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import classifiers
import cv2
import numpy as np
import onnx
import openvino as ov
import pytest
import toy_boxes
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as ops

from otx_xai import Engine, ExplainConfig
from otx_xai.cli import main
from otx_xai.errors import ConfigError, ModelError
from otx_xai.graph.view import View
from otx_xai.model import identity, open_model
from otx_xai.model.formats import choice, queries
from otx_xai.model.formats.box_format import DetectorOutputs, Match


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A picture with a red and a green cell."""
    path = tmp_path / "scene.png"
    picture = toy_boxes.picture()[0].transpose(1, 2, 0).astype(np.uint8)
    cv2.imwrite(str(path), picture[:, :, ::-1])
    return path


def lines_of(work_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (work_dir / "predictions.jsonl").read_text().splitlines()]


def with_outputs(image: ov.Node, path: Path, **outputs: ov.Node) -> Path:
    results = []
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    ov.save_model(ov.Model(results, [image]), path, compress_to_fp16=False)
    return path


# --- classifiers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_heads(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    image = ops.parameter([1, 3, 32, 32], np.float32, name="image")
    kernel = rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    features = ops.relu(ops.convolution(image, ops.constant(kernel), [2, 2], [1, 1], [1, 1], [1, 1]))
    pooled = ops.reduce_mean(features, ops.constant(np.array([2, 3])), False)
    heads = {
        name: ops.matmul(pooled, ops.constant(rng.normal(0, 0.1, (8, count)).astype(np.float32)), False, False)
        for name, count in {"age": 5, "gender": 2}.items()
    }
    return with_outputs(image, tmp_path / "heads.xml", **heads)


def test_two_heads_are_asked_about(two_heads: Path, scene: Path, tmp_path: Path) -> None:
    engine = Engine(work_dir=tmp_path / "out")
    with pytest.raises(ModelError, match=r"age \[1,5\], gender \[1,2\]. Expected one: choose it by --output NAME"):
        engine.explain(two_heads, data_root=scene)
    with pytest.raises(ConfigError, match=r"--output 'mood' is no output of the model; expected one of age .*gender"):
        engine.explain(two_heads, data_root=scene, output="mood")
    for output, count in (("age", 5), ("gender", 2), ("1", 2)):
        run = engine.explain(two_heads, data_root=scene, output=output, targets=-1)
        assert run.explanations[0].targets == list(range(count))


def test_weights_outside_of_the_file_count(tmp_path: Path) -> None:
    path, digests = tmp_path / "m.onnx", []
    for seed in (1, 2):
        (tmp_path / "m.data").unlink(missing_ok=True)
        weights = np.random.default_rng(seed).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["logits"]),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
            [numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save_model(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
        opened = open_model(path)
        assert [file.name for file in opened.files] == ["m.onnx", "m.data"]
        digests.append(opened.digest)
    assert digests[0] != digests[1]


def test_a_folder_with_its_configuration_is_a_checkpoint(scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    ov.save_model(classifiers.colour_classifier(), folder / "openvino_model.xml")
    names = {"0": "r", "1": "g", "2": "b", "3": "grey"}
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet", "id2label": names}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_normalize": False, "do_rescale": True, "rescale_factor": 1 / 255, "do_resize": True})
    )
    opened = open_model(folder)
    assert opened.facts.labels == tuple(names.values())
    assert opened.facts.scale == pytest.approx((255,) * 3)
    assert {file.name for file in opened.files} >= {"openvino_model.xml", "config.json", "preprocessor_config.json"}
    before = opened.digest
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet", "id2label": names | {"3": "gray"}}))
    assert open_model(folder).digest != before
    assert main(["explain", f"--checkpoint={folder}", f"--data_root={scene}", f"--work_dir={tmp_path / 'out'}"]) == 0


def test_what_has_no_branch_is_not_saved(scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ov.save_model(classifiers.colour_classifier(), tmp_path / "model.xml")
    saved = tmp_path / "saved.xml"
    Engine(work_dir=tmp_path / "out").explain(
        tmp_path / "model.xml", data_root=scene, explain_mode="blackbox", num_masks=20, output_model=saved
    )
    assert "explained with rise, which perturbs the input, so that there is no branch to save" in caplog.text
    assert not saved.exists()


# --- detectors --------------------------------------------------------------------------------------------------------


def test_saved_detectors_keep_the_threshold_of_the_run(scene: Path, tmp_path: Path) -> None:
    """The masks of an instance segmenter count in its map from the threshold on that the run used."""
    cells = toy_boxes.Cells()
    best = ops.topk(cells.scores, np.int64(1), 2, "max", "value", "i64")
    boxes = ops.concat([cells.corners, best.output(0)], 2)
    labels = ops.reshape(best.output(1), np.array([1, 16]), False)
    masks = ops.add(ops.reshape(cells.rows(cells.layer(4), 4), np.array([1, 16, 2, 2]), False), np.float32(1))
    path = with_outputs(cells.image, tmp_path / "m.xml", boxes=boxes, labels=labels, masks=masks)
    maps = {}
    for threshold in (0.5, 1e-6):
        saved = tmp_path / f"{threshold}.xml"
        Engine(work_dir=tmp_path / "out", task="instance_segmentation").explain(
            path,
            data_root=scene,
            labels="red,green",
            explain_config=ExplainConfig(confidence_threshold=threshold),
            output_model=saved,
        )
        maps[threshold] = toy_boxes.run(ov.Core().read_model(saved))["saliency_map"]
    assert np.count_nonzero(maps[0.5]) < np.count_nonzero(maps[1e-6])


def _made_up(outputs: DetectorOutputs) -> Match | None:
    """Match queries under names that nobody uses."""
    ports = {name: port for port in outputs.ports for name in port.names}
    if {"who", "where"} - ports.keys():
        return None
    roles = {"logits": ports["who"].name, "boxes": ports["where"].name}
    return replace(_LIKE, reason="it is made up", roles=roles)


_LIKE = Match("", {}, num_classes=2, suppressed=True)


def test_a_row_is_enough_for_a_format(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(arrays, match, size, threshold):
        scores = 1 / (1 + np.exp(-arrays[match.roles["logits"]]))
        return choice.READ_BY_CALLER.format.decode(
            {
                "boxes": arrays[match.roles["boxes"]] * 64,
                "scores": scores.max(1),
                "labels": scores.argmax(1),
            },
            choice.READ_BY_CALLER.match,
            size,
            threshold,
        )

    row = replace(queries.FORMATS[0], name="made_up", matches=_made_up, decode=decode, proposals=None)
    monkeypatch.setattr(choice, "BOX_FORMATS", (row, *choice.BOX_FORMATS))
    cells = toy_boxes.Cells()
    where = ops.reshape(ops.divide(cells.corners, np.float32(64)), np.array([16, 4]), False)
    who = ops.reshape(cells.logits, np.array([16, 2]), False)
    path = with_outputs(cells.image, tmp_path / "m.xml", who=who, where=where)
    for name in (None, "made_up"):
        work = tmp_path / f"out-{name}"
        Engine(work_dir=work).explain(path, data_root=scene, labels="red,green", format=name, dump=True)
        (line,) = lines_of(work)
        found = {prediction["label"]: prediction["box"] for prediction in line["predictions"]}
        assert found["red"] == pytest.approx(toy_boxes.RED, abs=1e-3)
        assert found["green"] == pytest.approx(toy_boxes.GREEN, abs=1e-3)
        assert json.loads((work / "run.json").read_text())["settings"]["facts"]["box_format"] == "made_up"
    with pytest.raises(ConfigError, match=r"--format is 'nonsense'; expected one of.*made_up"):
        Engine(work_dir=tmp_path / "x").explain(path, data_root=scene, labels="red,green", format="nonsense")


# --- every fact once --------------------------------------------------------------------------------------------------


def test_a_graph_is_looked_at_once(
    two_heads: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither class scores nor the format of boxes are found a second time, whatever a run does."""
    seen: Counter[str] = Counter()
    for name in ("find_class_scores", "find_format"):
        found = getattr(identity, name)

        def counted(*args, found=found, name=name, **more):
            seen[name] += 1
            return found(*args, **more)

        monkeypatch.setattr(identity, name, counted)
    analysed = View.__init__

    def view(self: View, *args, **more) -> None:
        seen["View"] += 1
        analysed(self, *args, **more)

    monkeypatch.setattr(View, "__init__", view)
    cells = toy_boxes.Cells()
    detector = with_outputs(cells.image, tmp_path / "m.xml", boxes=cells.corners, scores=cells.scores)
    runs = {"classifier": (two_heads, {"output": "age"}), "detector": (detector, {"labels": "red,green"})}
    counts = {}
    for name, (path, options) in runs.items():
        Engine(work_dir=tmp_path / name).explain(path, data_root=scene, dump=True, **options)
        counts[name] = dict(seen)
        seen.clear()
    print(counts)
    assert counts["classifier"] == {"find_class_scores": 1, "View": 1}
    assert counts["detector"] == {"find_format": 1, "View": 1}
