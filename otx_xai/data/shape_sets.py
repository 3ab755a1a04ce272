"""Drawn shapes as data sets in the formats that are recognised, with boxes and masks that are known exactly.

The demo and the tests train on them. ``counts`` is a number of pictures, or one a split: ``{"train": 80, "val": 20}``.
Labels and seed decide everything; see :mod:`otx_xai.data.shapes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.data.shapes import SHAPE_LABELS, Scene, draw_scene, draw_size, write_file, write_picture
from otx_xai.errors import ConfigError

Counts = int | Mapping[str, int]


@dataclass(frozen=True)
class SceneFile:
    """A picture on disk, and what was drawn in it.

    Args:
        path: the picture, a JPEG.
        split: the split it belongs to, "" where there are none.
        scene: what it shows; its targets are indices into ``labels`` of the data set.
    """

    path: Path
    split: str
    scene: Scene


def write_image_folder(
    folder: str | Path,
    counts: Counts,
    *,
    labels: Sequence[str] = SHAPE_LABELS,
    seed: int = 0,
    size: int = 96,
    radius: tuple[float, float] = (0.2, 0.32),
    patterned: bool = False,
) -> tuple[SceneFile, ...]:
    """Write an ImageFolder, ``[<split>/]<label>/<nnnn>.jpg``: one shape a picture, the classes take turns.

    Args:
        folder: where it goes; created if it is missing.
        counts: pictures, or pictures a split.
        labels: which shapes, a part of :data:`SHAPE_LABELS` in its order.
        seed: the same arguments give the same files.
        size: typical side in pixels.
        radius: smallest and largest radius of a shape, as a part of the picture's shorter side.
        patterned: give each class a pattern of its own.

    Returns:
        What was written, in order.

    Raises:
        ConfigError: a label is no shape, or there is nothing to draw.
        OutputError: a file cannot be written.
    """
    files = []
    for split, number, rng in _turns(counts, labels, seed):
        scene = _scene(rng, size, [number % len(labels)], labels, radius, patterned)
        path = Path(folder, split, labels[number % len(labels)], f"{number:04d}.jpg")
        files.append(_save(path, split, scene))
    return tuple(files)


def write_coco(
    folder: str | Path,
    counts: Counts,
    *,
    labels: Sequence[str] = SHAPE_LABELS,
    shapes: tuple[int, int] = (1, 3),
    masks: str = "polygon",
    seed: int = 0,
    size: int = 96,
    radius: tuple[float, float] = (0.12, 0.22),
    patterned: bool = False,
) -> tuple[SceneFile, ...]:
    """Write a COCO data set: ``images[/<split>]/<nnnn>.jpg`` and ``annotations/instances_<split>.json``.

    Without splits the file is called ``instances_default.json``. Ids of categories begin at 1.

    Args:
        folder, counts, labels, seed, size, radius, patterned: see :func:`write_image_folder`.
        shapes: smallest and largest number of shapes a picture.
        masks: ``polygon``, ``rle``, or ``none``.

    Returns:
        What was written, in order.

    Raises:
        ConfigError: a label is no shape, there is nothing to draw, or no such kind of masks.
        OutputError: a file cannot be written.
    """
    if masks not in ("polygon", "rle", "none"):
        raise ConfigError(f"masks is {masks!r}; expected polygon, rle or none.")
    files = []
    for split, number, rng in _turns(counts, labels, seed):
        scene = _scene(rng, size, _draw_targets(rng, labels, shapes), labels, radius, patterned)
        files.append(_save(Path(folder, "images", split, f"{number:04d}.jpg"), split, scene))
    for split in dict.fromkeys(file.split for file in files):
        part = [file for file in files if file.split == split]
        content = json.dumps(_coco(part, labels, masks))
        write_file(Path(folder, "annotations", f"instances_{split or 'default'}.json"), content.encode())
    return tuple(files)


def _coco(files: Sequence[SceneFile], labels: Sequence[str], masks: str) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, file in enumerate(files, start=1):
        height, width = file.scene.image.shape[:2]
        images.append({"id": number, "file_name": file.path.name, "height": height, "width": width})
        scene = file.scene
        for box, mask, outline, target in zip(scene.boxes, scene.masks, scene.outlines, scene.targets, strict=True):
            x1, y1, x2, y2 = box.tolist()
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": target + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
            if masks == "polygon":
                annotation["segmentation"] = [np.round(outline, 2).ravel().astype(float).tolist()]
            elif masks == "rle":
                annotation["segmentation"] = {"size": [height, width], "counts": run_lengths(mask)}
            annotations.append(annotation)
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return a mask ``(H, W)`` as COCO's run lengths: pixels off and on in turn, column by column."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], turns, [mask.size]])
    counts: list[int] = np.diff(ends).tolist()
    return counts if counts[-1] else counts[:-1]


def _turns(counts: Counts, labels: Sequence[str], seed: int) -> Iterator[tuple[str, int, np.random.Generator]]:
    """Yield split, number within it, and the random generator of every picture to draw."""
    unknown = [label for label in labels if label not in SHAPE_LABELS]
    if unknown or not labels:
        raise ConfigError(f"labels is {list(labels)!r}; expected one or more of {', '.join(SHAPE_LABELS)}.")
    splits = {"": counts} if isinstance(counts, int) else dict(counts)
    if not splits or min(splits.values()) < 1:
        raise ConfigError(f"The number of pictures is {counts}; expected at least 1, or as many a split.")
    rng = np.random.default_rng(seed)
    for split, count in splits.items():
        for number in range(count):
            yield split, number, rng


def _draw_targets(rng: np.random.Generator, labels: Sequence[str], shapes: tuple[int, int]) -> list[int]:
    count = int(rng.integers(shapes[0], shapes[1], endpoint=True))
    targets: list[int] = rng.integers(0, len(labels), count).tolist()
    return targets


def _scene(
    rng: np.random.Generator,
    size: int,
    targets: Sequence[int],
    labels: Sequence[str],
    radius: tuple[float, float],
    patterned: bool,
) -> Scene:
    """Draw a scene whose targets are indices into ``labels``."""
    kinds = [SHAPE_LABELS.index(labels[target]) for target in targets]
    scene = draw_scene(rng, draw_size(rng, size), kinds, radius=radius, patterned=patterned)
    numbers = tuple(list(labels).index(SHAPE_LABELS[target]) for target in scene.targets)
    return Scene(scene.image, scene.masks, scene.outlines, numbers)


def _save(path: Path, split: str, scene: Scene) -> SceneFile:
    write_picture(path, cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
    return SceneFile(path, split, scene)
