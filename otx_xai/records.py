"""The vocabulary of the package: enumerations, and the frozen records that cross from stage to stage.

Conventions that hold everywhere: sizes are ``(height, width)``; images are RGB ``uint8`` arrays ``(H, W, 3)``; maps
are ``float32`` in [0, 1]; a *target* is a class index, a *label* its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otx_xai.errors import ConfigError
from otx_xai.options import Word, option, read_words, words

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Size = tuple[int, int]

Target = int | np.integer[Any] | str
"""One class as users say it: its index or its name."""
Targets = Target | Sequence[Target] | NDArray[np.integer[Any]] | None
"""Classes as users say them: indices, names, ``"a,b"``, -1 for all, or a word such as ``"predicted"``."""
Labels = str | Path | Sequence[str] | None
"""Class names as users give them: a file, ``"a,b"``, or the names; ``None``: those that the model knows."""

SALIENCY_MAP = "saliency_map"
"""Output of a model: its maps. This and the next are the names that OTX and Model API know."""
FEATURE_VECTOR = "feature_vector"
SALIENCY_TARGETS = "saliency_targets"
"""Output of a model: the classes of its maps, where the graph chose them."""
SCORES = "saliency_scores"
"""Output of a classifier: probabilities, whatever its own output is."""
XAI_OUTPUTS = frozenset({SALIENCY_MAP, FEATURE_VECTOR, SALIENCY_TARGETS, SCORES})


class Task(Word):
    """What a model does. The OTX spellings ``MULTI_CLASS_CLS``, ``MULTI_LABEL_CLS`` and ``H_LABEL_CLS`` are members."""

    CLASSIFICATION = "classification"
    MULTI_CLASS_CLS = "multi_class_cls"
    MULTI_LABEL_CLS = "multi_label_cls"
    H_LABEL_CLS = "h_label_cls"
    DETECTION = "detection"
    INSTANCE_SEGMENTATION = "instance_segmentation"

    @property
    def is_classification(self) -> bool:
        """Whether the model gives one score a class for the whole image."""
        return self in (Task.CLASSIFICATION, Task.MULTI_CLASS_CLS, Task.MULTI_LABEL_CLS, Task.H_LABEL_CLS)


class Method(Word):
    """How saliency is computed; the value is the published name without punctuation."""

    ACTIVATIONMAP = "activationmap"
    RECIPROCAM = "reciprocam"
    VITRECIPROCAM = "vitreciprocam"
    DETCLASSPROBABILITYMAP = "detclassprobabilitymap"
    INSTSEGEXPLAINALGO = "instsegexplainalgo"
    MULTISTRIDECAM = "multistridecam"
    LAYERCAM = "layercam"
    GRADCAM = "gradcam"
    HIRESCAM = "hirescam"
    INTEGRATEDGRADIENTS = "integratedgradients"
    SMOOTHGRAD = "smoothgrad"
    RISE = "rise"
    AISE = "aise"
    GUIDEDRISE = "guidedrise"
    DRISE = "drise"
    GUIDEDDRISE = "guideddrise"
    ODAM = "odam"

    @property
    def is_white_box(self) -> bool:
        """Whether the method reads the model's graph (else it perturbs the input)."""
        return self not in (Method.RISE, Method.AISE, Method.DRISE, Method.GUIDEDRISE, Method.GUIDEDDRISE)


class ExplainMode(Word):
    """White box: a branch in the graph. Black box: perturbed inputs. Auto: white box where the graph allows it."""

    AUTO = "auto"
    WHITEBOX = "whitebox"
    BLACKBOX = "blackbox"


class Preset(Word):
    """How much work is put into a map: one pass, about two, about sixty; of black-box methods more."""

    SPEED = "speed"
    BALANCE = "balance"
    QUALITY = "quality"


class ResizeType(Word):
    """How an image becomes the network's input, as OTX and Model API name it."""

    STANDARD = "standard"
    """Stretch to the input size."""
    FIT_TO_WINDOW = "fit_to_window"
    """Keep the aspect ratio, pad right and bottom."""
    FIT_TO_WINDOW_LETTERBOX = "fit_to_window_letterbox"
    """Keep the aspect ratio, pad both sides equally."""
    CROP = "crop"
    """Cut the largest centred region that has the input's aspect ratio, then resize."""


class Interpolation(Word):
    """How the pixels of a resized image are made of its own; all but the first are filters of Pillow."""

    LINEAR = "linear"
    """Between the four nearest pixels, as OTX and Model API do it: where an image shrinks, others do not count."""
    NEAREST = "nearest"
    """The nearest pixel."""
    BOX = "box"
    """This and the next take the mean, weighted in different ways, of all pixels that become one."""
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class TargetExplainGroup(Word):
    """Which maps of an image are wanted: one a class, one a predicted class, one a box, or one for the image."""

    ALL = "ALL"
    PREDICTIONS = "PREDICTIONS"
    BOXES = "BOXES"
    IMAGE = "IMAGE"


