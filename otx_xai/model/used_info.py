"""What a run used of a model, as entries of ``model_info``: a saved model says of itself what was said of it."""

from __future__ import annotations

from math import isclose

import openvino as ov

from otx_xai.graph.input_layout import image_input
from otx_xai.graph.rt_info import label_entries, write
from otx_xai.model.image_input import NONE_GIVEN
from otx_xai.model.model_info import model_info
from otx_xai.records import ModelFacts, Task, parse_numbers

_EMBEDDED = "model_info/embedded_processing"
_NOTHING = "background"
"""Name of the first class of a detector whose classes begin at 1."""


def tell_of_use(model: ov.Model, facts: ModelFacts, box_format: str | None = None) -> None:
    """Write into a model, in place, what its ``model_info`` lacks or has otherwise, in the words of OTX and Model API.

    Options of the user, files beside the model and the data of a run name classes, thresholds, and how images are
    fitted in and normalised: opened alone, the model then is read as in this run. What is not known is not written.
    """
    info = model_info(model)
    entries = {
        **_meaning(facts, box_format),
        **_labels(facts),
        **_fitting(facts, tells_crop="crop" in info),
        **_normalisation(model, facts),
    }
    for key, text in entries.items():
        if not _same(info.get(key), text):
            write(model, text, ["model_info", key])


def _meaning(facts: ModelFacts, box_format: str | None) -> dict[str, str]:
    """What outputs mean."""
    if facts.task.is_classification:
        flavour = {"multilabel": "True"} if facts.task is Task.MULTI_LABEL_CLS else {}
        return {"task_type": "classification", **flavour}
    thresholds = {"confidence_threshold": facts.confidence_threshold, "iou_threshold": facts.iou_threshold}
    named = {} if box_format is None else {"box_format": box_format}
    return {"task_type": str(facts.task), **{key: f"{value:.9g}" for key, value in thresholds.items()}, **named}


def _labels(facts: ModelFacts) -> dict[str, str]:
    source = facts.sources.get("labels", NONE_GIVEN)
    if source.startswith((NONE_GIVEN, "model_info")):
        return {}
    names = [*([_NOTHING] if facts.first_label else []), *facts.labels]
    return label_entries(names, independent=facts.task is Task.MULTI_LABEL_CLS)


def _fitting(facts: ModelFacts, *, tells_crop: bool) -> dict[str, str]:
    geometry = facts.geometry
    return {
        "resize_type": str(geometry.resize_type),
        "pad_value": str(geometry.pad_value),
        **({"crop": f"{geometry.crop:.9g}"} if tells_crop or geometry.crop < 1 else {}),
        "interpolation": str(geometry.interpolation),
    }


def _normalisation(model: ov.Model, facts: ModelFacts) -> dict[str, str]:
    source, kind = facts.sources.get("normalisation", NONE_GIVEN), image_input(model).output(0).element_type
    if source.startswith((NONE_GIVEN, _EMBEDDED)) or kind == ov.Type.u8:
        return {}
    channels = facts.channels
    return {
        "mean_values": _numbers(facts.mean or (0.0,) * channels),
        "scale_values": _numbers(facts.scale or (1.0,) * channels),
        "reverse_input_channels": str(facts.reverse_input_channels),
    }


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _same(written: str | None, text: str) -> bool:
    """Whether what is written already means what is to be written."""
    if written is None:
        return False
    there, wanted = parse_numbers(written), parse_numbers(text)
    if there is None or wanted is None:
        return written.strip().casefold() == text.casefold()
    return len(there) in (1, len(wanted)) and all(
        isclose(a, b, rel_tol=1e-6) for a, b in zip(there * len(wanted), wanted, strict=False)
    )
