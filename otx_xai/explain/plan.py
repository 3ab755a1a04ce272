"""From an open model to one with a saliency branch, or to a way of perturbing images: what explains is decided here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import GraphError
from otx_xai.explain.black_box import BlackBox, explain_boxes, explain_classes
from otx_xai.explain.box_choice import choose_boxes, find_boxes
from otx_xai.explain.box_gradients import choose_with_gradients
from otx_xai.explain.insertion import at_least_one, first_that_works, log_own_map, split_layers
from otx_xai.explain.targets import THRESHOLD, Choice, Wanted, choose, resolve_wanted
from otx_xai.methods.class_branch import insert_scores
from otx_xai.methods.spec import Branch, Classes, Order, SecondPass
from otx_xai.methods.table import (
    ASK_FOR_IT,
    CLASSES_BY_DEFAULT,
    METHODS,
    Chosen,
    candidates,
    effort_of,
    find_method,
    fit_of,
    method_options,
    named_method,
)
from otx_xai.model.formats.box_format import Found
from otx_xai.model.opened import Model
from otx_xai.model.preprocessing import embed_preprocessing
from otx_xai.perturb import Subject, Watch
from otx_xai.records import (
    FEATURE_VECTOR,
    SALIENCY_MAP,
    SALIENCY_TARGETS,
    SCORES,
    ExplainMode,
    MapGrid,
    ModelFacts,
    Precision,
    Size,
    Targets,
    Task,
)
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

EMBEDDED = "embedded"
"""Name of the method of a model that came with its own ``saliency_map``."""


@dataclass(frozen=True)
class How:
    """How the user wants a model to be explained.

    Args:
        mode: white box, black box, or white box where the analysis of the graph finds a place for the branch.
        method: name of its row in the table; chosen by task and graph when ``None``.
        target_layer: layer to perturb, of a one-stage detector its class heads with commas between.
        options: of a method, by name; ``None`` stands for not given.
        embed_scaling: scale maps to [0, 255] in the graph, unless the model wants images to be tiled.
        feature_vector: a white box of a classifier also gives the pooled features.
    """

    mode: ExplainMode = ExplainMode.AUTO
    method: str | None = None
    target_layer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    embed_scaling: bool = True
    feature_vector: bool = False


@dataclass(frozen=True)
class Plan:
    """What explains a model, ready to be compiled.

    Args:
        model: with the outputs ``saliency_map`` and ``saliency_scores`` behind its own, its input as it was.
        facts: what is known of it.
        wanted: what to explain.
        method: name of the method, or ``embedded``.
        scaled: the graph has scaled the maps to [0, 255].
        reason: why this method, in words.
        refusals: why each method that was asked before does not explain it: ``"name: why not"``.
        black_box: how images are perturbed, where the model has no ``saliency_map``.
        second_pass: what explains boxes once they have been read, where the model has no ``saliency_map``.
        grid: where the places of the maps lie in the network's input; ``None`` where they divide it evenly, as those of
            class probabilities and masks do, or where it is not known, as of a model's own maps.
        boxes: how the outputs of a model that finds boxes are read.
        batch: how many images it takes at once; ``None``: any number.
    """

    model: ov.Model
    facts: ModelFacts
    wanted: Wanted
    method: str
    scaled: bool = False
    reason: str = ""
    refusals: tuple[str, ...] = ()
    black_box: BlackBox | None = None
    second_pass: SecondPass | None = None
    grid: MapGrid | None = None
    boxes: Found | None = None
    batch: int | None = None

    def choose(self, outputs: Mapping[str, NDArray[Any]], image_size: Size, session: Session) -> Choice:
        """Choose what is explained of one image, and take its maps.

        Args:
            outputs: of one image: those that :meth:`outputs` names.
            image_size: ``(height, width)`` of the original image.
            session: this model, compiled, with or without its pre-processing inside.

        Raises:
            ImageError, ModelError, LabelError: as the choices say.
        """
        facts = self.facts
        if facts.task.is_classification:
            return choose(outputs, facts.labels, self.wanted, scaled=self.scaled)
        assert self.boxes is not None
        if self.second_pass is not None:
            starts = {name: outputs[name] for name in self.second_pass.starts}
            own = {name: value for name, value in outputs.items() if name not in starts}
            found = find_boxes(own, image_size, facts, self.boxes)
            placed = (image_size, facts.geometry)
            return choose_with_gradients(starts, found, placed, facts.labels, self.wanted, self.second_pass, session)
        return choose_boxes(
            outputs,
            find_boxes(outputs, image_size, facts, self.boxes),
            facts.labels,
            self.wanted,
            placed=(image_size, facts.geometry),
            first_label=facts.first_label,
            scaled=self.scaled,
        )

    def perturb(
        self,
        session: Session,
        subject: Subject,
        image_size: Size,
        *,
        read: Callable[[Arrays], Any] | None = None,
        watch: Watch | None = None,
    ) -> Choice:
        """Explain one image by perturbing it.

        Args:
            session: this model, compiled, with or without its pre-processing inside.
            subject: what it is fed.
            image_size: ``(height, width)`` of the original image.
            read: makes class scores ``(K,)``, or of a detector boxes, scores and labels by name, of the outputs of one
                image; they are read as they are by default.
            watch: progress and interruption.

        Raises:
            ImageError, ConfigError, ModelError: as the methods say.
        """
        assert self.black_box is not None
        if self.facts.task.is_classification:
            return explain_classes(session, subject, self.facts, self.wanted, self.black_box, score=read, watch=watch)
        assert self.boxes is not None
        return explain_boxes(
            session, subject, self.facts, self.wanted, self.black_box, image_size, self.boxes, found=read, watch=watch
        )

    def compiled(
        self,
        device: str = "CPU",
        *,
        as_images: bool = True,
        latency: bool | None = None,
        precision: Precision = Precision.F32,
    ) -> Session:
        """Compile the model, and with it what guides its perturbation.

        Args:
            device: OpenVINO device.
            as_images: it takes images fitted into its input, and pre-processes them itself.
            latency: one request at a time; by default where images are not perturbed.
            precision: of its numbers, any but ``auto``.

        Raises:
            ConfigError: OpenVINO cannot compile it for the device, or not in this precision.
        """
        guide = None if self.black_box is None else self.black_box.guiding_model
        wanted = self.black_box is None if latency is None else latency
        session = Session(self._fed(self.model, as_images=as_images), device, latency=wanted, precision=precision)
        if guide is not None:
            session.guide = session.beside(self._fed(guide, as_images=as_images))
        return session

    def _fed(self, graph: ov.Model, *, as_images: bool) -> ov.Model:
        return embed_preprocessing(graph, self.facts) if as_images else graph

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs that :meth:`choose` reads; all of them where empty."""
        return (SCORES, SALIENCY_MAP, SALIENCY_TARGETS, FEATURE_VECTOR) if self.facts.task.is_classification else ()


