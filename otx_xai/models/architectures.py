"""Names of architectures, and the functions that build them: torchvision's, timm's where installed, and slim ones.

A network has the same layers whether its weights are published ones or random, so that a checkpoint fits a network
that was built without downloading anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import detection

from otx_xai.errors import ConfigError, ModelError
from otx_xai.models import box_models as boxes
from otx_xai.models import slim
from otx_xai.models.slim_classifier import conv_slim, resnet_slim
from otx_xai.records import Size, Task

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_SCALE = (58.395, 57.12, 57.375)
TIMM_PREFIX = "timm/"

_INPUT_SIDE = 224
_BYTE = 255.0


@dataclass(frozen=True)
class InputDefaults:
    """What the published weights of an architecture expect.

    Args:
        size: ``(height, width)`` in pixels.
        mean: three numbers, subtracted on the 0-255 scale.
        scale: three numbers to divide by.
    """

    size: Size
    mean: tuple[float, ...] = IMAGENET_MEAN
    scale: tuple[float, ...] = IMAGENET_SCALE


_HALF = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class _BoxArchitecture:
    """A detector or instance segmenter.

    Args:
        build: takes ``num_classes``, which includes the background if there is one.
        defaults: what its published weights expect.
        background: number of background classes, 0 or 1.
        is_slim: whether it is one of :mod:`otx_xai.models.slim`.
        body: torchvision's name of what a slim one stands on, which has published weights; empty where none has.
    """

    build: Callable[..., nn.Module]
    defaults: InputDefaults
    background: int = 1
    is_slim: bool = False
    body: str = "resnet18"


_SLIM_INPUT = InputDefaults((128, 128))
_LARGE_INPUT = InputDefaults((800, 800))
_SSD300_INPUT = InputDefaults(
    (300, 300), mean=(0.48235 * _BYTE, 0.45882 * _BYTE, 0.40784 * _BYTE), scale=(1.0, 1.0, 1.0)
)

_DETECTORS: dict[str, _BoxArchitecture] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": _BoxArchitecture(
        detection.fasterrcnn_mobilenet_v3_large_320_fpn, InputDefaults((320, 320))
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": _BoxArchitecture(detection.fasterrcnn_mobilenet_v3_large_fpn, _LARGE_INPUT),
    "fasterrcnn_resnet18": _BoxArchitecture(slim.fasterrcnn_resnet18, _SLIM_INPUT, is_slim=True),
    "fasterrcnn_resnet50_fpn": _BoxArchitecture(detection.fasterrcnn_resnet50_fpn, _LARGE_INPUT),
    "fasterrcnn_resnet50_fpn_v2": _BoxArchitecture(detection.fasterrcnn_resnet50_fpn_v2, _LARGE_INPUT),
    "fcos_resnet18": _BoxArchitecture(slim.fcos_resnet18, _SLIM_INPUT, background=0, is_slim=True),
    "fcos_slim": _BoxArchitecture(slim.fcos_slim, _SLIM_INPUT, background=0, is_slim=True, body=""),
    "fcos_resnet50_fpn": _BoxArchitecture(detection.fcos_resnet50_fpn, _LARGE_INPUT, background=0),
    "retinanet_resnet18": _BoxArchitecture(slim.retinanet_resnet18, _SLIM_INPUT, background=0, is_slim=True),
    "retinanet_resnet50_fpn": _BoxArchitecture(detection.retinanet_resnet50_fpn, _LARGE_INPUT, background=0),
    "retinanet_resnet50_fpn_v2": _BoxArchitecture(detection.retinanet_resnet50_fpn_v2, _LARGE_INPUT, background=0),
    "ssd300_vgg16": _BoxArchitecture(detection.ssd300_vgg16, _SSD300_INPUT),
    "ssdlite320_mobilenet_v3_large": _BoxArchitecture(
        detection.ssdlite320_mobilenet_v3_large, InputDefaults((320, 320), _HALF, _HALF)
    ),
    "ssdlite_slim": _BoxArchitecture(slim.ssdlite_slim, _SLIM_INPUT, is_slim=True),
}
_INSTANCE_SEGMENTERS: dict[str, _BoxArchitecture] = {
    "maskrcnn_resnet18": _BoxArchitecture(slim.maskrcnn_resnet18, _SLIM_INPUT, is_slim=True),
    "maskrcnn_resnet50_fpn": _BoxArchitecture(detection.maskrcnn_resnet50_fpn, _LARGE_INPUT),
    "maskrcnn_slim": _BoxArchitecture(slim.maskrcnn_slim, _SLIM_INPUT, is_slim=True, body=""),
    "maskrcnn_resnet50_fpn_v2": _BoxArchitecture(detection.maskrcnn_resnet50_fpn_v2, _LARGE_INPUT),
}
_SMALLEST_SSD300 = 300
_SLIM_CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {"conv_slim": conv_slim, "resnet_slim": resnet_slim}
_SLIM_CLASSIFIER_INPUT = InputDefaults((64, 64))


def architectures(task: Task) -> tuple[str, ...]:
    """Return the names of torchvision's and the slim architectures for a task, sorted.

    For classification, ``timm/<name>`` of every architecture of timm exists besides, where timm is installed.
    """
    return _classifiers() if task.is_classification else tuple(sorted(_box_architectures(task)))


def input_defaults(task: Task, architecture: str) -> InputDefaults:
    """Return what the published weights of an architecture expect; nothing is downloaded.

    Raises:
        ConfigError: the architecture is unknown, or is one of timm's and timm is not installed.
    """
    if not task.is_classification:
        _require_known(task, architecture)
        return _box_architectures(task)[architecture].defaults
    if architecture.startswith(TIMM_PREFIX):
        return _timm_defaults(_timm_name(architecture))
    _require_known(task, architecture)
    if architecture in _SLIM_CLASSIFIERS:
        return _SLIM_CLASSIFIER_INPUT
    weights = torchvision.models.get_model_weights(architecture)
    preset = weights.DEFAULT.transforms() if len(weights) else None
    side = preset.crop_size[0] if preset else _INPUT_SIDE
    if architecture in ("googlenet", "inception_v3"):  # their published weights come from TensorFlow
        return InputDefaults((side, side), _HALF, _HALF)
    return InputDefaults((side, side))


def build_network(
    task: Task,
    architecture: str,
    *,
    num_classes: int,
    size: Size,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a network.

    Args:
        task: what it does.
        architecture: its name.
        num_classes: number of the user's classes; a background class that the network needs comes on top.
        size: ``(height, width)`` of its input, which some architectures must know.
        pretrained: load published weights where they fit; for the slim detectors ImageNet's in the backbone.
        options: further keyword arguments of the builder.

    Returns:
        The network, in training mode: normalised ``float32`` ``(N, 3, H, W)`` to logits ``(N, K)`` for
        classification; else one of torchvision's detectors with :class:`otx_xai.models.box_models.AsGiven` inside.

    Raises:
        ConfigError: the architecture is unknown, cannot take the size, or does not know an option.
        ModelError: published weights do not exist, or cannot be fetched.
    """
    _require_known(task, architecture)
    options = dict(options or {})
    try:
        if architecture.startswith(TIMM_PREFIX):
            return _build_timm(_timm_name(architecture), num_classes, size, pretrained, options)
        if task.is_classification:
            return _build_classifier(architecture, num_classes, size, pretrained, options)
        return _build_detector(task, architecture, num_classes, size, pretrained, options)
    except TypeError as error:
        if not options:
            raise
        raise ConfigError(
            f"network_options {options} do not fit {architecture}: {error}. Expected keyword arguments of its builder; "
            "correct or remove them."
        ) from error


