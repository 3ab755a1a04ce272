"""Put a saliency branch into a model in hand: the branch that fits what the model does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.errors import ConfigError, GraphError, TargetError
from otx_xai.explain.targets import resolve_targets
from otx_xai.methods.spec import Branch, Classes, MethodSpec, Order, class_count
from otx_xai.methods.table import Chosen, candidates, find_method, method_name, named_method
from otx_xai.model.explained_output import note_explained_output
from otx_xai.model.model_options import ModelOptions
from otx_xai.model.opened import Model
from otx_xai.model.opening import open_for_insertion
from otx_xai.records import SALIENCY_MAP, ExplainMode, Labels, Method, Preset, Targets, Task

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
    output: str | None = None,
) -> ov.Model:
    """Return a copy of a model with a ``saliency_map`` output, to be saved, and run by plain OpenVINO.

    Inputs, outputs, their names and shapes and every ``rt_info`` entry stay as they are. A model that already has a
    ``saliency_map`` is returned unchanged.

    Args:
        model: a model file or an ``ov.Model``, which is not changed.
        task: ``Task.CLASSIFICATION`` or one of its flavours, ``Task.DETECTION`` or ``Task.INSTANCE_SEGMENTATION``.
        explain_method: of classifiers ``Method.RECIPROCAM`` (the default for CNNs and pooled transformers) or
            ``Method.VITRECIPROCAM`` (the default for transformers with a class token), or one made of gradients:
            ``Method.MULTISTRIDECAM``, ``Method.LAYERCAM``, ``Method.GRADCAM``, ``Method.HIRESCAM``; of one-stage
            detectors ``Method.DETCLASSPROBABILITYMAP`` (their default); of instance segmentation
            ``Method.INSTSEGEXPLAINALGO`` (the default); of all of them ``Method.ACTIVATIONMAP`` (the default of
            two-stage detectors).
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
        output: output that is explained, where a classifier has several, by its name. The model remembers it.

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
    task, method = Task(task), method_name(explain_method)
    if method is not None and (reason := why_no_branch(method)):
        raise ConfigError(
            f"explain_method {method} {reason}, so there is no branch to be inserted; expected a white-box method with "
            "a branch."
        )
    layers = split_layers(target_layer)
    everything = labels is None and _is_everything(targets)  # so that wrong names in the model do not matter
    options = ModelOptions(task, labels, target_layers=layers, output=output)
    opened = open_for_insertion(model, options, any_names=everything)
    if opened.own_map is not None:
        log_own_map(method, target_layer)
        return opened.graph
    classes = None if everything or method == Method.ACTIVATIONMAP else _classes(opened, targets)
    order = Order(layers, classes, embed_scaling, feature_vector=feature_vector)
    return insert(opened, order, method)


def insert(model: Model, order: Order, method: str | None = None) -> ov.Model:
    """Return a copy of an open model with the branch of a method, by default of the first that fits.

    Args:
        model: the model.
        order: what the branch is to give.
        method: a white-box method.

    Raises:
        ConfigError: the method explains another task.
        GraphError: the graph gives no place for it, or for any.
    """
    named = named_method(method, model.facts.task, ExplainMode.WHITEBOX)
    _, branch = first_that_works(model, named, ExplainMode.WHITEBOX, order, branches_only=True)
    assert branch is not None
    if model.structure.is_classifier:
        note_explained_output(branch.model, model.structure.class_scores.result_index)
    return branch.model


def why_no_branch(method: str) -> str:
    """Say why a method has no branch that could be inserted into a model; nothing where it has one."""
    spec = find_method(method)
    if spec.second_pass is not None:
        return "explains boxes in a second pass, once they have been read and suppressed outside of the graph"
    return "" if spec.is_white_box else "perturbs the input"


def first_that_works(
    model: Model,
    named: MethodSpec | None,
    mode: ExplainMode,
    order: Order,
    *,
    branches_only: bool = False,
    preset: Preset | None = None,
    told: bool = False,
    per_box: bool = False,
) -> tuple[Chosen, Branch | None]:
    """Return the first method of the table that gets to work, and its branch; ``None`` where it has none.

    The branch of a black-box method is what guides it.

    Args:
        model: the model.
        named: the method that the user names.
        mode: white box, black box, or both.
        order: what the branch is to give.
        branches_only: nothing but a branch will do.
        preset: the effort, where the user says so.
        told: the user names classes.
        per_box: each box is to have a map of its own.

    Raises:
        GraphError: the graph gives no place for the method that is named, or for any.
    """
    refusals: list[str] = []
    layers = order.target_layers
    found = candidates(
        model,
        method=named,
        mode=mode,
        refusals=refusals,
        target_layers=layers,
        preset=preset,
        classes=class_count(order.classes, len(model.facts.labels)),
        told=told,
        per_box=per_box,
    )
    for chosen in found:
        if branches_only and chosen.spec.insert is None:
            continue
        edit = chosen.spec.insert or chosen.spec.guide
        if edit is None:
            return chosen, None
        try:
            return chosen, edit(model, order)
        except GraphError as error:  # the graph's analysis says that it has no place for the branch
            if named is not None:
                raise
            refusals.append(f"{chosen.spec.name}: {error}")
    raise AssertionError("candidates() yields a method or raises")


def _classes(model: Model, targets: Targets) -> Classes:
    """Return what the graph has to explain: all classes, the best one of each image, or some in the user's order."""
    names = model.facts.labels
    indices = at_least_one(resolve_targets(targets, names))
    if indices is None and not model.facts.task.is_classification:
        raise TargetError("targets 'predicted' is not known to a detector's graph; expected -1, names or indices.")
    if indices is None:
        return 1
    return None if indices == tuple(range(len(names))) else indices


def _is_everything(targets: Targets) -> bool:
    return isinstance(targets, int) and targets == -1


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


def log_own_map(method: str | None, target_layer: Any) -> None:
    """Say that the model's own map is used."""
    logger.info("The model carries its own %s output, which is used as it is.", SALIENCY_MAP)
    if method is not None or target_layer:
        logger.warning("explain_method and target_layer have no effect on a model with its own %s.", SALIENCY_MAP)
