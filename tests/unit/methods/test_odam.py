"""ODAM against the gradients of torch, box by box, and what must hold whatever the detector."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
import torch
from detectors import FAMILIES, SIZE, Case, Pyramid, case, convert, images
from doors import prepare
from openvino import opset13 as ops

from otx_xai import Engine, Explainer, insert_xai
from otx_xai.errors import ConfigError, GraphError, ImageError
from otx_xai.explain.box_gradients import choose_with_gradients
from otx_xai.explain.plan import How, Plan, plan
from otx_xai.explain.targets import BOXES, Choice
from otx_xai.methods import box_passes
from otx_xai.methods.box_passes import BoxPasses
from otx_xai.methods.box_seeds import seed_inputs
from otx_xai.methods.box_windows import BoxWindows
from otx_xai.methods.level_sums import combined
from otx_xai.methods.shared_seeds import Groups, divided
from otx_xai.methods.spec import BoxesAsked
from otx_xai.model import ModelOptions, open_model
from otx_xai.postprocess import min_max
from otx_xai.records import Detections, InputOptions, MapGrid, Preset, ScoreOrigin, Size
from otx_xai.runtime import Session

FAMILY_NAMES = tuple(FAMILIES)
SLOW_OR_OTHER = ("fcos", "retinanet", "ssd", "fastestdet", "classes_first")
"""Families that are like another one, weigh their factors, or need to be told their format."""

LABELS = ",".join("abcde")


@cache
def ready(name: str, targets: str = BOXES) -> tuple[Case, Plan, Session]:
    """A detector, what explains it, and the same compiled."""
    built = case(name)
    made = prepare(built.model, labels=LABELS, targets=targets, method="odam", confidence_threshold=0.05)
    return built, made, Session(made.model, latency=True)


def explained(name: str, targets: str = BOXES) -> tuple[Case, Plan, Choice]:
    built, made, session = ready(name, targets)
    return built, made, made.choose(session.run(built.image.numpy()), SIZE, session)


@contextmanager
def stages_of(module: torch.nn.Module) -> Iterator[dict[int, list[torch.Tensor]]]:
    """What each stage gives, by its width; these detectors run their backbone once for every purpose."""
    backbone = module.net.backbone if hasattr(module, "net") else module.pyramid
    caught: dict[int, list[torch.Tensor]] = {}

    def catch(_: object, __: object, output: torch.Tensor) -> None:
        caught.setdefault(output.shape[3], []).append(output)

    hooks = [stage.register_forward_hook(catch) for stage in (backbone.stem, *backbone.stages)]
    yield caught
    for hook in hooks:
        hook.remove()


def layer_cams(
    score: torch.Tensor, stages: dict[int, list[torch.Tensor]], empty: list[torch.Tensor]
) -> list[np.ndarray]:
    """LayerCAM of a score at each stage, of what is more there than in an empty image, ``(1, h, w)``."""
    levels = []
    for copies, nothing in zip(stages.values(), empty, strict=True):
        found = torch.autograd.grad(score, copies, retain_graph=True, allow_unused=True)
        gradient = sum(torch.zeros_like(copies[0]) if one is None else one for one in found)
        levels.append((gradient.relu() * (copies[0] - nothing)).sum(1).relu().detach().numpy())
    return levels


def expected_maps(
    built: Case, score_of: Callable[[int, tuple[torch.Tensor, ...]], torch.Tensor], count: int
) -> np.ndarray:
    """The maps of the first boxes, in [0, 1], by torch."""
    with torch.no_grad(), stages_of(built.module) as bare:
        built.module(torch.zeros_like(built.image))
    empty = [copies[0].mean((2, 3), keepdim=True) for copies in bare.values()]
    with stages_of(built.module) as stages:
        given = built.module(built.image.clone().requires_grad_())
    given = given if isinstance(given, tuple) else (given,)
    boxes = [layer_cams(score_of(box, given), stages, empty) for box in range(count)]
    levels = [np.concatenate(level) for level in zip(*boxes, strict=True)]
    steps = [SIZE[0] / level.shape[1] for level in levels]
    # padded 3 x 3 convolutions look at every so many pixels, from the first one on
    return min_max(combined(levels, SIZE, [MapGrid((0.5, 0.5), (step, step)) for step in steps]))


@pytest.mark.parametrize("name", [name for name in FAMILY_NAMES if name not in SLOW_OR_OTHER])
def test_maps_equal_those_of_torch(name: str) -> None:
    """For every family: raw heads with and without objectness, soft-max with background, boxes selected inside."""
    built, made, choice = explained(name)
    assert choice.detections is not None
    assert len(choice.detections) >= 2
    names = [min(port.get_names(), default=str(i)) for i, port in enumerate(built.model.outputs)]
    origins = choice.detections.origins

    def score(box: int, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return math.prod(given[names.index(one.output)].flatten()[one.elements[box]] for one in origins)

    count = min(len(choice.detections), 10)  # more than share a run
    np.testing.assert_allclose(choice.maps[:count], expected_maps(built, score, count), atol=2e-3)
    assert made.method == "odam"
    assert choice.maps[:count].max() == 1


def test_boxes_of_a_weighted_product() -> None:
    """FastestDet weighs objectness and class score by powers: the gradient is that of the logarithm."""
    built, _, choice = explained("fastestdet")
    found = choice.detections
    assert found is not None
    assert len(found.origins) == 2

    def score(box: int, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        objectness, share = (given[0].flatten()[origin.elements[box]] for origin in found.origins)
        return objectness**0.6 * share**0.4

    np.testing.assert_allclose(choice.maps[:2], expected_maps(built, score, 2), atol=2e-3)


def test_maps_do_not_depend_on_other_boxes() -> None:
    """A box has the same map alone, in another order, and in another run of the second model."""
    built, made, session = ready("yolov8")
    outputs = session.run(built.image.numpy())
    choice = made.choose(outputs, SIZE, session)
    assert made.second_pass is not None
    assert choice.detections is not None
    found = choice.detections
    order = np.arange(len(found))[::-1]
    turned = replace(
        found,
        boxes=found.boxes[order],
        labels=found.labels[order],
        scores=found.scores[order],
        origins=tuple(origin.of(order) for origin in found.origins),
    )
    starts = {name: outputs[name] for name in made.second_pass.starts}
    placed = (SIZE, made.facts.geometry)
    again = choose_with_gradients(starts, turned, placed, made.facts.labels, made.wanted, made.second_pass, session)
    np.testing.assert_allclose(again.maps[order], choice.maps, atol=1e-5)


def few_boxes(name: str, targets: str, count: int) -> Choice:
    """What is explained of an image in which so many boxes are found."""
    built, made, session = ready(name, targets)
    outputs = session.run(built.image.numpy())
    least = explained(name)[2].targets[count - 1].score
    return replace(made, facts=replace(made.facts, confidence_threshold=least)).choose(outputs, SIZE, session)


def test_classes_are_lit_where_their_boxes_are() -> None:
    """The map of a class is the largest of those of its boxes, place by place; best classes first."""
    boxes, classes = (few_boxes("yolov8", targets, 3) for targets in (BOXES, "predicted"))
    sure = list(dict.fromkeys(target.target for target in boxes.targets if target.score >= 0.3))
    assert len(boxes.targets) == 3
    assert [target.target for target in classes.targets] == (sure or [boxes.targets[0].target])
    for target, one in zip(classes.targets, classes.maps, strict=True):
        own = [i for i, box in enumerate(boxes.targets) if box.target == target.target]
        np.testing.assert_allclose(one, boxes.maps[own].max(axis=0), atol=1e-5)


def test_boxes_of_a_class_share_a_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two red squares and a green one, far from each other, take one way back, and have the maps of each alone."""
    monkeypatch.setattr(BoxWindows, "_local", frozenset())  # as if scores looked at the whole image
    image = np.full((1, 3, 64, 128), 0.1, np.float32)
    image[0, 0, 16:32, 16:32] = 1
    image[0, 0, 16:32, 112:128] = 0.7  # a fainter one counts as much
    image[0, 1, 48:64, 64:80] = 1
    seeds = list[int]()

    def counted(boxes: Sequence[object], leaf: int) -> object:
        seeds.append(len(boxes))
        return seed_inputs(boxes, leaf)  # type: ignore[arg-type]

    monkeypatch.setattr(box_passes, "seed_inputs", counted)
    made = {one: prepare(two_stages(), labels="red,green", targets=one, method="odam") for one in (BOXES, "predicted")}
    choices = []
    for one in made.values():
        session = Session(one.model)
        choices.append(one.choose(session.run(image), (64, 128), session))
    boxes, classes = choices
    assert seeds == [3, 1]
    assert sorted(target.label for target in boxes.targets) == ["green", "red", "red"]
    for target, one in zip(classes.targets, classes.maps, strict=True):
        own = [i for i, box in enumerate(boxes.targets) if box.target == target.target]
        np.testing.assert_allclose(one, boxes.maps[own].max(axis=0), atol=0.01)