def load_matching(network: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Load the weights that have the name and shape of the network's own.

    Args:
        network: changed in place.
        state_dict: name → weight.

    Returns:
        The network's names that got nothing, counters of batches aside.
    """
    own = network.state_dict()
    fitting = {name: weight for name, weight in state_dict.items() if name in own and own[name].shape == weight.shape}
    network.load_state_dict(fitting, strict=False)
    return tuple(name for name in own if name not in fitting and not name.endswith("num_batches_tracked"))


# --------------------------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _classifiers() -> tuple[str, ...]:
    return tuple(sorted([*torchvision.models.list_models(module=torchvision.models), *_SLIM_CLASSIFIERS]))


def classifier_family(name: str) -> str:
    """Return the module that builds a classifier, ours or torchvision's: those of one module are of one family.

    Args:
        name: one of :func:`architectures` of classification, not one of timm's.
    """
    builder = _SLIM_CLASSIFIERS.get(name) or torchvision.models.get_model_builder(name)
    return str(builder.__module__)


def _box_architectures(task: Task) -> dict[str, _BoxArchitecture]:
    return _INSTANCE_SEGMENTERS if task is Task.INSTANCE_SEGMENTATION else _DETECTORS


def _require_known(task: Task, architecture: str) -> None:
    if task.is_classification and architecture.startswith(TIMM_PREFIX):
        _timm_name(architecture)
        return
    known = architectures(task)
    if architecture in known:
        return
    raise ConfigError(
        f"{architecture!r} is no architecture for {task}. {_suggestion(architecture, known)} Expected "
        + (
            "the name of a torchvision classifier, or timm/ and the name of one of timm's."
            if task.is_classification
            else f"one of {', '.join(known)}."
        )
    )


def _suggestion(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else "No known name is similar."


# --------------------------------------------------------------------------------------------------------------------
# timm
# --------------------------------------------------------------------------------------------------------------------


def _timm_name(architecture: str) -> str:
    """Return the name that timm knows, which may end in the tag of published weights."""
    if find_spec("timm") is None:
        raise ConfigError(
            f"The architecture {architecture!r} is one of timm's, and timm is not installed. Run: pip install timm"
        )
    import timm

    name = architecture.removeprefix(TIMM_PREFIX)
    known = timm.list_models()
    if name.split(".")[0] not in known:
        suggestion = (
            _suggestion(name, known).replace("mean ", f"mean {TIMM_PREFIX}").replace("or ", f"or {TIMM_PREFIX}")
        )
        raise ConfigError(f"timm {timm.__version__} has no architecture {name!r}. {suggestion}")
    return name


def _timm_defaults(name: str) -> InputDefaults:
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None:
        return InputDefaults((_INPUT_SIDE, _INPUT_SIDE))
    return InputDefaults(
        size=(cfg.input_size[1], cfg.input_size[2]),
        mean=tuple(value * _BYTE for value in cfg.mean),
        scale=tuple(value * _BYTE for value in cfg.std),
    )


def _build_timm(name: str, num_classes: int, size: Size, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        options.setdefault("img_size", size)
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
    except OSError as error:
        if not pretrained:
            raise
        raise ModelError(_unfetched_text(TIMM_PREFIX + name, error)) from error


# --------------------------------------------------------------------------------------------------------------------
# torchvision
# --------------------------------------------------------------------------------------------------------------------


def _build_classifier(
    architecture: str, num_classes: int, size: Size, pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    if architecture in _SLIM_CLASSIFIERS:
        if pretrained:
            raise ModelError(_unpublished_text(architecture))
        return _SLIM_CLASSIFIERS[architecture](num_classes, **options)
    for name, value in _classifier_options(architecture, size).items():
        options.setdefault(name, value)
    network = torchvision.models.get_model(architecture, weights=None, num_classes=num_classes, **options)
    if pretrained:
        weights = _published(architecture, torchvision.models.get_model_weights(architecture))
        load_matching(network, _fitted_to_size(architecture, weights, size))
    return network


def _classifier_options(architecture: str, size: Size) -> dict[str, Any]:
    """Return what a builder must be told: the size where it is fixed, and to leave out heads that only train."""
    if architecture.startswith("vit_"):
        if size[0] != size[1]:
            raise ConfigError(f"input_size is {size}, and {architecture} takes squares only; give one number for both.")
        return {"image_size": size[0]}
    if architecture.startswith("maxvit_"):
        return {"input_size": size}
    if architecture == "googlenet":
        return {"aux_logits": False, "init_weights": True, "transform_input": False}
    if architecture == "inception_v3":
        return {"aux_logits": False, "init_weights": True, "transform_input": False}
    return {}


def _fitted_to_size(architecture: str, weights: Mapping[str, Any], size: Size) -> Mapping[str, Any]:
    """Return the weights with position embeddings for the size."""
    if not architecture.startswith("vit_"):
        return weights
    from torchvision.models.vision_transformer import interpolate_embeddings

    patch = int(weights["conv_proj.weight"].shape[-1])
    fitted: Mapping[str, Any] = interpolate_embeddings(size[0], patch, dict(weights))
    return fitted


def _build_detector(
    task: Task, architecture: str, num_classes: int, size: Size, pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    if architecture == "ssd300_vgg16" and min(size) < _SMALLEST_SSD300:
        raise ConfigError(
            f"input_size is {size}, and ssd300_vgg16 needs at least {_SMALLEST_SSD300} pixels a side; "
            "give a larger one, or take ssdlite_slim."
        )
    entry = _box_architectures(task)[architecture]
    if not entry.is_slim:
        options = {"weights": None, "weights_backbone": None, **options}
    network = entry.build(num_classes=num_classes + entry.background, **options)
    network.transform = boxes.AsGiven()
    if pretrained and entry.is_slim:
        if not entry.body:
            raise ModelError(_unpublished_text(architecture))
        load_matching(network.backbone.body, _published(entry.body, torchvision.models.get_model_weights(entry.body)))
    elif pretrained:
        load_matching(network, _published(architecture, torchvision.models.get_model_weights(architecture)))
    return network


def _published(architecture: str, weights: Any) -> Mapping[str, Any]:
    """Fetch the published weights of an architecture, or take them from torch's cache."""
    if not len(weights):
        raise ModelError(_unpublished_text(architecture))
    try:
        fetched: Mapping[str, Any] = weights.DEFAULT.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ModelError(_unfetched_text(architecture, error)) from error
    return fetched


def _unpublished_text(architecture: str) -> str:
    return f"There are no published weights of {architecture}. Set pretrained to false."


def _unfetched_text(architecture: str, error: OSError) -> str:
    return (
        f"The published weights of {architecture} cannot be fetched: {error}. Expected a connection, or the file in "
        "the cache of torch or Hugging Face; put it there, or set pretrained to false."
    )
