"""Guided D-RISE is the regression of D-RISE whose prior is ODAM, of boxes or of classes; the effort asks for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from detectors import SIZE, case
from doors import prepare
from openvino import opset13 as ops

from otx_xai.errors import ConfigError
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import BOXES, Choice
from otx_xai.judging.cases import proposals_in
from otx_xai.methods.drise import drise
from otx_xai.methods.guideddrise import GuidedDriseOptions, priors_of
from otx_xai.methods.rise import RiseOptions
from otx_xai.perturb import image_subject
from otx_xai.perturb.estimates import RATIOS, Regression
from otx_xai.perturb.guided_regression import GuidedRegression
from otx_xai.perturb.masks import OrthogonalMasks
from otx_xai.postprocess import min_max, to_image
from otx_xai.records import InputGeometry, Preset

LABELS = ",".join("abcde")
THRESHOLD = 0.5
LENGTHS = (0.06, 0.1, 0.15)


@cache
def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return np.repeat(np.repeat(noise, SIZE[0] // 6, 0), SIZE[1] // 8, 1)


@cache
def explained(method: str, targets: str = BOXES, family: str = "yolov8", **options: object) -> tuple[Plan, Choice]:
    how = {"method": method, "method_options": options, "confidence_threshold": THRESHOLD}
    made = prepare(case(family).model, labels=LABELS, targets=targets, **how)
    session = made.compiled()
    if made.black_box is None:
        return made, made.choose(session.run(picture()[None]), SIZE, session)
    return made, made.perturb(session, image_subject(picture(), made.facts), SIZE)


def observed(truth: np.ndarray, masks: OrthogonalMasks, sums: GuidedRegression | Regression, count: int) -> np.ndarray:
    """What is found of a map whose means over masks are the square roots of scores."""
    seen = np.stack([masks.mask(i) for i in range(count)])
    scores = np.square((seen * truth).mean(axis=(1, 2)))
    sums.add(masks.project(range(count), sums.basis), scores[:, None])
    return sums.estimate().maps[0]


def test_it_equals_a_gaussian_process_written_out() -> None:
    rng = np.random.default_rng(0)
    size, count = (24, 36), 20
    prior, masks = rng.random((2, 4, 6)).astype(np.float32) + 0.1, OrthogonalMasks(size, (3, 4))
    scores = rng.random((count, 2))
    sums = GuidedRegression(size, prior, LENGTHS)
    sums.add(masks.project(range(count), sums.basis), scores)
    found = sums.estimate()
    x = masks.project(range(count), sums.basis).reshape(count, -1) / prior[0].size
    x, y = x - x.mean(axis=0), np.sqrt(scores) - np.sqrt(scores).mean(axis=0)
    places = np.stack(np.meshgrid(np.arange(4) / 4, np.arange(6) / 6 * 1.5, indexing="ij"), -1).reshape(-1, 2)
    apart = ((places[:, None] - places) ** 2).sum(-1)
    for i in range(2):
        weight = prior[i].reshape(-1).astype(np.float64)
        best = (np.inf, np.zeros(0), 0.0)
        for length in LENGTHS:
            own = np.outer(weight, weight) * np.exp(-apart / length**2 / 2)
            scale = np.trace(x @ own @ x.T) / count
            for ratio in RATIOS:
                covariance = x @ own @ x.T / scale + ratio * np.eye(count)
                solved = np.linalg.solve(covariance, y[:, i])
                strength = y[:, i] @ solved / count
                surprise = count * np.log(strength) + np.linalg.slogdet(covariance)[1]
                posterior = own / scale - own @ x.T @ np.linalg.solve(covariance, x @ own) / scale**2
                if surprise < best[0]:
                    best = surprise, own @ x.T @ solved / scale, strength * np.trace(posterior) / weight.size
        np.testing.assert_allclose(found.maps[i].reshape(-1), best[1], atol=1e-5 * np.abs(best[1]).max())
        assert found.standard_error[i] == pytest.approx(np.sqrt(best[2]) / np.ptp(best[1]), rel=1e-3)


def test_a_prior_that_is_right_finds_the_map_in_few_masks() -> None:
    size, masks = (80, 80), OrthogonalMasks((80, 80), (7, 7))
    y, x = np.mgrid[:80, :80] / 80
    truth = np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 2 / 0.08**2)
    vague = np.exp(-((y - 0.45) ** 2 + (x - 0.55) ** 2) / 2 / 0.15**2).astype(np.float32)[None]
    plain = observed(truth, masks, Regression(size, 1, LENGTHS), 60)
    flat = observed(truth, masks, GuidedRegression(size, np.ones((1, 40, 40), np.float32), LENGTHS), 60)
    guided = observed(truth, masks, GuidedRegression(size, priors_of(vague, size), LENGTHS), 60)
    agreement = [
        np.corrcoef(to_image(one[None], size, InputGeometry(size)).ravel(), truth.ravel())[0, 1]
        for one in (plain, flat, guided, priors_of(vague, size)[0])
    ]
    assert agreement[1] > agreement[0] - 0.02  # without a say of its own it is the other regression, places for cosines
    assert agreement[2] > max(agreement[0], agreement[1], agreement[3]) + 0.02


def test_scores_that_masks_do_not_change_give_nothing() -> None:
    sums = GuidedRegression((16, 16), np.ones((1, 4, 4), np.float32), LENGTHS)
    assert not sums.estimate().maps.any()
    masks = OrthogonalMasks((16, 16), (3, 3))
    sums.add(masks.project(range(8), sums.basis), np.full((8, 1), 0.3))
    assert not sums.estimate().maps.any()
    assert np.isinf(sums.estimate().standard_error).all()


def test_its_prior_is_odam() -> None:
    _, plain = explained("odam")
    made, found = explained("guideddrise", num_masks=20, seed=3)
    assert made.black_box is not None
    assert made.black_box.options == GuidedDriseOptions(20, 3)
    assert [(one.number, one.target) for one in found.targets] == [(one.number, one.target) for one in plain.targets]
    assert len(found.targets) > 1
    _, other = explained("drise", num_masks=20, seed=3)
    priors = priors_of(plain.maps, SIZE)
    assert priors.min() == pytest.approx(0.05)
    assert priors.max() == pytest.approx(1.05)
    coarse = to_image(other.maps, (33, 44), InputGeometry(SIZE))
    seen = [i for i in range(len(priors)) if coarse[i].any()]
    lit, unlit = (
        np.mean([np.corrcoef(maps[i].ravel(), priors[i].ravel())[0, 1] for i in seen]) for maps in (found.maps, coarse)
    )
    assert lit > unlit + 0.2


def test_it_is_the_mean_of_both() -> None:
    """Of what the regression finds with its prior, and of the prior."""
    _, plain = explained("odam")
    made, found = explained("guideddrise", num_masks=20, seed=3)
    numbers, boxes = np.arange(4), found.detections
    assert boxes is not None
    assert made.boxes is not None
    facts, session = made.facts, made.compiled()
    read = partial(proposals_in, facts=facts, format=made.boxes)
    priors = priors_of(plain.maps[:4], SIZE)
    subject = image_subject(picture(), facts)
    again = drise(
        session,
        read,
        subject,
        boxes.boxes[numbers],
        boxes.labels[numbers],
        RiseOptions(num_masks=20, seed=3),
        priors=priors,
    )
    expected = np.sqrt((min_max(again.maps) + 0.05) * (min_max(priors) + 0.05))
    expected[np.ptp(again.maps, axis=(1, 2)) == 0] = 0
    np.testing.assert_allclose(found.maps[:4], min_max(expected), atol=1e-4)


def test_boxes_that_the_graph_suppresses_are_guided_too() -> None:
    """What the way back starts from then has no axis of images."""
    made, found = explained("guideddrise", family="fcos", num_masks=8)
    _, plain = explained("odam", family="fcos")
    assert made.black_box is not None
    assert len(found.targets) == len(plain.targets) > 1
    assert not [warning for warning in found.warnings if "gradients say nothing" in warning]


def test_maps_of_classes_are_those_of_their_boxes() -> None:
    _, boxes = explained("guideddrise", num_masks=20)
    made, found = explained("guideddrise", targets="a,b,c,d,e", num_masks=20)
    assert len(found.targets) < len(boxes.targets)
    for target, own in zip(found.targets, found.maps, strict=True):
        same = [i for i, box in enumerate(boxes.targets) if box.target == target.target]
        np.testing.assert_allclose(own, boxes.maps[same].max(axis=0), atol=1e-6)
        assert target.number is None
        assert target.score == boxes.targets[same[0]].score
    assert made.method == "guideddrise"


def test_a_box_without_gradients_is_told() -> None:
    made = prepare(
        case("yolov8").model, labels=LABELS, targets=BOXES, method="guideddrise", confidence_threshold=THRESHOLD
    )
    assert made.black_box is not None
    second = made.black_box.guide_boxes
    assert second is not None
    dark = replace(second, maps=lambda *given: second.maps(*given) * 0)
    made = replace(made, black_box=replace(made.black_box, guide_boxes=dark))
    session = made.compiled()
    found = made.perturb(session, image_subject(picture(), made.facts), SIZE)
    assert sum("is that of D-RISE alone" in warning for warning in found.warnings) == len(found.targets)
    assert min_max(found.maps).any()


def test_the_preset_asks_for_it_where_gradients_pass() -> None:
    effort = {"method_options": {"preset": Preset.QUALITY}, "labels": LABELS}
    made = prepare(case("yolov8").model, **effort)
    assert made.method == "guideddrise"
    assert made.black_box is not None
    assert made.black_box.options == GuidedDriseOptions(num_masks=60)
    built = case("yolov8").model.clone()
    first = next(node for node in reversed(built.get_ordered_ops()) if node.get_type_name() == "Convolution")
    readers = list(first.output(0).get_target_inputs())
    odd = ops.acosh(first)
    odd.set_friendly_name("odd")
    for reader in readers:
        reader.replace_source_output(odd.output(0))
    refused = prepare(built, **effort)
    assert refused.method not in ("guideddrise", "odam")
    assert any(one.startswith("guideddrise: ") and "Acosh 'odd' has no rule" in one for one in refused.refusals)


def test_options_out_of_range() -> None:
    with pytest.raises(ConfigError, match="num_masks is 1; expected a whole number from 2 on"):
        GuidedDriseOptions(num_masks=1)
    with pytest.raises(ConfigError, match="num_masks is 1001; expected at most 1000"):
        GuidedDriseOptions(num_masks=1001)
