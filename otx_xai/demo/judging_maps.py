"""Maps of drawn pictures, held against what was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.data import read_image
from otx_xai.data.shape_sets import SceneFile
from otx_xai.demo.peaks import find_peak, mark_peak
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.records import Task, UInt8Array
from otx_xai.report import overlay, sheet, write_picture

_SHEET_TILES = 24
_SAME = 0.5
"""Overlap from which a predicted box is the drawn one."""


@dataclass(frozen=True)
class Finding:
    """One map of a class, held against the shapes of that class.

    Args:
        picture: the overlay, with the shapes' outlines and the peak.
        caption: class and verdict.
        hit: the peak lies on such a shape.
        covered: the part of the picture that these shapes cover; 0 where there is none.
    """

    picture: UInt8Array
    caption: str
    hit: bool
    covered: float


def judge_picture(work_dir: Path, task: Task, file: SceneFile, entry: Mapping[str, Any]) -> list[Finding]:
    """Hold each map of a picture against the drawn shapes, that of a detector against their boxes.

    Args:
        work_dir: folder of the run that explained it.
        task: of a classifier, only the map of the best class counts.
        file: the picture.
        entry: what the journal tells of it.
    """
    map_files = [name for name in entry["files"] if name.endswith("_saliency_map.png")]
    wanted = list(zip(entry["targets"], map_files, strict=True))
    findings = []
    for target, map_file in wanted[:1] if task is Task.CLASSIFICATION else wanted:
        grey_map = read_image(work_dir / map_file)[:, :, 0]
        mask = _boxes_of(file, target["target"]) if task is Task.DETECTION else _shapes_of(file, target["target"])
        peak = find_peak(grey_map)
        hit = bool(mask[peak])
        verdict = "hit" if hit else "missed" if mask.any() else "not in the picture"
        picture = overlay(read_image(file.path), grey_map.astype(np.float32) / np.float32(255))
        caption = f"{target['label']} {target['score']:.2f}\n{verdict}"
        findings.append(Finding(mark_peak(picture, mask, peak), caption, hit, float(mask.mean())))
    return findings


def count_found(task: Task, file: SceneFile, predictions: Sequence[Mapping[str, Any]]) -> int:
    """Count the drawn shapes that are the best class of a picture, or that a box of the right class covers.

    Args:
        task: what the network does.
        file: the picture.
        predictions: what the journal tells of it, best first.
    """
    if task is Task.CLASSIFICATION:
        return int(predictions[0]["target"] == file.scene.targets[0])
    found = 0
    for box, label in zip(file.scene.boxes, file.scene.targets, strict=True):
        boxes = [prediction["box"] for prediction in predictions if prediction["target"] == label]
        if boxes:
            found += bool((overlaps(box[None].astype(np.float32), np.array(boxes, np.float32)) >= _SAME).any())
    return found


def mean_covered(findings: Sequence[Finding]) -> float:
    """Return the mean part of a picture that the shapes cover, in [0, 1]: how often a random point would hit."""
    return float(np.mean([finding.covered for finding in findings])) if findings else 0.0


def write_contact_sheet(path: Path, findings: Sequence[Finding], picture: Path) -> Path:
    """Write some findings side by side.

    Args:
        path: the file.
        findings: the first 24 are shown.
        picture: shown where there are none.
    """
    tiles = [(finding.picture, finding.caption) for finding in findings] or [(read_image(picture), "nothing found")]
    write_picture(path, sheet(tiles[:_SHEET_TILES]))
    return path


def _shapes_of(file: SceneFile, target: int) -> NDArray[np.bool_]:
    """Return where shapes of a class are drawn, ``bool`` ``(H, W)``."""
    height, width = file.scene.image.shape[:2]
    masks = [mask for mask, label in zip(file.scene.masks, file.scene.targets, strict=True) if label == target]
    return np.any(masks, axis=0) if masks else np.zeros((height, width), bool)


def _boxes_of(file: SceneFile, target: int) -> NDArray[np.bool_]:
    """Return where boxes of a class are, ``bool`` ``(H, W)``."""
    mask = np.zeros(file.scene.image.shape[:2], bool)
    for (x1, y1, x2, y2), label in zip(np.rint(file.scene.boxes).astype(int), file.scene.targets, strict=True):
        if label == target:
            mask[y1:y2, x1:x2] = True
    return mask
