"""Everything that is said of a model in its file and beside it, as one record."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import openvino as ov

from otx_xai.neighbours.hints import Hints, merged
from otx_xai.neighbours.hugging_face import from_config_files
from otx_xai.neighbours.tflite_metadata import from_tflite
from otx_xai.neighbours.ultralytics import from_metadata_file, from_model_metadata


def read_hints(source: Path | None, model: ov.Model) -> Hints:
    """Say what exporters wrote about a model: into its file first, then beside it.

    Args:
        source: the model's file, or the folder it lies in; ``None`` of a model in memory.
        model: as it was read.

    Returns:
        What is said; empty where nobody says anything.

    Raises:
        ModelError: a file beside the model is broken.
    """
    told = [from_model_metadata(model)]
    if source is not None:
        file = source / "model" if source.is_dir() else source
        told += [from_tflite(file, model)] if _is_tflite(file) else []
        told += [from_metadata_file(file, model), from_config_files(file.absolute().parent, model)]
    return reduce(merged, told)


def _is_tflite(file: Path) -> bool:
    return file.suffix.lower() == ".tflite" and file.is_file()