def plan(
    model: Model,
    how: How,
    *,
    targets: Targets = None,
    threshold: float = THRESHOLD,
    best: int | None = None,
    least_box: float = 0.0,
    told: bool = True,
) -> Plan:
    """Choose a method for a model, and put its branch into a copy of the graph where it is a white box.

    Args:
        model: an open model; it is not changed.
        how: what the user says of the method.
        targets: what to explain; see :func:`~otx_xai.explain.targets.resolve_targets`.
        threshold: score from which a class counts as predicted.
        best: where ``targets`` is ``None``, explain so many classes of the best scores instead.
        least_box: of boxes by themselves, explain those from this score only.
        told: the log tells what was chosen; whoever plans again and again tells it once.

    Raises:
        ConfigError: method, mode, options or targets do not fit the model or one another.
        GraphError: the graph gives no place for the method that was asked for, or for any.
    """
    facts = model.facts
    wanted = resolve_wanted(targets, facts.labels, threshold, has_boxes=not facts.task.is_classification)
    at_least_one(wanted.indices)
    wanted = replace(wanted, best=best, least_box=least_box)
    if _has_own_map(model, how):
        if told:
            log_own_map(how.method, how.target_layer)
        return _with_own_map(model, wanted)
    made = _planned(model, how, wanted)
    if not told:
        return made
    logger.info("Explaining with %s (%s).", made.method, made.reason)
    if reason := _why_one_pass(how, made):
        logger.info("--preset balance explains each box by the gradient of its score. The default does not: %s", reason)
    if made.facts.box_format and made.boxes is not None and made.boxes.match.note:
        logger.info("%s", made.boxes.match.note)
    return made


