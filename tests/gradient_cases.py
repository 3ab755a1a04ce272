"""How rules of gradients are tested: an operation beside a torch function of float64 that says the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.gradients.gradient import gradients
from otx_xai.openvino_core import core

SEEDS = 3
N = None
"""Stands for the number of images in a shape."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Case:
    """One use of an operation.

    Args:
        build: makes it of tensors.
        reference: the same in torch; takes and gives float64.
        shapes: of the tensors that gradients are asked for.
        low: least number of the inputs.
        high: largest number of the inputs.
        open_sizes: whether all lengths may be dynamic, and not just the number of images.
        tolerance: of the largest gradient.
        smooth: central differences say what the gradient is.
    """

    build: Callable[..., ov.Node | ov.Output]
    reference: Callable[..., torch.Tensor]
    shapes: tuple[Shape, ...]
    low: float = -2
    high: float = 2
    open_sizes: bool = True
    tolerance: float = 2e-5
    smooth: bool = True


Variant = tuple[int, str]
"""How many images there are, and which lengths the graph does not know: ``none``, ``batch`` or ``all``."""


def variants(case: Case) -> list[Variant]:
    """Return what a case is tried with."""
    has_batch = any(N in shape for shape in case.shapes)
    is_open = "all" if case.open_sizes else "batch" if has_batch else None
    return [(1, "none"), *([(2, "none")] if has_batch else []), *([(2, is_open)] if is_open else [])]


@dataclass(frozen=True)
class Trial:
    """A case with one number of images: inputs, seeds, and what torch makes of them."""

    case: Case
    is_open: str
    values: list[NDArray[np.float64]]
    seeds: NDArray[np.float64]
    expected: NDArray[np.float64]
    gradients: list[NDArray[np.float64]]


def trial(case: Case, variant: Variant) -> Trial:
    """Ask torch."""
    rng = np.random.default_rng(0)
    images, is_open = variant
    shapes = [tuple(images if size is N else size for size in shape) for shape in case.shapes]
    values = [rng.uniform(case.low, case.high, shape) for shape in shapes]
    tensors = [torch.tensor(value, requires_grad=True) for value in values]
    expected = case.reference(*tensors)
    seeds = rng.normal(size=(SEEDS, *expected.shape))
    asked = [torch.autograd.grad((expected * torch.tensor(seed)).sum(), tensors, retain_graph=True) for seed in seeds]
    wanted = [np.stack([grads[i].numpy() for grads in asked]) for i in range(len(shapes))]
    return Trial(case, is_open, values, seeds, expected.detach().numpy(), wanted)


def check(case: Case) -> None:
    """Compare gradients of one and of several seeds with autograd and with central differences."""
    trials = [trial(case, variant) for variant in variants(case)]
    for own, (result, plain, several) in zip(trials, run(trials), strict=True):
        np.testing.assert_allclose(result, own.expected, rtol=1e-4, atol=1e-4)
        for wanted, one, many in zip(own.gradients, plain, several, strict=True):
            close = max(np.abs(wanted).max(), 1e-3) * case.tolerance
            assert one.shape == wanted.shape[1:]
            np.testing.assert_allclose(one, wanted[0], rtol=0, atol=close)
            np.testing.assert_allclose(many.reshape(wanted.shape), wanted, rtol=0, atol=close)
        if case.smooth and own.is_open == "none":
            compare_with_differences(own, plain)


def run(trials: Sequence[Trial]) -> list[tuple[NDArray, list[NDArray], list[NDArray]]]:
    """Return for each trial the output, the gradients of its first seed, and those of all its seeds at once.

    All are parts of one model, since most of the time goes into compiling.
    """
    parameters: list[ov.op.Parameter] = []
    outputs: list[ov.Output] = []
    for own in trials:
        shapes = zip(own.case.shapes, own.values, strict=True)
        new = [ops.parameter(_opened(shape, value.shape, own.is_open), np.float32) for shape, value in shapes]
        inputs = [parameter.output(0) for parameter in new]
        made = own.case.build(*inputs)
        output = made if isinstance(made, ov.Output) else made.output(0)
        one, many = (ops.constant(seed.astype(np.float32)).output(0) for seed in (own.seeds[0], own.seeds))
        plain, several = gradients([(output, one)], inputs), gradients([(output, many)], inputs, several=True)
        parameters += new
        outputs += [output, *plain, *several]
    model = ov.Model([ops.result(output) for output in outputs], parameters)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = [value.astype(np.float32) for own in trials for value in own.values]
    results = iter(list(compiled(given).values()))
    return [(next(results), [next(results) for _ in own.values], [next(results) for _ in own.values]) for own in trials]


def _opened(shape: Shape, concrete: tuple[int, ...], is_open: str) -> list[int]:
    if is_open == "none":
        return list(concrete)
    if is_open == "batch":
        return [-1 if size is N else size for size in shape]
    return [-1 if size != 1 else 1 for size in concrete]


def compare_with_differences(own: Trial, plain: Sequence[NDArray[np.float32]]) -> None:
    """Compare the gradient of the first seed with how fast the seeded sum grows along some directions."""
    step, rng = 1e-6, np.random.default_rng(1)

    def total(sign: int, direction: Sequence[NDArray[np.float64]]) -> float:
        moved = (torch.tensor(value + sign * step * part) for value, part in zip(own.values, direction, strict=True))
        return float((own.case.reference(*moved) * torch.tensor(own.seeds[0])).sum())

    for _ in range(2):
        direction = [rng.normal(size=value.shape) for value in own.values]
        slope = (total(1, direction) - total(-1, direction)) / (2 * step)
        parts = [grad * part for grad, part in zip(plain, direction, strict=True)]
        size = sum(float(np.abs(part).sum()) for part in parts)
        assert abs(sum(float(part.sum()) for part in parts) - slope) <= 1e-4 * max(size, 1e-2)
