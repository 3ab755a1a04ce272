"""One table of OpenVINO's operations: what each does to axes, to places, to single elements and to zero.

Whatever another module asks of an operation by its name is a query on this table, computed once at import. A new
operation is one row; a new question is one field of :class:`Trait` and one column of the rows that it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

Axes = Literal[
    "image",  # reads and gives batch, channels, height and width, in this order
    "same",  # leaves them as they are
    "normalise",  # leaves them as they are, and computes along some
    "broadcast",  # lines those of several operands up from the last one
    "reduce",  # reduces those that its second input names
    "reshape",  # splits and merges neighbours
    "transpose",
    "concat",
    "matmul",
    "attention",
    "cut",  # takes a part of one, or of several
    "split",
    "move",  # moves places along them, or makes more or fewer
    "lost",  # what they mean is lost
]

Places = Literal[
    "each",  # every place of the output depends on the same place alone
    "operands",  # … where operands without image content are the same for all places
    "axes",  # … where the axes that it computes along are none of places
    "window",  # … where its window is one place
    "mixed",  # depends on others
]

Elements = Literal[
    "kept",  # each stays where it is, and its value becomes another
    "moved",  # their values stay, all of them or a fixed part
    "picked",  # some are passed on, which ones being a matter of the image
    "combined",  # those of several operands that stand at one place make one
    "mixed",
]

Affine = Literal["jointly", "one"] | None


@dataclass(frozen=True)
class Window:
    """The window that an image operation moves over its input.

    Args:
        shape: what gives its size: ``weights`` (of a convolution), ``transposed`` weights, a ``kernel`` attribute, a
            ``block``, or the sizes of input and output (``adaptive``).
        weights: number of the input that holds the weights.
    """

    shape: Literal["weights", "transposed", "kernel", "block", "adaptive"]
    weights: int | None = None


@dataclass(frozen=True)
class Trait:
    """What is known of one operation.

    Args:
        axes: what it does to the axes of its data.
        places: whether each place of its output depends on the same place alone.
        elements: what becomes of single elements.
        keeps_zero: it gives zeros where all that carries image content is zero.
        affine: it is affine in all inputs with image content together (``jointly``), or in ``one`` of them as long as
            the others carry none.
        is_copy: it passes its first input on, up to rounding.
        is_layer: it may hold learned weights that mix channels.
        activation: it is the activation of a layer within a network (``layer``), or makes ``scores`` of raw ones.
        decodes: it reads predictions out of raw numbers: scores, exponents of sizes, and their rounding.
        passes: it may stand between the last layers of a detector and an output, and carries real values through.
        rounds: it gives whole numbers.
        weighs: what it makes of scores are scores: products, powers, limits, and choices among them.
        pools: what it takes of the elements that it joins.
        window: of an image operation.
        selects_boxes: it stands in models that find boxes, and only there.
        score_input: of an operation that selects boxes, the input with class scores.
        region_inputs: of an operation that pools features of regions, the inputs with the features.
        adjoint: name of the rule by which gradients pass it (``gradients/rule_table.py``); ``none``: it carries none,
            since small changes of its inputs do not change what it gives, or do so by leaps.
    """

    axes: Axes = "lost"
    places: Places = "mixed"
    elements: Elements = "mixed"
    keeps_zero: bool = False
    affine: Affine = None
    is_copy: bool = False
    is_layer: bool = False
    activation: Literal["layer", "scores"] | None = None
    decodes: bool = False
    passes: bool = False
    rounds: bool = False
    weighs: bool = False
    pools: Literal["mean", "max"] | None = None
    window: Window | None = None
    selects_boxes: bool = False
    score_input: int | None = None
    region_inputs: slice | None = None
    adjoint: str | None = None


_unary = partial(Trait, "same", "each", "kept")
_binary = partial(Trait, "broadcast", "operands", "combined")


def _normalisation(adjoint: str, places: Places = "axes", *, keeps_zero: bool = False, affine: Affine = None) -> Trait:
    return Trait("normalise", places, keeps_zero=keeps_zero, affine=affine, adjoint=adjoint)


def _softmax(adjoint: str) -> Trait:
    return Trait("same", "axes", "kept", activation="scores", decodes=True, passes=True, adjoint=adjoint)


def _reduction(
    adjoint: str, *, pools: Literal["mean", "max"] | None = None, elements: Elements = "mixed", affine: Affine = None
) -> Trait:
    weighs = elements == "picked"
    return Trait(
        "reduce", "axes", elements, keeps_zero=True, affine=affine, pools=pools, weighs=weighs, adjoint=adjoint
    )


def _image(
    window: Window,
    adjoint: str | None = None,
    *,
    layer: bool = False,
    pools: Literal["mean", "max"] | None = None,
) -> Trait:
    affine: Affine = None if pools == "max" else "one" if layer else "jointly"
    return Trait(
        "image", "window", keeps_zero=True, affine=affine, is_layer=layer, pools=pools, window=window, adjoint=adjoint
    )


def _move(axes: Axes, adjoint: str, places: Places = "mixed") -> Trait:
    return Trait(axes, places, "moved", keeps_zero=True, affine="jointly", passes=True, adjoint=adjoint)


def _shift(adjoint: str, *, elements: Elements = "mixed") -> Trait:
    linear = elements == "mixed"
    return Trait("move", elements=elements, keeps_zero=linear, affine="jointly" if linear else None, adjoint=adjoint)


def _pick(adjoint: str, *, passes: bool = False, weighs: bool = False) -> Trait:
    return Trait(elements="picked", passes=passes, weighs=weighs, adjoint=adjoint)


def _boxes(
    *, scores: int | None = None, regions: slice | None = None, only: bool = True, adjoint: str | None = None
) -> Trait:
    return Trait(selects_boxes=only, score_input=scores, region_inputs=regions, adjoint=adjoint)


TRAITS: Mapping[str, Trait] = {
    # --- operations on images: NCHW by definition
    "Convolution": _image(Window("weights", 1), "convolution", layer=True),
    "GroupConvolution": _image(Window("weights", 1), "convolution", layer=True),
    "BinaryConvolution": _image(Window("weights", 1), layer=True),
    "DeformableConvolution": _image(Window("weights", 2), layer=True),
    "ConvolutionBackpropData": _image(Window("transposed", 1), "transposed_convolution", layer=True),
    "GroupConvolutionBackpropData": _image(Window("transposed", 1), "transposed_convolution", layer=True),
    "AvgPool": _image(Window("kernel"), "axis_by_axis", pools="mean"),
    "MaxPool": _image(Window("kernel"), "largest_in_window", pools="max"),
    "AdaptiveAvgPool": _image(Window("adaptive"), "axis_by_axis", pools="mean"),
    "AdaptiveMaxPool": _image(Window("adaptive"), "adaptive_largest", pools="max"),
    "SpaceToDepth": _image(Window("block"), "depth"),
    "DepthToSpace": _image(Window("block"), "depth"),
    # --- one operand, element by element
    "Convert": _unary(keeps_zero=True, affine="jointly", is_copy=True, decodes=True, passes=True, adjoint="convert"),
    "ConvertLike": _unary(keeps_zero=True, affine="jointly", is_copy=True, decodes=True, adjoint="convert"),
    "FakeConvert": _unary(keeps_zero=True, affine="jointly", is_copy=True, adjoint="pass"),
    "FakeQuantize": _unary(affine="jointly", is_copy=True, decodes=True, passes=True, adjoint="quantised"),
    "Clamp": _unary(activation="layer", decodes=True, passes=True, weighs=True, adjoint="clamp"),
    "Relu": _unary(keeps_zero=True, activation="layer", passes=True, adjoint="relu"),
    "PRelu": _unary(keeps_zero=True, activation="layer", adjoint="prelu"),
    "Elu": _unary(keeps_zero=True, activation="layer", adjoint="elu"),
    "Selu": _unary(keeps_zero=True, activation="layer", adjoint="selu"),
    "Gelu": _unary(keeps_zero=True, activation="layer", adjoint="gelu"),
    "Swish": _unary(keeps_zero=True, activation="layer", adjoint="swish"),
    "HSwish": _unary(keeps_zero=True, activation="layer", adjoint="hswish"),
    "Mish": _unary(keeps_zero=True, activation="layer", adjoint="mish"),
    "SoftPlus": _unary(activation="layer", adjoint="softplus"),
    "Sigmoid": _unary(activation="scores", decodes=True, passes=True, adjoint="sigmoid"),
    "HSigmoid": _unary(activation="scores", decodes=True, adjoint="hsigmoid"),
    "HardSigmoid": _unary(activation="scores", decodes=True, adjoint="hard_sigmoid"),
    "Tanh": _unary(keeps_zero=True, adjoint="tanh"),
    "SoftSign": _unary(keeps_zero=True, adjoint="soft_sign"),
    "Erf": _unary(keeps_zero=True, adjoint="erf"),
    "Exp": _unary(decodes=True, passes=True, adjoint="exp"),
    "Log": _unary(decodes=True, adjoint="log"),
    "Sqrt": _unary(keeps_zero=True, decodes=True, passes=True, weighs=True, adjoint="sqrt"),
    "Abs": _unary(keeps_zero=True, adjoint="abs"),
    "Negative": _unary(keeps_zero=True, affine="jointly", adjoint="negative"),
    "Floor": _unary(keeps_zero=True, rounds=True, adjoint="none"),
    "Ceiling": _unary(keeps_zero=True, rounds=True, adjoint="none"),
    "Round": _unary(keeps_zero=True, rounds=True, adjoint="none"),
    "Sign": _unary(keeps_zero=True, adjoint="none"),
    "Sin": _unary(keeps_zero=True, adjoint="sin"),
    "Cos": _unary(adjoint="cos"),
    "LogicalNot": _unary(adjoint="none"),
    # --- several operands, element by element
    "Add": _binary(adjoint="add", affine="jointly", passes=True),
    "Subtract": _binary(adjoint="subtract", affine="jointly", passes=True),
    "Multiply": _binary(adjoint="multiply", keeps_zero=True, affine="one", passes=True, weighs=True),
    "Divide": _binary(adjoint="divide", passes=True),
    "Power": _binary(adjoint="power", passes=True, weighs=True),
    "Maximum": _binary(adjoint="maximum", passes=True),
    "Minimum": _binary(adjoint="minimum", passes=True),
    "SquaredDifference": _binary(adjoint="squared_difference"),
    "Mod": _binary(adjoint="modulo", rounds=True),
    "FloorMod": _binary(adjoint="modulo", rounds=True),
    "Select": Trait(elements="combined", weighs=True, adjoint="select"),
    # --- along axes
    "MVN": _normalisation("mvn", keeps_zero=True),
    "NormalizeL2": _normalisation("unit", keeps_zero=True),
    "LRN": _normalisation("local", keeps_zero=True),
    "GroupNormalization": _normalisation("group_norm", "mixed"),
    "RMS": _normalisation("root_mean_square", "mixed", keeps_zero=True),
    "BatchNormInference": _normalisation("batch_norm", "each", affine="one"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "ReduceMean": _reduction("mean", pools="mean", affine="jointly"),
    "ReduceSum": _reduction("sum", affine="jointly"),
    "ReduceMax": _reduction("largest", pools="max", elements="picked"),
    "ReduceMin": _reduction("largest"),
    "ReduceProd": _reduction("product"),
    "ReduceL1": _reduction("absolute"),
    "ReduceL2": _reduction("length"),
    # --- linear algebra
    "MatMul": Trait("matmul", "operands", keeps_zero=True, affine="one", is_layer=True, adjoint="matmul"),
    "ScaledDotProductAttention": Trait("attention", keeps_zero=True, adjoint="attention"),
    "Einsum": Trait(adjoint="einsum"),
    "CumSum": Trait(adjoint="cumulated"),
    "Identity": Trait(adjoint="pass"),
    "GridSample": Trait(adjoint="sampled"),
    "Col2Im": Trait(adjoint="folded_windows"),
    # --- moves of elements
    "Reshape": _move("reshape", "reshaped"),
    "Squeeze": _move("reshape", "reshaped"),
    "Unsqueeze": _move("reshape", "reshaped"),
    "Transpose": _move("transpose", "transposed", "each"),
    "Concat": _move("concat", "joined", "axes"),
    "Slice": _move("cut", "sliced", "axes"),
    "StridedSlice": _move("cut", "relocated", "axes"),
    "Gather": _move("cut", "gathered", "axes"),
    "Split": _move("split", "split", "axes"),
    "VariadicSplit": _move("split", "split", "axes"),
    "ShuffleChannels": Trait("same", "axes", keeps_zero=True, affine="jointly", adjoint="shuffled"),
    "Interpolate": _shift("axis_by_axis"),
    "Pad": _shift("padded", elements="picked"),
    "Reverse": _shift("relocated"),
    "Roll": _shift("rolled"),
    # --- what is passed on is a matter of the image
    "Broadcast": _pick("broadcast"),
    "Tile": _pick("tiled"),
    "GatherElements": _pick("relocated", passes=True),
    "GatherND": _pick("relocated", passes=True),
    "ScatterElementsUpdate": _pick("scattered_elements", passes=True),
    "ScatterNDUpdate": _pick("scattered_slices", passes=True),
    "ScatterUpdate": _pick("scattered_rows", passes=True),
    "TopK": _pick("best", passes=True, weighs=True),
    # --- boxes
    "DetectionOutput": _boxes(scores=1),
    "MatrixNms": _boxes(scores=1),
    "MulticlassNms": _boxes(scores=1),
    "NonMaxSuppression": _boxes(scores=1, adjoint="none"),
    "NonMaxSuppressionIEInternal": _boxes(scores=1, only=False, adjoint="none"),
    "NMSRotated": _boxes(),
    "ExperimentalDetectronDetectionOutput": _boxes(),
    "ExperimentalDetectronROIFeatureExtractor": _boxes(regions=slice(1, None), only=False),
    "Proposal": _boxes(),
    "RegionYolo": _boxes(),
    "ROIAlign": _boxes(regions=slice(0, 1), adjoint="region"),
    "ROIAlignRotated": _boxes(regions=slice(0, 1), only=False),
    "ROIPooling": _boxes(regions=slice(0, 1), only=False),
    "PSROIPooling": _boxes(regions=slice(0, 1), only=False),
    "DeformablePSROIPooling": _boxes(regions=slice(0, 1), only=False),
}
"""What is known of each operation, by its name in OpenVINO."""

_UNKNOWN = Trait()


def trait(operation: str) -> Trait:
    """Return what is known of an operation; of one that is not in the table: that nothing can be relied upon."""
    return TRAITS.get(operation, _UNKNOWN)


def names_with(asked: Callable[[Trait], bool]) -> frozenset[str]:
    """Return the names of all operations of which ``asked`` is true."""
    return frozenset(name for name, own in TRAITS.items() if asked(own))


UNARY = names_with(lambda own: own.axes == "same" and own.places == "each")
"""Operations on one operand, element by element."""

BINARY = names_with(lambda own: own.axes == "broadcast")
"""Arithmetic of two operands, element by element."""

NORMALISATIONS = names_with(lambda own: own.axes == "normalise")
REDUCTIONS = names_with(lambda own: own.axes == "reduce")
RESHAPES = names_with(lambda own: own.axes == "reshape")

CUTS = names_with(lambda own: own.axes in ("cut", "split"))
"""Operations that take parts of a tensor."""

MOVES = names_with(lambda own: own.elements == "moved")
"""Operations that only move elements."""

PICKS = names_with(lambda own: own.elements == "picked")
"""Operations that pass some elements on, which ones being a matter of the image."""

COPIES = names_with(lambda own: own.is_copy)
"""Operations that pass their first input on, up to rounding."""

SCORE_ACTIVATIONS = names_with(lambda own: own.activation == "scores")
LAYER_ACTIVATIONS = names_with(lambda own: own.activation == "layer")

LAYERS = names_with(lambda own: own.is_layer)
"""Operations that may hold learned weights."""

CONVOLUTIONS = names_with(lambda own: own.is_layer and own.axes == "image")

SCORE_PORTS: Mapping[str, int] = {name: own.score_input for name, own in TRAITS.items() if own.score_input is not None}
"""Operations that select boxes, and which of their inputs holds the class scores."""

REGION_INPUTS: Mapping[str, slice] = {
    name: own.region_inputs for name, own in TRAITS.items() if own.region_inputs is not None
}
"""Operations that pool features of regions, and which of their inputs hold the features."""
