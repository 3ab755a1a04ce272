"""One run of judging: images in small parts, every method and control on each, until the last or until stopped."""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from otx_xai.errors import ConfigError, GraphError, ImageError
from otx_xai.explain.insertion import split_layers
from otx_xai.explain.plan import EMBEDDED, How, plan
from otx_xai.explain.run_sources import Source, image_errors
from otx_xai.judging.cases import JudgedCase, Known, Network
from otx_xai.judging.judgement import Counts, JudgedMethod, Judgement
from otx_xai.judging.map_makers import MapMaker
from otx_xai.judging.sanity import Sanity, check_sanity, passes_of
from otx_xai.methods import table
from otx_xai.methods.table import find_method, fit_of, named_method
from otx_xai.metrics import Case, MapsOf, Scores, Stopped, blurred, judge
from otx_xai.metrics.judge import CONTROLS
from otx_xai.model import Model
from otx_xai.process import interruptible, one_thread_each, progress
from otx_xai.records import ExplainMode, FloatArray, ImageInfo, JudgedClass, Size
from otx_xai.settings import JudgeSettings

logger = logging.getLogger("otx_xai")

BOX = "box"
"""Control of a detector: the judged box itself, filled."""

_PART = 8
"""Images that branches are compiled for at a time: they give maps of these images' classes."""

_SANITY_IMAGES = 8
_CELLS = (7, 7)
_BASELINES = ("image", "blurred", "zero")
_STOPPING = "Stopping: the image in hand is left out; Ctrl-C again ends at once."


@dataclass(frozen=True)
class Ballot:
    """The methods that are to be judged.

    Args:
        names: of methods, in the order of the table.
        refused: methods that do not explain the model, name → why not.
        default: the one that ``explain_mode`` auto takes; empty where none explains the model.
    """

    names: tuple[str, ...]
    refused: Mapping[str, str]
    default: str = ""


def nominate(model: Model, settings: JudgeSettings) -> Ballot:
    """Choose the methods: those that the user names, else all white boxes that fit and the one of auto mode.

    Raises:
        ConfigError: there is no method of a name, one is named twice, or explains another task.
        GraphError: none of them fits.
    """
    default = _default(model, settings)
    if model.own_map is not None and not settings.methods:
        return Ballot((EMBEDDED,), {}, default)
    named = named_methods(settings.methods)
    specs = [find_method(name) for name in named]
    for name in named:
        named_method(name, model.facts.task, ExplainMode.AUTO)
    if not named:
        specs = [
            spec
            for spec in table.METHODS
            if model.facts.task in spec.tasks and (spec.is_white_box or spec.name == default)
        ]
    names, refused = [], {}
    for spec in specs:
        fit = fit_of(spec, model, split_layers(settings.target_layer) if spec.is_white_box else ())
        if spec.is_white_box and model.own_map is not None:
            refused[spec.name] = "the model carries its own saliency_map, which is used in its place"
        elif fit.fits:
            names.append(spec.name)
        else:
            refused[spec.name] = fit.reason
    if not names:
        raise GraphError("None of the methods fits: " + " ".join(f"{name}: {why}" for name, why in refused.items()))
    return Ballot(tuple(names), refused, default)


@dataclass
class _Tally:
    """What is known so far: of an image that was judged nothing but its numbers, four bytes each."""

    scores: dict[str, dict[str, array[float]]] = field(default_factory=dict)
    baselines: array[float] = field(default_factory=lambda: array("f"))
    failures: dict[str, str] = field(default_factory=dict)
    without_target: list[str] = field(default_factory=list)

    def add(self, scores: Mapping[str, Scores], baselines: FloatArray) -> None:
        """Add an image: the scores of every row, and what it scores in its baselines."""
        for name, own in scores.items():
            columns = self.scores.setdefault(name, {metric.name: array("f") for metric in fields(Scores)})
            for metric, column in columns.items():
                column.extend(getattr(own, metric).tolist())
        self.baselines.extend(baselines.tolist())

    def all_scores(self) -> dict[str, Scores]:
        """Return the scores of all images by row."""
        return {
            name: Scores(**{metric: np.array(column, np.float32) for metric, column in columns.items()})
            for name, columns in self.scores.items()
        }


