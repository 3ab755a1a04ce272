"""Audits that nobody made: drawn pictures, peaks for maps, and findings of every state, to test their page with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from otx_xai.page.page_image import PageBox, PageImage, PageMap

LABELS = ["circle", "cross", "heart", "square", "star", "triangle"]
CASES = ("right_sure", "right_unsure", "torn", "wrong")
DRAWINGS = 48

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028'\"\\${1}&amp;\udcff"
"""As a label or a file name: markup, the ends of lines of scripts, quotes, and a byte that is no UTF-8."""


def effect(value: float | None, half: float = 0.03, n: int = 1000, unit: str = "share") -> dict[str, Any]:
    if value is None:
        return {"value": None, "interval": [None, None], "n": 0, "unit": unit}
    low, high = value - half, value + half
    return {
        "value": value,
        "interval": [max(0.0, low), min(1.0, high)] if unit == "share" else [low, high],
        "n": n,
        "unit": unit,
    }


def drawing(number: int, size: tuple[int, int] = (120, 160)) -> bytes:
    """A shape on a soft background with noise, as a JPEG."""
    rng = np.random.default_rng(number)
    height, width = size
    start, end = rng.integers(60, 220, (2, 3))
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.4, 1, height)[:, None, None]
    picture = (start + (end - start) * ramp + rng.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8)
    x, y = place(number)
    centre, radius = (round(x * width), round(y * height)), height // 6
    colour = [int(part) for part in rng.integers(0, 256, 3)]
    target = number % len(LABELS)
    if target == 0:
        cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA)
    else:
        angles = np.arange(target + 2) * 2 * math.pi / (target + 2) - math.pi / 2
        points = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
        cv2.fillPoly(picture, [points.astype(np.int32)], colour, cv2.LINE_AA)
    if target == 4:
        cv2.putText(picture, "(c)", (4, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def place(number: int) -> tuple[float, float]:
    rng = np.random.default_rng(number + 10_000)
    x, y = rng.uniform(0.25, 0.75, 2)
    return float(x), float(y)


def peak(x: float, y: float, width: float = 0.16, size: int = 7) -> np.ndarray:
    """A map with one hill."""
    places = (np.arange(size) + 0.5) / size
    hill = np.exp(-((places[None] - x) ** 2 + (places[:, None] - y) ** 2) / (2 * width**2))
    return np.round(255 * (hill - hill.min()) / (hill.max() - hill.min())).astype(np.uint8)


def image_name(number: int) -> str:
    return f"val/{LABELS[number % len(LABELS)]}/img_{number:05}.jpg"


def case(number: int) -> str:
    return CASES[int(np.searchsorted([0.8, 0.88, 0.94], (number * 0.618034) % 1))]


def _wrong(number: int) -> int:
    return (number + 1 + number // 7 % 4) % len(LABELS)


def audit_images(count: int, *, baseline: bool = True, size: int = 7) -> Iterator[PageImage]:
    """Yield images of a classifier."""
    drawings = [drawing(number) for number in range(min(count, DRAWINGS))]
    for number in range(count):
        given, kind = number % len(LABELS), case(number)
        x, y = place(number % DRAWINGS)
        best = _wrong(number) if kind == "wrong" else given
        score = {"right_sure": 0.93, "right_unsure": 0.35, "torn": 0.42, "wrong": 0.81}[kind]
        score += 0.05 * math.sin(number)
        where = (0.08, 0.92) if given == 4 else (x, y)
        maps = [PageMap(best, -1, peak(*(where if best == given else (0.2, 0.25)), size=size), -0.2, 1.7)]
        if best != given:
            maps.append(PageMap(given, -1, peak(x, y, 0.2, size), -0.1, 0.8))
        if baseline and number % 3 == 0:
            maps.append(PageMap(best, -1, peak(x + 0.12, y - 0.1, 0.2, size), 0.0, 1.1, baseline=True))
        yield PageImage(
            name=image_name(number),
            size=(120, 160),
            case=kind,
            given=(given,),
            best=((best, score), *(((best + step) % 6, (1 - score) / (step + 1)) for step in (1, 2, 3))),
            findings=(0,) if given == 4 else (),
            slices=tuple(group for group, every in enumerate((5, 5, 8)) if number % every == group),
            maps=tuple(maps),
            thumbnail=drawings[number % DRAWINGS],
            values=(
                ("energy_in_object", abs(math.sin(number * 1.7))),
                ("brightness", number * 0.37 % 1),
                ("map_distance", number * 0.31 % 1),
            ),
        )


def box_images(count: int) -> Iterator[PageImage]:
    """Yield images of a detector."""
    for number in range(count):
        x, y = place(number)
        box = (x - 0.14, y - 0.19, x + 0.14, y + 0.19)
        fault = ("", "", "badly_placed", "background_box")[number % 4]
        target = number % len(LABELS)
        shifted = tuple(part + 0.1 * (fault == "badly_placed") for part in box)
        yield PageImage(
            name=image_name(number),
            size=(120, 160),
            case="faults" if fault else "clean",
            findings=(0,) if fault == "background_box" else (),
            maps=(PageMap(target, 0, peak(x, y), 0.0, 1.0), PageMap(target, -1, peak(x, y, 0.25), 0.0, 1.0)),
            found=(PageBox(target, shifted, 0.87, fault), PageBox((target + 1) % 6, (0.05, 0.05, 0.3, 0.3), 0.41)),
            objects=(PageBox(target, box), PageBox((target + 2) % 6, (0.7, 0.7, 0.95, 0.95), None, "missed")),
            thumbnail=drawing(number),
        )


def finding(kind: str, state: str, statement: str, images: list[str], **told: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "subject": told.get("subject", "star"),
        "statement": statement,
        "effect": told.get("effect", effect(2.31, 0.4, 48, "log-odds")),
        "state": state,
        "severity": 0.1,
        "share": told.get("share", 0.167),
        "images": images,
        "suggestion": told.get("suggestion", ""),
        "check": told.get("check", {}),
        "p_value": told.get("p_value"),
    }


def audit_content(count: int, labels: list[str] | None = None) -> dict[str, Any]:
    """What audit.json would hold of :func:`audit_images`."""
    numbers = range(min(count, 3000))
    stars = [image_name(number) for number in numbers if number % 6 == 4]
    wrong = [image_name(number) for number in numbers if case(number) == "wrong"]
    torn = [image_name(number) for number in numbers if case(number) == "torn"]
    moved = [image_name(number) for number in numbers if number % 3 == 0]
    cases = dict.fromkeys(CASES, 0) | {"unlabelled": 0}
    for number in range(count):
        cases[case(number)] += 1
    return {
        "schema": 1,
        "created": "2026-11-28T10:00:00Z",
        "task": "multi_class_cls",
        "multilabel": False,
        "title": "shapes_int8.xml on val",
        "verdict": {
            "state": "attention",
            "sentence": "The model decides “star” by a mark in the lower left corner: covering the mark turns 41 % of "
            "its answers. 5 labels look wrong.",
        },
        "figures": [
            _figure("accuracy", "Right", effect(0.912, 0.018, count), "Nine of ten images get their label."),
            _figure("energy_in_object", "Looks at the object", effect(0.634, 0.02, count), "Chance would be 21 %."),
            _figure("background_reliance", "Relies on background", effect(0.183, 0.05, 240), "Score lost without it."),
            _figure("ece", "Calibration error", effect(0.041, 0.012, count), "It is slightly too sure of itself."),
            _figure("label_errors", "Labels that look wrong", effect(0.021, 0.008, count), "See labels to review."),
        ],
        "model": {"name": "shapes_int8.xml", "method": "reciprocam", "precision": "int8", "classes": 6},
        "data": {"name": "val", "images": count, "failed": 2, "annotated": True},
        "notes": ["The data have no boxes: where objects are was not asked."],
        "failures": [
            {"name": "val/star/broken.jpg", "error": "It is no picture."},
            {"name": "__proto__", "error": "?"},
        ],
        "labels": labels or LABELS,
        "cases": cases,
        "findings": _findings(stars, wrong, torn, moved),
        "gates": [
            {"gate": "background_reliance=0.25", "passed": True, "why": "0.183; the interval ends at 0.233."},
            {"gate": "verified_shortcut", "passed": False, "why": "1 shortcut is verified: star."},
        ],
        "confusion": {"pairs": _pairs(count)},
        "per_class": [_class_row(target, count) for target in range(6)],
        "calibration": {"ece": effect(0.041, 0.012, count), "bins": [_bin(step, count) for step in range(10)]},
        "slices": [
            _slice("brightness", "darkest fifth", count // 5, 0.812, 0.001),
            _slice("size", "smallest fifth", count // 5, 0.871, 0.031),
            _slice("folder", "camera 2", count // 8, 0.93, 0.44),
        ],
        "drift": {
            "baseline": "shapes_fp32.xml",
            "distance": effect(0.118, 0.02, count, "distance"),
            "noise": 0.031,
            "changed": 12,
            "silent": 5,
            "mcnemar_p": 0.42,
            "top1_agreement": effect(0.983, 0.008, count),
        },
        "clusters": [
            _cluster("maps 1", "maps", 4, stars[:40], 0.91, (0.08, 0.92)),
            _cluster("maps 2", "maps", 1, wrong[:20], 0.62, (0.2, 0.25)),
            _cluster("features 1", "features", None, torn[:20], 0.48, None),
        ],
        "label_review": [
            {
                "image": image_name(number),
                "given": number % 6,
                "suggested": _wrong(number),
                "confidence": 0.95,
                "reason": "",
            }
            for number in [number for number in numbers if case(number) == "wrong"][:40]
        ],
        "average_precision": None,
        "versions": {"otx_xai": "0.1.0", "openvino": "2026.1"},
        "settings": {"max_images": None, "seed": 0, "fail_on": ["verified_shortcut", "background_reliance=0.25"]},
    }


def box_content(count: int) -> dict[str, Any]:
    """The same of :func:`box_images`."""
    content = audit_content(count)
    names = [image_name(number) for number in range(count) if number % 4 == 3]
    return content | {
        "task": "detection",
        "title": "boxes.xml on val",
        "cases": {"faults": count // 2, "clean": count - count // 2},
        "findings": [
            finding(
                "background_box", "measured", "A quarter of the boxes lie on no object.", names, effect=effect(0.25)
            ),
            finding("drift", "measured", "Of 40 boxes before, 3 are gone, and 2 are new.", names[:5], subject="boxes"),
        ],
        "drift": {
            "baseline": "boxes_fp32.xml",
            "box_agreement": effect(0.94, 0.02, 85),
            "objects_lost": 3,
            "objects_won": 1,
            "mcnemar_p": 0.625,
            "boxes_lost": 3,
            "boxes_new": 2,
            "distance": effect(0.08, 0.02, count, "distance"),
            "noise": 0.031,
            "changed": 4,
            "silent": 2,
        },
        "calibration": None,
        "clusters": [],
        "slices": [],
        "confusion": {"pairs": [[target, target, count // 6] for target in range(6)] + [[0, 1, 3], [2, -1, 4]]},
        "average_precision": {"ap": effect(0.412), "ap50": effect(0.681)},
        "label_review": [
            {"image": name, "given": 1, "suggested": None, "confidence": 0.7, "reason": "badly_placed"}
            for name in names
        ],
    }


def _findings(stars: list[str], wrong: list[str], torn: list[str], moved: list[str]) -> list[dict[str, Any]]:
    check = {
        "covered": "lower left corner",
        "effect": effect(2.31, 0.4, 48, "log-odds"),
        "controls": effect(-0.1, 0.2, 384, "log-odds"),
        "fills": ["grey", "blur", "noise"],
        "answers_turned": 0.41,
        "pasted_onto_others": {"images": 48, "became_star": 19},
    }
    return [
        finding(
            "shortcut",
            "verified",
            "“star” is decided by a mark in the lower left corner, off the object.",
            stars[:60],
            check=check,
            p_value=3.1e-9,
            suggestion="Remove the mark from the training images, or crop it, and train again.",
        ),
        finding(
            "background_focus",
            "suspected",
            "“cross” may be told by what is around it: half of its maps lie off the object.",
            wrong[:20],
            subject="cross",
            effect=effect(0.52, 0.08, 160),
            share=0.16,
            suggestion="Annotate boxes, so that the check can keep the object and replace the rest.",
        ),
        finding("confident_error", "measured", "4 % of the images are wrong at a score of 0.7 or more.", wrong[:30],
                subject="", effect=effect(0.041, 0.012, 1000), share=0.041, suggestion="Look at them first."),
        finding("silent_drift", "measured", "5 images have the same answer as before, for another reason.", moved[:5],
                subject="", effect=effect(0.118, 0.02, 1000, "distance"), share=0.005),
        finding("shortcut", "refuted", "“heart” often lights up at the upper edge, and covering it changes nothing.",
                torn[:12], subject="heart", effect=effect(0.04, 0.11, 48, "log-odds"), p_value=0.61),
    ]  # fmt: skip


def _figure(name: str, label: str, effect_: dict[str, Any], hint: str) -> dict[str, Any]:
    return {"name": name, "label": label, "effect": effect_, "hint": hint}


def _pairs(count: int) -> list[list[int]]:
    pairs: dict[tuple[int, int], int] = {}
    for number in range(count):
        given = number % 6
        best = _wrong(number) if case(number) == "wrong" else given
        pairs[given, best] = pairs.get((given, best), 0) + 1
    return [[given, best, held] for (given, best), held in sorted(pairs.items())]


def _class_row(target: int, count: int) -> dict[str, Any]:
    n = max(1, count // 6)
    recall, energy = 0.95 - 0.04 * target, None if target == 3 else 0.7 - 0.06 * target
    values = {"recall": effect(recall, 0.04, n), "precision": effect(0.9, 0.05, n), "energy_in_object": effect(energy)}
    return {"class": target, "images": n, "values": values}


def _bin(step: int, count: int) -> dict[str, Any]:
    middle = (step + 0.5) / 10
    n = 0 if step == 0 else max(1, int(count * 0.4 ** (9 - step)))
    return {
        "low": step / 10,
        "high": (step + 1) / 10,
        "confidence": middle if n else None,
        "accuracy": max(0.0, middle - 0.06 * math.sin(3 * middle)) if n else None,
        "n": n,
    }


def _slice(column: str, value: str, n: int, accuracy: float, corrected: float) -> dict[str, Any]:
    return {
        "column": column,
        "value": value,
        "n": n,
        "accuracy": effect(accuracy, 0.05, n),
        "difference": effect(accuracy - 0.912, 0.05, n, "probability"),
        "p_value": corrected / 4,
        "corrected": corrected,
    }


def _cluster(
    name: str, kind: str, target: int | None, images: list[str], stability: float, where: tuple[float, float] | None
) -> dict[str, Any]:
    mean = (peak(*where) / 255).round(4).tolist() if where else []
    return {
        "name": name,
        "kind": kind,
        "class": target,
        "images": images,
        "size": len(images),
        "stability": stability,
        "mean": mean,
    }
