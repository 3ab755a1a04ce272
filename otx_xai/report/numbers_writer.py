"""Maps as numbers, to be read by programs: one ``.npz`` an image."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.postprocess.geometry import cell_lines, place
from otx_xai.records import Prediction
from otx_xai.report.explained import ExplainedImage, PlacedMaps
from otx_xai.report.files import MAP_FOLDER, write_file


class NumbersWriter:
    """Writes ``<stem>_maps.npz`` of each image; ``docs/reference/files.md`` describes the arrays in it.

    Args:
        folder: where to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, explained: ExplainedImage) -> tuple[str, ...]:
        """Write the numbers of one image; see :class:`~otx_xai.report.writer.Writer`."""
        file = f"{MAP_FOLDER}/{explained.info.stem}_maps.npz"
        content = BytesIO()
        np.savez(content, **numbers_of(explained))
        write_file(self._folder / file, content.getvalue())
        return (file,)


def numbers_of(explained: ExplainedImage) -> dict[str, Any]:
    """Return all numbers of one image.

    Returns:
        Name → array: ``maps`` ``(M, h, w)`` ``float32``; of each map ``targets`` ``int64``, ``labels`` text, ``scores``
        ``float32``, ``boxes`` ``float32`` ``(M, 4)`` (NaN of a class), ``numbers`` ``int64`` (-1 of a class); and the
        place of the maps on the image, each vertical before horizontal: ``image_size``, ``input_size``, ``seen``
        ``[[top, height], [left, width]]``, ``scale``, ``offset``, ``start``, ``step``.
    """
    targets = explained.targets
    return {
        "maps": np.ascontiguousarray(explained.maps, np.float32),
        "targets": np.array([target.target for target in targets], np.int64),
        "labels": np.array([target.label for target in targets], np.str_),
        "scores": np.array([target.score for target in targets], np.float32),
        "boxes": np.array([_corners(target) for target in targets], np.float32).reshape(-1, 4),
        "numbers": np.array([-1 if target.number is None else target.number for target in targets], np.int64),
        **_placing(explained.placed),
    }


def _corners(target: Prediction) -> tuple[float, ...]:
    return (float("nan"),) * 4 if target.box is None else target.box


def _placing(placed: PlacedMaps) -> dict[str, NDArray[Any]]:
    """Return what it takes to find the place of a map that a pixel of the image belongs to."""
    placement = place(placed.image_size, placed.geometry)
    map_size = placed.maps.shape[1], placed.maps.shape[2]
    (start_y, step_y), (start_x, step_x) = cell_lines(map_size, placed.geometry.size, placed.grid)
    return {
        "image_size": np.array(placed.image_size, np.int64),
        "input_size": np.array(placed.geometry.size, np.int64),
        "seen": np.array([placement.y.seen, placement.x.seen], np.int64),
        "scale": np.array(placement.scale, np.float64),
        "offset": np.array(placement.offset, np.float64),
        "start": np.array([start_y, start_x], np.float64),
        "step": np.array([step_y, step_x], np.float64),
    }