class Trial:
    """Judges the maps of one model.

    Args:
        work_dir: folder of the run.
        model: open.
        ballot: the methods.
        settings: of the run.
        known: name of an image → what annotations tell of it.
        about: what the figures rest on, for the record.
    """

    def __init__(
        self,
        work_dir: Path,
        model: Model,
        ballot: Ballot,
        settings: JudgeSettings,
        known: Mapping[str, Known],
        about: Mapping[str, Any],
    ) -> None:
        self._work_dir, self._model, self._ballot, self._settings = work_dir, model, ballot, settings
        self._known, self._about = known, about
        self._tally = _Tally()
        self._refused = dict(ballot.refused)
        self._makers: dict[str, MapMaker] = {}
        self._cells: Size | None = None
        self._examples: list[JudgedCase] = []

    def run(self, sources: Iterable[Source], chosen: int, found: int) -> Judgement:
        """Judge images.

        Args:
            sources: the images.
            chosen: their number.
            found: number of images that the data have.

        Raises:
            GraphError: the graph gives no place for any method.
            ModelError: the model fails.
            KeyboardInterrupt: the second Ctrl-C or termination signal; the first one only ends the run early.
        """
        with interruptible(_STOPPING) as stop, one_thread_each():
            start = time.monotonic()
            told = self._settings
            network = Network(self._model, told.device, stop, precision=told.precision, decode=told.decode)
            self._makers = {name: self._maker(self._model, name, stop=stop) for name in self._ballot.names}
            with progress(chosen, 0) as bar:
                self._judge_all(network, iter(sources), chosen, bar.update)
            sanity = None
            if self._settings.sanity and self._examples and not stop.is_set():
                sanity = self._sanity(stop)
            seconds = time.monotonic() - start
            return self._judgement(found, chosen, seconds, sanity, interrupted=stop.is_set())

    def _judge_all(
        self, network: Network, sources: Iterator[Source], chosen: int, advance: Callable[[], object]
    ) -> None:
        judged, truth = 0, self._settings.judged is JudgedClass.TRUTH
        try:
            while part := list(islice(sources, _PART)):
                cases = []
                for source, found in network.cases(part, self._known, truth=truth):
                    if isinstance(found, JudgedCase):
                        cases.append((source, found))
                        continue
                    self._leave_out(source.name, source, found)
                    advance()
                if cases:
                    self._prepare([case for _, case in cases])
                for source, case in cases:
                    if self._judge_one(network, source, case):
                        if judged * min(_SANITY_IMAGES, chosen) // chosen == len(self._examples):  # evenly spaced
                            self._examples.append(case)
                        judged += 1
                    advance()
        except Stopped:
            return

    def _prepare(self, cases: Sequence[JudgedCase]) -> None:
        """Compile the methods for the classes of some images, and leave out those that find no place, the first time.

        Raises:
            GraphError: none is left.
        """
        classes = [case.target for case in cases]
        for name, maker in list(self._makers.items()):
            try:
                maker.prepare(classes)
            except GraphError as error:
                if self._cells is not None:
                    raise
                self._refused[name] = str(error)
                del self._makers[name]
        if not self._makers:
            raise GraphError("None of the methods fits: " + " ".join(self._refused.values()))
        if self._cells is None:
            self._cells = self._coarsest(cases[0])

    def _coarsest(self, case: JudgedCase) -> Size:
        """Return the resolution of the coarsest maps of a white box: controls are as coarse as what they stand for."""
        sizes = [_CELLS]
        for maker in self._makers.values():
            if not maker.is_black_box and (found := maker.explain(case)) is not None:
                sizes.append((found.values.shape[0], found.values.shape[1]))
        return min(sizes[1:] or sizes, key=lambda size: size[0] * size[1])

    def _judge_one(self, network: Network, source: Source, case: JudgedCase) -> bool:
        rows: dict[str, MapsOf] = dict(self._makers)
        if not network.is_classifier:
            rows[BOX] = _filled
        assert self._cells is not None
        try:
            with image_errors(source if isinstance(source, ImageInfo) else source.info):
                scores = judge(
                    [case],
                    rows,
                    network.forward,
                    steps=self._settings.steps,
                    zero=network.zero,
                    cells=self._cells,
                    seed=self._settings.seed,
                    score=network.score,
                )
                baselines = _baselines(network, case)
        except ImageError as error:
            self._leave_out(source.name, source, error)
            return False
        self._tally.add(scores, baselines)
        return True

    def _leave_out(self, name: str, source: Source, why: ImageError | None) -> None:
        if why is None:
            self._tally.without_target.append(name)
            return
        file = source.file if isinstance(source, ImageInfo) else source.info.file
        logger.warning("%s", why)
        self._tally.failures[name] = str(why).replace(file, name)

    def _maker(self, model: Model, name: str, *, by_class: bool = False, stop: Event | None = None) -> MapMaker:
        settings = self._settings
        return MapMaker(
            model,
            None if name == EMBEDDED else name,
            settings.of_method(),
            target_layer=settings.target_layer,
            device=settings.device,
            precision=settings.precision,
            by_class=by_class,
            stop=stop,
        )

    def _sanity(self, stop: Event) -> Sanity:
        names = list(self._makers)
        with progress(passes_of(self._model, len(names), len(self._examples)), 0) as bar:

            def advance() -> None:
                bar.update()
                if stop.is_set():
                    raise Stopped

            maker_of = partial(self._maker, by_class=True, stop=stop)
            found = check_sanity(
                self._model, names, self._examples, maker_of, seed=self._settings.seed, advance=advance
            )
        for warning in found.warnings():
            logger.warning("%s", warning)
        return found

    def _judgement(
        self, found: int, chosen: int, seconds: float, sanity: Sanity | None, *, interrupted: bool
    ) -> Judgement:
        tally = self._tally
        judged = len(tally.baselines) // len(_BASELINES)
        means = np.array(tally.baselines).reshape(judged, -1).mean(axis=0).tolist() if judged else []
        return Judgement(
            self._work_dir,
            self._rows(),
            tally.all_scores(),
            Counts(found, chosen, judged, tally.failures, tuple(tally.without_target)),
            self._refused,
            dict(zip(_BASELINES, means, strict=False)),
            self._about,
            seconds,
            sanity,
            interrupted,
        )

    def _rows(self) -> tuple[JudgedMethod, ...]:
        rows = []
        for name in self._makers:
            kind = "embedded" if name == EMBEDDED else "white box" if find_method(name).is_white_box else "black box"
            rows.append(JudgedMethod(name, kind, name == self._ballot.default))
        box = () if self._model.facts.task.is_classification else (BOX,)
        return (*rows, *(JudgedMethod(name, "control") for name in (*box, *CONTROLS)))


