"""What black-box methods cost, against plain asynchronous inference of the same IR, and what their maps are worth.

    python benchmarks/black_box.py [--passes 500] [--rounds 5]                     speed, drawn data
    python benchmarks/black_box.py --checkpoint model.xml --data_root images       and quality against passes
                                   [--images 12] [--steps 25] [--published 5000]

Speed: random weights, batch 1, float32, throughput hint. In each round plain inference and every method run the same
number of forward passes in turn; figures are medians over rounds, ratios are taken round by round. `cpu` is the ratio
in processor seconds a pass, which other load on the machine disturbs less. D-RISE explains 10 boxes of a one-stage
detector.

Quality: maps of the class that the model predicts, by insertion and deletion (areas under the curve of its probability,
on a blurred image and on a flat one) and by their correlation with RISE as published with the most masks; all have
masks of their own. In brackets: the difference in insertion - deletion to that, ± its standard error over images.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from statistics import median

import numpy as np
import openvino as ov

from otx_xai.graph.view import View
from otx_xai.methods.aise import AiseOptions, aise
from otx_xai.methods.drise import drise
from otx_xai.methods.rise import RiseOptions, rise
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_proposals
from otx_xai.model.formats.choice import describe_ports, find_format
from otx_xai.perturb import Scorer, Subject
from otx_xai.postprocess import to_image
from otx_xai.postprocess.proposals import Proposals
from otx_xai.records import SCORES, InputGeometry
from otx_xai.runtime import Arrays, Session

OPTIONS = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
CLASSIFIERS = ("mobilenet_v2", "resnet50")
DETECTOR_SIZE = (352, 352)
PUBLISHED = {"num_cells": 8, "sampling": "independent", "estimator": "mean"}
Run = Callable[[], int]
"""Runs a method and returns its number of forward passes."""


def classifier(name: str) -> ov.Model:
    """Build a classifier with random weights that takes uint8 images."""
    import torch
    import torchvision

    torch.manual_seed(0)
    network = torch.nn.Sequential(getattr(torchvision.models, name)(weights=None).eval(), torch.nn.Softmax(dim=1))
    return converted(network, (224, 224), SCORES)


def detector() -> ov.Model:
    """Build a one-stage detector with random weights: the features of a MobileNetV3 and a head as FastestDet has it."""
    import torch
    import torchvision

    torch.manual_seed(0)
    features = torchvision.models.mobilenet_v3_large(weights=None).features.eval()
    head = torch.nn.Sequential(torch.nn.Conv2d(960, 85, 1), torch.nn.Sigmoid())
    return converted(torch.nn.Sequential(features, head), DETECTOR_SIZE, "output")


def converted(network: object, size: tuple[int, int], output: str) -> ov.Model:
    """Convert a torch module; scale and layout of images go into the graph."""
    import torch
    from openvino.preprocess import PrePostProcessor

    model = ov.convert_model(network, example_input=torch.zeros(1, 3, *size))
    model.reshape([1, 3, *size])
    processor = PrePostProcessor(model)
    processor.input(0).tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    processor.input(0).model().set_layout(ov.Layout("NCHW"))
    processor.input(0).preprocess().convert_element_type(ov.Type.f32).scale(255)
    built = processor.build()
    built.outputs[0].get_tensor().set_names({output})
    return built


class Plain:
    """Plain asynchronous inference, as a user writes it: the outputs are taken out of the requests."""

    def __init__(self, model: ov.Model, image: np.ndarray) -> None:
        self.queue = ov.AsyncInferQueue(ov.Core().compile_model(model, "CPU", OPTIONS), 0)
        self.queue.set_callback(lambda request, _: [tensor.data.copy() for tensor in request.output_tensors])
        self.image = image[None]

    def run(self, passes: int) -> int:
        for _ in range(passes):
            self.queue.start_async(self.image)
        self.queue.wait_all()
        return passes


def paces(run: Run) -> tuple[float, float]:
    """Return passes a second and a processor second."""
    wall, cpu = time.perf_counter(), time.process_time()
    passes = run()
    return passes / (time.perf_counter() - wall), passes / (time.process_time() - cpu)


def scores_of(outputs: Arrays) -> np.ndarray:
    return outputs[SCORES]


@cache
def detector_format() -> Found:
    """Return how the outputs of the detector are read."""
    model = detector()
    found = find_format(describe_ports(model, View(model), size=DETECTOR_SIZE, num_names=80, declared=True))
    assert found is not None
    return found


def proposals_of(outputs: Arrays) -> Proposals:
    return read_proposals(outputs, detector_format(), DETECTOR_SIZE, 80)


def classifier_runs(session: Session, subject: Subject, passes: int) -> dict[str, Run]:
    """Return what is timed on a classifier."""
    scorer, targets = Scorer(session, scores_of), [1, 2, 3]
    places = max(1, passes // 6)
    return {
        "RISE published": lambda: rise(scorer, subject, None, RiseOptions(num_masks=passes, **PUBLISHED)).passes,
        "RISE, 1000 classes": lambda: rise(scorer, subject, None, RiseOptions(num_masks=passes)).passes,
        "RISE": lambda: rise(scorer, subject, targets, RiseOptions(num_masks=passes)).passes,
        "AISE": lambda: aise(scorer, subject, [1], AiseOptions(num_iterations_per_kernel=places)).passes,
    }


def detector_runs(session: Session, subject: Subject, passes: int) -> dict[str, Run]:
    """Return what is timed on a detector."""
    corners = np.random.default_rng(0).uniform(0, 250, (10, 2))
    boxes = np.concatenate([corners, corners + 100], axis=1).astype(np.float32)
    labels, options = np.arange(10), RiseOptions(num_masks=passes)
    return {"D-RISE": lambda: drise(session, proposals_of, subject, boxes, labels, options).passes}


def measure(
    name: str, model: ov.Model, runs: Callable[[Session, Subject, int], dict[str, Run]], passes: int, rounds: int
) -> None:
    """Time a model and print its rows."""
    shape = tuple(model.inputs[0].shape)[1:]
    subject = Subject(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    timed: dict[str, Run] = {"plain": partial(Plain(model, subject.image).run, passes)}
    timed |= runs(Session(model), subject, passes)
    for run in timed.values():
        run()
    turns = [{key: paces(run) for key, run in timed.items()} for _ in range(rounds)]
    for key in timed:
        pace = median(turn[key][0] for turn in turns)
        ratios = [median(turn[key][i] / turn["plain"][i] for turn in turns) for i in (0, 1)]
        print(f"{name:20}  {key:20}  {pace:8.1f}  {ratios[0]:5.2f}  {ratios[1]:5.2f}", flush=True)


def speed(passes: int, rounds: int) -> None:
    """Print the table of speed."""
    print(f"{'model':20}  {'method':20}  {'passes/s':>8}  ratio    cpu   (goal: ratio 0.95)")
    for name in CLASSIFIERS:
        measure(name, classifier(name), classifier_runs, passes, rounds)
    measure("detector", detector(), detector_runs, passes, rounds)


def quality(arguments: argparse.Namespace) -> None:
    """Print the table of quality against passes."""
    from otx_xai.data import find_images
    from otx_xai.judging.cases import JudgedCase, Network
    from otx_xai.methods.class_branch import insert_scores
    from otx_xai.metrics import judge
    from otx_xai.model import ModelOptions, embed_preprocessing, open_model
    from otx_xai.records import InputOptions

    names = ("mean", "scale", "resize_type")
    options = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    options |= {"reverse_input_channels": True} if arguments.reverse_input_channels else {}
    model = open_model(arguments.checkpoint, ModelOptions(labels=arguments.labels, input=InputOptions(**options)))
    network = Network(model, "CPU")
    session = Session(embed_preprocessing(insert_scores(model), model.facts))
    infos = list(find_images(arguments.data_root))
    chosen = infos[arguments.first :: max(1, len(infos) // arguments.images)][: arguments.images]
    cases = [case for _, case in network.cases(chosen, {}, truth=False) if isinstance(case, JudgedCase)]
    zero = network.zero
    scorer = Scorer(session, scores_of, (SCORES,))
    maps: dict[str, list[np.ndarray]] = {}

    def maker(name: str, explain: Callable[[Subject, Sequence[int]], np.ndarray]) -> Callable[..., np.ndarray]:
        def maps_of(part: Sequence[object]) -> np.ndarray:
            fill = tuple(float(value) for value in zero)
            made = np.concatenate([explain(Subject(case.image, fill=fill), [case.target]) for case in part])
            maps.setdefault(name, []).extend(made)
            return made

        return maps_of

    methods = {name: maker(name, explain) for name, explain in contenders(scorer, arguments.published).items()}
    scores = judge(cases, methods, network.forward, steps=arguments.steps, zero=zero, remap=False)
    best = next(iter(methods))
    print(f"\n{len(cases)} images of {arguments.data_root}\n")
    print(
        f"{'method':22} {'ins blur':>8} {'ins flat':>8} {'del blur':>8} {'del flat':>8} {'ins - del':>20} {'corr':>6}"
    )
    for name, own in scores.items():
        columns = [own.insertion_blur, own.insertion_zero, own.deletion_blur, own.deletion_zero]
        gap, base = gain(own), gain(scores[best])
        error = float((gap - base).std(ddof=1) / len(gap) ** 0.5)
        alike = [correlation(a, b) for a, b in zip(maps[name], maps[best], strict=True)] if name in maps else [np.nan]
        cells = " ".join(f"{column.mean():8.3f}" for column in columns)
        print(f"{name:22} {cells} {gap.mean():7.3f} ({(gap - base).mean():+.3f} ±{error:.3f}) {np.mean(alike):6.3f}")
    ahead = gain(scores["RISE ours 60"]) - gain(scores["AISE 60"])
    print(f"\nRISE ours 60 - AISE 60: {ahead.mean():+.3f} ±{ahead.std(ddof=1) / len(ahead) ** 0.5:.3f}")


def contenders(scorer: Scorer, published: int) -> dict[str, Callable[[Subject, Sequence[int]], np.ndarray]]:
    """Return what is compared: name with the number of passes → maps of an image."""

    def by_rise(subject: Subject, targets: Sequence[int], options: RiseOptions) -> np.ndarray:
        return rise(scorer, subject, targets, options).maps

    def by_aise(subject: Subject, targets: Sequence[int], places: int) -> np.ndarray:
        return aise(scorer, subject, targets, AiseOptions(num_iterations_per_kernel=places)).maps

    return {
        f"RISE published {count}": partial(by_rise, options=RiseOptions(num_masks=count, seed=seed, **PUBLISHED))
        for seed, count in enumerate((published, 500, 60), start=1)
    } | {
        f"AISE {6 * places}": partial(by_aise, places=places) for places in (10, 25, 50)
    } | {
        f"RISE ours {count}": partial(by_rise, options=RiseOptions(num_masks=count)) for count in (60, 120, 250, 500)
    }  # fmt: skip


def gain(scores: object) -> np.ndarray:
    """Return insertion less deletion of each image, over both baselines."""
    return (scores.insertion_blur + scores.insertion_zero - scores.deletion_blur - scores.deletion_zero) / 2


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two maps of any resolution."""
    size = (32, 32)
    pair = [to_image(one[None], size, InputGeometry(size)).ravel() for one in (first, second)]
    return float(np.corrcoef(*pair)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=500, help="forward passes of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-speed", action="store_true", help="quality only")
    parser.add_argument("--checkpoint", help="model file to judge the maps of")
    parser.add_argument("--data_root", help="images: a folder, a file, a list, a pattern")
    parser.add_argument("--images", type=int, default=12, help="number of images, spread over the data")
    parser.add_argument("--first", type=int, default=0, help="number of the first image")
    parser.add_argument("--steps", type=int, default=25, help="of insertion and deletion")
    parser.add_argument("--published", type=int, default=5000, help="masks of RISE as published")
    parser.add_argument("--labels", help="file of class names, where the model does not tell")
    parser.add_argument("--mean", help="as --input.mean of `otx explain`, as the next three")
    parser.add_argument("--scale")
    parser.add_argument("--resize_type")
    parser.add_argument("--reverse_input_channels", action="store_true")
    arguments = parser.parse_args()
    if bool(arguments.checkpoint) != bool(arguments.data_root):
        parser.error("--checkpoint and --data_root go together")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if not arguments.no_speed:
        speed(arguments.passes, arguments.rounds)
    if arguments.checkpoint:
        quality(arguments)


if __name__ == "__main__":
    main()
