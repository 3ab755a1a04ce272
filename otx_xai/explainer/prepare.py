"""From any model file to a model with a saliency branch that takes plain images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.errors import ConfigError, GraphError, TargetError, TaskError
from otx_xai.explainer.targets import Wanted, resolve_targets
from otx_xai.graph.class_heads import find_class_heads
from otx_xai.graph.det_class_probability_map import insert_class_maps
from otx_xai.graph.heads import Classes
from otx_xai.graph.insert import SALIENCY_MAP, default_method, has_saliency_map, insert_branch, insert_scores
from otx_xai.graph.view import View
from otx_xai.ir import Logits, describe, find_logits, fix_shapes, input_layout, log_line, read_model
from otx_xai.ir.labels import class_names
from otx_xai.ir.logits import Activation
from otx_xai.ir.model_info import model_info
from otx_xai.records import ExplainMode, InputOptions, Method, ModelInfo, Task

logger = logging.getLogger("otx_xai")

EMBEDDED = "embedded"
"""Name of the method of a model that came with its own ``saliency_map``."""


@dataclass(frozen=True)
class Prepared:
    """A model ready to be compiled.

    Args:
        model: with the outputs ``saliency_map`` and ``saliency_scores`` behind its own, its input as it was.
        info: what is known of it.
        wanted: what to explain.
        method: name of the method, or ``embedded``.
        scaled: the graph has scaled the maps to [0, 255].
        open_size: the model takes images of any size, and none was chosen: ``info.geometry.size`` is ``(-1, -1)``.
    """

    model: ov.Model
    info: ModelInfo
    wanted: Wanted
    method: str
    scaled: bool
    open_size: bool = False


def check_method(method: Method | None, mode: ExplainMode = ExplainMode.AUTO) -> None:
    """Refuse what this version does not have.

    Raises:
        ConfigError: a black-box method or mode, or method and mode contradict each other.
    """
    black_box = mode is ExplainMode.BLACKBOX or (method is not None and not method.is_white_box)
    if method is not None and mode is not ExplainMode.AUTO and method.is_white_box is (mode is ExplainMode.BLACKBOX):
        raise ConfigError(f"explain_method {method} is no {mode} method. Leave explain_mode to 'auto'.")
    if black_box:
        raise ConfigError(
            f"Black-box explanation ({method or 'RISE, AISE'}) comes in a later version; this one has the white-box "
            f"methods {Method.RECIPROCAM}, {Method.VITRECIPROCAM} and {Method.ACTIVATIONMAP}. Leave explain_method "
            f"and explain_mode out to let the model decide."
        )


def prepare(
    checkpoint: str | Path | ov.Model,
    *,
    task: Task | None = None,
    labels: str | Path | Sequence[str] | None = None,
    options: InputOptions | None = None,
    method: Method | None = None,
    target_layer: str | None = None,
    targets: Any = None,
    threshold: float = 0.3,
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
        method: white-box method; chosen by the graph when ``None``.
        target_layer: layer to perturb.
        targets: what to explain; see :func:`~otx_xai.explainer.targets.resolve_targets`.
        threshold: score from which a class counts as predicted.
        batch: images an inference, where the model leaves its batch open.
        keep_open: leave a dynamic batch, height and width as they are.
        embed_scaling: scale maps to [0, 255] in the graph.

    Raises:
        ModelError, ConfigError, GraphError: as the stages say.
    """
    check_method(method)
    model = read_model(checkpoint)
    options = options or InputOptions()
    open_size = keep_open and options.size is None and _has_open_size(model)
    if open_size:
        options = replace(options, size=1)  # describe() insists on one
    info = describe(model, task=task, labels=labels, options=options)
    if open_size:
        any_size = replace(info.geometry, size=(-1, -1))
        info = replace(info, geometry=any_size, sources=info.sources | {"input": "height and width are open"})
    logger.info("%s", log_line(info))
    wanted = Wanted(_at_least_one(resolve_targets(targets, info.labels)), threshold)
    fixed = model if keep_open else fix_shapes(model, info, batch)
    logits = find_logits(fixed)
    activation: Activation = "sigmoid" if info.multilabel else "softmax"
    if has_saliency_map(fixed):
        _log_own_map(method, target_layer)
        _check_own_map(fixed, logits.num_classes)
        scored = insert_scores(fixed, logits, activation)
        return Prepared(scored, info, wanted, EMBEDDED, scaled=False, open_size=open_size)
    method = method or default_method(fixed, logits, info.input_layout)
    classes = wanted.classes(logits.num_classes, exclusive=not info.multilabel)
    explained = insert_branch(
        fixed,
        logits,
        method=method,
        target_layer=target_layer,
        classes=None if method is Method.ACTIVATIONMAP else classes,
        scores=activation,
        layout=info.input_layout,
        embed_scaling=embed_scaling,
    )
    logger.info("Explaining with %s.", method)
    return Prepared(explained, info, wanted, method.value, scaled=embed_scaling, open_size=open_size)


def _has_open_size(model: ov.Model) -> bool:
    layout, shape = input_layout(model), model.inputs[0].get_partial_shape()
    return layout is not None and any(shape[layout.index(axis)].is_dynamic for axis in "HW")