def evenly(images: Sequence[Any], count: int) -> list[Any]:
    """Return so many images, evenly spaced over all of them; all where there are no more."""
    number = min(count, len(images))
    return [images[i * len(images) // number] for i in range(number)]


def _default(model: Model, settings: JudgeSettings) -> str:
    if model.own_map is not None:
        return EMBEDDED
    facts = replace(model.facts, tiling=None)
    try:
        how = How(target_layer=settings.target_layer, options={"preset": settings.preset})
        return plan(replace(model, facts=facts), how, told=False).method
    except GraphError:
        return ""


def named_methods(methods: str | Sequence[str] | None) -> list[str]:
    """Return the names of methods as the table spells them.

    Raises:
        ConfigError: there is no such method, or one is named twice.
    """
    if methods is None:
        return []
    words = methods.split(",") if isinstance(methods, str) else methods
    names = [find_method(str(word).strip()).name for word in words if str(word).strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--methods names {', '.join(twice)} more than once; expected each method once.")
    if not names:
        raise ConfigError(f"--methods is empty; expected some of {', '.join(spec.name for spec in table.METHODS)}.")
    return names


def _baselines(network: Network, case: JudgedCase) -> FloatArray:
    """Return what a case scores in its image, blurred, and in one of one colour."""
    image = case.image
    flat = np.broadcast_to(network.zero, image.shape).copy()
    draws = [partial(np.asarray, shown) for shown in (image, blurred(image), flat)]
    return np.array([network.score(case, values) for values in network.forward(draws)], np.float32)


def _filled(cases: Sequence[Case]) -> FloatArray:
    """Return the judged boxes, filled: ``float32`` ``(N, H, W)``."""
    maps = np.zeros((len(cases), *cases[0].image.shape[:2]), np.float32)
    for one, case in zip(maps, cases, strict=True):
        if isinstance(case, JudgedCase) and case.box is not None:
            left, top, right, bottom = np.rint(case.box).astype(int).tolist()
            one[max(0, top) : max(bottom, top + 1), max(0, left) : max(right, left + 1)] = 1
    return maps
