"""Explanation by perturbation as its users see it: chosen without a flag, told, recorded, and on the object."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event

import classifiers
import cv2
import detectors
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai import Engine, ExplainConfig, Explainer, InputOptions, Method
from otx_xai.cli import main
from otx_xai.errors import ConfigError, GraphError, TargetError
from otx_xai.explain.run import ExplainRun
from otx_xai.perturb import Progress, Watch

SIZE = (48, 64)


def brightness_model(kind: str = "if") -> ov.Model:
    """Two classes: light and dark. Which way the score takes is decided by the image: no branch can be put in."""
    image = ops.parameter([1, 3, *SIZE], np.float32, name="image")
    image.set_layout(ov.Layout("NCHW"))
    mean = ops.reduce_mean(image, ops.constant(np.array([1, 2, 3])), keep_dims=False)
    level = ops.unsqueeze(mean, ops.constant(1))
    is_light = ops.squeeze(ops.greater(mean, ops.constant(np.float32(100))), ops.constant(0))
    chosen = ops.if_op(is_light.output(0))
    bodies = []
    for factor in (0.05, 0.04):
        inner = ops.parameter([1, 1], np.float32)
        scaled = ops.multiply(ops.subtract(inner, ops.constant(np.float32(100))), ops.constant(np.float32(factor)))
        pair = ops.concat([scaled, ops.negative(scaled)], 1)
        bodies.append((ov.Model([ops.result(pair)], [inner]), inner))
    chosen.set_then_body(bodies[0][0])
    chosen.set_else_body(bodies[1][0])
    chosen.set_input(level.output(0), bodies[0][1], bodies[1][1])
    result = chosen.set_output(bodies[0][0].results[0], bodies[1][0].results[0])
    model = ov.Model([ops.result(result)], [image], kind)
    model.outputs[0].get_tensor().set_names({"logits"})
    model.set_rt_info("light dark", ["model_info", "labels"])
    return model


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A picture that is light in its lower right quarter only, and one that is light everywhere."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture = np.full((*SIZE, 3), 60, np.uint8)
    picture[24:, 32:] = 255
    cv2.imwrite(str(folder / "a.png"), picture)
    cv2.imwrite(str(folder / "b.png"), np.full((*SIZE, 3), 255, np.uint8))
    return folder


def test_a_graph_without_a_place_is_explained_without_a_flag(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "otx_xai")
    ov.save_model(brightness_model(), tmp_path / "model.xml")
    out = tmp_path / "out"
    options = {"--checkpoint": tmp_path / "model.xml", "--data_root": photos, "--work_dir": out, "--targets": "light"}
    assert main(["explain", *(str(word) for option in options.items() for word in option), "--dump", "True"]) == 0
    assert "Explaining with rise (black box, because the graph gives no place" in caplog.text
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["method"] == "rise"
    assert settings["reason"].startswith("black box, because the graph gives no place for a branch: ")
    entries = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [entry["method"] for entry in entries] == ["rise", "rise"]
    grey = cv2.imread(str(out / "saliency_map" / "a_class_light_saliency_map.png"), cv2.IMREAD_GRAYSCALE)
    row, column = np.unravel_index(grey.argmax(), grey.shape)
    assert row >= 24
    assert column >= 32
    # resumed: nothing is left to do, and the same run gives the same maps
    again = Engine(work_dir=tmp_path / "again").explain(
        tmp_path / "model.xml", data_root=photos, targets="light", dump=True
    )
    other = cv2.imread(str(again.work_dir / "saliency_map" / "a_class_light_saliency_map.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(grey, other)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("method", "number", "reports", "done"), [("rise", 100_000, 2, 0), ("rise", 64, 3, 1), ("aise", None, 1, 0)]
)
def test_an_image_whose_passes_are_cut_short_is_left_to_the_next_run(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    number: int | None,
    reports: int,
    done: int,
) -> None:
    """Ctrl-C during the first image or the second one; 100 000 passes would take minutes."""
    ov.save_model(brightness_model(), tmp_path / "model.xml")
    out, seen = tmp_path / "out", []

    def explain() -> ExplainRun:
        options = {"explain_method": method, "num_masks": number, "preset": "speed", "targets": "light"}
        return Engine(work_dir=out).explain(tmp_path / "model.xml", data_root=photos, dump=True, **options)

    def watch(report: Callable[[Progress], None], stop: Event) -> Watch:
        def reported(progress: Progress) -> None:
            seen.append(progress.done)
            report(progress)
            if len(seen) == reports:
                signal.raise_signal(signal.SIGINT)

        return Watch(reported, stop)

    with monkeypatch.context() as patch:
        patch.setattr("otx_xai.explain.run.Watch", watch)
        run = explain()
    assert (run.explained, run.failures, run.interrupted, run.exit_code) == (done, {}, True, 130)
    assert "Stopping: the image in hand is left to the next run" in caplog.text
    assert max(seen) < 500
    assert len((out / "predictions.jsonl").read_text().splitlines()) == done
    assert len(list(out.rglob("*.png"))) == 2 * done
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    if number != 100_000:
        run = explain()
        assert (run.resumed, run.explained, run.exit_code) == (done, 2, 0)


def test_white_box_alone_refuses_such_a_graph() -> None:
    with pytest.raises(GraphError):
        Explainer(brightness_model(), explain_mode="whitebox")
    with pytest.raises(GraphError):
        Explainer(brightness_model(), target_layer="image")


def test_the_white_box_is_taken_where_it_can_be(photos: Path) -> None:
    model = classifiers.colour_classifier((-1, 3, 64, 96))
    image = classifiers.coloured_image((64, 96), "red")
    explanation = Explainer(model)(image, targets=[0])
    assert explanation.method == "reciprocam (white box: the graph allows it)"
    rise = Explainer(model, explain_mode="blackbox")(image, targets=[0], num_masks=64, seed=1, colormap=False)
    assert rise.method == "rise (asked for)"
    assert rise.shape == explanation.shape[:2]


def test_own_functions_are_used(photos: Path) -> None:
    """``preprocess_fn`` and ``postprocess_fn`` see what OpenVINO would give them: batches, by number and by name."""
    seen: list[tuple[int, ...]] = []

    def postprocess(outputs: dict[object, np.ndarray]) -> np.ndarray:
        seen.append(outputs[0].shape)
        np.testing.assert_array_equal(outputs[0], outputs["logits"])
        return outputs["logits"][:, ::-1]  # the other way round

    model = brightness_model()
    image = cv2.imread(str(photos / "a.png"))[..., ::-1].astype(np.float32)
    own = Explainer(model, preprocess_fn=lambda x: x.transpose(2, 0, 1)[None], postprocess_fn=postprocess)
    turned = own(image, targets=[1], colormap=False, num_masks=64)
    plain = Explainer(model, preprocess_fn=lambda x: x.transpose(2, 0, 1)[None])
    expected = plain(image, targets=[0], colormap=False, num_masks=64)
    assert set(seen) == {(1, 2)}
    np.testing.assert_allclose(turned.saliency_map[1].astype(int), expected.saliency_map[0].astype(int), atol=1)


def test_maps_that_say_nothing_are_told(photos: Path, tmp_path: Path) -> None:
    model = classifiers.colour_classifier((-1, 3, 64, 96))
    ov.save_model(model, tmp_path / "model.xml")
    black = np.zeros((64, 96, 3), np.uint8)
    explanation = Explainer(model, explain_method="rise")(black, targets=[0], num_masks=32)
    assert len(explanation.warnings) == 1
    assert "class '0': the map is constant" in explanation.warnings[0]
    cv2.imwrite(str(photos / "c.png"), black)
    run = Engine(work_dir=tmp_path / "out").explain(tmp_path / "model.xml", data_root=photos / "c.png", targets=[0])
    alike, constant = run.explanations[0].warnings  # a branch in the graph knows the scores of all classes
    assert alike.startswith("all 4 classes have the same score, 0.25:")
    assert "class '0': the map is constant" in constant
    assert json.loads((run.work_dir / "run.json").read_text())["images_with_warnings"] == 1


@pytest.mark.parametrize("method", ["drise", "aise"])
def test_boxes_are_explained_each_by_itself(method: str, photos: Path, tmp_path: Path) -> None:
    ov.save_model(detectors.case("fastestdet").model, tmp_path / "model.xml")
    config = ExplainConfig(confidence_threshold=0.3, predicted_maps_conf_thr=1.0, content="overlays")
    run = Engine(work_dir=tmp_path / "out").explain(
        tmp_path / "model.xml",
        data_root=photos / "a.png",
        input=InputOptions(scale=64),
        labels=[str(i) for i in range(detectors.CLASSES)],
        explain_method=method,
        num_masks=32 if method == "drise" else None,
        preset="speed",
        explain_config=config,
        dump=True,
    )
    (entry,) = (json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    assert run.failures == {}
    assert len(entry["predictions"]) > 1
    assert entry["targets"] == entry["predictions"][:1]  # none reaches the threshold: the best one
    assert len(entry["files"]) == 1
    assert entry["files"][0].endswith("_box_0_overlay.png")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"explain_mode": "whitebox", "explain_method": "rise"}, ConfigError, "rise is no whitebox method"),
        ({"explain_mode": "blackbox", "explain_method": "reciprocam"}, ConfigError, "reciprocam is no blackbox method"),
        (
            {"explain_method": "drise"},
            ConfigError,
            "drise explains no classification; expected one of rise, guidedrise, aise",
        ),
    ],
)
def test_methods_that_do_not_fit(options: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Explainer(brightness_model(), **options)


def test_values_that_do_not_fit() -> None:
    explainer = Explainer(brightness_model(), explain_method=Method.RISE)
    image = np.zeros((*SIZE, 3), np.uint8)
    with pytest.raises(ConfigError, match="num_masks is 1; expected a whole number from 2 on"):
        explainer(image, targets=[0], num_masks=1)
    with pytest.raises(TargetError, match="a classifier has none"):
        explainer(image, targets="boxes")
