"""A model in an object store: fetched with the files that belong to it."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from otx_xai.counting import counted
from otx_xai.errors import ModelError
from otx_xai.model.model_files import TORCH_SUFFIXES, external_weights
from otx_xai.neighbours.small_files import MAX_BYTES
from otx_xai.storage import Url
from otx_xai.storage.fetching import fetch_folder
from otx_xai.storage.objects import Entry, look, objects_in

logger = logging.getLogger("otx_xai")

_MODEL_SUFFIXES = (".xml", ".onnx", ".tflite", *TORCH_SUFFIXES)
_TOLD_SUFFIXES = (".json", ".yaml", ".yml", ".txt")
"""What exporters write about a model, beside it."""
_INNER_FOLDERS = ("openvino", "onnx")
"""Where Optimum puts the model that OpenVINO reads, beside the weights of another framework."""


def fetch_model(url: Url) -> Path:
    """Fetch a model: its file, its weights, and the small files beside it that may tell about it.

    Args:
        url: the file, or a folder with one model.

    Returns:
        The file, or the folder, on this machine.

    Raises:
        ModelError: it is missing, or cannot be fetched.
    """
    try:
        if url.suffix.lower() in _MODEL_SUFFIXES:
            return _fetch_file(url)
        return _fetch_all(url)
    except OSError as error:
        raise ModelError(
            f"The checkpoint {url} cannot be fetched: {error.strerror}. Check its name, and the rights to it."
        ) from error


def _fetch_file(url: Url) -> Path:
    """Fetch one model; the weights of ONNX models, which they name, once the model is here."""
    folder, beside = url.parent, objects_in(url.parent)
    if url.name not in beside:
        raise ModelError(f"The checkpoint {url} does not exist; expected a model file.")
    weights = PurePosixPath(url.name).with_suffix(".bin").name if url.suffix.lower() == ".xml" else ""
    wanted = {name: entry for name, entry in beside.items() if name in (url.name, weights) or _tells(name, entry)}
    here = fetch_folder(folder, wanted)
    if url.suffix.lower() == ".onnx" and (outside := external_weights(here / url.name)):
        names = [file.relative_to(here).as_posix() for file in outside if file.is_relative_to(here)]
        found = {name: look(folder / name) for name in names if ".." not in name.split("/")}
        here = fetch_folder(folder, wanted | {name: entry for name, entry in found.items() if entry is not None})
    return here / url.name


def _fetch_all(url: Url) -> Path:
    found = objects_in(url)
    for inner in _INNER_FOLDERS:
        found |= {f"{inner}/{name}": entry for name, entry in objects_in(url / inner).items()}
    if not found:
        raise ModelError(f"The checkpoint {url} does not exist; expected a model file, or a folder with one.")
    size = sum(entry.size for entry in found.values()) / 1e6
    logger.info("Fetching %s: %s, %.0f MB.", url, counted(len(found), "file"), size)
    return fetch_folder(url, found)


def _tells(name: str, entry: Entry) -> bool:
    return PurePosixPath(name).suffix.lower() in _TOLD_SUFFIXES and entry.size <= MAX_BYTES
