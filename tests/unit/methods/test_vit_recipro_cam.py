"""The last block of a transformer runs once: what the masks make of the class token holds the scores as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import networks
import numpy as np
import openvino as ov
import pytest
from branches import insert_branch
from doors import find_logits
from openvino import opset13 as ops

from otx_xai.openvino_core import core

NAMES = ("timm_vit_fused", "deit_distilled", "separate_qkv")


def explained(model: ov.Model) -> ov.Model:
    return insert_branch(model, find_logits(model), classes=2)


def answer(model: ov.Model, case: networks.Case) -> np.ndarray:
    """The class scores of the images of a case: the first output."""
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(case.images.numpy())[0])


def edited(model: ov.Model, edit: Callable[[ov.Output], ov.Output]) -> ov.Model:
    """Put something behind the last activation of a network."""
    made = model.clone()
    node = [node for node in made.get_ordered_ops() if node.get_type_name() == "Gelu"][-1]
    readers = node.output(0).get_target_inputs()
    changed = edit(node.output(0))
    for reader in readers:
        reader.replace_source_output(changed)
    made.validate_nodes_and_infer_types()
    return made


def coarse(value: ov.Output) -> ov.Output:
    """Round to one of five levels."""
    low, high = (np.full((1, 1, 1), bound, np.float32) for bound in (-1.0, 1.0))
    return ops.fake_quantize(value, low, high, low, high, 5).output(0)


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_of_the_last_block_runs_for_masks_alone(name: str) -> None:
    case = networks.case(name)
    before, after = case.dynamic, explained(case.dynamic)
    own = {node.get_friendly_name() for node in after.get_ops() if node.get_type_name() == "MatMul"}
    lost = [
        node.get_friendly_name()
        for node in before.get_ordered_ops()
        if node.get_type_name() == "MatMul" and node.get_friendly_name() not in own
    ]
    assert len(lost) >= 3, lost
    np.testing.assert_allclose(answer(after, case), answer(before, case), atol=1e-5, rtol=1e-5)


def test_what_quantises_in_the_last_block_still_does_for_the_scores() -> None:
    case = networks.case("timm_vit_fused")
    model = edited(case.dynamic, coarse)
    scores, unrounded = (answer(one, case) for one in (model, case.dynamic))
    assert np.abs(scores - unrounded).max() > 0.01 * np.ptp(scores), "the quantiser must be felt"
    np.testing.assert_allclose(answer(explained(model), case), scores, atol=1e-6, rtol=1e-6)


def test_tokens_that_somebody_else_reads_stay_what_they_were(tmp_path: Path) -> None:
    case = networks.case("timm_vit_fused")
    model = case.dynamic.clone()
    gathers = [node for node in model.get_ordered_ops() if node.get_type_name() == "Gather"]
    tokens = next(node.input_value(0) for node in reversed(gathers) if node.output(0).get_partial_shape().rank == 2)
    tokens.get_tensor().set_names({"tokens"})
    model.add_outputs(tokens)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    model = core().read_model(tmp_path / "model.xml")
    before, after = (networks.infer(one, case.images)["tokens"] for one in (model, explained(model)))
    assert before.ndim == 3
    np.testing.assert_allclose(after, before, atol=1e-6, rtol=1e-6)
