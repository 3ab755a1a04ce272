"""How much noise alone moves the maps of a model, which drift is held against."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.box_errors import FOUND
from otx_xai.audit.drift import map_distances
from otx_xai.engine.explaining import Images, open_session
from otx_xai.errors import ImageError
from otx_xai.explain.plan import Plan
from otx_xai.explain.run_sources import ReadImage, Sources
from otx_xai.explain.targets import Choice
from otx_xai.judging.trial import evenly
from otx_xai.postprocess import to_uint8
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import FloatArray, ModelFacts, Prediction, UInt8Array
from otx_xai.runtime import Arrays
from otx_xai.settings import AuditSettings


def map_noise(planned: Plan, settings: AuditSettings, data: Images, count: int) -> float:
    """Return by how much maps of the best class, or box, differ where each pixel changes by one grey level at most.

    Args:
        planned: what makes them.
        settings: of the audit; their precision is the one that the evidence was taken in.
        data: the images.
        count: how many of them are looked at; of a loader the first ones.

    Returns:
        99th percentile of 1 - Pearson's correlation; 0 where no pair can be compared, NaN where it is not measured: of
        black boxes, which take hundreds of passes, and of maps that are made of tiles.
    """
    if planned.black_box is not None or planned.facts.tiling is not None:
        return float("nan")
    session = open_session(planned, settings.device, settings.precision, normalised=data.normalised)
    sources = Sources(planned, data.loader, lambda _: False, None, settings.decode)
    rng = np.random.default_rng(settings.seed)

    def read(source: tuple[Any, int]) -> tuple[NDArray[Any], ReadImage]:
        tensor, image = sources.read(source[0])
        return (_shifted(tensor, planned.facts, source[1]) if source[1] else tensor), image

    def finish(image: ReadImage, outputs: Arrays) -> Choice:
        return planned.choose(outputs, image.image_size, session)

    some = data.images if data.loader is not None else evenly(data.images, count)
    twice = ((image, seed) for image in islice(sources.of(some), count) for seed in (0, int(rng.integers(1, 2**31))))
    whole = not planned.facts.task.is_classification
    with closing(session.stream(twice, read, finish, outputs=planned.outputs, whole=whole)) as results:
        found = [result for _, result in results]
    distances = []
    for plain, noisy in zip(found[::2], found[1::2], strict=True):
        pair = None if isinstance(plain, ImageError) or isinstance(noisy, ImageError) else _same_map(plain, noisy)
        if pair is not None:
            maps = to_uint8(np.stack(pair))
            distances += map_distances(maps[:1], maps[1:], np.ones_like(maps[:1], np.float32)).tolist()
    return float(np.nanpercentile(distances, 99)) if np.isfinite(distances).any() else 0.0


def _shifted(tensor: NDArray[Any], facts: ModelFacts, seed: int) -> NDArray[Any]:
    """Return what the network is fed of an image whose pixels have changed by one grey level at most."""
    shift = np.random.default_rng(seed).integers(-1, 2, tensor.shape)
    if tensor.dtype == np.uint8:
        levels: UInt8Array = np.clip(tensor.astype(np.int16) + shift, 0, 255).astype(np.uint8)
        return levels
    level = 1 / float(np.mean(facts.scale)) if len(facts.scale) else float(np.ptp(tensor)) / 255
    moved: NDArray[Any] = (tensor + level * shift).astype(tensor.dtype)
    return moved


def _same_map(plain: Choice, noisy: Choice) -> tuple[FloatArray, FloatArray] | None:
    """Return the map of the best target and that of the same one in the changed image; ``None`` where there is none."""
    for row, target in enumerate(plain.targets):
        for other, twin in enumerate(noisy.targets):
            if target.target == twin.target and _lie_alike(target, twin):
                return plain.maps[row], noisy.maps[other]
    return None


def _lie_alike(one: Prediction, other: Prediction) -> bool:
    if one.box is None or other.box is None:
        return one.box is None and other.box is None
    first, second = (np.array([box], np.float32) for box in (one.box, other.box))
    return bool(overlaps(first, second)[0, 0] >= FOUND)
