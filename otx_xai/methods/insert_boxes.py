"""Bridge while callers move to the table of methods."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from otx_xai.errors import ConfigError, GraphError
from otx_xai.methods.class_branch import only_layer
from otx_xai.methods.spec import Order
from otx_xai.methods.table import find_method
from otx_xai.model.opened import Model
from otx_xai.model.structure import Structure
from otx_xai.records import InputGeometry, Method, ModelFacts, Task

BOX_METHODS = {
    Task.DETECTION: (Method.DETCLASSPROBABILITYMAP, Method.ACTIVATIONMAP),
    Task.INSTANCE_SEGMENTATION: (Method.INSTSEGEXPLAINALGO, Method.ACTIVATIONMAP),
}
__all__ = ["BOX_METHODS", "insert_box_maps", "only_layer"]


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
    """Put the branch into a detector or instance segmentation model."""
    structure = Structure(model)
    if num_classes is None:
        num_classes = structure.class_heads(None, target_layers).num_classes if task is Task.DETECTION else 1
    facts = ModelFacts(
        task,
        tuple(map(str, range(num_classes))),
        InputGeometry((-1, -1)),
        first_label=first_label,
        confidence_threshold=threshold,
    )
    opened = Model(model, facts, structure)
    if method is None:
        method = Method.INSTSEGEXPLAINALGO
        if task is Task.DETECTION:
            method = Method.ACTIVATIONMAP if structure.pooled_features else Method.DETCLASSPROBABILITYMAP
    if method not in BOX_METHODS[task]:
        expected = ", ".join(BOX_METHODS[task])
        raise ConfigError(f"explain_method {method} explains no {task}; expected one of {expected}. Or leave it out.")
    spec = find_method(str(method))
    order = Order(tuple(target_layers), None if classes is None else tuple(classes), embed_scaling)
    if method is not Method.INSTSEGEXPLAINALGO:
        fit = spec.fits(opened, order.target_layers)
        if not fit.fits:
            raise GraphError(fit.reason)
    assert spec.insert is not None
    return spec.insert(opened, order).model, method