def _at_least_one(indices: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if indices == ():
        raise TargetError("targets is empty; expected at least one class, -1 for all classes, or 'predicted'.")
    return indices


def _log_own_map(method: Method | None, target_layer: str | None) -> None:
    logger.info("The model carries its own %s output, which is used as it is.", SALIENCY_MAP)
    if method is not None or target_layer is not None:
        logger.warning("explain_method and target_layer have no effect on a model with its own %s.", SALIENCY_MAP)


def _check_own_map(model: ov.Model, classes: int) -> None:
    shape = next(output for output in model.outputs if SALIENCY_MAP in output.get_names()).get_partial_shape()
    rank = shape.rank.get_length() if shape.rank.is_static else None
    if rank == 3 or (rank == 4 and (shape[1].is_dynamic or shape[1].get_length() == classes)):
        return
    raise GraphError(
        f"The model's own {SALIENCY_MAP} output has shape {shape}; expected [N, {classes}, h, w], one map a class, or "
        f"[N, h, w], one an image. Remove this output from the model to have a new one inserted."
    )


def insert_xai(
    model: str | Path | ov.Model,
    task: Task | str = Task.CLASSIFICATION,
    explain_method: Method | str | None = None,
    target_layer: str | None = None,
    embed_scaling: bool = True,
    *,
    targets: Any = -1,
    feature_vector: bool = False,
) -> ov.Model:
    """Return a copy of a classifier or a one-stage detector with a ``saliency_map`` output, to be saved, and run by
    plain OpenVINO.

    Inputs, outputs, their names and shapes and every ``rt_info`` entry stay as they are. A model that already has a
    ``saliency_map`` is returned unchanged.

    Args:
        model: a model file or an ``ov.Model``, which is not changed.
        task: ``Task.CLASSIFICATION`` or one of its flavours, or ``Task.DETECTION``.
        explain_method: of detectors ``Method.DETCLASSPROBABILITYMAP``; of classifiers ``Method.RECIPROCAM`` (the
            default for CNNs and pooled transformers), ``Method.VITRECIPROCAM`` (the default for transformers with a
            class token), or ``Method.ACTIVATIONMAP``.
        target_layer: layer whose features are perturbed, by name; the last one that has places by default. Of a
            detector its class heads, ``a,b,c``, found from the graph by default.
        embed_scaling: scale each map to [0, 255] in the graph; else maps hold class scores before soft-max (of
            detectors, probabilities).
        targets: ``-1``: a map for every class. Indices or names (those in the model's ``model_info``): maps of these,
            in this order. ``"predicted"``: a map for the best class of each image, and the class, ``int32`` ``(N, 1)``,
            in the output ``saliency_targets``. An activation map knows no classes.
        feature_vector: add the output ``feature_vector``, ``float32`` ``(N, C)``: the pooled features.

    Returns:
        The model with ``saliency_map``, ``float32`` ``(N, K, h, w)`` with a map for each of ``K`` targets, or
        ``(N, h, w)`` for an activation map.

    Raises:
        ModelError: the model cannot be read, or is no classifier (TaskError).
        ConfigError: a black-box method, or a target that is no class (TargetError).
        GraphError: the graph gives no place for the method; the message lists layers for ``target_layer``.

    References:
        Recipro-CAM: https://arxiv.org/abs/2209.14074; ViT Recipro-CAM: https://arxiv.org/abs/2310.02588.
    """
    task, method = Task(task), None if explain_method is None else Method(explain_method)
    check_method(method)
    if not task.is_classification and task is not Task.DETECTION:
        raise TaskError(f"insert_xai for {task} comes in a later version; this one takes classifiers and detectors.")
    source = read_model(model)
    if has_saliency_map(source):
        _log_own_map(method, target_layer)
        return source
    if task is Task.DETECTION:
        return _insert_class_maps(source, method, target_layer, targets, embed_scaling=embed_scaling)
    logits = find_logits(source)
    return insert_branch(
        source,
        logits,
        method=method,
        target_layer=target_layer,
        embed_scaling=embed_scaling,
        classes=None if method is Method.ACTIVATIONMAP else _inserted_classes(source, logits, targets),
        feature_vector=feature_vector,
        layout=input_layout(source),
    )


def _insert_class_maps(
    model: ov.Model, method: Method | None, target_layer: str | None, targets: Any, *, embed_scaling: bool
) -> ov.Model:
    if method not in (None, Method.DETCLASSPROBABILITYMAP):
        raise ConfigError(
            f"explain_method {method} is none for detectors; expected {Method.DETCLASSPROBABILITYMAP}. Leave it out."
        )
    layers = [layer.strip() for layer in target_layer.split(",")] if target_layer else None
    indices = None
    if not (isinstance(targets, int) and targets == -1):
        count = find_class_heads(View(model), target_layers=layers).num_classes
        indices = _at_least_one(resolve_targets(targets, class_names(None, model_info(model), count)[0]))
        if indices is None:
            raise TargetError("targets 'predicted' is not known to a detector's graph; expected -1, names or indices.")
    return insert_class_maps(model, target_layers=layers, classes=indices, embed_scaling=embed_scaling)


def _inserted_classes(model: ov.Model, logits: Logits, targets: Any) -> Classes:
    """Return what the graph has to explain: all classes, the best one of each image, or some in the user's order."""
    if isinstance(targets, int) and targets == -1:  # so that wrong names in the model do not matter
        return None
    names, _ = class_names(None, model_info(model), logits.num_classes)
    indices = _at_least_one(resolve_targets(targets, names))
    if indices is None:
        return 1
    return None if indices == tuple(range(logits.num_classes)) else indices
