"""What gives maps: the explained model, anything else that can be called, and the controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from otx_xai.errors import ImageError, TargetError
from otx_xai.metrics.controls import centre_maps, random_maps
from otx_xai.metrics.perturbation import image_seed
from otx_xai.postprocess import min_max
from otx_xai.records import SALIENCY_MAP, FloatArray, Size, UInt8Array
from otx_xai.runtime import Arrays, Session


@dataclass(frozen=True, eq=False)
class Case:
    """An image, and the class whose maps are judged.

    Args:
        image: ``uint8`` ``(H, W, 3)``, fitted into the network's input (:func:`~otx_xai.postprocess.fit`).
        target: class index.
        boxes: of this class, ``float32`` ``(B, 4)``, xyxy in pixels of the network's input
            (:func:`~otx_xai.postprocess.detections.boxes_on_input`); none where they are not known.
    """

    image: UInt8Array
    target: int
    boxes: FloatArray | None = None


MapsOf = Callable[[Sequence[Case]], FloatArray]
"""Explains cases: ``float32`` ``(N, h, w)`` in [0, 1], one map a case over the whole of the network's input, of any
resolution. It is asked twice: for the images, and for the same images multiplied with their maps."""


def white_box(session: Session, classes: Sequence[int] | None = None) -> MapsOf:
    """Explain with the ``saliency_map`` output of a model.

    Args:
        session: of a model that takes ``uint8`` ``(N, H, W, 3)``.
        classes: the classes that the maps are of, in their order; all classes by default. An activation map is of none.

    Returns:
        Gives maps; raises TargetError where a case's class has none.
    """
    rows = None if classes is None else {target: row for row, target in enumerate(classes)}

    def read(case: Case) -> tuple[UInt8Array, int]:
        return case.image, case.target

    def finish(target: int, outputs: Arrays) -> FloatArray:
        maps = outputs[SALIENCY_MAP]
        if maps.ndim == 2:
            return min_max(maps)
        row = target if rows is None else rows.get(target, len(maps))
        if not 0 <= row < len(maps):
            known = f"classes 0 to {len(maps) - 1}" if rows is None else f"classes {', '.join(map(str, rows))}"
            raise TargetError(
                f"The model gives no map of class {target}, but of {known}. Insert maps of all classes (targets=-1), "
                "or of all that are judged."
            )
        return min_max(maps[row])

    def maps_of(cases: Sequence[Case]) -> FloatArray:
        maps = []
        with closing(session.stream(cases, read, finish, outputs=(SALIENCY_MAP,))) as results:
            for _, result in results:
                if isinstance(result, ImageError):
                    raise result
                maps.append(result)
        return np.stack(maps)

    return maps_of


def random_control(cells: Size = (7, 7), seed: int = 0) -> MapsOf:
    """Give every image a random map of its own, whenever it is asked for.

    Args:
        cells: ``(h, w)`` of the maps; see :func:`~otx_xai.metrics.random_maps`.
        seed: of all maps.
    """

    def maps_of(cases: Sequence[Case]) -> FloatArray:
        seeds = [image_seed(case.image, seed) + case.target for case in cases]
        return np.concatenate([random_maps((1, *cells), own) for own in seeds])

    return maps_of


def centre_control(cells: Size = (7, 7)) -> MapsOf:
    """Give every image a Gaussian in its middle; see :func:`~otx_xai.metrics.centre_maps`."""

    def maps_of(cases: Sequence[Case]) -> FloatArray:
        return centre_maps((len(cases), *cells))

    return maps_of
