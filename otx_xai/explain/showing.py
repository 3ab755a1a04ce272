"""The maps of one image as a caller of ``Explainer`` wants to see them."""

from __future__ import annotations

from otx_xai.explain.explanation import Explanation, map_keys
from otx_xai.explain.look import Canvas, Look, show
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import Choice
from otx_xai.records import InputGeometry, Prediction, UInt8Array
from otx_xai.report import PlacedMaps
from otx_xai.report.frames import draw_frames, frames_of, resized


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
            _framed(picture, target, choice, canvas, geometry)
            for picture, target in zip(shown, choice.targets, strict=True)
        )
    pictures = dict(zip(map_keys(choice.targets), shown, strict=True))
    method = f"{made.method} ({made.reason})" if made.reason else made.method
    placed = PlacedMaps(choice.maps, canvas.image_size, geometry, canvas.grid)
    return Explanation(
        pictures, made.facts.labels, choice.predictions, method=method, warnings=choice.warnings, placed=placed
    )


def _framed(
    picture: UInt8Array, target: Prediction, choice: Choice, canvas: Canvas, geometry: InputGeometry
) -> UInt8Array:
    """Draw the detections of a class over an overlay."""
    assert choice.detections is not None
    frames = frames_of(choice.predictions, choice.detections, target, canvas.image_size, geometry)
    size = picture.shape[0], picture.shape[1]
    return draw_frames(picture, [resized(frame, canvas.image_size, size) for frame in frames])
