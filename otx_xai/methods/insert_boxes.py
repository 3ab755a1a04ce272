"""The door of the graph room for models that find boxes: one call puts the branch in that fits."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import openvino as ov

from otx_xai.errors import ConfigError
from otx_xai.graph.shared_features import pooled_features
from otx_xai.graph.view import View
from otx_xai.methods.det_class_probability_map import insert_class_maps
from otx_xai.methods.detector_activation_map import insert_activation_map
from otx_xai.methods.inst_seg_explain_algo import insert_instance_maps
from otx_xai.records import Method, Task

logger = logging.getLogger("otx_xai")

BOX_METHODS = {
    Task.DETECTION: (Method.DETCLASSPROBABILITYMAP, Method.ACTIVATIONMAP),
    Task.INSTANCE_SEGMENTATION: (Method.INSTSEGEXPLAINALGO, Method.ACTIVATIONMAP),
}
"""White-box methods of models that find boxes, by task."""


def insert_box_maps(
    model: ov.Model,
    task: Task,
    *,
    num_classes: int | None,
    first_label: int = 0,
    threshold: float = 0.5,
    method: Method | None = None,
    target_layers: Sequence[str] = (),
    classes: Sequence[int] | None = None,
    embed_scaling: bool = True,
) -> tuple[ov.Model, Method]:
    """Put the branch into a detector or instance segmentation model.

    Args:
        model: it is not changed.
        task: detection or instance segmentation.
        num_classes: where known; instance segmentation needs it.
        first_label: what the model calls class 0.
        threshold: score from which an instance counts.
        method: by default the class probability map of one-stage detectors, the activation map of two-stage ones,
            InstSegExplainAlgo of instance segmentation.
        target_layers: class heads, or the one layer that is averaged; found from the graph where empty.
        classes: which classes, in this order; all by default.
        embed_scaling: scale each map to [0, 255] in the graph.

    Returns:
        The model with ``saliency_map``, and the method.

    Raises:
        ConfigError: the method does not explain this task.
        GraphError: the graph gives no place for the method.
    """
    method = method or default_box_method(model, task)
    if method not in BOX_METHODS[task]:
        expected = ", ".join(BOX_METHODS[task])
        raise ConfigError(f"explain_method {method} explains no {task}; expected one of {expected}. Or leave it out.")
    if method is Method.ACTIVATIONMAP:
        explained = insert_activation_map(model, target_layer=only_layer(target_layers), embed_scaling=embed_scaling)
    elif method is Method.INSTSEGEXPLAINALGO:
        if target_layers:
            logger.warning("target_layer has no effect with %s.", method)
        explained = insert_instance_maps(
            model,
            num_classes=num_classes or 1,
            first_label=first_label,
            classes=classes,
            threshold=threshold,
            embed_scaling=embed_scaling,
        )
    else:
        explained = insert_class_maps(
            model,
            num_classes=num_classes,
            target_layers=target_layers or None,
            classes=classes,
            embed_scaling=embed_scaling,
        )
    return explained, method


def default_box_method(model: ov.Model, task: Task) -> Method:
    """Return the method for a model that finds boxes: two-stage detectors have no class scores for places."""
    if task is Task.INSTANCE_SEGMENTATION:
        return Method.INSTSEGEXPLAINALGO
    return Method.ACTIVATIONMAP if pooled_features(View(model)) else Method.DETCLASSPROBABILITYMAP


def only_layer(target_layers: Sequence[str]) -> str | None:
    """Return the one layer that a method other than the class probability map takes."""
    if len(target_layers) > 1:
        raise ConfigError(f"target_layer names {len(target_layers)} layers; expected one, for this method.")
    return target_layers[0] if target_layers else None
