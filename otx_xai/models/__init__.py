"""Models of the three tasks, thin LightningModules over torchvision and timm. Importing it loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otx_xai.errors import ConfigError, ModelError
from otx_xai.models.base import DESCRIPTION_FORMAT, DESCRIPTION_KEY, OTXModel
from otx_xai.models.classifiers import MulticlassClassifier, MultilabelClassifier
from otx_xai.models.detectors import Detector
from otx_xai.models.instance_segmenters import InstanceSegmenter

MODEL_CLASSES: dict[str, type[OTXModel]] = {
    "MulticlassClassifier": MulticlassClassifier,
    "MultilabelClassifier": MultilabelClassifier,
    "Detector": Detector,
    "InstanceSegmenter": InstanceSegmenter,
}
"""Name in recipes and checkpoints → class."""

__all__ = [
    "DESCRIPTION_KEY",
    "MODEL_CLASSES",
    "Detector",
    "InstanceSegmenter",
    "MulticlassClassifier",
    "MultilabelClassifier",
    "OTXModel",
    "build_model",
]


def build_model(description: Mapping[str, Any]) -> OTXModel:
    """Build a model from its description, as :meth:`OTXModel.description` gives it. Its weights are random.

    Args:
        description: ``class``, a name in :data:`MODEL_CLASSES`; ``init``, the keyword arguments of its constructor; and
            ``format``, which is 1 where it is missing. It may come from an untrusted file: nothing else is looked up.

    Returns:
        The model, in training mode.

    Raises:
        ModelError: the description is malformed, of a later format, or names no model class.
        ConfigError: an argument has a wrong name or value.
        LabelError: there are no labels, or one is empty.
    """
    if description.get("format", DESCRIPTION_FORMAT) != DESCRIPTION_FORMAT:
        raise ModelError(
            f"The model's description has format {description['format']!r}; this version reads {DESCRIPTION_FORMAT}. "
            "Update otx-xai."
        )
    name, init = description.get("class"), description.get("init")
    if not isinstance(name, str) or name not in MODEL_CLASSES or not isinstance(init, Mapping):
        raise ModelError(
            f"The model's description names class {name!r}; expected one of {', '.join(MODEL_CLASSES)}, and its "
            "arguments under init."
        )
    try:
        return MODEL_CLASSES[name](**init)
    except TypeError as error:
        raise ConfigError(
            f"The arguments of {name} do not fit: {error}. Expected those of its constructor; correct the recipe."
        ) from error