def test_a_class_whose_places_all_go_to_other_boxes_is_explained_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoxWindows, "_local", frozenset())  # as if scores looked at the whole image
    image = np.full((1, 3, 64, 128), 0.1, np.float32)
    image[0, 0, 16:32, 16:32] = 1
    image[0, 1, 48:64, 64:80] = 1
    made = prepare(two_stages(), labels="red,green", targets="predicted", method="odam")
    session = Session(made.model)
    wanted = made.choose(session.run(image), (64, 128), session)

    def first_takes_all(level: np.ndarray, groups: Groups, boxes: np.ndarray, size: Size) -> np.ndarray:
        maps = divided(level, groups, boxes, size)
        for group in groups:
            maps[list(group[1:])] = 0
        return maps

    monkeypatch.setattr(box_passes, "divided", first_takes_all)
    again = made.choose(session.run(image), (64, 128), session)
    assert {target.label for target in again.targets} == {"red", "green"}
    np.testing.assert_allclose(again.maps, wanted.maps, atol=0.01)


def test_many_ways_back_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """An image of hundreds of boxes is explained, and the log says beforehand what that takes."""
    found = Detections(np.zeros((31, 4)), np.arange(31), np.ones(31))
    passes = BoxPasses.__new__(BoxPasses)
    passes._lock, passes._told = Lock(), False
    for _ in range(2):
        assert len(passes._groups(BoxesAsked(found, found.boxes), [])) == 31
    (told,) = [record.getMessage() for record in caplog.records]
    assert "take 31 ways back" in told