def refuse_misfit(model: Model, how: How) -> None:
    """Refuse a way of explaining a model as far as that can be told before targets are known and a branch is made.

    Args:
        model: an open model.
        how: what the user says of the method.

    Raises:
        ConfigError: method, mode or options do not fit the model or one another.
        GraphError: the graph gives no place for the method that was asked for, or for any.
    """
    if _has_own_map(model, how):
        _check_own_map(model)
        return
    named, layers = named_method(how.method, model.facts.task, how.mode), split_layers(how.target_layer)
    if named is not None:
        method_options(named, how.options, named=True)
    found = candidates(
        model, method=named, mode=how.mode, refusals=[], target_layers=layers, preset=how.options.get("preset")
    )
    next(found)


def _has_own_map(model: Model, how: How) -> bool:
    """Whether the model came with maps, and the user does not want it to be perturbed."""
    perturbs = how.mode is ExplainMode.BLACKBOX or (how.method is not None and not find_method(how.method).is_white_box)
    return model.own_map is not None and not perturbs


def _why_one_pass(how: How, made: Plan) -> str:
    """Say why boxes are explained in one pass, where the user says nothing of effort or method."""
    untold = how.method is None and how.options.get("preset") is None and made.facts.task is Task.DETECTION
    if not untold or made.second_pass is not None or made.black_box is not None:
        return ""
    reasons = [one.removesuffix(ASK_FOR_IT) for one in made.refusals if one.endswith(ASK_FOR_IT)]
    return "".join(reason.partition(": ")[2] for reason in reasons)


def each_class_costs(model: Model, how: How, wanted: Wanted) -> bool:
    """Whether the method that explains a model takes a pass more for each wanted class."""
    if how.method is not None:
        return find_method(how.method).each_class_costs
    if model.own_map is not None:
        return False
    told, task = how.options.get("preset"), model.facts.task
    if told is None and len(wanted.indices or ()) > CLASSES_BY_DEFAULT:
        return False
    effort, layers = effort_of(told, how.mode), split_layers(how.target_layer)
    own = [spec for spec in METHODS if spec.each_class_costs and effort in spec.presets and task in spec.tasks]
    return any(fit_of(spec, model, layers).fits for spec in own)


def _planned(model: Model, how: How, wanted: Wanted) -> Plan:
    """Take the first method of the table that gets to work."""
    named = named_method(how.method, model.facts.task, how.mode)
    layers = split_layers(how.target_layer)
    order = _order(model, wanted, layers, how)
    if named is not None:
        order = replace(order, options=method_options(named, how.options, named=True))
    effort, told = how.options.get("preset"), wanted.indices is not None
    chosen, branch = first_that_works(model, named, how.mode, order, preset=effort, told=told, per_box=wanted.per_box)
    options = method_options(chosen.spec, how.options, named=named is not None)
    if branch is not None and chosen.spec.is_white_box:
        return _with_branch(model, chosen, branch, wanted, scaled=order.embed_scaling)
    if chosen.spec.second_pass is not None:
        return _in_two_passes(model, chosen, layers, wanted)
    if layers:
        logger.warning("target_layer: no effect with %s.", chosen.spec.name)
    guide = None if chosen.spec.guide_boxes is None else chosen.spec.guide_boxes(model, ())
    return _perturbing(model, chosen, BlackBox(chosen.spec, options, branch, guide, wanted.indices), wanted)


