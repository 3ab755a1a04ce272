"""Maps of single boxes, held against D-RISE of thousands of passes, and judged by insertion and deletion.

    python benchmarks/box_maps.py --checkpoint detector.onnx --data_root photos --labels coco.names [--scale 255]
        [--num_masks 4000] [--images 8] [--steps 0]

For every box that the detector finds: `odam` is the gradient of its score (``--explain_method odam``), `guided` D-RISE
guided by it (`guideddrise`) and `drise` D-RISE, of 60 and 250 masks, `votes` the class map, weighted by each place's
vote, `class` the map of its class as it is, and `box` the filled box, which knows nothing of the image. Columns: the
mean correlation over the network's input with the map of D-RISE of other, many masks; the share of maps that peak
inside of the box; the mean part of the map's energy inside of it; with ``--steps``, insertion less deletion of how well
the box is found again, from a blurred image and from one colour; and forward passes an image (of `odam` processor time,
in forward passes). Each ± is the standard error of the difference to `odam`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from planning import opened, planned

from otx_xai.data import find_images, read_image
from otx_xai.errors import GraphError
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import BOXES, Choice
from otx_xai.judging.cases import JudgedCase, Network
from otx_xai.methods.drise import BoxTargets, box_targets
from otx_xai.metrics import auc, energy_in_box, pointing_game
from otx_xai.metrics.stream import BLUR, DELETION, INSERTION, ZERO, trace
from otx_xai.model import Model
from otx_xai.perturb import image_subject
from otx_xai.postprocess import fit, min_max, to_image
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.records import FloatArray, InputGeometry, InputOptions, MapGrid, Size, UInt8Array
from otx_xai.runtime import Session

PASSES = (60, 250)
Pair = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--scale")
    parser.add_argument("--num_masks", type=int, default=4000, help="of the reference")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0, help="of insertion and deletion; 0: not judged")
    arguments = parser.parse_args()
    common = {"labels": arguments.labels, "options": InputOptions(scale=arguments.scale)}
    roads = planned_roads(arguments.checkpoint, common, arguments.num_masks)
    judge = Judge(planned_model(arguments.checkpoint, common), arguments.steps)
    rows: dict[str, list[tuple[float, ...]]] = {}
    for image in list(find_images(arguments.data_root))[: arguments.images]:
        judged(roads, judge, image.path, rows)
    print(f"{len(rows['odam'])} boxes; {arguments.num_masks} masks of reference")
    print(f"{'map':10}{'correlation':>18}{'peak':>6}{'energy':>8}{'from blur':>18}{'from colour':>18}{'passes':>8}")
    own = np.array(rows["odam"])
    for name, found in rows.items():
        figures, apart = np.mean(found, axis=0), (np.array(found) - own).std(axis=0) / len(found) ** 0.5
        told = [f"{figures[i]:10.3f} ± {apart[i]:.3f}" for i in (0, 3, 4)]
        passes = f"{passes_of(name):8.1f}"
        print(f"{name:10}{told[0]:>18}{figures[1]:6.2f}{figures[2]:8.2f}{told[1]:>18}{told[2]:>18}{passes}")


def planned_roads(checkpoint: str, common: dict[str, Any], reference: int) -> dict[str, Plan]:
    """Return what explains, by name."""
    boxes, votes = common | {"targets": BOXES}, {"method": "detclassprobabilitymap"}
    roads = {"odam": planned(checkpoint, **boxes, method="odam")}
    try:
        roads["votes"] = planned(checkpoint, **boxes, **votes)
        roads["class"] = planned(checkpoint, **common, targets=-1, **votes)
    except GraphError as error:
        print(f"no class maps: {error}")
    for count in PASSES:
        for name, method in (("guided", "guideddrise"), ("drise", "drise")):
            options = {"num_masks": count, "seed": 1}
            roads[f"{name}{count}"] = planned(checkpoint, **boxes, method=method, method_options=options)
    options = {"num_masks": reference, "seed": 7}
    return roads | {"reference": planned(checkpoint, **boxes, method="drise", method_options=options)}


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
    choices = {name: explained(name, road, picture, size) for name, road in roads.items()}
    detections = choices["odam"].detections
    if detections is None or not len(detections):
        return
    boxes, fitted = boxes_on_input(detections.boxes, size, geometry), fit(picture, geometry)
    for number, box in enumerate(boxes):
        maps = {}
        for name, choice in choices.items():
            place = int(detections.labels[number]) if name == "class" else number
            maps[name] = enlarged(choice.maps[place], geometry.size, roads[name].grid)
        x1, y1, x2, y2 = np.round(box).astype(int)
        maps["box"] = np.zeros(geometry.size, np.float32)
        maps["box"][max(y1, 0) : y2, max(x1, 0) : x2] = 1
        areas = judge(fitted, box, int(detections.labels[number]), list(maps.values()))
        for (name, own), area in zip(maps.items(), areas, strict=True):
            correlation = np.corrcoef(own.ravel(), maps["reference"].ravel())[0, 1]
            hit = float(pointing_game(own[None], [box[None]], tolerance=0)[0])
            energy = float(energy_in_box(own[None], [box[None]])[0])
            rows.setdefault(name, []).append((float(correlation), hit, energy, *area))


def explained(name: str, road: Plan, picture: np.ndarray, size: Size) -> Choice:
    """Explain one image."""
    if name not in _sessions:
        _sessions[name] = road.compiled()
    session, fitted = _sessions[name], fit(picture, road.facts.geometry)
    if road.black_box is None:
        for _ in range(2):  # the first time compiles
            start = time.process_time()
            choice = road.choose(session.infer(fitted[None]), size, session)
        _times.setdefault(name, []).append(time.process_time() - start)
        start = time.process_time()
        session.infer(fitted[None])
        _times.setdefault("pass", []).append(time.process_time() - start)
        return choice
    boxes = replace(road, wanted=replace(road.wanted, indices=None))
    return boxes.perturb(session, image_subject(fitted, road.facts), size)


_sessions: dict[str, Session] = {}
_times: dict[str, list[float]] = {}


def passes_of(name: str) -> float:
    """Return what a map costs, in forward passes an image."""
    if name == "odam":
        return float(np.mean(_times[name])) / float(np.median(_times["pass"]))
    return float(name.lstrip("guidears")) + 1 if name.startswith(("guided", "drise")) else 1.0


def enlarged(saliency_map: FloatArray, size: Size, grid: MapGrid | None) -> FloatArray:
    """Return a map at the size of the input, in [0, 1]."""
    return min_max(to_image(saliency_map[None], size, InputGeometry(size), grid=grid))[0]


if __name__ == "__main__":
    main()
