"""Methods and controls on the same images, by all metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import islice

import numpy as np

from otx_xai.errors import ConfigError
from otx_xai.metrics.adcc import average_drop, coherency, complexity, mask_image
from otx_xai.metrics.localisation import energy_in_box, pointing_game
from otx_xai.metrics.methods import Case, MapsOf, centre_control, random_control
from otx_xai.metrics.perturbation import auc, zero_colour
from otx_xai.metrics.stream import BLUR, DELETION, INSERTION, ZERO, Curves, Forward, Score, class_score, trace
from otx_xai.metrics.summaries import Scores
from otx_xai.postprocess import to_image
from otx_xai.records import FloatArray, InputGeometry, Size, UInt8Array

RANDOM, CENTRE = CONTROLS = ("random", "centre")
"""Names of the controls among the methods."""

_TOLERANCE = 15 / 224


def judge(
    cases: Iterable[Case],
    methods: Mapping[str, MapsOf],
    forward: Forward,
    *,
    steps: int = 50,
    zero: UInt8Array | None = None,
    tolerance: float | None = None,
    cells: Size = (7, 7),
    seed: int = 0,
    remap: bool = True,
    chunk: int = 16,
    score: Score = class_score,
) -> dict[str, Scores]:
    """Score the maps of methods, and of a random and a centred control, on the same images.

    A map is enlarged to the network's input before anything else, as published. With the controls, an image takes
    ``3 + (methods + 2) * (4 * steps - 3)`` forward passes, besides what the methods themselves take.

    Args:
        cases: images, all of the network's input size, and classes; read as needed.
        methods: name → what gives its maps.
        forward: runs images through the model; see :func:`~otx_xai.metrics.session_scores`.
        steps: of insertion and deletion.
        zero: ``uint8`` ``(3,)``: pixel of the zero baseline and of what maps mask out, black by default; see
            :func:`~otx_xai.metrics.zero_colour`.
        tolerance: of the pointing game, in pixels of the network's input; by default 15 where its shorter side is 224,
            and in proportion.
        cells: ``(h, w)`` of the controls; as coarse as the maps of the methods.
        seed: of the random control.
        remap: explain the masked images too, which coherency and ADCC need.
        chunk: number of images that are explained, then perturbed, at a time.
        score: what is judged; the score of the case's class by default.

    Returns:
        The scores of each method, then of ``random`` and ``centre``.

    Raises:
        ConfigError: there is no case, the images differ in size, or a method is called like a control.
    """
    taken = methods.keys() & set(CONTROLS)
    if taken:
        raise ConfigError(f"A method is called {', '.join(sorted(taken))}, as a control is; expected another name.")
    rows = {**methods, RANDOM: random_control(cells, seed), CENTRE: centre_control(cells)}
    colour = zero_colour() if zero is None else zero
    found: dict[str, list[Scores]] = {name: [] for name in rows}
    remaining = iter(cases)
    while part := list(islice(remaining, chunk)):
        size = _common_size(part)
        maps = {name: _enlarged(maps_of(part), size) for name, maps_of in rows.items()}
        agreement = {
            name: _coherency(part, own, rows[name], colour) if remap else np.full(len(part), np.nan, np.float32)
            for name, own in maps.items()
        }
        pairs = ((case, [own[i] for own in maps.values()]) for i, case in enumerate(part))
        curves = list(trace(pairs, forward, steps=steps, zero=colour, score=score))
        reach = _TOLERANCE * min(size) if tolerance is None else tolerance
        for place, (name, own) in enumerate(maps.items()):
            found[name].append(_scores(part, own, agreement[name], curves, place, reach))
    if not found[RANDOM]:
        raise ConfigError("There is no image to judge maps on; expected at least one case.")
    return {name: _joined(parts) for name, parts in found.items()}


def _common_size(part: Sequence[Case]) -> Size:
    sizes = {case.image.shape[:2] for case in part}
    if len(sizes) > 1:
        listed = ", ".join(f"{height}×{width}" for height, width in sorted(sizes))
        raise ConfigError(f"The images are of sizes {listed}; expected all fitted into the network's input.")
    height, width = sizes.pop()
    return height, width


def _enlarged(maps: FloatArray, size: Size) -> FloatArray:
    return to_image(maps, size, InputGeometry(size))


def _coherency(part: Sequence[Case], maps: FloatArray, maps_of: MapsOf, colour: UInt8Array) -> FloatArray:
    masked = [replace(case, image=mask_image(case.image, own, colour)) for case, own in zip(part, maps, strict=True)]
    return coherency(maps, _enlarged(maps_of(masked), (maps.shape[1], maps.shape[2])))


def _scores(
    part: Sequence[Case],
    maps: FloatArray,
    agreement: FloatArray,
    curves: Sequence[Curves],
    place: int,
    tolerance: float,
) -> Scores:
    areas = auc(np.stack([own.steps[place] for own in curves]))
    before = np.array([own.score for own in curves], np.float32)
    boxes = [np.empty((0, 4), np.float32) if case.boxes is None else case.boxes for case in part]
    return Scores(
        insertion_blur=areas[:, BLUR, INSERTION],
        insertion_zero=areas[:, ZERO, INSERTION],
        deletion_blur=areas[:, BLUR, DELETION],
        deletion_zero=areas[:, ZERO, DELETION],
        average_drop=average_drop(before, np.array([own.masked[place] for own in curves], np.float32)),
        coherency=agreement,
        complexity=complexity(maps),
        pointing_game=pointing_game(maps, boxes, tolerance),
        energy_in_box=energy_in_box(maps, boxes),
    )


def _joined(parts: Sequence[Scores]) -> Scores:
    return Scores(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Scores)}
    )
