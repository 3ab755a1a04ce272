"""How good the maps are: every method beside random and centred controls, on the same images, in one table.

    python benchmarks/quality.py --checkpoint model.xml --data_root images [--images 12] [--steps 50] [--markdown]
    python benchmarks/quality.py                     trains the network of `otx demo` and draws its pictures, ~1 minute

Judged are maps of the class that the model itself predicts. Insertion and deletion are areas under the curve of that
class's probability, against a blurred image and against the image that is 0 behind the network's normalisation; ADCC is
the harmonic mean of coherency, 1 - complexity and 1 - average drop. Drawn pictures have boxes, for the pointing game
and for the energy in the box. Figures are averages ± their standard errors. Below the table stands how much more each
method scores than the controls, image by image.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov
from planning import planned

from otx_xai.data import find_images, read_image
from otx_xai.data.shapes import SHAPE_LABELS, draw_shape, draw_size
from otx_xai.demo.class_demo import export_network, train_network
from otx_xai.errors import GraphError, OtxXaiError
from otx_xai.explain.plan import Plan
from otx_xai.metrics import (
    Case,
    Forward,
    MapsOf,
    centre_maps,
    differences,
    judge,
    session_scores,
    table,
    trace,
    white_box,
    zero_colour,
)
from otx_xai.metrics.judge import CONTROLS
from otx_xai.metrics.stream import INSERTION
from otx_xai.metrics.summaries import COLUMNS, Scores
from otx_xai.model import embed_preprocessing, read_model
from otx_xai.postprocess import fit, to_image
from otx_xai.postprocess.detections import boxes_on_input
from otx_xai.records import SCORES, InputGeometry, InputOptions, Method, ResizeType, UInt8Array
from otx_xai.runtime import Session

Picture = tuple[UInt8Array, np.ndarray | None]
"""An image of any size, and the boxes of its one class where they are known."""


@dataclass(frozen=True)
class Subject:
    """What is explained.

    Args:
        model: as it was read.
        options: what to feed it.
        labels: class names, where the model does not tell.
        zero: pixel that becomes 0 behind its normalisation, where neither model nor options tell.
    """

    model: ov.Model
    options: InputOptions
    labels: str | None
    zero: UInt8Array | None

    def prepared(self, method: Method | None = None) -> Plan:
        """Insert a branch with the maps of all classes."""
        return planned(self.model, labels=self.labels, options=self.options, method=method, targets=-1)

    def session(self, prepared: Plan) -> Session:
        """Compile a prepared model so that it takes pictures."""
        return Session(embed_preprocessing(prepared.model, prepared.facts))


Maker = Callable[[Subject], MapsOf]


def white_box_method(method: Method, subject: Subject) -> MapsOf:
    """Explain with one of the branches; GraphError where the graph has no place for it."""
    prepared = subject.prepared(method)
    maps_of, size = white_box(subject.session(prepared)), prepared.facts.geometry.size
    return lambda cases: to_image(maps_of(cases), size, InputGeometry(size), grid=prepared.grid)


METHODS: dict[str, Maker] = {
    method.value: partial(white_box_method, method)
    for method in (Method.RECIPROCAM, Method.VITRECIPROCAM, Method.ACTIVATIONMAP)
}
"""The rows of the table: what makes the maps of each."""


def methods_of(subject: Subject, names: Sequence[str]) -> dict[str, MapsOf]:
    """Make the methods; one that the graph has no place for is left out and named."""
    made = {}
    for name in names:
        try:
            made[name] = METHODS[name](subject)
        except GraphError as error:
            print(f"{name} is left out: {str(error).split('. ')[0]}.\n")
    return made


def cases_of(pictures: Iterator[Picture], prepared: Plan, session: Session) -> list[Case]:
    """Fit pictures into the input, and take the class that the model predicts."""
    geometry = prepared.facts.geometry

    def read(picture: Picture) -> tuple[UInt8Array, Case]:
        image, boxes = picture
        fitted = fit(image, geometry)
        moved = None if boxes is None else boxes_on_input(boxes, image.shape[:2], geometry)
        return fitted, Case(fitted, -1, moved)

    def finish(case: Case, outputs: dict[str, np.ndarray]) -> Case:
        return replace(case, target=int(outputs[SCORES].argmax()))

    with closing(session.stream(pictures, read, finish, outputs=(SCORES,))) as results:
        return [result for _, result in results if isinstance(result, Case)]


def zero_of(subject: Subject, prepared: Plan) -> UInt8Array:
    """Return the pixel that becomes 0 behind the normalisation."""
    if subject.zero is not None:
        return subject.zero
    return zero_colour(prepared.facts.mean, reverse=prepared.facts.reverse_input_channels)


def read_subject(arguments: argparse.Namespace) -> Subject:
    """Read the model that the arguments name."""
    options = InputOptions(
        mean=arguments.mean,
        scale=arguments.scale,
        resize_type=arguments.resize_type,
        reverse_input_channels=arguments.reverse_input_channels or None,
    )
    zero = None if arguments.zero is None else zero_colour([float(part) for part in arguments.zero.split(",")])
    path = Path(arguments.checkpoint)
    if path.suffix.lower() not in (".pth", ".pt", ".ckpt", ".safetensors"):
        return Subject(read_model(path), options, arguments.labels, zero)
    from otx_xai.checkpoints import load_checkpoint
    from otx_xai.conversion import to_openvino

    loaded = load_checkpoint(path, labels=arguments.labels, options=options)
    # The exported graph normalises by itself, and its model_info has the labels
    rest = replace(options, mean=None, scale=None)
    return Subject(to_openvino(loaded), rest, None, zero_colour(loaded.mean) if zero is None else zero)


def demo_subject() -> Subject:
    """Train the network of `otx demo`, which tells drawn shapes apart."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_network(train_network(), Path(folder) / "exported_model.xml")
        model = read_model(path)
    return Subject(model, InputOptions(), None, None)


