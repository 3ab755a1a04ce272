"""Costs of operations against counts by hand and against torch's own counter."""

from __future__ import annotations

import networks
import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from torch.utils.flop_counter import FlopCounterMode

from otx_xai.graph.cost import cost


def weights(*shape: int) -> ov.Node:
    return ops.constant(np.ones(shape, np.float32))


def image(*shape: int) -> ov.op.Parameter:
    return ops.parameter(list(shape), np.float32)


PLAIN = ([1, 1], [0, 0], [0, 0], [1, 1])


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (ops.convolution(image(1, 3, 8, 8), weights(5, 3, 3, 3), *PLAIN), 6 * 6 * 5 * 3 * 9),
        (ops.convolution(image(-1, 3, 8, 8), weights(5, 3, 3, 3), *PLAIN), 6 * 6 * 5 * 3 * 9),
        (ops.group_convolution(image(2, 4, 8, 8), weights(4, 1, 1, 3, 3), *PLAIN), 2 * 6 * 6 * 4 * 9),
        (
            ops.convolution_backprop_data(image(1, 3, 8, 8), weights(3, 5, 2, 2), [2, 2], None, [0, 0], [0, 0], [1, 1]),
            8 * 8 * 3 * 5 * 4,
        ),
        (ops.matmul(image(-1, 7, 4), weights(4, 6), False, False), 7 * 4 * 6),
        (ops.matmul(image(4, 7), weights(4, 6), True, False), 7 * 4 * 6),
        (ops.scaled_dot_product_attention(*(image(1, 2, 9, 4) for _ in range(3))), 2 * (2 * 9 * 4 * 9)),
        (ops.relu(image(1, 3, 8, 8)), 3 * 8 * 8),
        (ops.convolution(image(1, 3, -1, 8), weights(5, 3, 3, 3), *PLAIN), None),
        (ops.relu(image(1, 3, -1, 8)), 0),
    ],
)
def test_cost_of_one_operation(node: ov.Node, expected: int | None) -> None:
    assert cost([node]) == expected


@pytest.mark.parametrize("name", ["resnet18", "timm_vit_decomposed", "hiera"])
def test_cost_of_a_network_is_what_torch_counts(name: str) -> None:
    case = networks.case(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        case.model(case.images[:1])
    layers = ("Convolution", "GroupConvolution", "MatMul", "ScaledDotProductAttention")
    nodes = [node for node in case.dynamic.get_ordered_ops() if node.get_type_name() in layers]
    assert cost(nodes) == pytest.approx(counter.get_total_flops() / 2, rel=0.02)
