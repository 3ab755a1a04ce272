"""From any model file to a model with a saliency branch that takes plain images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import ConfigError, GraphError
from otx_xai.explain.black_box import BlackBox, black_box, explain_boxes, explain_classes
from otx_xai.explain.box_choice import choose_boxes, find_boxes
from otx_xai.explain.insertion import at_least_one, check_task_of, known_classes, log_own_map, split_layers
from otx_xai.explain.targets import Choice, Wanted, choose, resolve_wanted
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.graph.features import dissect
from otx_xai.graph.logits import Activation
from otx_xai.methods.insert import branch_grid, default_method, has_saliency_map, insert_branch, insert_scores
from otx_xai.methods.insert_boxes import insert_box_maps
from otx_xai.model import describe, find_logits, find_task, fix_shapes, input_layout, log_line, read_model
from otx_xai.perturb import Subject, Watch
from otx_xai.records import (
    SALIENCY_MAP,
    SALIENCY_TARGETS,
    SCORES,
    ExplainMode,
    InputOptions,
    MapGrid,
    Method,
    ModelFacts,
    Size,
    Task,
)
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

EMBEDDED = "embedded"
"""Name of the method of a model that came with its own ``saliency_map``."""

_ANY_SIZE = (-1, -1)
"""Height and width of a network's input that are open, and stay so."""