def drawn_pictures(count: int) -> Iterator[Picture]:
    """Draw shapes, with their boxes."""
    rng = np.random.default_rng(1)
    for i in range(count):
        shape = draw_shape(rng, draw_size(rng, 112), i % len(SHAPE_LABELS))
        rows, columns = np.flatnonzero(shape.mask.any(axis=1)), np.flatnonzero(shape.mask.any(axis=0))
        box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
        yield shape.image, box


def baselines_line(cases: Sequence[Case], forward: Forward, zero: UInt8Array) -> str:
    """Say what the classes score in the baselines: one in which they are still seen can tell little."""
    middle = [centre_maps((1, 7, 7))[0]]
    curves = list(trace(((case, middle) for case in cases), forward, steps=1, zero=zero))
    blur, flat = np.mean([own.steps[0, :, INSERTION, 0] for own in curves], axis=0)
    whole = np.mean([own.score for own in curves])
    colour = ",".join(map(str, zero.tolist()))
    return f"The classes score {whole:.3f} in the images, {blur:.3f} in blurred ones, {flat:.3f} in a flat {colour}."


def differences_lines(scores: Mapping[str, Scores], methods: Sequence[str]) -> Iterator[str]:
    """Say how much more each method scores than each control."""
    for name in methods:
        for control in CONTROLS:
            found = differences(scores[name], scores[control])
            cells = [f"{COLUMNS[key]} {own.mean:+.3f} ±{own.error:.3f}" for key, own in found.items() if own.count]
            yield f"{name} - {control}: {', '.join(cells)}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="model file; without one, the network of `otx demo` is trained")
    parser.add_argument("--data_root", help="images: a folder, a file, a list, a pattern")
    parser.add_argument("--labels", help="file of class names, where the model does not tell")
    parser.add_argument("--mean", help="as --input.mean of `otx explain`, as the next three")
    parser.add_argument("--scale")
    parser.add_argument("--resize_type", choices=[kind.value for kind in ResizeType])
    parser.add_argument("--reverse_input_channels", action="store_true")
    parser.add_argument("--zero", help="R,G,B of the zero baseline, by default the mean that the model subtracts")
    parser.add_argument("--images", type=int, default=12, help="number of images, spread over all that are found")
    parser.add_argument("--methods", default=",".join(METHODS), help="rows of the table, of %(default)s")
    parser.add_argument("--steps", type=int, default=50, help="of insertion and deletion; the paper takes 224")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.data_root is None):
        parser.error("--checkpoint and --data_root go together; expected both, or neither for drawn pictures")
    unknown = sorted(set(arguments.methods.split(",")) - METHODS.keys())
    if unknown:
        parser.error(f"--methods names {', '.join(unknown)}; expected some of {', '.join(METHODS)}")
    return arguments


def main() -> None:
    arguments = parse()
    logging.disable(logging.WARNING)
    if arguments.checkpoint is None:
        subject, pictures = demo_subject(), drawn_pictures(arguments.images)
    else:
        subject, found = read_subject(arguments), find_images(arguments.data_root)
        chosen = sorted({i * len(found) // arguments.images for i in range(arguments.images)})
        pictures = ((read_image(found[i].file), None) for i in chosen)
    prepared = subject.prepared()
    session = subject.session(prepared)
    cases = cases_of(pictures, prepared, session)
    methods = methods_of(subject, arguments.methods.split(","))
    if not methods:
        sys.exit("None of the methods fits this model; expected at least one of --methods to.")
    start = time.perf_counter()
    cells = next(iter(methods.values()))(cases[:1]).shape[1:]
    forward, zero = session_scores(session), zero_of(subject, prepared)
    scores = judge(cases, methods, forward, steps=arguments.steps, zero=zero, cells=cells)
    seconds = time.perf_counter() - start
    passes = len(cases) * (3 + len(scores) * (4 * arguments.steps - 3))
    print(table(scores, markdown=arguments.markdown))
    print()
    print(baselines_line(cases, forward, zero))
    print("\n".join(differences_lines(scores, list(methods))))
    print(f"\n{passes} forward passes in {seconds:.1f} s, {passes / seconds:.0f} a second")


if __name__ == "__main__":
    try:
        main()
    except OtxXaiError as error:
        sys.exit(str(error))
