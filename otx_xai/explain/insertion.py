"""Put a saliency branch into a model in hand: the branch that fits what the model does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.errors import ConfigError, GraphError, TargetError
from otx_xai.explain.targets import resolve_targets
from otx_xai.graph.box_classes import BoxClasses, read_box_classes
from otx_xai.methods.insert import CLASS_METHODS, has_saliency_map, insert_branch
from otx_xai.methods.insert_boxes import BOX_METHODS, insert_box_maps, only_layer
from otx_xai.methods.spec import Classes
from otx_xai.model import Logits, find_logits, find_task, input_layout, read_model
from otx_xai.model.detection_outputs import raw_evidence
from otx_xai.model.label_names import box_class_names, class_names, count_names
from otx_xai.model.model_info import model_info, read_share
from otx_xai.records import SALIENCY_MAP, XAI_OUTPUTS, Labels, Method, Targets, Task

logger = logging.getLogger("otx_xai")


def insert_xai(
    model: str | Path | ov.Model,
    task: Task | str = Task.CLASSIFICATION,
    explain_method: Method | str | None = None,
    target_layer: str | Sequence[str] | None = None,
    embed_scaling: bool = True,
    *,
    targets: Targets = -1,
    feature_vector: bool = False,
    labels: Labels = None,
) -> ov.Model:
    """Return a copy of a model with a ``saliency_map`` output, to be saved, and run by plain OpenVINO.

    Inputs, outputs, their names and shapes and every ``rt_info`` entry stay as they are. A model that already has a
    ``saliency_map`` is returned unchanged.

    Args:
        model: a model file or an ``ov.Model``, which is not changed.
        task: ``Task.CLASSIFICATION`` or one of its flavours, ``Task.DETECTION`` or ``Task.INSTANCE_SEGMENTATION``.
        explain_method: of classifiers ``Method.RECIPROCAM`` (the default for CNNs and pooled transformers) or
            ``Method.VITRECIPROCAM`` (the default for transformers with a class token); of one-stage detectors
            ``Method.DETCLASSPROBABILITYMAP`` (their default); of instance segmentation ``Method.INSTSEGEXPLAINALGO``
            (the default); of all of them ``Method.ACTIVATIONMAP`` (the default of two-stage detectors).
        target_layer: layer whose features are perturbed or averaged, by name; found from the graph by default. Of a
            one-stage detector its class heads, a sequence or ``"a,b,c"``.
        embed_scaling: scale each map to [0, 255] in the graph; else maps hold class scores before soft-max (of
            detectors, probabilities).
        targets: ``-1``: a map for every class. Indices or names: maps of these, in this order. ``"predicted"``: a
            map for the best class of each image, and the class, ``int32`` ``(N, 1)``, in the output
            ``saliency_targets``. An activation map knows no classes.
        feature_vector: add the output ``feature_vector``, ``float32`` ``(N, C)``: the pooled features.
        labels: class names: a file with one a line, ``"a,b"``, or a sequence; those in the model's ``model_info`` when
            ``None``. An instance segmentation model whose graph does not tell the number of its classes needs them.

    Returns:
        The model with ``saliency_map``, ``float32`` ``(N, K, h, w)`` with a map for each of ``K`` targets, or
        ``(N, h, w)`` for an activation map.

    Raises:
        ModelError: the model cannot be read, or does something else (TaskError).
        ConfigError: a black-box method, a target that is no class (TargetError), or names that are needed and missing,
            or not one for each class (LabelError).
        GraphError: the graph gives no place for the method; the message lists layers for ``target_layer``.

    References:
        Recipro-CAM: https://arxiv.org/abs/2209.14074; ViT Recipro-CAM: https://arxiv.org/abs/2310.02588.
    """
    task, method = Task(task), None if explain_method is None else Method(explain_method)
    if method is not None and not method.is_white_box:
        raise ConfigError(
            f"explain_method {method} perturbs the input, so there is no branch to be inserted; expected a white-box "
            "method."
        )
    source = read_model(model)
    layers = split_layers(target_layer)
    if has_saliency_map(source):
        log_own_map(method, target_layer)
        return source
    check_task_of(method, task)
    if not task.is_classification:
        return _insert_into_detector(source, task, method, layers, targets, labels, embed_scaling=embed_scaling)
    return _insert_into_classifier(
        source, method, layers, targets, labels, embed_scaling=embed_scaling, feature_vector=feature_vector
    )


def check_task_of(method: Method | None, task: Task) -> None:
    """Refuse a white-box method that explains another task.

    Raises:
        ConfigError: it does.
    """
    known = CLASS_METHODS if task.is_classification else BOX_METHODS[task]
    if method is not None and method.is_white_box and method not in known:
        raise ConfigError(
            f"explain_method {method} explains no {task}; expected one of {', '.join(known)}. Or leave it out."
        )


def _insert_into_classifier(
    model: ov.Model,
    method: Method | None,
    target_layers: Sequence[str],
    targets: Targets,
    labels: Labels,
    *,
    embed_scaling: bool,
    feature_vector: bool,
) -> ov.Model:
    logits = find_logits(model)
    return insert_branch(
        model,
        logits,
        method=method,
        target_layer=only_layer(target_layers),
        embed_scaling=embed_scaling,
        classes=None if method is Method.ACTIVATIONMAP else _inserted_classes(model, logits, targets, labels),
        feature_vector=feature_vector,
        layout=input_layout(model),
    )


def _inserted_classes(model: ov.Model, logits: Logits, targets: Targets, labels: Labels) -> Classes:
    """Return what the graph has to explain: all classes, the best one of each image, or some in the user's order."""
    if labels is None and _is_everything(targets):  # so that wrong names in the model do not matter
        return None
    names, _ = class_names(labels, model_info(model), logits.num_classes)
    indices = at_least_one(resolve_targets(targets, names))
    if indices is None:
        return 1
    return None if indices == tuple(range(logits.num_classes)) else indices


