"""Enumerations: the words that users can say."""

from __future__ import annotations

from otx_xai.options import Word


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


class Precision(Word):
    """The numbers that a network is computed with; auto: fewer bits where they show in no map, and are faster."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"
    AUTO = "auto"


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


class Decode(Word):
    """How images are decoded."""

    EXACT = "exact"
    FAST = "fast"
    """JPEGs at a half, a quarter or an eighth of their size, where network and pictures need no more."""


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


class Colormap(Word):
    """Colours of a map, from its lowest value to its highest. All but jet are smooth: no edge that the map has not."""

    TURBO = "turbo"
    INFERNO = "inferno"
    MAGMA = "magma"
    VIRIDIS = "viridis"
    CIVIDIS = "cividis"
    JET = "jet"


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


class Pack(Word):
    """How the files of many images are put into one."""

    TAR = "tar"


class ImageFormat(Word):
    """File format of dumped pictures: PNG is exact, JPEG small and fast."""

    PNG = "png"
    JPG = "jpg"
