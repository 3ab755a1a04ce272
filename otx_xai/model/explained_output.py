"""Which of several outputs the ``saliency_map`` of a model explains: written where it is inserted, and read again."""

from __future__ import annotations

from dataclasses import replace

import openvino as ov

from otx_xai.errors import ConfigError
from otx_xai.graph.rt_info import write, written
from otx_xai.model.model_options import ModelOptions
from otx_xai.records import SALIENCY_MAP, XAI_OUTPUTS

_KEY = ("otx_xai", "explained_output")


def note_explained_output(model: ov.Model, index: int) -> None:
    """Write into a model which output its map explains, where it has several.

    Args:
        model: with a ``saliency_map``; it is changed.
        index: number of the output.
    """
    if sum(not port.get_names() & XAI_OUTPUTS for port in model.outputs) > 1:
        write(model, min(model.outputs[index].get_names(), default=str(index)), _KEY)


def with_explained_output(model: ov.Model, options: ModelOptions) -> ModelOptions:
    """Return the options with the output that the model's own map explains.

    Args:
        model: as it was read.
        options: what the user says of it.

    Raises:
        ConfigError: the user names another output.
    """
    has_map = any(SALIENCY_MAP in port.get_names() for port in model.outputs)
    noted = written(model, *_KEY)
    if not has_map or noted is None:
        return options
    explained = str(noted)
    if options.output is not None and explained not in _names(model, options.output):
        raise ConfigError(
            f"--output is {options.output}, and the {SALIENCY_MAP} in the model explains {explained}. Leave --output "
            "out, or explain the model that has no map of its own yet."
        )
    return replace(options, output=explained)


def _names(model: ov.Model, output: str) -> set[str]:
    """Return all that an output is called; no more than its name where there is none of it."""
    names = ({str(index), *port.get_names()} for index, port in enumerate(model.outputs))
    return next((own for own in names if output in own), {output})
