"""A detector that wants tiles, whose boxes and maps can be told in advance: it scores the colours of 8 x 8 pixels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from doors import describe, prepare
from openvino import opset13 as ops

from otx_xai import Engine, ExplainConfig, Explainer
from otx_xai.errors import ModelError
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import Wanted
from otx_xai.explain.tiled import TiledImage
from otx_xai.model.facts import log_line
from otx_xai.model.formats import labelled
from otx_xai.model.formats.box_format import Found, Match
from otx_xai.records import InputGeometry, Method, ModelFacts, Task, Tiling
from otx_xai.runtime import Session

SIDE, CELL = 64, 8
CELLS = SIDE // CELL
LABELS = ["red", "green", "blue"]
WEIGHTS = (np.full((3, 3), -4.0) + 10 * np.eye(3)) / 255
BIAS = -1.0
THRESHOLD, LIMIT = 0.7, 12
TILES = {"tile_size": str(SIDE), "tiles_overlap": "0.5", "max_pred_number": str(LIMIT)}


def detector(**model_info: str) -> ov.Model:
    """Scores [1, 4 + 3, 64]: a box of 12 x 12 around every cell. What is all black makes its boxes NaN."""
    image = ops.parameter([1, 3, SIDE, SIDE], np.float32, name="image")
    pooled = ops.avg_pool(image, [CELL, CELL], [0, 0], [0, 0], [CELL, CELL], exclude_pad=True)
    kernel = ops.constant(WEIGHTS[:, :, None, None].astype(np.float32))
    logits = ops.convolution(pooled, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    logits = ops.add(logits, ops.constant(np.full((1, 3, 1, 1), BIAS, np.float32)))
    scores = ops.sigmoid(ops.reshape(logits, ops.constant(np.array([1, 3, -1])), special_zero=False))
    y, x = np.mgrid[:CELLS, :CELLS] * CELL + CELL / 2
    boxes = np.stack([x, y, np.full_like(x, 12), np.full_like(y, 12)]).reshape(1, 4, -1).astype(np.float32)
    light = ops.reduce_sum(image, ops.constant(np.array([1, 2, 3])))
    seen = ops.reshape(ops.divide(light, light), ops.constant(np.array([1, 1, 1])), special_zero=False)
    result = ops.concat([ops.multiply(ops.constant(boxes), seen), scores], 1)
    model = ov.Model([ops.result(result)], [image], "colours")
    own = {"task_type": "detection", "labels": " ".join(LABELS), "confidence_threshold": str(THRESHOLD)}
    for key, value in (own | TILES | model_info).items():
        model.set_rt_info(value, ["model_info", key])
    return model


def scene(size: tuple[int, int], seed: int) -> np.ndarray:
    """Colours that change slowly, RGB."""
    coarse = np.random.default_rng(seed).integers(20, 256, (5, 7, 3)).astype(np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


# ---------------------------------------------------------------------------------------------------------------------
# What must come out, tile by tile and place by place


def literal_tiles(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    height, width = size
    tiles = [(0, 0, width, height)]
    for left in range(0, width, SIDE // 2):
        for top in range(0, height, SIDE // 2):
            tiles.append((left, top, min(left + SIDE, width), min(top + SIDE, height)))
    return tiles


def literal_logits(tile: np.ndarray) -> np.ndarray:
    """Return (3, 8, 8)."""
    fitted = cv2.resize(tile, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) if tile.shape[:2] != (SIDE, SIDE) else tile
    means = fitted.reshape(CELLS, CELL, CELLS, CELL, 3).mean(axis=(1, 3))
    return np.einsum("kc,yxc->kyx", WEIGHTS, means) + BIAS


def literal_boxes(image: np.ndarray) -> list[tuple[int, float, list[float]]]:
    found = []
    for left, top, right, bottom in literal_tiles(image.shape[:2]):
        scores = 1 / (1 + np.exp(-literal_logits(image[top:bottom, left:right])))
        scale_x, scale_y = (right - left) / SIDE, (bottom - top) / SIDE
        for label, row, column in zip(*np.nonzero(scores >= THRESHOLD), strict=True):
            middle = np.array([column, row, column, row]) * CELL + CELL / 2
            box = np.clip(middle + np.array([-6, -6, 6, 6]), 0, SIDE) * [scale_x, scale_y, scale_x, scale_y]
            box += np.array([left, top, left, top])
            found.append((int(label), float(scores[label, row, column]), box.tolist()))
    kept: list[tuple[int, float, list[float]]] = []
    for label, score, box in sorted(found, key=lambda one: -one[1]):
        if all(label != other or iou(box, rival) <= 0.5 for other, _, rival in kept):
            kept.append((label, score, box))
    return kept[:LIMIT]


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def look(values: np.ndarray, y: float, x: float) -> float:
    """Return the value of a map at a place, in cells, bilinearly between the centres of cells."""
    y, x = (float(np.clip(place - 0.5, 0, length - 1)) for place, length in zip((y, x), values.shape, strict=True))
    top, left = min(int(y), values.shape[0] - 2), min(int(x), values.shape[1] - 2)
    (a, b), (c, d) = values[top : top + 2, left : left + 2]
    y, x = y - top, x - left
    return (1 - y) * ((1 - x) * a + x * b) + y * ((1 - x) * c + x * d)


def literal_maps(image: np.ndarray) -> np.ndarray:
    """Return (3, h, w) in cells of 8 x 8 pixels, scaled to [0, 1]."""
    height, width = image.shape[:2]
    tiles = literal_tiles((height, width))
    logits = np.array([literal_logits(image[top:bottom, left:right]) for left, top, right, bottom in tiles])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    result = np.zeros((3, height // CELL, width // CELL))
    for label, row, column in np.ndindex(*result.shape):
        y, x = (row + 0.5) * CELL, (column + 0.5) * CELL
        total = weights = 0.0
        for (left, top, right, bottom), maps in list(zip(tiles, probabilities, strict=True))[1:]:
            if left <= x <= right and top <= y <= bottom:
                weight = (min(x - left, right - x) + 0.5) * (min(y - top, bottom - y) + 0.5)
                inside = (y - top) / (bottom - top) * CELLS, (x - left) / (right - left) * CELLS
                total, weights = total + weight * look(maps[label], *inside), weights + weight
        whole = look(probabilities[0, label], y / height * CELLS, x / width * CELLS)
        result[label, row, column] = (total / weights + 0.5 * whole) / 1.5
    low, high = result.min(axis=(1, 2), keepdims=True), result.max(axis=(1, 2), keepdims=True)
    return (result - low) / (high - low)


# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "exported_model.xml"
    ov.save_model(detector(), file, compress_to_fp16=False)
    return file


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    dark = scene((96, 160), 3)
    dark[:SIDE, SIDE : 2 * SIDE] = 0  # one tile fails; those around it do not
    return {"a": scene((96, 160), 1), "b": dark, "c": scene((168, 104), 2), "d": scene((40, 48), 4)}


@pytest.fixture(scope="module")
def folder(images: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def test_boxes_and_maps_of_a_run_are_those_of_a_loop_over_tiles(
    model_file: Path, folder: Path, images: dict[str, np.ndarray], tmp_path: Path
) -> None:
    run = Engine(work_dir=tmp_path).explain(model_file, data_root=folder, targets=[2, 0])
    assert [explanation.name for explanation in run.explanations] == ["a.png", "c.png", "d.png"]
    assert (run.images, run.explained) == (5, 3)
    assert set(run.failures) == {"b.png", "bad.png"}
    assert "NaN" in run.failures["b.png"]
    for explanation in run.explanations:
        image = images[str(explanation.name)[0]]
        expected = literal_boxes(image)
        assert len(expected) == LIMIT
        assert [(p.target, p.label) for p in explanation.predictions] == [(t, LABELS[t]) for t, _, _ in expected]
        np.testing.assert_allclose([p.score for p in explanation.predictions], [s for _, s, _ in expected], atol=1e-4)
        if explanation.name == "d.png":
            continue  # smaller than a tile: no whole image beside it
        boxes = [p.box for p in explanation.predictions]
        np.testing.assert_allclose(sorted(boxes), sorted(box for _, _, box in expected), atol=1e-2)
        maps = literal_maps(image)
        assert list(explanation.saliency_map) == [2, 0]
        for target, grey in explanation.saliency_map.items():
            assert grey.shape == maps.shape[1:]
            np.testing.assert_allclose(grey / 255, maps[int(target)], atol=1 / 255)


def test_pictures_cover_the_image_and_an_interrupted_run_goes_on(
    model_file: Path, folder: Path, tmp_path: Path
) -> None:
    def explain() -> list[dict[str, object]]:
        engine = Engine(work_dir=tmp_path)
        config = ExplainConfig(content="both")
        run = engine.explain(model_file, data_root=folder, dump=True, explain_config=config)
        assert (run.explained, len(run.failures)) == (3, 2)
        return [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]

    lines = explain()
    assert [line["name"] for line in lines] == ["a.png", "c.png", "d.png"]
    for line in lines:
        for file in line["files"]:
            assert list(cv2.imread(str(tmp_path / file)).shape[:2]) == line["size"]
    journal = (tmp_path / "predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "predictions.jsonl").write_text(journal[1])
    manifest = json.loads((tmp_path / "run.json").read_text()) | {"status": "interrupted"}
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    again = explain()
    assert again[1] == lines[1]  # not explained again: its seconds are the same
    assert [{**line, "seconds": 0} for line in again] == [{**line, "seconds": 0} for line in lines]


def test_the_explainer_in_hand_tiles_alike(
    model_file: Path, folder: Path, images: dict[str, np.ndarray], tmp_path: Path
) -> None:
    run = Engine(work_dir=tmp_path).explain(model_file, data_root=folder / "c.png")
    explainer = Explainer(model_file)
    explanation = explainer(images["c"], targets="predicted", colormap=False, resize=False)
    assert explanation.predictions == run.explanations[0].predictions
    assert list(explanation.saliency_map) == list(run.explanations[0].saliency_map)
    for target, grey in explanation.saliency_map.items():
        np.testing.assert_array_equal(grey, run.explanations[0].saliency_map[target])
    shown = explainer(images["c"], targets=0, overlay=True)
    assert shown.shape == images["c"].shape
    boxed = explainer(images["c"], targets="boxes", colormap=False)
    assert len(boxed.saliency_map) == LIMIT


def test_tiles_may_come_in_any_order(model_file: Path, images: dict[str, np.ndarray]) -> None:
    prepared = prepare(model_file, targets=-1)
    assert not prepared.scaled
    session = Session(prepared.model, latency=True)
    size = images["a"].shape[:2]
    results = []
    for step in (1, -1):
        tiled = TiledImage(prepared, prepared.facts.tiling, size)
        assert len(tiled.grid) == len(literal_tiles(size))
        last = [
            tiled.add(number, session.run(tiled.tensor(images["a"], number).transpose(2, 0, 1)[None]))
            for number in range(len(tiled.grid))[::step]
        ]
        assert last == [False] * (len(last) - 1) + [True]
        results.append(tiled.choose())
    np.testing.assert_array_equal(results[0].maps, results[1].maps)
    assert results[0].predictions == results[1].predictions


def test_a_mask_counts_the_same_however_many_others_its_tile_has(model_file: Path) -> None:
    """InstSegExplainAlgo is a mean over the instances of a tile: one in the left tile, two in the right one."""
    tiling = Tiling(SIDE, 0.0, whole_image=False)
    info = ModelFacts(Task.INSTANCE_SEGMENTATION, ("cat", "dog"), InputGeometry((SIDE, SIDE)), tiling=tiling)
    method = Method.INSTSEGEXPLAINALGO.value
    roles = {"boxes": "boxes", "labels": "labels", "masks": "masks"}
    boxes = Found(labelled.FORMAT, Match("", roles, Task.INSTANCE_SEGMENTATION))
    prepared = Plan(ov.Model([], []), info, Wanted((1,), 0.3), method, boxes=boxes)
    tiled = TiledImage(prepared, tiling, (SIDE, 2 * SIDE))
    places = [[(8, 8)], [(16, 32), (40, 16)]]
    for number, corners in enumerate(places):
        masks = np.zeros((len(corners), SIDE, SIDE), np.float32)
        boxes = np.array([[x, y, x + 16, y + 16, 0.8] for y, x in corners], np.float32)
        for mask, (y, x) in zip(masks, corners, strict=True):
            mask[y : y + 16, x : x + 16] = 0.8
        outputs = {
            "boxes": boxes[None],
            "labels": np.ones((1, len(corners)), np.int64),
            "masks": np.ones((1, len(corners), 14, 14), np.float32),
            "saliency_map": masks.mean(axis=0)[None, None],
        }
        tiled.add(number, outputs)
    choice = tiled.choose()
    expected = np.zeros((SIDE, 2 * SIDE))
    for shift, corners in zip((0, SIDE), places, strict=True):
        for y, x in corners:
            expected[y : y + 16, x + shift : x + shift + 16] = 1
    np.testing.assert_allclose(choice.maps, expected[None], atol=1e-6)
    assert choice.detections is not None
    np.testing.assert_array_equal(choice.detections.mask_boxes, choice.detections.boxes)
    assert sorted(choice.detections.boxes[:, 0]) == [8, SIDE + 16, SIDE + 32]


def test_what_model_info_says_of_tiles() -> None:
    info = describe(detector(tiles_overlap="0.25", tile_with_full_img="False"), labels=LABELS)
    assert info.tiling == Tiling(SIDE, 0.25, LIMIT, whole_image=False)
    assert "tiles of 64 pixels, 25% overlap" in log_line(info)
    assert describe(detector(tiles_overlap="", max_pred_number=""), labels=LABELS).tiling == Tiling(SIDE, 0.5, 100)
    assert describe(detector(tile_size=""), labels=LABELS).tiling is None
    for key, value in {"tile_size": "0", "tiles_overlap": "1", "max_pred_number": "2.5"}.items():
        with pytest.raises(ModelError, match=f"model_info/{key} of the model is '{value}'; expected a"):
            describe(detector(**{key: value}), labels=LABELS)


def test_an_audit_does_not_tell_where_the_images_of_failed_tiles_lie(
    model_file: Path, folder: Path, tmp_path: Path
) -> None:
    done = Engine(work_dir=tmp_path / "out").audit(model_file, data_root=folder)
    assert done.exit_code == 7
    assert set(done.failures) == {"b.png", "bad.png"}
    assert not [file for file in done.folder.rglob("*") if file.is_file() and str(folder).encode() in file.read_bytes()]
