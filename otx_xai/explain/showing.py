"""The maps of one image as a caller of ``Explainer`` wants to see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from otx_xai.explain.explanation import Explanation, map_keys
from otx_xai.explain.look import Canvas, Look, show
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import Choice
from otx_xai.records import InputGeometry, UInt8Array
from otx_xai.report import PlacedMaps
from otx_xai.report.overlays import draw_found


class Pictures(Mapping[int | str, UInt8Array]):
    """The pictures of maps by what these are called: each is drawn when it is first asked for, and kept.

    A thousand classes have a thousand pictures, of which most callers look at a few.

    Args:
        look: how maps are shown.
        canvas: what they are laid over.
        geometry: how the image lies in what they cover.
        choice: what is explained of it.
    """

    def __init__(self, look: Look, canvas: Canvas, geometry: InputGeometry, choice: Choice) -> None:
        self._look = look
        # what an overlay shows is the image as it is now, whatever the caller does with the array
        self._canvas = replace(canvas, picture=canvas.picture.copy()) if look.overlay else canvas
        self._geometry, self._choice = geometry, choice
        self._rows = {key: row for row, key in enumerate(map_keys(choice.targets))}
        self._drawn: dict[int | str, UInt8Array] = {}

    def __getitem__(self, key: int | str) -> UInt8Array:
        if key not in self._drawn:
            self._drawn[key] = self._draw(self._rows[key])
        return self._drawn[key]

    def __iter__(self) -> Iterator[int | str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def _draw(self, row: int) -> UInt8Array:
        choice = self._choice
        (picture,) = show(choice.maps[row : row + 1], self._canvas, self._look)
        if not self._look.overlay or choice.detections is None:
            return picture
        size, target = self._canvas.image_size, choice.targets[row]
        return draw_found(picture, target, choice.predictions, choice.detections, size, self._geometry)


def explanation(made: Plan, look: Look, canvas: Canvas, geometry: InputGeometry, choice: Choice) -> Explanation:
    """Show the maps of one image.

    Args:
        made: what explained it.
        look: how maps are shown.
        canvas: what they are laid over.
        geometry: how the image lies in what they cover.
        choice: what is explained of it.
    """
    method = f"{made.method} ({made.reason})" if made.reason else made.method
    placed = PlacedMaps(choice.maps, canvas.image_size, geometry, canvas.grid)
    return Explanation(
        Pictures(look, canvas, geometry, choice),
        made.facts.labels,
        choice.predictions,
        method=method,
        warnings=choice.warnings,
        placed=placed,
    )