class DumpContent(Word):
    """What a dump holds."""

    MAPS = "maps"
    OVERLAYS = "overlays"
    BOTH = "both"
    """Maps and overlays."""
    SHEET = "sheet"
    """One page an image."""
    NPZ = "npz"
    """The maps as numbers."""


class Weights(Word):
    """Which weights of a checkpoint count where a trainer kept both: averaged over training (EMA), or the last ones."""

    EMA = "ema"
    RAW = "raw"


class JudgedClass(Word):
    """Whose maps are judged: those of the class that the model itself predicts, or of the one that annotations name."""

    PREDICTED = "predicted"
    TRUTH = "truth"


class AuditReport(Word):
    """What the page of an audit holds: all images, 200 of them in one file, or no pixels."""

    FULL = "full"
    SINGLE = "single"
    NOIMAGES = "noimages"


class ImageFormat(Word):
    """File format of dumped pictures: PNG is exact, JPEG small and fast."""

    PNG = "png"
    JPG = "jpg"


EXPLAINED = "What is explained"
"""Heading of options; and the next three."""
JUDGED = "What is judged"
AUDITED = "What is audited"
WRITTEN = "What is written"


@dataclass(frozen=True)
class ExplainConfig:
    """What to explain of every image, and what to write.

    Args:
        target_explain_group: ``ALL`` classes, ``PREDICTIONS`` only, each of the ``BOXES`` that a detector finds, or
            one ``IMAGE`` map (activation map).
        predicted_maps_conf_thr: score in [0, 1] from which a class counts as predicted, of ``PREDICTIONS`` only.
            Where no class reaches it, the best one is explained.
        postprocess: write maps in the size of the image (else in the network's own resolution).
        crop_padded_map: cut the padding of the network's input off the map, so that it covers the image exactly.
        content: what to write: ``maps``, ``overlays``, ``both``, one contact ``sheet`` an image, the numbers of all
            maps of an image as ``npz``; or several of them, as a sequence, or with commas between.
        image_format: ``png`` or ``jpg``.
        overlay_weight: weight of the map in the overlay, in [0, 1].
        confidence_threshold: score in [0, 1] from which a detector's box counts as found, and so is listed; of
            ``BOXES`` each that is listed has a map. Where ``None``, the one in ``model_info``, or 0.5.
    """

    target_explain_group: TargetExplainGroup = option(
        TargetExplainGroup.PREDICTIONS,
        "GROUP",
        f"{words(TargetExplainGroup)}: one map for each class, for each predicted one, for each box, or one an image",
        EXPLAINED,
    )
    predicted_maps_conf_thr: float = option(
        0.3, "0-1", "score from which a class counts as predicted; boxes have a threshold of their own", EXPLAINED
    )
    postprocess: bool = option(True, "BOOL", "maps in the size of the image, else as the network has them", WRITTEN)
    crop_padded_map: bool = option(True, "BOOL", "cut the padding of the network's input off the maps", WRITTEN)
    content: DumpContent | str = option(
        DumpContent.BOTH,
        "WORD[,WORD]",
        f"{words(DumpContent)}: pictures, one page an image, or the maps as numbers",
        WRITTEN,
    )
    image_format: ImageFormat = option(
        ImageFormat.PNG, "WORD", f"{words(ImageFormat)}: exact, or small and fast", WRITTEN
    )
    overlay_weight: float = option(0.5, "0-1", "weight of the map in the overlay", WRITTEN)
    confidence_threshold: float | None = option(
        None,
        "0-1",
        "score from which a box counts, and has a map with --targets boxes; the model's own, or 0.5",
        EXPLAINED,
    )

    def __post_init__(self) -> None:
        read_words(self, target_explain_group=TargetExplainGroup, image_format=ImageFormat)
        object.__setattr__(self, "content", _read_content(self.content))
        for name in ("predicted_maps_conf_thr", "overlay_weight", "confidence_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"explain_config.{name} is {value}; expected a number from 0 to 1.")

    @property
    def contents(self) -> frozenset[DumpContent]:
        """What to write, word by word: maps and overlays where it is both."""
        asked = {DumpContent(word) for word in self.content.split(",")}
        both = {DumpContent.MAPS, DumpContent.OVERLAYS} if DumpContent.BOTH in asked else set()
        return frozenset(asked - {DumpContent.BOTH} | both)


def _read_content(value: object) -> DumpContent | str:
    """Return a word; several in their order, each once, with commas between."""
    parts = value.strip("[]").split(",") if isinstance(value, str) else value
    asked = list(dict.fromkeys(map(DumpContent, parts if isinstance(parts, Iterable) else [parts])))
    if not asked:
        raise ConfigError(f"explain_config.content is empty; expected {words(DumpContent)}, or several of them.")
    return asked[0] if len(asked) == 1 else ",".join(asked)


@dataclass(frozen=True)
class InputGeometry:
    """How an image is fitted into the network's input.

    Args:
        size: ``(height, width)`` of the network's input in pixels.
        resize_type: the rule that fits the image in.
        pad_value: grey level 0-255 of the padding.
        crop: share of the image's height and width, in (0, 1], that is cut out of its middle before it is fitted in.
            "Resize the short side to 256, cut out 224" is ``crop`` with 224 / 256.
        interpolation: how pixels are made of pixels.
    """

    size: Size
    resize_type: ResizeType = ResizeType.STANDARD
    pad_value: int = 0
    crop: float = 1.0
    interpolation: Interpolation = Interpolation.LINEAR


@dataclass(frozen=True)
class MapGrid:
    """Where the places of a map look in the network's input, in continuous pixels: pixel ``j`` covers ``[j, j + 1]``.

    Args:
        start: centre of what the first place looks at, ``(y, x)``; it may lie outside of the input.
        step: from one place to the next, ``(y, x)``, positive.
    """

    start: tuple[float, float]
    step: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image of the data. There may be a million of them, so it is small.

    Args:
        file: where it is read from.
        name: its path relative to the data root, with ``/``; names results. Unique in a run.
        stem: ``name`` without what is not needed to be unique: file results begin with it.
    """

    file: str
    name: str
    stem: str

    @property
    def path(self) -> Path:
        """Where it is read from."""
        return Path(self.file)


PER_IMAGE_TARGET = -1
"""The target of a map that knows no classes."""


@dataclass(frozen=True)
class Prediction:
    """One class that a classifier gives an image, or one box that a detector finds in it.

    Args:
        target: class index.
        label: class name.
        score: probability in [0, 1].
        box: xyxy in pixels of the original image; ``None`` of a class.
        number: of a box, its place among the predictions of its image, from 0, best first. It tells boxes apart that
            are equal in everything else.
    """

    target: int
    label: str
    score: float
    box: tuple[float, float, float, float] | None = None
    number: int | None = None


@dataclass(frozen=True)
class ScoreOrigin:
    """Numbers in an output of a detector that the scores of its boxes were read from, one a box.

    Args:
        output: name of the output.
        elements: which of its elements, ``int64`` ``(M,)``, counted through all axes of the output of one image.
        slopes: by how much the logarithm of the score grows with them, up to a factor for each box that all its origins
            share, ``float32`` ``(M,)``; 0 where a box has its score from elsewhere. ``None``: 1.
    """

    output: str
    elements: IntArray
    slopes: FloatArray | None = None

    def of(self, boxes: NDArray[np.intp]) -> ScoreOrigin:
        """Return the origin of the scores of some boxes."""
        return ScoreOrigin(self.output, self.elements[boxes], None if self.slopes is None else self.slopes[boxes])


@dataclass(frozen=True)
class Detections:
    """What a detector finds in one image, best first.

    Args:
        boxes: ``float32`` ``(M, 4)``, xyxy in pixels of the original image, inside of it.
        labels: class indices, ``int64`` ``(M,)``.
        scores: ``float32`` ``(M,)`` in [0, 1].
        masks: ``float32`` ``(M, h, w)`` in [0, 1], each over its own box (``masks_fill_boxes``) or over the whole of
            the network's input; ``None`` for a detector.
        mask_boxes: with masks, the boxes that they fill, ``float32`` ``(M, 4)``, xyxy on the original image, which they
            may exceed.
        masks_fill_boxes: see ``masks``.
        origins: where in the model's outputs the scores come from; several where a score is a product.
        turned: the turned boxes that ``boxes`` are around, ``float32`` ``(M, 5)``: centre, width and height in pixels
            of the original image, which they may exceed, angle in radians; ``None`` where boxes are upright.
    """

    boxes: FloatArray
    labels: IntArray
    scores: FloatArray
    masks: FloatArray | None = None
    mask_boxes: FloatArray | None = None
    masks_fill_boxes: bool = True
    origins: tuple[ScoreOrigin, ...] = ()
    turned: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ClassAnswer:
    """What a classifier says of one image, beside its predictions and the maps in [0, 1].

    Args:
        scores: probabilities of all classes, ``float32`` ``(K,)``.
        features: pooled features, ``float32`` ``(C,)``; empty where the graph does not give any.
        ranges: smallest and largest value of each map before it was scaled, ``float32`` ``(M, 2)``.
    """

    scores: FloatArray
    features: FloatArray
    ranges: FloatArray


@dataclass(frozen=True)
class Tiling:
    """How a detector wants large images to be cut into tiles, in the words of Model API.

    Args:
        size: pixels of the image on each side of a tile (``tile_size``).
        overlap: part of a tile that the next one covers too, in [0, 1) (``tiles_overlap``).
        max_predictions: boxes of an image at most (``max_pred_number``).
        whole_image: infer the whole image as well, for what is larger than a tile (``tile_with_full_img``).
    """

    size: int
    overlap: float = 0.5
    max_predictions: int = 100
    whole_image: bool = True

    @property
    def step(self) -> int:
        """Pixels from one tile to the next, at least 1."""
        return max(1, int(self.size * (1 - self.overlap)))


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before its graph is touched.

    Args:
        task: what it does.
        labels: one name a class, in order.
        geometry: how images are fitted into the input.
        input_layout: the model's own axes, a permutation of ``NCHW`` (``NHWC``, …).
        mean: per channel, on the 0-255 scale; empty: nothing to subtract.
        scale: per channel divisor; empty: nothing to divide by.
        reverse_input_channels: whether RGB is turned into BGR before normalisation.
        zero: of each channel what the graph's own normalisation turns into 0, on the scale of its input; empty: 0.
        multilabel: classes are independent (sigmoid) rather than exclusive (soft-max).
        confidence_threshold: score from which a detector's box counts.
        iou_threshold: overlap from which the lesser of two boxes is dropped, where that is left to us.
        first_label: what a detector calls class 0: 1 where its labels start with one for "nothing".
        tiling: how a detector wants images to be tiled; ``None``: each is inferred as a whole.
        channels: of the network's input.
        box_format: name of the format that its boxes are read by; empty for a classifier.
        normalisation_known: somebody says how the input is normalised, or that it need not be.
        sources: where each of these came from, field name → words for the log.
    """

    task: Task
    labels: tuple[str, ...]
    geometry: InputGeometry
    input_layout: str = "NCHW"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    reverse_input_channels: bool = False
    zero: tuple[float, ...] = ()
    multilabel: bool = False
    confidence_threshold: float = 0.5
    iou_threshold: float = 0.5
    first_label: int = 0
    tiling: Tiling | None = None
    channels: int = 3
    box_format: str = ""
    normalisation_known: bool = True
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InputOptions:
    """What the user says of the model's input; ``None`` leaves it to ``model_info`` and the graph.

    Args:
        mean: one number, or one a channel, subtracted on the 0-255 scale.
        scale: one number, or one a channel, to divide by, on the 0-255 scale.
        resize_type: ``standard``, ``fit_to_window``, ``fit_to_window_letterbox`` or ``crop``.
        pad_value: grey level 0-255 of the padding.
        reverse_input_channels: feed BGR rather than RGB.
        size: ``height,width`` of the network's input, or one number for both, where the model's own is dynamic.
        layout: axes of the model's input, ``NCHW`` or ``NHWC``, where the graph does not tell.
        crop: share of the image's height and width, in (0, 1], that is cut out of its middle before it is fitted in.
        interpolation: how images are resized: ``linear``, as OTX does it, or a filter of Pillow, such as ``bicubic``.
    """

    mean: Any = option(None, "X[,X,X]", "(x - mean) / scale on the 0-255 scale; one number, or one a channel")
    scale: Any = option(None, "X[,X,X]", "see --input.mean")
    resize_type: ResizeType | None = option(None, "TYPE", f"how images are fitted in: {words(ResizeType)}")
    pad_value: int | None = option(None, "0-255", "grey level of the padding")
    reverse_input_channels: bool | None = option(None, "BOOL", "the network wants BGR")
    size: Any = option(None, "H[,W]", "size of a dynamic input, one number for a square")
    layout: str | None = option(None, "NCHW|NHWC", "axes of the input")
    crop: float | None = option(None, "0-1", "share of the image's sides that a crop of its middle keeps; 1: all")
    interpolation: Interpolation | None = option(
        None, "WORD", f"how images are resized: {words(Interpolation)}; linear is OpenCV's, the others are Pillow's"
    )

    def __post_init__(self) -> None:
        read_words(self, resize_type=ResizeType, interpolation=Interpolation)
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ConfigError(f"--input.crop is {self.crop}; expected a share from more than 0 to 1, such as 0.875.")


def parse_numbers(value: object) -> tuple[float, ...] | None:
    """Finite numbers in ``value``: a number, a sequence, or text with commas or spaces between; else ``None``.

    >>> parse_numbers("123.7, 116.3 103.5"), parse_numbers(127), parse_numbers([1, "2"]), parse_numbers("a")
    ((123.7, 116.3, 103.5), (127.0,), (1.0, 2.0), None)
    """
    parts = value if isinstance(value, list | tuple) else str(value).strip("[]() ").replace(",", " ").split()
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None
