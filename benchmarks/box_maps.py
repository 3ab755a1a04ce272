"""Maps of single boxes, held against D-RISE of thousands of passes, and judged by insertion and deletion.

    python benchmarks/box_maps.py --checkpoint detector.onnx --data_root photos --labels coco.names [--scale 255]
        [--num_masks 4000] [--published] [--passes 60,250] [--images 8] [--boxes 0] [--steps 0]

For every box that the detector finds: `odam` is the gradient of its score (``--explain_method odam``), `whole` the same
without windows, `drise` D-RISE of 60 and of 250 masks, `prior` the same regression with `odam` as its prior, `guided`
the geometric mean of that and `odam` (`guideddrise`), `mean` that of D-RISE and `odam`, `votes` the class map, weighted
by each place's vote, `class` the map of its class as it is, and `box` the filled box, which knows nothing of the image;
`reference` is what they are held against: D-RISE of `--num_masks`, by regression, or with `--published` the mean of
independent masks. Columns: the mean correlation over the network's input with the map of D-RISE of other, many masks;
the share of maps that peak inside of the box; the mean part of the map's energy inside of it; with ``--steps``,
insertion less deletion of how well the box is found again, from a blurred image and from one colour; and forward passes
an image (of `odam` and `whole` processor time behind the first pass, in passes of the plain network). Each ± is the
standard error of the difference to `odam`. A line below tells how well maps of windows correlate with those of the
whole image; another of the maps of classes, whose boxes share ways back, how well they correlate with the maximum of
those of single boxes, how bright both are outside of the boxes, and what they take.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from planning import opened, planned

from otx_xai.data import find_images, read_image
from otx_xai.errors import GraphError
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import BOXES, Choice
from otx_xai.judging.cases import JudgedCase, Network
from otx_xai.methods import guideddrise
from otx_xai.methods.drise import BoxTargets, box_targets
from otx_xai.methods.guidedrise import guided
from otx_xai.metrics import auc, energy_in_box, pointing_game
from otx_xai.metrics.stream import BLUR, DELETION, INSERTION, ZERO, trace
from otx_xai.model import Model
from otx_xai.perturb import image_subject
from otx_xai.postprocess import fit, min_max, to_image
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.records import FloatArray, InputGeometry, InputOptions, MapGrid, Size, UInt8Array
from otx_xai.runtime import Session

Pair = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--scale")
    parser.add_argument("--num_masks", type=int, default=4000, help="of the reference")
    parser.add_argument("--published", action="store_true", help="take the reference as D-RISE was published")
    parser.add_argument("--passes", default="60,250", help="masks of what is compared")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=0, help="end with the image that has this one; 0: all images")
    parser.add_argument("--steps", type=int, default=0, help="of insertion and deletion; 0: not judged")
    arguments = parser.parse_args()
    common = {"labels": arguments.labels, "options": InputOptions(scale=arguments.scale)}
    passes = tuple(int(count) for count in arguments.passes.split(","))
    reference: dict[str, Any] = {"num_masks": arguments.num_masks, "seed": 7}
    if arguments.published:
        reference |= {"estimator": "mean", "sampling": "independent"}
    roads = planned_roads(arguments.checkpoint, common, passes, reference)
    judge = Judge(planned_model(arguments.checkpoint, common), arguments.steps)
    rows: dict[str, list[tuple[float, ...]]] = {}
    for image in list(find_images(arguments.data_root))[: arguments.images]:
        judged(roads, judge, image.path, rows)
        if 0 < arguments.boxes <= len(rows.get("odam", ())):
            break
    print(f"{len(rows['odam'])} boxes in {len(_times['odam'])} images; {arguments.num_masks} masks of reference")
    print(f"{'map':10}{'correlation':>18}{'peak':>6}{'energy':>8}{'from blur':>18}{'from colour':>18}{'passes':>8}")
    own = np.array(rows["odam"])
    for name, found in rows.items():
        figures, apart = np.mean(found, axis=0), (np.array(found) - own).std(axis=0) / len(found) ** 0.5
        told = [f"{figures[i]:10.3f} ± {apart[i]:.3f}" for i in (0, 3, 4)]
        passes = f"{passes_of(name):8.1f}"
        print(f"{name:10}{told[0]:>18}{figures[1]:6.2f}{figures[2]:8.2f}{told[1]:>18}{told[2]:>18}{passes}")
    alike, shared, alone = np.mean(_classes, axis=0)
    print(
        f"{len(_classes)} classes: {alike:.3f}, at least {np.min(_classes, axis=0)[0]:.3f}; outside {shared:.3f}, of "
        f"single boxes {alone:.3f}; {passes_of('classes'):.1f} passes"
    )
    print(f"windows and whole image: {np.mean(_alike):.4f}, at least {np.min(_alike):.4f}")


def planned_roads(
    checkpoint: str, common: dict[str, Any], passes: Sequence[int], reference: Mapping[str, Any]
) -> dict[str, Plan]:
    """Return what explains, by name."""
    boxes, votes = common | {"targets": BOXES}, {"method": "detclassprobabilitymap"}
    roads = {name: planned(checkpoint, **boxes, method="odam") for name in ("odam", "whole")}
    assert roads["whole"].second_pass is not None
    windows = roads["whole"].second_pass.maps.__self__._windows  # type: ignore[attr-defined]
    vars(windows)["_local"] = frozenset()  # nothing is served by windows
    roads["classes"] = planned(checkpoint, **common, targets="predicted", method="odam")
    try:
        roads["votes"] = planned(checkpoint, **boxes, **votes)
        roads["class"] = planned(checkpoint, **common, targets=-1, **votes)
    except GraphError as error:
        print(f"no class maps: {error}")
    for count in passes:
        for name, method in (("drise", "drise"), ("prior", "guideddrise"), ("guided", "guideddrise")):
            options = {"num_masks": count, "seed": 1}
            roads[f"{name}{count}"] = planned(checkpoint, **boxes, method=method, method_options=options)
    return roads | {"reference": planned(checkpoint, **boxes, method="drise", method_options=dict(reference))}


def planned_model(checkpoint: str, common: dict[str, Any]) -> Model:
    """Return the model itself."""
    return opened(checkpoint, labels=common["labels"], options=common["options"])


class Judge:
    """Judges maps of boxes by insertion and deletion.

    Args:
        model: the detector.
        steps: in which an image changes; 0: everything is as good.
    """

    def __init__(self, model: Model, steps: int) -> None:
        self._network, self._steps = Network(model, "CPU"), steps
        self.model = model

    def __call__(self, image: UInt8Array, box: FloatArray, label: int, maps: Sequence[FloatArray]) -> list[Pair]:
        """Return insertion less deletion from blur and from one colour for each map of one box."""
        if not self._steps:
            return [(0.0, 0.0)] * len(maps)
        ((_, proposals),) = [(0, values) for values in self._network.forward([lambda: image])]
        target: BoxTargets = box_targets(box[None], np.array([label]), proposals)
        case = JudgedCase(image, label, box[None], "", box, target)
        (curves,) = trace([(case, maps)], self._network.forward, **self._settings)
        areas = auc(curves.steps)
        lifted = areas[:, :, INSERTION] - areas[:, :, DELETION]
        return [(float(one[BLUR]), float(one[ZERO])) for one in lifted]

    @property
    def _settings(self) -> dict[str, Any]:
        return {"steps": self._steps, "zero": self._network.zero, "score": self._network.score}


def judged(roads: Mapping[str, Plan], judge: Judge, path: Path, rows: dict[str, list[tuple[float, ...]]]) -> None:
    """Add for every box of an image and every map correlation, hit, energy inside of the box, and both areas."""
    picture = read_image(path)
    size, geometry = (picture.shape[0], picture.shape[1]), roads["odam"].facts.geometry
    choices = {name: explained(name, road, picture, size) for name, road in roads.items() if name != "classes"}
    detections = choices["odam"].detections
    if detections is None or not len(detections):
        return
    boxes, fitted = boxes_on_input(detections.boxes, size, geometry), fit(picture, geometry)
    compare_classes(explained("classes", roads["classes"], picture, size), choices["odam"], boxes, geometry.size)
    for number, box in enumerate(boxes):
        maps = {}
        for name, choice in choices.items():
            place = int(detections.labels[number]) if name == "class" else number
            maps[name] = enlarged(choice.maps[place], geometry.size, roads[name].grid)
            if name.startswith("drise"):
                maps[name.replace("drise", "mean")] = guided(maps[name][None], maps["odam"][None])[0]
        _alike.append(float(np.corrcoef(maps["odam"].ravel(), maps["whole"].ravel())[0, 1]))
        x1, y1, x2, y2 = np.round(box).astype(int)
        maps["box"] = np.zeros(geometry.size, np.float32)
        maps["box"][max(y1, 0) : y2, max(x1, 0) : x2] = 1
        areas = judge(fitted, box, int(detections.labels[number]), list(maps.values()))
        for (name, own), area in zip(maps.items(), areas, strict=True):
            correlation = np.corrcoef(own.ravel(), maps["reference"].ravel())[0, 1]
            hit = float(pointing_game(own[None], [box[None]], tolerance=0)[0])
            energy = float(energy_in_box(own[None], [box[None]])[0])
            rows.setdefault(name, []).append((float(correlation), hit, energy, *area))


def compare_classes(classes: Choice, single: Choice, boxes: FloatArray, size: Size) -> None:
    """Note of every class how its map compares with the largest of those of its boxes."""
    for target, one in zip(classes.targets, classes.maps, strict=True):
        own = [i for i, box in enumerate(single.targets) if box.target == target.target]
        largest, outside = single.maps[own].max(axis=0), np.ones(size, bool)
        for x1, y1, x2, y2 in np.round(boxes[own]).astype(int):
            outside[max(y1, 0) : y2, max(x1, 0) : x2] = False
        faint = [float(enlarged(saliency_map, size, None)[outside].mean()) for saliency_map in (one, largest)]
        _classes.append((float(np.corrcoef(one.ravel(), largest.ravel())[0, 1]), *faint))


def explained(name: str, road: Plan, picture: np.ndarray, size: Size) -> Choice:
    """Explain one image."""
    if name not in _sessions:
        _sessions[name] = road.compiled()
    session, fitted = _sessions[name], fit(picture, road.facts.geometry)
    if road.black_box is None:
        for _ in range(2):  # the first time compiles
            start = time.process_time()
            choice = road.choose(session.run(fitted[None]), size, session)
        _times.setdefault(name, []).append(time.process_time() - start)
        start = time.process_time()
        session.run(fitted[None])
        _times.setdefault("pass", []).append(time.process_time() - start)
        return choice
    boxes, subject = replace(road, wanted=replace(road.wanted, indices=None)), image_subject(fitted, road.facts)
    if name.startswith("prior"):
        with patch.object(guideddrise, "guided", lambda maps, _guides: maps):
            return boxes.perturb(session, subject, size)
    return boxes.perturb(session, subject, size)


_sessions: dict[str, Session] = {}
_times: dict[str, list[float]] = {}
_alike: list[float] = []
_classes: list[tuple[float, float, float]] = []


def passes_of(name: str) -> float:
    """Return what a map costs, in forward passes an image."""
    if name in ("odam", "whole", "classes"):
        return float(np.mean(_times[name])) / float(np.median(_times["pass"])) - 1
    masks = int(re.sub(r"\D", "", name) or 0)
    own = passes_of("odam") + 1 if name.startswith(("prior", "guided", "mean")) else 0
    return masks + 1 + own


def enlarged(saliency_map: FloatArray, size: Size, grid: MapGrid | None) -> FloatArray:
    """Return a map at the size of the input, in [0, 1]."""
    return min_max(to_image(saliency_map[None], size, InputGeometry(size), grid=grid))[0]


if __name__ == "__main__":
    main()
