"""Maps of single boxes from one or two passes, held against D-RISE, which perturbs the image hundreds of times.

    python benchmarks/box_maps.py --checkpoint detector.onnx --data_root photos --labels coco.names [--scale 255]

For every box that the detector finds: `odam` is the gradient of its score (``--explain_method odam``), `votes` the
class map, weighted by each place's vote, `class` the map of its class as it is, `box` the filled box, which knows
nothing of the image, and `again` D-RISE with another seed, which is as near as any map can come. Columns: the mean
correlation with the map of D-RISE over the network's input, the share of maps that peak inside of the box, the mean
part of the map's energy inside of it, and forward passes an image (of `odam` processor time, in forward passes).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from planning import planned

from otx_xai.data import find_images, read_image
from otx_xai.explain.plan import Plan
from otx_xai.explain.targets import BOXES, Choice
from otx_xai.metrics import energy_in_box, pointing_game
from otx_xai.model import embed_preprocessing
from otx_xai.perturb import image_subject
from otx_xai.postprocess import fit, min_max
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.records import ExplainMode, FloatArray, InputOptions, Size
from otx_xai.runtime import Session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--scale")
    parser.add_argument("--num_masks", type=int, default=500)
    arguments = parser.parse_args()
    common = {"labels": arguments.labels, "options": InputOptions(scale=arguments.scale), "targets": BOXES}
    votes = {"method": "detclassprobabilitymap"}
    roads = {
        "votes": planned(arguments.checkpoint, **common, **votes),
        "class": planned(arguments.checkpoint, **common | {"targets": -1}, **votes),
        "odam": planned(arguments.checkpoint, **common, method="odam"),
    }
    for name, seed in (("drise", 0), ("again", 1)):
        options = {"num_masks": arguments.num_masks, "seed": seed}
        roads[name] = planned(arguments.checkpoint, **common, mode=ExplainMode.BLACKBOX, method_options=options)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (*roads, "box")}
    for image in find_images(arguments.data_root):
        for name, figures in judged(roads, image.path):
            found[name].append(figures)
    print(f"{len(found['votes'])} boxes\n{'map':8}{'correlation':>12}{'peak inside':>13}{'energy':>8}{'passes':>8}")
    for name, rows in found.items():
        passes = arguments.num_masks + 1.0 if name in ("drise", "again") else 1.0
        if name == "odam":
            passes = float(np.mean(_times[name])) / float(np.median(_times["votes"]))
        correlation, inside, energy = np.mean(rows, axis=0)
        print(f"{name:8}{correlation:12.2f}{inside:13.2f}{energy:8.2f}{passes:8.1f}")


def judged(roads: Mapping[str, Plan], path: Path) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Yield for every box of an image each map's name, correlation with D-RISE, hit, and energy inside of the box."""
    picture = read_image(path)
    size, geometry = (picture.shape[0], picture.shape[1]), roads["votes"].facts.geometry
    choices = {name: explained(name, road, picture, size) for name, road in roads.items()}
    detections = choices["votes"].detections
    if detections is None or not len(detections):
        return
    boxes = boxes_on_input(detections.boxes, size, geometry)
    for number in range(len(choices["drise"].targets)):
        single = ("votes", "odam", "drise", "again")
        maps = {name: enlarged(choices[name].maps[number], geometry.size) for name in single}
        maps["class"] = enlarged(choices["class"].maps[int(detections.labels[number])], geometry.size)
        x1, y1, x2, y2 = np.round(boxes[number]).astype(int)
        maps["box"] = np.zeros(geometry.size, np.float32)
        maps["box"][max(y1, 0) : y2, max(x1, 0) : x2] = 1
        box = boxes[number : number + 1]
        for name, saliency_map in maps.items():
            correlation = np.corrcoef(saliency_map.ravel(), maps["drise"].ravel())[0, 1]
            hit = float(pointing_game(saliency_map[None], [box], tolerance=0)[0])
            yield name, (float(correlation), hit, float(energy_in_box(saliency_map[None], [box])[0]))


def explained(name: str, road: Plan, picture: np.ndarray, size: Size) -> Choice:
    """Explain one image."""
    if name not in _sessions:
        _sessions[name] = Session(embed_preprocessing(road.model, road.facts), latency=road.black_box is None)
    session, fitted = _sessions[name], fit(picture, road.facts.geometry)
    if road.black_box is None:
        for _ in range(2):  # the first time compiles
            start = time.process_time()
            choice = road.choose(session.infer(fitted[None]), size, session)
        _times.setdefault(name, []).append(time.process_time() - start)
        return choice
    boxes = replace(road, wanted=replace(road.wanted, indices=None))
    return boxes.perturb(session, image_subject(fitted, road.facts), size)


_sessions: dict[str, Session] = {}
_times: dict[str, list[float]] = {}


def enlarged(saliency_map: FloatArray, size: Size) -> FloatArray:
    """Return a map at the size of the input, in [0, 1]."""
    large: FloatArray = cv2.resize(saliency_map, size[::-1], interpolation=cv2.INTER_LINEAR)
    return min_max(large)


if __name__ == "__main__":
    main()