def _insert_into_detector(
    model: ov.Model,
    task: Task,
    method: Method | None,
    target_layers: Sequence[str],
    targets: Targets,
    labels: Labels,
    *,
    embed_scaling: bool,
) -> ov.Model:
    find_task(model, task)  # raises where the graph contradicts it
    info = model_info(model)
    known = known_classes(model, labels, method, target_layers)
    count, first_label, indices = known.count, 0, None
    is_plain = labels is None and _is_everything(targets) and task is Task.DETECTION
    if count is None or not is_plain:  # so that wrong names in the model do not matter
        names, _, first_label = box_class_names(labels, info, known)
        count = len(names)
        indices = None if _is_everything(targets) else at_least_one(resolve_targets(targets, names))
        if indices is None and not _is_everything(targets):
            raise TargetError("targets 'predicted' is not known to a detector's graph; expected -1, names or indices.")
    explained, _ = insert_box_maps(
        model,
        task,
        num_classes=count,
        first_label=first_label,
        threshold=read_share(info, "confidence_threshold"),
        method=method,
        target_layers=target_layers,
        classes=indices,
        embed_scaling=embed_scaling,
    )
    return explained


def _is_everything(targets: Targets) -> bool:
    return isinstance(targets, int) and targets == -1


def known_classes(
    model: ov.Model, labels: Labels, method: Method | None, target_layers: Sequence[str] = ()
) -> BoxClasses:
    """Tell what is known of a detector's classes, reading its graph only as far as the method needs it.

    Args:
        model: the detector.
        labels: class names that the user gives.
        method: what will explain it.
        target_layers: its class heads, where the user names them.

    Raises:
        GraphError: the class heads are needed, and cannot be read off.
    """
    own = own_map(model)
    if own is not None:
        shape = own.get_partial_shape()
        is_known = shape.rank.is_static and shape.rank.get_length() == 4 and shape[1].is_static
        return BoxClasses(int(shape[1].get_length()) if is_known else None)
    names = count_names(labels, model_info(model))
    if names is None or method is not Method.ACTIVATIONMAP:
        return read_box_classes(model, num_classes=names, target_layers=target_layers, left_out=XAI_OUTPUTS)
    if raw_evidence(model) is not None:  # the host reads them by the number of classes
        with suppress(GraphError):
            return read_box_classes(model, num_classes=names, left_out=XAI_OUTPUTS)
    return BoxClasses(names)


def own_map(model: ov.Model) -> ov.Output | None:
    """Return the ``saliency_map`` that a model came with."""
    return next((output for output in model.outputs if SALIENCY_MAP in output.get_names()), None)


def split_layers(target_layer: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return layers by name: one, several as a sequence, or several in a text with commas between."""
    if target_layer is None:
        return ()
    names = target_layer.split(",") if isinstance(target_layer, str) else target_layer
    return tuple(name.strip() for name in names if name.strip())


def at_least_one(indices: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return what users want explained, which must not be nothing."""
    if indices == ():
        raise TargetError("targets is empty; expected at least one class, -1 for all classes, or 'predicted'.")
    return indices


def log_own_map(method: Method | None, target_layer: Any) -> None:
    """Say that the model's own map is used."""
    logger.info("The model carries its own %s output, which is used as it is.", SALIENCY_MAP)
    if method is not None or target_layer:
        logger.warning("explain_method and target_layer have no effect on a model with its own %s.", SALIENCY_MAP)