def _order(model: Model, wanted: Wanted, layers: tuple[str, ...], how: How) -> Order:
    facts = model.facts
    is_classifier = facts.task.is_classification
    return Order(
        layers,
        _classes(model, wanted),
        embed_scaling=how.embed_scaling and facts.tiling is None,  # scaled one by one, tiles could not be merged
        scores=is_classifier,
        feature_vector=how.feature_vector and is_classifier,
    )


def _classes(model: Model, wanted: Wanted) -> Classes:
    facts = model.facts
    if facts.task.is_classification:
        return wanted.classes(model.structure.class_scores.num_classes, exclusive=not facts.multilabel)
    is_some = wanted.indices is not None and len(wanted.indices) < len(facts.labels)
    return wanted.indices if is_some else None


def _made(model: Model, graph: ov.Model, wanted: Wanted, chosen: Chosen | None = None) -> Plan:
    """Return what all plans share; without a method of the table the model has maps of its own."""
    made = Plan(graph, model.facts, wanted, EMBEDDED, boxes=model.boxes, batch=model.batch)
    if chosen is None:
        return made
    return replace(made, method=chosen.spec.name, reason=chosen.reason, refusals=chosen.refusals)


def _with_branch(model: Model, chosen: Chosen, branch: Branch, wanted: Wanted, *, scaled: bool) -> Plan:
    return replace(_made(model, branch.model, wanted, chosen), scaled=scaled, grid=branch.grid)


def _in_two_passes(model: Model, chosen: Chosen, layers: tuple[str, ...], wanted: Wanted) -> Plan:
    """Have the boxes explained once they have been read."""
    assert chosen.spec.second_pass is not None
    if model.facts.tiling is not None:
        logger.warning(
            "%s explains images as a whole: the tiles that the model asks for are not cut.", chosen.spec.name
        )
    second_pass = chosen.spec.second_pass(model, layers)
    made = _made(model, second_pass.first, wanted, chosen)
    return replace(made, facts=replace(model.facts, tiling=None), second_pass=second_pass)


def _perturbing(model: Model, chosen: Chosen, black_box: BlackBox, wanted: Wanted) -> Plan:
    """Leave the graph as it is, but for the scores of a classifier: it is explained by perturbing the image."""
    made = _made(model, _with_scores(model), wanted, chosen)
    return replace(made, facts=replace(model.facts, tiling=None), black_box=black_box)


def _with_own_map(model: Model, wanted: Wanted) -> Plan:
    """Use the maps that the model came with."""
    _check_own_map(model)
    if model.facts.tiling is not None:
        logger.warning(
            "The model's own %s may be scaled for each tile on its own: places in different tiles of an image then do "
            "not compare. Remove this output from the model to have one inserted that does.",
            SALIENCY_MAP,
        )
    return _made(model, _with_scores(model), wanted)


def _with_scores(model: Model) -> ov.Model:
    return insert_scores(model) if model.facts.task.is_classification else model.graph


def _check_own_map(model: Model) -> None:
    assert model.own_map is not None
    shape, classes = model.own_map.get_partial_shape(), len(model.facts.labels)
    rank = shape.rank.get_length() if shape.rank.is_static else None
    counts = (classes, classes + model.facts.first_label)
    if rank == 3 or (rank == 4 and (shape[1].is_dynamic or shape[1].get_length() in counts)):
        return
    raise GraphError(
        f"The model's own {SALIENCY_MAP} output has shape {shape}; expected [N, {classes}, h, w], one map a class, or "
        f"[N, h, w], one an image. Remove this output from the model to have a new one inserted."
    )
