"""One table of OpenVINO's operations: what each does to axes, to places, to single elements and to zero.

Whatever another module asks of an operation by its name is a query on this table, computed once at import. A new
operation is one row; a new question is one field of :class:`Trait` and one column of the rows that it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


def _unary(
    *,
    zero: bool = False,
    affine: Affine = None,
    copy: bool = False,
    activation: Literal["layer", "scores"] | None = None,
    decodes: bool = False,
    passes: bool = False,
    rounds: bool = False,
    weighs: bool = False,
) -> Trait:
    return Trait(
        "same",
        "each",
        "kept",
        keeps_zero=zero,
        affine=affine,
        is_copy=copy,
        activation=activation,
        decodes=decodes,
        passes=passes,
        rounds=rounds,
        weighs=weighs,
    )


def _binary(
    *, zero: bool = False, affine: Affine = None, passes: bool = False, rounds: bool = False, weighs: bool = False
) -> Trait:
    return Trait(
        "broadcast",
        "operands",
        "combined",
        keeps_zero=zero,
        affine=affine,
        passes=passes,
        rounds=rounds,
        weighs=weighs,
    )


def _normalisation(places: Places = "axes", *, zero: bool = False, affine: Affine = None) -> Trait:
    return Trait("normalise", places, keeps_zero=zero, affine=affine)


def _softmax() -> Trait:
    return Trait("same", "axes", "kept", activation="scores", decodes=True, passes=True)


def _reduction(
    *, pools: Literal["mean", "max"] | None = None, elements: Elements = "mixed", affine: Affine = None
) -> Trait:
    weighs = elements == "picked"
    return Trait("reduce", "axes", elements, keeps_zero=True, affine=affine, pools=pools, weighs=weighs)


def _image(window: Window, *, layer: bool = False, pools: Literal["mean", "max"] | None = None) -> Trait:
    affine: Affine = None if pools == "max" else "one" if layer else "jointly"
    return Trait("image", "window", keeps_zero=True, affine=affine, is_layer=layer, pools=pools, window=window)


def _move(axes: Axes, places: Places = "mixed", *, elements: Elements = "moved", passes: bool = True) -> Trait:
    return Trait(
        axes, places, elements, keeps_zero=True, affine="jointly" if elements == "moved" else None, passes=passes
    )


def _shift(*, elements: Elements = "mixed") -> Trait:
    linear = elements == "mixed"
    return Trait("move", elements=elements, keeps_zero=linear, affine="jointly" if linear else None)


def _pick(*, passes: bool = False, weighs: bool = False) -> Trait:
    return Trait(elements="picked", passes=passes, weighs=weighs)


def _boxes(*, scores: int | None = None, regions: slice | None = None, only: bool = True) -> Trait:
    return Trait(selects_boxes=only, score_input=scores, region_inputs=regions)


TRAITS: Mapping[str, Trait] = {
    # --- operations on images: NCHW by definition
    "Convolution": _image(Window("weights", 1), layer=True),
    "GroupConvolution": _image(Window("weights", 1), layer=True),
    "BinaryConvolution": _image(Window("weights", 1), layer=True),
    "DeformableConvolution": _image(Window("weights", 2), layer=True),
    "ConvolutionBackpropData": _image(Window("transposed", 1), layer=True),
    "GroupConvolutionBackpropData": _image(Window("transposed", 1), layer=True),
    "AvgPool": _image(Window("kernel"), pools="mean"),
    "MaxPool": _image(Window("kernel"), pools="max"),
    "AdaptiveAvgPool": _image(Window("adaptive"), pools="mean"),
    "AdaptiveMaxPool": _image(Window("adaptive"), pools="max"),
    "SpaceToDepth": _image(Window("block")),
    "DepthToSpace": _image(Window("block")),
    # --- one operand, element by element
    "Convert": _unary(zero=True, affine="jointly", copy=True, decodes=True, passes=True),
    "ConvertLike": _unary(zero=True, affine="jointly", copy=True, decodes=True),
    "FakeConvert": _unary(zero=True, affine="jointly", copy=True),
    "FakeQuantize": _unary(affine="jointly", copy=True, decodes=True, passes=True),
    "Clamp": _unary(activation="layer", decodes=True, passes=True, weighs=True),
    "Relu": _unary(zero=True, activation="layer", passes=True),
    "PRelu": _unary(zero=True, activation="layer"),
    "Elu": _unary(zero=True, activation="layer"),
    "Selu": _unary(zero=True, activation="layer"),
    "Gelu": _unary(zero=True, activation="layer"),
    "Swish": _unary(zero=True, activation="layer"),
    "HSwish": _unary(zero=True, activation="layer"),
    "Mish": _unary(zero=True, activation="layer"),
    "SoftPlus": _unary(activation="layer"),
    "Sigmoid": _unary(activation="scores", decodes=True, passes=True),
    "HSigmoid": _unary(activation="scores", decodes=True),
    "HardSigmoid": _unary(activation="scores", decodes=True),
    "Tanh": _unary(zero=True),
    "SoftSign": _unary(zero=True),
    "Erf": _unary(zero=True),
    "Exp": _unary(decodes=True, passes=True),
    "Log": _unary(decodes=True),
    "Sqrt": _unary(zero=True, decodes=True, passes=True, weighs=True),
    "Abs": _unary(zero=True),
    "Negative": _unary(zero=True, affine="jointly"),
    "Floor": _unary(zero=True, rounds=True),
    "Ceiling": _unary(zero=True, rounds=True),
    "Round": _unary(zero=True, rounds=True),
    "Sign": _unary(zero=True),
    "Sin": _unary(zero=True),
    "Cos": _unary(),
    "LogicalNot": _unary(),
    # --- several operands, element by element
    "Add": _binary(affine="jointly", passes=True),
    "Subtract": _binary(affine="jointly", passes=True),
    "Multiply": _binary(zero=True, affine="one", passes=True, weighs=True),
    "Divide": _binary(passes=True),
    "Power": _binary(passes=True, weighs=True),
    "Maximum": _binary(passes=True),
    "Minimum": _binary(passes=True),
    "SquaredDifference": _binary(),
    "Mod": _binary(rounds=True),
    "FloorMod": _binary(rounds=True),
    "Select": Trait(elements="combined", weighs=True),
    # --- along axes
    "MVN": _normalisation(zero=True),
    "NormalizeL2": _normalisation(zero=True),
    "LRN": _normalisation(zero=True),
    "GroupNormalization": _normalisation("mixed"),
    "RMS": _normalisation("mixed", zero=True),
    "BatchNormInference": _normalisation("each", affine="one"),
    "Softmax": _softmax(),
    "LogSoftmax": _softmax(),
    "ReduceMean": _reduction(pools="mean", affine="jointly"),
    "ReduceSum": _reduction(affine="jointly"),
    "ReduceMax": _reduction(pools="max", elements="picked"),
    "ReduceMin": _reduction(),
    "ReduceProd": _reduction(),
    "ReduceL1": _reduction(),
    "ReduceL2": _reduction(),
    # --- linear algebra
    "MatMul": Trait("matmul", "operands", keeps_zero=True, affine="one", is_layer=True),
    "ScaledDotProductAttention": Trait("attention", keeps_zero=True),
    # --- moves of elements
    "Reshape": _move("reshape"),
    "Squeeze": _move("reshape"),
    "Unsqueeze": _move("reshape"),
    "Transpose": _move("transpose", "each"),
    "Concat": _move("concat", "axes"),
    "Slice": _move("cut", "axes"),
    "StridedSlice": _move("cut", "axes"),
    "Gather": _move("cut", "axes"),
    "Split": _move("split", "axes"),
    "VariadicSplit": _move("split", "axes"),
    "ShuffleChannels": Trait("same", "axes", keeps_zero=True, affine="jointly"),
    "Interpolate": _shift(),
    "Pad": _shift(elements="picked"),
    "Reverse": _shift(),
    "Roll": _shift(),
    # --- what is passed on is a matter of the image
    "Broadcast": _pick(),
    "Tile": _pick(),
    "GatherElements": _pick(passes=True),
    "GatherND": _pick(passes=True),
    "ScatterElementsUpdate": _pick(passes=True),
    "ScatterNDUpdate": _pick(passes=True),
    "ScatterUpdate": _pick(passes=True),
    "TopK": _pick(passes=True, weighs=True),
    # --- boxes
    "DetectionOutput": _boxes(scores=1),
    "MatrixNms": _boxes(scores=1),
    "MulticlassNms": _boxes(scores=1),
    "NonMaxSuppression": _boxes(scores=1),
    "NonMaxSuppressionIEInternal": _boxes(scores=1, only=False),
    "NMSRotated": _boxes(),
    "ExperimentalDetectronDetectionOutput": _boxes(),
    "ExperimentalDetectronROIFeatureExtractor": _boxes(regions=slice(1, None), only=False),
    "Proposal": _boxes(),
    "RegionYolo": _boxes(),
    "ROIAlign": _boxes(regions=slice(0, 1)),
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
