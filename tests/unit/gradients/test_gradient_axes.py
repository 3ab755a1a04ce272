"""Rules of products, reductions and normalisations against torch autograd and central differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from gradient_cases import Case, N, check
from openvino import opset4
from openvino import opset13 as ops

IMAGE = ((N, 4, 5, 3),)


def ints(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def torch_of(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values).double()


def product(turn_a: bool, turn_b: bool, *shapes: tuple[int | None, ...]) -> Case:
    """OpenVINO itself cannot multiply by vectors of unknown length."""

    def reference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.mT if turn_a and a.ndim > 1 else a) @ (b.mT if turn_b and b.ndim > 1 else b)

    return Case(
        lambda a, b: ops.matmul(a, b, turn_a, turn_b),
        reference,
        shapes,
        open_sizes=all(len(s) > 1 for s in shapes),
    )


def layer(*shape: int | None) -> Case:
    array = numbers(6, 4)
    return Case(lambda x: ops.matmul(x, ops.constant(array), False, True), lambda x: x @ torch_of(array).T, (shape,))


PRODUCTS = {
    "linear": layer(N, 4),
    "linear of tokens": layer(N, 5, 4),
    "linear of four axes": layer(N, 2, 5, 4),
    "linear of turned tokens": Case(
        lambda x: ops.matmul(x, ops.constant(numbers(6, 4)), True, True),
        lambda x: x.mT @ torch_of(numbers(6, 4)).T,
        ((N, 4, 5),),
    ),
    "plain": product(False, False, (N, 3, 4), (N, 4, 2)),
    "first turned": product(True, False, (N, 4, 3), (N, 4, 2)),
    "second turned": product(False, True, (N, 3, 4), (N, 2, 4)),
    "both turned": product(True, True, (N, 4, 3), (N, 2, 4)),
    "matrices": product(False, True, (3, 4), (2, 4)),
    "more axes in front": product(False, False, (N, 2, 3, 4), (4, 2)),
    "more axes in the second": product(False, False, (3, 4), (N, 2, 4, 5)),
    "broadcast in front": product(False, True, (N, 1, 3, 4), (N, 2, 5, 4)),
    "broadcast of the first": product(True, False, (1, 2, 4, 3), (N, 2, 4, 5)),
    "a row": product(False, False, (4,), (N, 4, 2)),
    "a column": product(False, False, (N, 3, 4), (4,)),
    "turned, and a column": product(True, False, (N, 4, 3), (4,)),
    "a row and a column": product(False, False, (4,), (4,)),
    "a turned matrix of weights first": Case(
        lambda x: ops.matmul(ops.constant(numbers(5, 6)), x, True, False),
        lambda x: torch_of(numbers(5, 6)).T @ x,
        ((N, 5, 3),),
    ),
}

QKV = ((N, 2, 5, 4), (N, 2, 6, 4), (N, 2, 6, 3))
FLAGS = np.random.default_rng(3).random((5, 6)) < 0.7
FLAGS[:, 0] = True


def attention(**options: object) -> Case:
    mask, torch_mask = options.pop("mask", None), options.pop("torch_mask", None)
    extra = {} if mask is None else {"attention_mask": ops.constant(mask)}
    scale = options.get("scale")
    if scale is not None:
        extra |= {
            "scale": ops.constant(np.float32(scale)),
            "attention_mask": ops.constant(np.zeros((5, 6), np.float32)),
        }

    def build(q: ov.Output, k: ov.Output, v: ov.Output) -> ov.Node:
        return ops.scaled_dot_product_attention(q, k, v, **extra, causal=bool(options.get("causal")))

    def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, torch_mask, is_causal=bool(options.get("causal")), scale=options.get("scale")
        )

    return Case(build, reference, QKV)


ATTENTIONS = {
    "attention": attention(),
    "attention, causal": attention(causal=True),
    "attention, scale": attention(scale=0.3),
    "attention, flags": attention(mask=FLAGS, torch_mask=torch.tensor(FLAGS)),
    "attention, added mask": attention(mask=numbers(5, 6), torch_mask=torch_of(numbers(5, 6))),
    "attention, mask that is differentiated": Case(
        ops.scaled_dot_product_attention,
        F.scaled_dot_product_attention,
        (*QKV, (1, 2, 1, 6)),
        open_sizes=False,
    ),
    "attention of three axes": Case(
        ops.scaled_dot_product_attention,
        F.scaled_dot_product_attention,
        ((N, 5, 4), (N, 6, 4), (N, 6, 3)),
    ),
}

EINSUMS = {
    "einsum product": ("bij,bjk->bik", ((N, 3, 4), (N, 4, 2))),
    "einsum, turned": ("bhid,bhjd->bijh", ((N, 2, 3, 4), (N, 2, 5, 4))),
    "einsum with a sum": ("bij,bj->bj", ((N, 3, 4), (N, 4))),
}


def reduction(make: object, reference: object, axes: Sequence[int], keep: bool, **more: float) -> Case:
    return Case(
        lambda x: make(x, ints(*axes), keep),
        lambda x: reference(x, tuple(axes), keep),
        IMAGE,
        **more,
    )


def product_of(x: torch.Tensor, axes: Sequence[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


REDUCED = {
    "mean": (ops.reduce_mean, torch.mean),
    "sum": (ops.reduce_sum, torch.sum),
    "max": (ops.reduce_max, torch.amax),
    "min": (ops.reduce_min, torch.amin),
    "prod": (ops.reduce_prod, product_of),
    "L1": (ops.reduce_l1, lambda x, axes, keep: x.abs().sum(axes, keep)),
    "L2": (ops.reduce_l2, lambda x, axes, keep: x.pow(2).sum(axes, keep).sqrt()),
}
REDUCTIONS = {
    f"reduce {name} {axes} {keep}": reduction(*made, axes, keep)
    for name, made in REDUCED.items()
    for axes, keep in (((2, 3), True), ((-1, 1), False), ((0, 2), False))
}


def local(x: torch.Tensor) -> torch.Tensor:
    return F.local_response_norm(x, 3, 0.5, 0.75, 2.0)


def normalised(x: torch.Tensor, axes: Sequence[int], epsilon: float, *, inside: bool = True) -> torch.Tensor:
    rest = x - x.mean(tuple(axes), keepdim=True)
    variance = rest.pow(2).mean(tuple(axes), keepdim=True)
    return rest / ((variance + epsilon).sqrt() if inside else variance.sqrt() + epsilon)


GAMMA, BETA, MEAN, VARIANCE = numbers(4), numbers(4) + 1, numbers(4) * 0.5, np.abs(numbers(4)) + 0.5


def batch_norm(x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, *map(torch_of, (MEAN, VARIANCE, GAMMA, BETA)), eps=1e-3)


def group_norm(x: torch.Tensor) -> torch.Tensor:
    return F.group_norm(x, 2, torch_of(GAMMA), torch_of(BETA), 1e-3)


CONSTANTS = [ops.constant(values) for values in (GAMMA, BETA, MEAN, VARIANCE)]

NORMALISATIONS = {
    "softmax": Case(lambda x: ops.softmax(x, -1), lambda x: x.softmax(-1), IMAGE),
    "softmax of channels": Case(lambda x: ops.softmax(x, 1), lambda x: x.softmax(1), IMAGE),
    "softmax of images": Case(lambda x: ops.softmax(x, 0), lambda x: x.softmax(0), ((2, 3),)),
    "log softmax": Case(lambda x: ops.log_softmax(x, 1), lambda x: x.log_softmax(1), IMAGE),
    "MVN": Case(lambda x: ops.mvn(x, ints(-1), True, 1e-3, "inside_sqrt"), lambda x: normalised(x, [-1], 1e-3), IMAGE),
    "MVN of channels and rows": Case(
        lambda x: ops.mvn(x, ints(1, 3), True, 1e-3, "inside_sqrt"), lambda x: normalised(x, [1, 3], 1e-3), IMAGE
    ),
    "MVN, outside": Case(
        lambda x: ops.mvn(x, ints(2, 3), True, 0.1, "outside_sqrt"),
        lambda x: normalised(x, [2, 3], 0.1, inside=False),
        IMAGE,
    ),
    "MVN without variance": Case(
        lambda x: ops.mvn(x, ints(2, 3), False, 0.1, "inside_sqrt"),
        lambda x: x - x.mean((2, 3), keepdim=True),
        IMAGE,
    ),
    "NormalizeL2": Case(
        lambda x: ops.normalize_l2(x, ints(1), 0.01, "add"),
        lambda x: x / (x.pow(2).sum(1, True) + 0.01).sqrt(),
        IMAGE,
    ),
    "NormalizeL2, max": Case(
        lambda x: ops.normalize_l2(x, ints(-1), 1e-6, "max"),
        lambda x: x / x.pow(2).sum(-1, True).sqrt(),
        IMAGE,
    ),
    "LRN": Case(lambda x: ops.lrn(x, ints(1), 0.5, 0.75, 2.0, 3), local, IMAGE, open_sizes=False),
    "BatchNormInference": Case(lambda x: ops.batch_norm_inference(x, *CONSTANTS, 1e-3), batch_norm, IMAGE),
    "BatchNormInference, first version": Case(
        lambda x: opset4.batch_norm_inference(x, *CONSTANTS, 1e-3), batch_norm, IMAGE
    ),
    "GroupNormalization": Case(
        lambda x: (
            ops.group_normalization(x, CONSTANTS[0], CONSTANTS[1], 2, 1e-3)
            if hasattr(ops, "group_normalization")
            else None
        ),
        group_norm,
        IMAGE,
    ),
    "CumSum": Case(lambda x: ops.cum_sum(x, ops.constant(np.int64(2)), False, False), lambda x: x.cumsum(2), IMAGE),
    "CumSum, reverse and exclusive": Case(
        lambda x: ops.cum_sum(x, ops.constant(np.int64(1)), True, True),
        lambda x: x.flip(1).cumsum(1).flip(1) - x,
        IMAGE,
    ),
}

EINSTEIN = {
    name: Case(
        lambda a, b, equation=equation: ops.einsum([a, b], equation),
        lambda a, b, equation=equation: torch.einsum(equation, a, b),
        shapes,
    )
    for name, (equation, shapes) in EINSUMS.items()
}

CASES = PRODUCTS | ATTENTIONS | EINSTEIN | REDUCTIONS | NORMALISATIONS


@pytest.mark.parametrize("name", CASES)
def test_axes_gradient(name: str) -> None:
    check(CASES[name])


def test_product_of_numbers_of_which_some_are_zero() -> None:
    zeros = numbers(3, 4)
    zeros[0, 1] = zeros[1, 0] = zeros[1, 2] = 0
    check(
        Case(
            lambda x: ops.reduce_prod(ops.multiply(x, ops.constant(zeros)), ints(1), False),
            lambda x: (x * torch_of(zeros)).prod(1),
            ((3, 4),),
            open_sizes=False,
        )
    )
