"""What the table of operations says is compared with what OpenVINO computes, and with the rest of the package."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

import otx_xai
from otx_xai.graph.constants import evaluate
from otx_xai.graph.traits import BINARY, RESHAPES, TRAITS, UNARY, names_with, trait

SHAPE = (1, 4, 4, 4)
ROOMS = [Path(otx_xai.__file__).parent / room for room in ("graph", "model", "methods")]


def ints(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def per_channel(*values: float) -> ov.Node:
    return ops.constant(np.array(values, np.float32).reshape(1, -1, 1, 1))


def kernel(*shape: int) -> ov.Node:
    return ops.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))


GATES = per_channel(0.5, -1.5, 2, 3)
PLAIN = ([1, 1], [0, 0], [0, 0], [1, 1])

SAMPLES: dict[str, Callable[[ov.Output], ov.Node]] = {
    "Abs": ops.abs,
    "AvgPool": lambda x: ops.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True),
    "BatchNormInference": lambda x: ops.batch_norm_inference(
        x, *(kernel(4) for _ in range(3)), ops.exp(kernel(4)), 1e-3
    ),
    "Ceiling": ops.ceiling,
    "Clamp": lambda x: ops.clamp(x, 0.25, 3.0),
    "Convert": lambda x: ops.convert(ops.convert(x, "f64"), "f32"),
    "Convolution": lambda x: ops.convolution(x, kernel(4, 4, 1, 1), *PLAIN),
    "Cos": ops.cos,
    "DepthToSpace": lambda x: ops.depth_to_space(x, "blocks_first", 2),
    "Elu": lambda x: ops.elu(x, 1.0),
    "Erf": ops.erf,
    "Exp": ops.exp,
    "Floor": ops.floor,
    "Gather": lambda x: ops.gather(x, ints(2, 1, 0), ops.constant(1)),
    "Gelu": lambda x: ops.gelu(x, "erf"),
    "GroupConvolution": lambda x: ops.group_convolution(x, kernel(2, 2, 2, 1, 1), *PLAIN),
    "HSigmoid": ops.hsigmoid,
    "HSwish": ops.hswish,
    "HardSigmoid": lambda x: ops.hard_sigmoid(x, np.float32(0.2), np.float32(0.5)),
    "Interpolate": lambda x: ops.interpolate(x, ints(2, 2), "linear", "sizes", axes=ints(2, 3)),
    "LRN": lambda x: ops.lrn(x, ints(1), 1.0, 0.5, 1.0, 3),
    "LogSoftmax": lambda x: ops.log_softmax(x, 1),
    "MVN": lambda x: ops.mvn(x, ints(1), True, 1e-3, "inside_sqrt"),
    "MatMul": lambda x: ops.matmul(x, kernel(4, 4), False, False),
    "MaxPool": lambda x: ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0).get_node(),
    "Mish": ops.mish,
    "Negative": ops.negative,
    "NormalizeL2": lambda x: ops.normalize_l2(x, ints(1), 1e-3, "add"),
    "PRelu": lambda x: ops.prelu(x, np.float32(0.1)),
    "ReduceL1": lambda x: ops.reduce_l1(x, ints(1), True),
    "ReduceL2": lambda x: ops.reduce_l2(x, ints(1), True),
    "ReduceMax": lambda x: ops.reduce_max(x, ints(1), True),
    "ReduceMean": lambda x: ops.reduce_mean(x, ints(1), True),
    "ReduceMin": lambda x: ops.reduce_min(x, ints(1), True),
    "ReduceProd": lambda x: ops.reduce_prod(x, ints(1), True),
    "ReduceSum": lambda x: ops.reduce_sum(x, ints(1), True),
    "Relu": ops.relu,
    "Reshape": lambda x: ops.reshape(x, ints(1, 4, 16), special_zero=False),
    "Roll": lambda x: ops.roll(x, ints(1), ints(2)),
    "Round": lambda x: ops.round(x, "half_to_even"),
    "ScaledDotProductAttention": lambda x: ops.scaled_dot_product_attention(x, x, x),
    "Selu": lambda x: ops.selu(x, np.float32(1.6), np.float32(1.05)),
    "Sigmoid": ops.sigmoid,
    "Sign": ops.sign,
    "Sin": ops.sin,
    "Slice": lambda x: ops.slice(x, ints(1), ints(3), ints(1), ints(1)),
    "SoftPlus": ops.softplus,
    "SoftSign": ops.softsign,
    "Softmax": lambda x: ops.softmax(x, 1),
    "SpaceToDepth": lambda x: ops.space_to_depth(x, "blocks_first", 2),
    "Sqrt": ops.sqrt,
    "Squeeze": lambda x: ops.squeeze(x, ints(0)),
    "Swish": ops.swish,
    "Tanh": ops.tanh,
    "Transpose": lambda x: ops.transpose(x, ints(0, 2, 3, 1)),
    "Unsqueeze": lambda x: ops.unsqueeze(x, ints(0)),
    "Add": lambda x: ops.add(x, GATES),
    "Subtract": lambda x: ops.subtract(x, GATES),
    "Multiply": lambda x: ops.multiply(x, GATES),
    "Divide": lambda x: ops.divide(GATES, ops.add(x, ops.constant(np.float32(9)))),
    "Maximum": lambda x: ops.maximum(x, GATES),
    "Minimum": lambda x: ops.minimum(x, GATES),
    "SquaredDifference": lambda x: ops.squared_difference(x, GATES),
}
"""One use of each operation, of a tensor ``(1, 4, 4, 4)``: what can be built with constants alone."""


def values(operation: str, *images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    image = ops.parameter(SHAPE, np.float32)
    node = SAMPLES[operation](image.output(0))
    assert node.get_type_name() == operation
    return [evaluate([node.output(0)], {image: value})[0] for value in images]


def images(count: int, low: float = 0.2) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return [rng.uniform(low, 2, SHAPE).astype(np.float32) for _ in range(count)]


def test_samples_cover_the_element_wise_operations() -> None:
    rare = {"ConvertLike", "FakeConvert", "FakeQuantize", "Log", "LogicalNot", "FloorMod", "Mod", "Power"}
    assert (UNARY | BINARY) - rare <= SAMPLES.keys() <= TRAITS.keys()


@pytest.mark.parametrize("operation", sorted(SAMPLES))
def test_zero(operation: str) -> None:
    (result,) = values(operation, np.zeros(SHAPE, np.float32))
    assert trait(operation).keeps_zero == (not result.any())


@pytest.mark.parametrize("operation", sorted(SAMPLES))
def test_affinity(operation: str) -> None:
    """``f(a + b) = f(a) + f(b) - f(0)`` of affine functions alone."""
    first, second = images(2, low=0.2 if operation == "Sqrt" else -2)
    both, one, other, nothing = values(operation, first + second, first, second, np.zeros(SHAPE, np.float32))
    assert (trait(operation).affine is not None) == np.allclose(both, one + other - nothing, atol=1e-3)


PER_PLACE = {name for name in SAMPLES if trait(name).places in ("each", "operands", "axes")} - {"MatMul"}


@pytest.mark.parametrize("operation", sorted(PER_PLACE - RESHAPES))
def test_a_place_depends_on_the_same_place_alone(operation: str) -> None:
    """Samples compute along channels, and their constants are the same for all places."""
    (image,) = images(1)
    changed = image.copy()
    changed[0, :, 1, 2] += 1
    before, after = values(operation, image, changed)
    channel = 3 if operation == "Transpose" else 1
    touched = (before != after).any(axis=channel)
    assert not np.delete(touched.reshape(-1), 1 * SHAPE[3] + 2).any()


@pytest.mark.parametrize(
    "operation", ["AvgPool", "MaxPool", "Interpolate", "Roll", "SpaceToDepth", "ScaledDotProductAttention"]
)
def test_what_mixes_places_is_not_said_to_spare_them(operation: str) -> None:
    (image,) = images(1)
    changed = image.copy()
    changed[0, :, 1, 2] += 1
    before, after = values(operation, image, changed)
    same_place = before.shape == SHAPE and not np.delete((before != after).any(axis=1).reshape(-1), 6).any()
    assert not same_place
    assert trait(operation).places in ("window", "mixed")


@pytest.mark.parametrize("operation", sorted(names_with(lambda own: own.elements == "moved") & SAMPLES.keys()))
def test_moves_keep_values(operation: str) -> None:
    image = np.arange(64, dtype=np.float32).reshape(SHAPE)
    (moved,) = values(operation, image)
    assert set(moved.reshape(-1)) <= set(image.reshape(-1))
    assert len(np.unique(moved)) == moved.size


def test_an_unknown_operation_promises_nothing() -> None:
    own = trait("EmbeddingBagOffsets")
    assert (own.axes, own.places, own.elements, own.keeps_zero) == ("lost", "mixed", "mixed", False)


def _collections(path: Path) -> Iterator[tuple[int, set[str]]]:
    """Yield the strings of each literal set, list, tuple or mapping."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Set | ast.List | ast.Tuple):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        else:
            continue
        yield (
            node.lineno,
            {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)},
        )


def test_the_room_knows_nothing_of_what_it_is_used_for() -> None:
    """Neither by a name that it imports, nor by a name or an output that it writes itself."""
    words = ("saliency", "xai_outputs", "recipro", "explain_method", "activationmap", "import method")
    told = {
        path.name: found
        for path in sorted(ROOMS[0].rglob("*.py"))
        if (found := [word for word in words if word in path.read_text(encoding="utf-8").lower()])
    }
    assert not told


def test_no_other_module_lists_operations() -> None:
    modules = [path for room in ROOMS for path in sorted(room.rglob("*.py")) if path.name != "traits.py"]
    listed = [
        f"{path.name}:{line} {sorted(names & TRAITS.keys())}"
        for path in modules
        for line, names in _collections(path)
        if len(names & TRAITS.keys()) >= 4
    ]
    assert not listed, "make these a query on graph/traits.py: " + "; ".join(listed)
    assert len(modules) > 20