def test_chosen_classes_without_a_box_are_told() -> None:
    built, plain, session = ready("yolov8")
    best = explained("yolov8")[2].targets[0]
    facts = replace(plain.facts, confidence_threshold=best.score)
    wanted = replace(plain.wanted, indices=((best.target + 1) % 5,), per_box=False)
    choice = replace(plain, facts=facts, wanted=wanted).choose(session.run(built.image.numpy()), SIZE, session)
    assert choice.targets == ()
    assert len(choice.maps) == 0
    assert "there is no map of it" in choice.warnings[0]


def test_no_box_no_map() -> None:
    built, made, session = ready("yolov8")
    outputs = session.run(built.image.numpy())
    nothing = replace(made, facts=replace(made.facts, confidence_threshold=1.0))
    choice = nothing.choose(outputs, SIZE, session)
    assert choice.predictions == ()
    assert choice.targets == ()
    assert len(choice.maps) == 0


def test_two_colours_apart_are_lit_apart() -> None:
    """Boxes far from each other have maps whose peaks lie in them."""
    model = two_stages()
    image = np.full((1, 3, 64, 128), 0.1, np.float32)
    image[0, 0, 16:32, 16:32] = 1  # a red square on the left, a green one on the right
    image[0, 1, 32:48, 96:112] = 1
    made = prepare(model, labels="red,green", targets=BOXES, method="odam")
    session = Session(made.model)
    choice = made.choose(session.run(image), (64, 128), session)
    assert {target.label for target in choice.targets} == {"red", "green"}
    for target, one in zip(choice.targets, choice.maps, strict=True):
        row, column = np.unravel_index(one.argmax(), one.shape)
        y, x = (row + 0.5) * 64 / one.shape[0], (column + 0.5) * 128 / one.shape[1]
        assert target.box is not None
        left, top, right, bottom = target.box
        assert left <= x <= right
        assert top <= y <= bottom
        inside = one[:, : one.shape[1] // 2] if target.label == "red" else one[:, one.shape[1] // 2 :]
        assert inside.sum() > 0.99 * one.sum()


def two_stages(*, dead: bool = False, scale: float = 1.0) -> ov.Model:
    """A detector of cells of 16 × 16 pixels that sees red and green: mean colours at strides 8 and 16, then rows."""
    image = ops.parameter([1, 3, 64, 128], np.float32, name="image")
    image.output(0).get_tensor().set_names({"image"})
    mean = np.zeros((3, 3, 8, 8), np.float32)
    mean[range(3), range(3)] = 1 / 64
    fine = ops.relu(ops.convolution(image, mean, [8, 8], [0, 0], [0, 0], [1, 1]))
    coarse = np.zeros((3, 3, 2, 2), np.float32)
    coarse[range(3), range(3)] = 1 / 4
    deep = ops.relu(ops.convolution(fine, coarse, [2, 2], [0, 0], [0, 0], [1, 1]))
    mix = np.array([[1, -1, -1], [-1, 1, -1]], np.float32).reshape(2, 3, 1, 1)
    logits = ops.convolution(deep, mix * np.float32(12 * scale), [1, 1], [0, 0], [0, 0], [1, 1])
    if dead:
        logits = ops.minimum(logits, np.float32(0.5))
    flat = ops.reshape(ops.subtract(logits, np.float32(0 if dead else 4 * scale)), np.array([1, 2, 32]), False)
    y, x = np.mgrid[:4, :8].reshape(2, 32).astype(np.float32) * 16 + 8
    boxes = ops.convolution(deep, np.zeros((4, 3, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    side = np.full_like(x, 16)
    places = ops.add(ops.reshape(boxes, np.array([1, 4, 32]), False), np.stack([x, y, side, side])[None])
    output = ops.concat([places, ops.sigmoid(flat)], 1)
    output.output(0).get_tensor().set_names({"output0"})
    return ov.Model([ops.result(output)], [image], "cells")


def test_a_dead_score_is_told() -> None:
    """Where nothing raises the score any more, the map is empty, and a warning says so."""
    image = np.zeros((1, 3, 64, 128), np.float32)
    image[0, 0, 16:32, 16:32] = 1
    made = prepare(two_stages(dead=True), labels="red,green", targets=BOXES, method="odam")
    session = Session(made.model)
    choice = made.choose(session.run(image), (64, 128), session)
    dead = [i for i, target in enumerate(choice.targets) if target.box == (16, 16, 32, 32)]
    assert len(dead) == 1
    assert not choice.maps[dead[0]].any()
    assert any(
        "box 0" in warning and "no place of the features raises the score" in warning for warning in choice.warnings
    )


def test_gradients_that_are_not_finite() -> None:
    built, made, session = ready("yolov8")
    outputs = session.run(built.image.numpy())
    assert made.second_pass is not None
    broken = {name: np.full_like(outputs[name], np.inf) for name in made.second_pass.starts}
    with pytest.raises(ImageError, match="gradients are NaN or infinite"):
        made.choose({**outputs, **broken}, SIZE, session)


def test_layers_can_be_named() -> None:
    built = case("yolov8")
    names = [node.get_friendly_name() for node in built.model.get_ordered_ops() if node.get_type_name() == "Relu"]
    made = prepare(built.model, labels=LABELS, targets=BOXES, method="odam", target_layer=names[-1])
    session = Session(made.model)
    choice = made.choose(session.run(built.image.numpy()), SIZE, session)
    assert choice.maps.shape[1:] == (3, 4)
    with pytest.raises(GraphError, match="'nowhere' is no layer or tensor"):
        prepare(built.model, labels=LABELS, method="odam", target_layer="nowhere")


def test_what_gradients_cannot_pass_is_named() -> None:
    """An operation without a rule is told by its name, and the next method is taken."""
    image = ops.parameter([1, 3, 64, 64], np.float32, name="image")
    features = ops.convolution(image, np.ones((4, 3, 8, 8), np.float32), [8, 8], [0, 0], [0, 0], [1, 1])
    odd = ops.acosh(ops.add(ops.relu(features), np.float32(2)))
    odd.set_friendly_name("odd")
    heads = [ops.convolution(odd, np.ones((n, 4, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1]) for n in (4, 2)]
    rows = [ops.reshape(head, np.array([1, -1, 64]), False) for head in heads]
    output = ops.concat([ops.add(rows[0], np.float32(20)), ops.sigmoid(rows[1])], 1)
    output.output(0).get_tensor().set_names({"output0"})
    model = ov.Model([ops.result(output)], [image], "odd")
    with pytest.raises(GraphError, match="Acosh 'odd' has no rule"):
        prepare(model, labels="a,b", method="odam")
    assert prepare(model, labels="a,b").method != "odam"


def test_there_is_no_branch_to_insert() -> None:
    with pytest.raises(ConfigError, match="explains boxes in a second pass"):
        insert_xai(case("yolov8").model, "detection", "odam")


def test_a_reader_of_the_caller_hides_where_scores_come_from() -> None:
    def read(outputs: object) -> tuple[np.ndarray, ...]:
        return np.zeros((1, 4)), np.ones(1), np.zeros(1, np.int64)

    with pytest.raises(GraphError, match="read by a postprocess_fn"):
        Explainer(case("yolov8").model, "detection", postprocess_fn=read, explain_method="odam", labels=LABELS)


def test_explainer() -> None:
    """The same maps by the door for notebooks, from the network's input and from an image."""
    built, _, choice = explained("yolov8")
    explainer = Explainer(built.model, "detection", explain_method="odam", labels=LABELS)
    explanation = explainer(built.image.numpy(), targets="predicted", resize=False, colormap=False)
    assert explanation.method.startswith("odam")
    for key, picture in explanation.saliency_map.items():
        assert picture.shape == choice.maps.shape[1:], key
        assert picture.max() == 255, key


def test_an_open_batch(caplog: pytest.LogCaptureFixture) -> None:
    """A model that takes any number of images is explained one image at a time."""
    built = case("yolov8")
    model = built.model.clone()
    model.reshape([-1, 3, *SIZE])
    explainer = Explainer(model, "detection", explain_method="odam", labels=LABELS)
    with caplog.at_level(logging.WARNING):
        two = explainer(np.concatenate([built.image.numpy()] * 2), targets="predicted", resize=False, colormap=False)
    assert isinstance(two, list)
    assert len(two) == 2
    for key, picture in two[0].saliency_map.items():
        np.testing.assert_array_equal(picture, two[1].saliency_map[key])


def test_levels_are_added_up() -> None:
    """Each level counts alike, whatever its scale, and an empty one for nothing."""
    fine, coarse = np.zeros((2, 8, 16), np.float32), np.zeros((2, 4, 8), np.float32)
    fine[0, 2, 3], coarse[0, 1, 6] = 5, 0.1
    total = combined([fine, coarse], (64, 128), [None, None])
    assert total.shape == (2, 8, 16)
    assert not total[1].any()
    assert total[0, 2, 3] == pytest.approx(1, abs=1e-3)
    assert total[0, 2:4, 12:14].max() == pytest.approx(1, abs=1e-3)


def test_what_lowers_a_score_is_lit_where_nothing_raises_it() -> None:
    """The map of such a box is not positive; beside what raises the score, what lowers it counts for nothing."""
    level = np.zeros((3, 8, 16), np.float32)
    level[0, 2, 3], level[1, 4, 5], level[1, 6, 7], level[2, 4, 5] = -5, -5, 5, 5
    total = combined([level, 0 * level], (64, 128), [None, None])
    assert total[0].max() == 0
    assert np.unravel_index(total[0].argmin(), (8, 16)) == (2, 3)
    assert total[0].min() == pytest.approx(-1, abs=1e-3)
    assert total[1].min() == 0
    assert np.unravel_index(total[1].argmax(), (8, 16)) == (6, 7)


def test_a_score_that_nothing_raises_is_told() -> None:
    """The detector of colours, of which a cell of less red than the empty image is called red: the map is warned of."""
    made = prepare(two_stages(), labels="red,green", targets="predicted", method="odam")
    image = np.full((1, 3, 64, 128), 0.1, np.float32)
    image[0, 0, 16:32, 16:32] = 1
    session = Session(made.model)
    outputs = session.run(image)
    assert made.second_pass is not None
    plain = made.choose(outputs, (64, 128), session)
    assert plain.warnings == ()
    second = replace(made.second_pass, maps=lambda *given: -made.second_pass.maps(*given))  # type: ignore[union-attr]
    for per_box in (False, True):
        turned = replace(made, second_pass=second, wanted=replace(made.wanted, per_box=per_box))
        choice = turned.choose(outputs, (64, 128), session)
        np.testing.assert_allclose(choice.maps[0], plain.maps[0], atol=1e-5)
        assert "no place of the features raises the score over that of an empty image" in choice.warnings[0]


def test_beside_what_raises_a_class_what_lowers_another_box_of_it_is_dark() -> None:
    made = prepare(two_stages(), labels="red,green", targets="predicted", method="odam")
    image = np.full((1, 3, 64, 128), 0.1, np.float32)
    image[0, 0, 16:32, 16:32], image[0, 0, 16:32, 112:128] = 1, 0.7
    session = Session(made.model)
    outputs = session.run(image)
    assert made.second_pass is not None

    def first_raised_second_lowered(*given: Any) -> np.ndarray:
        maps = made.second_pass.maps(*given)  # type: ignore[union-attr]
        assert len(maps) == 2
        return maps * np.float32([[[1]], [[-1]]])

    turned = replace(made, second_pass=replace(made.second_pass, maps=first_raised_second_lowered))
    choice = turned.choose(outputs, (64, 128), session)
    (one,) = choice.maps
    half = one.shape[1] // 2
    assert choice.warnings == ()
    assert one[:, :half].max() == pytest.approx(1)
    assert one[:, half:].max() < 0.01


def test_levels_lie_where_their_places_look() -> None:
    """Places that look at every eighth pixel from the first one on have their maps half a place further up and left."""
    level = np.zeros((1, 8, 16), np.float32)
    level[0, 4, 6] = 1
    even = combined([level], (64, 128), [None])[0]
    moved = combined([level], (64, 128), [MapGrid((0.5, 0.5), (8, 8))])[0]
    centres = [
        np.array([(one * places).sum() for places in np.indices(one.shape)]) / one.sum() for one in (even, moved)
    ]
    np.testing.assert_allclose(centres[0] - centres[1], 3.5 / 8, atol=0.02)


def test_origins_of_levels_in_several_outputs() -> None:
    """A box that has its score from another output is seeded with 0 in this one."""
    origin = ScoreOrigin("a", np.array([3, 0]), np.array([1, 0], np.float32))
    assert origin.of(np.array([1])).slopes == np.float32(0)


def test_a_run_of_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From files to overlays, in the threads of a run; there is no branch to be saved."""
    image = np.full((64, 128, 3), 25, np.uint8)
    image[16:32, 16:32, 0] = image[32:48, 96:112, 1] = 255
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), image[..., ::-1])
    ov.save_model(two_stages(), tmp_path / "cells.xml")
    with caplog.at_level(logging.WARNING):
        run = Engine(work_dir=tmp_path / "run").explain(
            checkpoint=tmp_path / "cells.xml",
            data_root=tmp_path / "pictures",
            explain_method="odam",
            targets="predicted",
            labels="red,green",
            input=InputOptions(scale="255"),
            output_model=tmp_path / "with_map.xml",
        )
    assert "explains boxes in a second pass" in caplog.text
    assert not (tmp_path / "with_map.xml").exists()
    assert run.explained == 3
    for explanation in run.explanations:
        red, green = (explanation.maps[label] for label in (0, 1))
        assert red[:, :8].sum() > 0.99 * red.sum()
        assert green[:, 8:].sum() > 0.99 * green.sum()


@pytest.mark.parametrize("preset", [None, "balance"])
def test_what_is_saved_where_the_preset_explains_boxes_one_by_one(preset: str | None, tmp_path: Path) -> None:
    """A deployed detector gets the published branch of one pass, as by ``insert_xai``."""
    ov.save_model(two_stages(), tmp_path / "cells.xml")
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((64, 128, 3), 25, np.uint8))
    saved = tmp_path / "with_map.xml"
    told = {} if preset is None else {"preset": preset}
    Engine(work_dir=tmp_path / "run").explain(
        tmp_path / "cells.xml", data_root=tmp_path / "photo.png", labels="red,green", output_model=saved, **told
    )
    names = [node.get_friendly_name() for node in open_model(saved).graph.get_ops()]
    assert any(name.startswith("xai/detclassprobabilitymap/") for name in names)
    assert open_model(saved).facts.labels == ("red", "green")


class Queries(torch.nn.Module):
    """A detector of queries that attend to the places of one map, as in DETR."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = Pyramid((32,))
        self.queries = torch.nn.Parameter(torch.randn(1, 8, 32))
        self.keys, self.values = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)
        self.logits, self.boxes = torch.nn.Linear(32, 5), torch.nn.Linear(32, 4)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.pyramid(batch)["0"].flatten(2).transpose(1, 2)
        attention = (self.queries @ self.keys(tokens).transpose(1, 2)).softmax(-1)
        found = self.queries + attention @ self.values(tokens)
        return self.logits(found), self.boxes(found).sigmoid()


def test_queries_are_explained_by_default() -> None:
    """Queries have no class scores of places: auto mode takes the gradients of their logits."""
    torch.manual_seed(0)
    module = Queries().eval()
    image = images(1)
    model = convert(module, image, ("logits", "pred_boxes"))
    opened = open_model(model, ModelOptions(labels=LABELS, format="queries", confidence_threshold=0.3))
    made = plan(opened, How(), targets=BOXES)
    assert made.method == "odam"
    assert {reason.partition(":")[0] for reason in made.refusals} == {"detclassprobabilitymap", "activationmap"}
    session = Session(made.model)
    choice = made.choose(session.run(image.numpy()), SIZE, session)
    assert choice.detections is not None
    (origin,) = choice.detections.origins
    built = Case(FAMILIES["yolov8"], module, model, image, np.zeros(0))
    expected = expected_maps(built, lambda box, given: given[0].flatten()[origin.elements[box]], 3)
    np.testing.assert_allclose(choice.maps[:3], expected, atol=2e-3)
    with pytest.raises(GraphError, match="class heads"):  # there is still no branch
        insert_xai(model, "detection", labels=LABELS)


@pytest.mark.parametrize("name", ["yolov8", "yolox_selected"])
@pytest.mark.parametrize(
    ("preset", "method"), [(None, "odam"), ("speed", "detclassprobabilitymap"), ("balance", "odam")]
)
def test_effort_gives_classes_the_maps_of_their_boxes(
    name: str, preset: str | None, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    effort = {"preset": preset and Preset(preset)}
    made = prepare(case(name).model, labels=LABELS, targets="predicted", method_options=effort)
    assert made.method == method
    assert "--preset balance" not in caplog.text


@pytest.mark.parametrize(
    ("name", "targets", "reason"),
    [
        ("yolox_selected", BOXES, "each box would take about a forward pass"),
        ("yolov8", ["a", "b"], "a class that is named may have no box"),
    ],
)
def test_one_pass_where_boxes_are_dear_or_nothing_need_be_found(
    name: str, targets: str | list[str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = case(name).model
    made = prepare(model, labels=LABELS, targets=targets)
    assert made.method == "detclassprobabilitymap"
    assert any(refusal.startswith("odam: ") and reason in refusal for refusal in made.refusals)
    assert reason in caplog.text
    balance = prepare(model, labels=LABELS, targets=targets, method_options={"preset": Preset.BALANCE})
    assert balance.method == "odam"


def test_an_explainer_lights_what_is_found_and_classes_that_are_named() -> None:
    explainer = Explainer(case("yolov8").model, task="detection", labels=LABELS)
    image = np.zeros((*SIZE, 3), np.uint8)
    assert explainer(image, "predicted").method.startswith("odam (preset balance, the default")
    assert explainer(image, ["a"]).method.startswith("detclassprobabilitymap (")