@dataclass(frozen=True)
class Prepared:
    """A model ready to be compiled.

    Args:
        model: with the outputs ``saliency_map`` and ``saliency_scores`` behind its own, its input as it was.
        info: what is known of it.
        wanted: what to explain.
        method: name of the method, or ``embedded``.
        scaled: the graph has scaled the maps to [0, 255].
        reason: why this method, in words.
        black_box: how images are perturbed, where the model has no ``saliency_map``.
        grid: where the places of the maps lie in the network's input; ``None`` where they divide it evenly, as those of
            class probabilities and masks do, or where it is not known, as of a model's own maps.
    """

    model: ov.Model
    info: ModelFacts
    wanted: Wanted
    method: str
    scaled: bool
    reason: str = ""
    black_box: BlackBox | None = None
    grid: MapGrid | None = None

    def choose(self, outputs: Mapping[str, NDArray[Any]], image_size: Size) -> Choice:
        """Choose what is explained of one image, and take its maps.

        Args:
            outputs: of one image: those that :meth:`outputs` names.
            image_size: ``(height, width)`` of the original image.

        Raises:
            ImageError, ModelError, LabelError: as the choices say.
        """
        info = self.info
        if info.task.is_classification:
            return choose(outputs, info.labels, self.wanted, scaled=self.scaled)
        found = find_boxes(outputs, image_size, info)
        return choose_boxes(
            outputs,
            found,
            info.labels,
            self.wanted,
            placed=(image_size, info.geometry),
            first_label=info.first_label,
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
        if self.info.task.is_classification:
            return explain_classes(session, subject, self.info, self.wanted, self.black_box, score=read, watch=watch)
        return explain_boxes(
            session, subject, self.info, self.wanted, self.black_box, image_size, found=read, watch=watch
        )

    @property
    def open_size(self) -> bool:
        """Whether the model takes images of any size, and none was chosen."""
        return self.info.geometry.size == _ANY_SIZE

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs that :meth:`choose` reads; all of them where empty."""
        return (SCORES, SALIENCY_MAP, SALIENCY_TARGETS) if self.info.task.is_classification else ()


def check_method(method: Method | None, mode: ExplainMode) -> None:
    """Refuse a method and a mode that contradict each other.

    Raises:
        ConfigError: they do.
    """
    if method is not None and mode is not ExplainMode.AUTO and method.is_white_box is (mode is ExplainMode.BLACKBOX):
        raise ConfigError(f"explain_method {method} is no {mode} method. Leave explain_mode to 'auto'.")


def prepare(
    checkpoint: str | Path | ov.Model,
    *,
    task: Task | None = None,
    labels: str | Path | Sequence[str] | None = None,
    options: InputOptions | None = None,
    mode: ExplainMode = ExplainMode.AUTO,
    method: Method | None = None,
    method_options: Mapping[str, Any] | None = None,
    target_layer: str | None = None,
    targets: Any = None,
    threshold: float = 0.3,
    confidence_threshold: float | None = None,
    batch: int = 1,
    keep_open: bool = False,
    embed_scaling: bool = True,
) -> Prepared:
    """Read a model, find out what it is, and insert the branch that explains what is wanted.

    Args:
        checkpoint: ``.xml``, ``.onnx``, ``.tflite`` or an ``ov.Model``, which is not changed.
        task: what the model does, where it does not tell.
        labels: class names, where the model does not tell.
        options: what to feed it, where it does not tell.
        mode: white box, black box, or white box where the analysis of the graph finds a place for the branch.
        method: chosen by task and graph when ``None``.
        method_options: of a black-box method, by name.
        target_layer: layer to perturb.
        targets: what to explain; see :func:`~otx_xai.explain.targets.resolve_targets`.
        threshold: score from which a class counts as predicted.
        confidence_threshold: score from which a detector's box counts; the model's own where ``None``.
        batch: images an inference, where the model leaves its batch open.
        keep_open: leave a dynamic batch, height and width as they are.
        embed_scaling: scale maps to [0, 255] in the graph, unless the model wants images to be tiled.

    Raises:
        ModelError, ConfigError, GraphError: as the stages say.
    """
    check_method(method, mode)
    forced = mode is ExplainMode.BLACKBOX or (method is not None and not method.is_white_box)
    may_fall_back = mode is ExplainMode.AUTO and method is None and not target_layer
    model = read_model(checkpoint)
    classes, refusal = None, None
    kind, _ = find_task(model, task)
    check_task_of(None if has_saliency_map(model) else method, kind)  # a map of its own is used as it is
    if not kind.is_classification:
        reader, layers = (Method.ACTIVATIONMAP, ()) if forced else (method, split_layers(target_layer))
        classes, refusal = _read_classes(model, labels, reader, layers, may_refuse=forced or may_fall_back)
    info = _describe(model, task, labels, options or InputOptions(), classes, keep_open=keep_open)
    if confidence_threshold is not None:
        info = replace(info, confidence_threshold=confidence_threshold)
    logger.info("%s", log_line(info))
    wanted = resolve_wanted(targets, info.labels, threshold, has_boxes=not info.task.is_classification)
    at_least_one(wanted.indices)
    fixed = model if keep_open else fix_shapes(model, info, batch)
    if has_saliency_map(fixed) and not forced:
        log_own_map(method, target_layer)
        return _with_own_map(fixed, info, wanted)
    if forced or refusal is not None:
        return _without_branch(fixed, info, wanted, method, method_options, refusal, target_layer=target_layer)
    reason = "asked for" if method is not None or mode is not ExplainMode.AUTO else "white box: the graph allows it"
    try:
        prepared = _with_branch(fixed, info, wanted, method, target_layer, reason, embed_scaling=embed_scaling)
    except GraphError as error:  # the graph's analysis says that it has no place for the branch
        if not may_fall_back:
            raise
        return _without_branch(fixed, info, wanted, method, method_options, error)
    _warn_of_unused(method_options, prepared.method)
    logger.info("Explaining with %s (%s).", prepared.method, reason)
    return prepared


def _read_classes(
    model: ov.Model,
    labels: str | Path | Sequence[str] | None,
    method: Method | None,
    target_layers: Sequence[str],
    *,
    may_refuse: bool,
) -> tuple[BoxClasses | None, GraphError | None]:
    """Read the classes of a model that finds boxes off its graph, or return why it has no class heads."""
    try:
        return known_classes(model, labels, method, target_layers), None
    except GraphError as error:
        if not may_refuse:
            raise
        return None, error


def _describe(
    model: ov.Model,
    task: Task | None,
    labels: str | Path | Sequence[str] | None,
    options: InputOptions,
    classes: BoxClasses | None,
    *,
    keep_open: bool,
) -> ModelFacts:
    """Describe a model whose height and width may stay open."""
    if not keep_open or options.size is not None or not _has_open_size(model):
        return describe(model, task=task, labels=labels, options=options, classes=classes)
    # describe() insists on a size
    info = describe(model, task=task, labels=labels, options=replace(options, size=1), classes=classes)
    sources = info.sources | {"input": "height and width are open"}
    return replace(info, geometry=replace(info.geometry, size=_ANY_SIZE), sources=sources)


def _without_branch(
    model: ov.Model,
    info: ModelFacts,
    wanted: Wanted,
    method: Method | None,
    options: Mapping[str, Any] | None,
    refusal: GraphError | None,
    *,
    target_layer: str | None = None,
) -> Prepared:
    """Leave the graph as it is, but for the scores of a classifier: it is explained by perturbing the image."""
    info = replace(info, tiling=None)
    box = black_box(not info.task.is_classification, method, options or {})
    if target_layer:
        logger.warning("target_layer: no effect with %s.", box.method)
    reason = "asked for" if refusal is None else f"black box, because the graph gives no place for a branch: {refusal}"
    if info.task.is_classification:
        model = insert_scores(model, find_logits(model), _activation(info))
    logger.info("Explaining with %s (%s).", box.method, reason)
    return Prepared(model, info, wanted, box.method.value, scaled=False, reason=reason, black_box=box)


def _with_branch(
    model: ov.Model,
    info: ModelFacts,
    wanted: Wanted,
    method: Method | None,
    target_layer: str | None,
    reason: str,
    *,
    embed_scaling: bool,
) -> Prepared:
    """Insert the branch that fits the task."""
    embed_scaling = embed_scaling and info.tiling is None  # scaled one by one, maps of tiles could not be merged
    if info.task.is_classification:
        logits = find_logits(model)
        anatomy = dissect(model, logits, info.input_layout)
        method = method or default_method(anatomy)
        classes = wanted.classes(logits.num_classes, exclusive=not info.multilabel)
        model = insert_branch(
            model,
            logits,
            method=method,
            target_layer=target_layer,
            classes=None if method is Method.ACTIVATIONMAP else classes,
            scores=_activation(info),
            anatomy=anatomy,
            embed_scaling=embed_scaling,
        )
        grid = branch_grid(anatomy, method, target_layer)
    else:
        count = len(info.labels)
        model, method = insert_box_maps(
            model,
            info.task,
            num_classes=count,
            first_label=info.first_label,
            threshold=info.confidence_threshold,
            method=method,
            target_layers=split_layers(target_layer),
            classes=wanted.indices if wanted.indices is not None and len(wanted.indices) < count else None,
            embed_scaling=embed_scaling,
        )
        grid = None  # training gives the places of a detector to the middles of even cells, whatever they look at
    return Prepared(model, info, wanted, method.value, scaled=embed_scaling, reason=reason, grid=grid)


def _warn_of_unused(options: Mapping[str, Any] | None, method: str) -> None:
    """Say which options of black-box methods a branch does without."""
    unused = [name for name, value in (options or {}).items() if value is not None and name != "seed"]
    if unused:
        logger.warning("%s: no effect with %s.", ", ".join(unused), method)


def _with_own_map(model: ov.Model, info: ModelFacts, wanted: Wanted) -> Prepared:
    """Use the maps that the model came with."""
    _check_own_map(model, len(info.labels), info.first_label)
    if info.tiling is not None:
        logger.warning(
            "The model's own %s may be scaled for each tile on its own: places in different tiles of an image then do "
            "not compare. Remove this output from the model to have one inserted that does.",
            SALIENCY_MAP,
        )
    if info.task.is_classification:
        model = insert_scores(model, find_logits(model), _activation(info))
    return Prepared(model, info, wanted, EMBEDDED, scaled=False)


def _activation(info: ModelFacts) -> Activation:
    return "sigmoid" if info.multilabel else "softmax"


def _has_open_size(model: ov.Model) -> bool:
    layout, shape = input_layout(model), model.inputs[0].get_partial_shape()
    return layout is not None and any(shape[layout.index(axis)].is_dynamic for axis in "HW")


def _check_own_map(model: ov.Model, classes: int, first_label: int) -> None:
    shape = next(output for output in model.outputs if SALIENCY_MAP in output.get_names()).get_partial_shape()
    rank = shape.rank.get_length() if shape.rank.is_static else None
    counts = (classes, classes + first_label)
    if rank == 3 or (rank == 4 and (shape[1].is_dynamic or shape[1].get_length() in counts)):
        return
    raise GraphError(
        f"The model's own {SALIENCY_MAP} output has shape {shape}; expected [N, {classes}, h, w], one map a class, or "
        f"[N, h, w], one an image. Remove this output from the model to have a new one inserted."
    )
