"""The maps of one image as a caller of ``Explainer`` wants to see them."""

from __future__ import annotations

from otx_xai.explain.explanation import Explanation, map_keys
from otx_xai.explain.look import Canvas, Look, show
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import Choice
from otx_xai.records import InputGeometry
from otx_xai.report import PlacedMaps
from otx_xai.report.overlays import draw_found


def explanation(made: Plan, look: Look, canvas: Canvas, geometry: InputGeometry, choice: Choice) -> Explanation:
    """Show the maps of one image.

    Args:
        made: what explained it.
        look: how maps are shown.
        canvas: what they are laid over.
        geometry: how the image lies in what they cover.
        choice: what is explained of it.
    """
    shown = show(choice.maps, canvas, look)
    if look.overlay and choice.detections is not None:
        shown = (
            draw_found(picture, target, choice.predictions, choice.detections, canvas.image_size, geometry)
            for picture, target in zip(shown, choice.targets, strict=True)
        )
    pictures = dict(zip(map_keys(choice.targets), shown, strict=True))
    method = f"{made.method} ({made.reason})" if made.reason else made.method
    placed = PlacedMaps(choice.maps, canvas.image_size, geometry, canvas.grid)
    return Explanation(
        pictures, made.facts.labels, choice.predictions, method=method, warnings=choice.warnings, placed=placed
    )
