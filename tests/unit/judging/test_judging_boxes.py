"""Maps of boxes side by side, of a detector whose right answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
import toy_boxes

from otx_xai import Engine
from otx_xai.data import find_images
from otx_xai.errors import ConfigError
from otx_xai.judging import Judgement
from otx_xai.judging.cases import JudgedCase, Network
from otx_xai.judging.map_makers import MapMaker
from otx_xai.model import open_model


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector whose boxes are cells of one colour, pictures of one red cell each, and one with nothing in it."""
    folder = tmp_path_factory.mktemp("desk")
    cells = toy_boxes.Cells()
    model = cells.model(boxes=cells.corners, scores=cells.scores)
    model.set_rt_info("detection", ["model_info", "task_type"])
    model.set_rt_info("red green", ["model_info", "labels"])
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    (folder / "photos").mkdir()
    for number, (row, column) in enumerate([(0, 1), (1, 3), (2, 0), (3, 2), (0, 3), (3, 0)]):
        # squares of noise, each of its own colour: on an even ground, any weights would light the cell alone
        picture = np.random.default_rng(number).integers(0, 90, (4, 4, 3)).astype(np.uint8)
        picture = picture.repeat(16, axis=0).repeat(16, axis=1)
        picture[16 * row :][:16, 16 * column :][:, :16] = (255, 0, 0)
        assert cv2.imwrite(str(folder / "photos" / f"{number}.png"), picture[..., ::-1])
    assert cv2.imwrite(str(folder / "photos" / "nothing.png"), np.full((64, 64, 3), 40, np.uint8))
    return folder


def judge(desk: Path, work_dir: Path, **options: Any) -> Judgement:
    return Engine(work_dir=work_dir).judge(desk / "model.xml", data_root=desk / "photos", **{"steps": 4, **options})


@pytest.fixture(scope="module")
def judgement(desk: Path, tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    methods = "detclassprobabilitymap,drise"
    return judge(desk, tmp_path_factory.mktemp("out"), methods=methods, num_masks=60, sanity=True)


def test_the_maps_of_boxes_beat_what_knows_nothing(judgement: Judgement) -> None:
    content = json.loads((judgement.work_dir / "judge.json").read_text())
    rows = {row["name"]: row for row in content["methods"]}
    assert list(rows) == ["detclassprobabilitymap", "drise", "box", "random", "centre"]
    assert content["score"] == "how well the box is found again"
    assert content["baselines"]["image"] > 0.9
    assert content["baselines"]["zero"] < 0.1
    for name in ("detclassprobabilitymap", "drise"):
        for control in ("random", "centre"):
            found = rows[name]["differences"][control]
            assert found["insertion_zero"]["mean"] > 2 * found["insertion_zero"]["standard_error"], (name, control)
            assert found["energy_in_box"]["mean"] > 2 * found["energy_in_box"]["standard_error"], (name, control)
    assert rows["detclassprobabilitymap"]["metrics"]["pointing_game"]["mean"] == 1


def test_the_filled_box_is_a_control(judgement: Judgement) -> None:
    own = judgement.scores["box"]
    np.testing.assert_allclose(own.energy_in_box, 1)
    np.testing.assert_allclose(own.complexity, 16 * 16 / 64**2, atol=1e-3)
    assert [method.kind for method in judgement.methods if method.name == "box"] == ["control"]


def test_images_without_a_box_are_listed(judgement: Judgement) -> None:
    assert judgement.counts.judged == 6
    assert judgement.counts.without_target == ("nothing.png",)
    assert judgement.exit_code == 0


def test_weights_in_another_order_give_other_maps(judgement: Judgement) -> None:
    assert judgement.sanity is not None
    own = judgement.sanity.methods["detclassprobabilitymap"]
    assert own.layers[-1].rank.count > 0
    assert "layers" not in own.unchanged


def test_perturbation_explains_a_box_that_is_not_found(desk: Path) -> None:
    """Of the judged box with the label of the other class, no network finds any; its map is of the box all the same."""
    opened = open_model(desk / "model.xml")
    ((_, case),) = Network(opened, "CPU").cases(find_images(desk / "photos" / "0.png"), {}, truth=False)
    assert isinstance(case, JudgedCase)
    maker = MapMaker(opened, "drise", {"num_masks": 60}, by_class=True)
    maker.prepare([0, 1])
    red, green = maker.explain(case), maker.explain(replace(case, target=1))
    assert red is not None
    assert green is not None
    rows, columns = red.values.shape
    peak = np.unravel_index(red.values.argmax(), red.values.shape)
    assert (peak[0] * 4 // rows, peak[1] * 4 // columns) == (0, 1)  # the red cell
    assert not np.array_equal(red.values, green.values)


def test_no_box_at_all(desk: Path, tmp_path: Path) -> None:
    found = Engine(work_dir=tmp_path).judge(desk / "model.xml", data_root=desk / "photos" / "nothing.png")
    assert (found.counts.judged, found.exit_code) == (0, 5)
    assert "Judged 0 of 1 image " in found.summary()


def test_the_truth_of_a_detector_is_not_judged(desk: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="judged are the boxes that it finds itself"):
        judge(desk, tmp_path, judged="truth")
