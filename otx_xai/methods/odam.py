"""ODAM: a map of each box of a detector, by the gradient of its score.

Which boxes there are is decided on the host: it decodes and suppresses them. So the gradients take a second pass, over
models of their own: the part of the graph behind the backbone's first used stage, and its way back. The first pass
gives the tensors that they start from as further outputs. What is seeded are the very numbers that a box has its score
from, followed back to the layers that gave them, so that a level's boxes need the way back of this level only. A few
boxes share each run of a second model, which bounds its memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import openvino as ov
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.gradients.gradient import missing_rules
from otx_xai.gradients.tail import tail_of
from otx_xai.graph.surgery import Twin, add_outputs, forbid_dynamic_quantisation
from otx_xai.graph.view import port_of
from otx_xai.methods import inst_seg_explain_algo
from otx_xai.methods.box_passes import PREFIX, BoxPasses
from otx_xai.methods.box_windows import far_sight
from otx_xai.methods.scored_detector import Scored, outputs_of, scored_of
from otx_xai.methods.spec import BOX_FINDERS, Fit, MethodSpec, SecondPass
from otx_xai.model.opened import Model
from otx_xai.records import Preset, Task


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    """Fit detectors whose scores lead back to features with places by operations that gradients can pass."""
    try:
        scored = scored_of(model, target_layers)
    except GraphError as error:
        return Fit(False, str(error))
    missing = missing_rules(outputs_of(scored.leaves), [features.output for features in scored.features])
    if missing:
        return Fit(False, f"gradients cannot pass from its scores to its features: {'; '.join(missing[:4])}")
    layers = ", ".join(repr(one.output.get_node().get_friendly_name()) for one in scored.features)
    return Fit(True, f"gradients of its scores reach {layers}", dear=_dear(model), dear_alone=_dear_alone(scored))


def _dear(model: Model) -> str:
    """Say what is better by less than a second pass; mostly nothing."""
    if model.facts.tiling is not None:
        return "it explains images as a whole, which this model wants to be cut into tiles"
    if model.facts.task is Task.INSTANCE_SEGMENTATION and inst_seg_explain_algo.SPEC.fits(model, ()).fits:
        return "the masks of a class light nothing that is not found, in one pass"
    return ""


def _dear_alone(scored: Scored) -> str:
    """Say why boxes, each by itself, take more than a fraction of a forward pass; mostly nothing."""
    for leaf in scored.scoring:
        if far := far_sight(scored.view, scored.labels, scored.leaves[leaf].output, scored.features):
            return f"each box would take about a forward pass, since its score looks at the whole image: {far}"
    return ""


def _second_pass(model: Model, target_layers: Sequence[str]) -> SecondPass:
    """Split a detector into the model of the first pass and those of the second."""
    scored = scored_of(model, target_layers)
    tail = tail_of(scored.view, outputs_of(scored.leaves), [features.output for features in scored.features])
    names = {port_of(start): f"{PREFIX}/{i}" for i, start in enumerate(tail.starts)}
    view, position = model.structure.view, scored.view.position
    starts = {
        names[port_of(start)]: view.nodes[position[start.get_node().get_name()]].output(start.get_index())
        for start in tail.starts
    }
    return SecondPass(_first_model(model, starts), tuple(starts), BoxPasses(scored, names, model.facts.zero).maps)


def _first_model(model: Model, starts: Mapping[str, ov.Output]) -> ov.Model:
    """Return a copy of the model that gives some of its tensors, too."""
    main = Twin(model.structure.view)
    known = {node.get_name() for node in main.model.get_ordered_ops()}
    outputs = {}
    for name, start in starts.items():
        value = main.output(start)
        # a tensor that is an output already keeps its names
        outputs[name] = ops.convert(value, value.get_element_type()).output(0)
    forbid_dynamic_quantisation(main)
    return add_outputs(model.graph, main.model, outputs, known, PREFIX)


SPEC = MethodSpec(
    "odam",
    "ODAM: which places the score of each box has its gradient at; detectors that gradients can pass",
    BOX_FINDERS,
    _fits,
    second_pass=_second_pass,
    presets=frozenset({Preset.BALANCE}),
)
