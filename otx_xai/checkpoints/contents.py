"""A torch checkpoint on disk → tensors by name, and the model's own description where there is one.

Checkpoints come from strangers. Nothing in them is ever executed: the only loaders are ``torch.load`` with
``weights_only=True`` and safetensors.
"""

from __future__ import annotations

import logging
import pickle
import re
import struct
import warnings
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from otx_xai.checkpoints.averages import choose_weights
from otx_xai.checkpoints.kept_weights import Kept
from otx_xai.checkpoints.parameter_names import some
from otx_xai.errors import CheckpointError
from otx_xai.records import Weights

logger = logging.getLogger("otx_xai")

DESCRIPTION = "otx_xai"
"""Key under which our own checkpoints say what they are."""

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")

_LFS_POINTER = b"version https://git-lfs"
_MAGIC = (b"PK\x03\x04", b"\x80\x02")
"""How files of ``torch.save`` begin: a zip archive, or (until torch 1.5) a pickle of protocol 2."""

_BROKEN = (
    *(EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error),
    MemoryError,  # of a length that is none
)
"""What torch raises for broken files, beside RuntimeError."""

_GLOBAL = re.compile(r"(?:GLOBAL|class) ([\w.]+)")
_HOW_TO_SAVE = "torch.save(model.state_dict(), 'model.pth')"
_HOW_TO_CONVERT = (
    "openvino.save_model(openvino.convert_model(torch.jit.load(path), input=[1, 3, height, width]), 'model.xml')"
)
_ULTRALYTICS = ("ultralytics.", "models.yolo", "models.common")
"""Modules that pickles of Ultralytics name, those of YOLOv5 too."""


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Args:
        state: tensors by parameter name, on the CPU; wrappers and prefixes are taken off.
        description: what :meth:`~otx_xai.models.base.OTXModel.description` said when it was saved; ``None`` in
            checkpoints of others.
        stored: the same tensors by their names in the file, with what else lies beside them.
        arguments: what a Lightning checkpoint says that the module was made with (``hyper_parameters``).
        weights: whether these are averaged over training, or of the last step.
    """

    state: dict[str, torch.Tensor]
    description: dict[str, Any] | None = None
    stored: dict[str, torch.Tensor] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights = Weights.RAW

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor by its name."""
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}


def read_checkpoint(path: str | Path, weights: Weights | None = None) -> Contents:
    """Read a ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file without running anything in it.

    Args:
        path: one of ours, a plain state dict, or one in a wrapper such as ``{"state_dict": …}``, ``{"model": …}``; a
            Lightning checkpoint is such a wrapper. Names may have prefixes such as ``module.`` or ``model.``.
        weights: averaged over training (EMA), or of the last step; ``None``: averaged ones where there are any.

    Raises:
        ConfigError: there are no weights of the wanted kind.
        CheckpointError: the file is missing, empty, broken, of another kind, or wants more than tensors and plain
            values.
    """
    path = Path(path).expanduser()
    _check_file(path)
    loaded = _load_safetensors(path) if path.suffix.lower() == ".safetensors" else _load(path)
    if isinstance(loaded, Mapping) and DESCRIPTION in loaded:
        return _own(path, loaded, weights)
    kept = _chosen(path, loaded, weights)
    return Contents(kept.state, None, kept.stored, _arguments(loaded), kept.kind)


# --------------------------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    """Raise ``CheckpointError`` unless the file exists and begins like a checkpoint."""
    if path.is_dir():
        raise CheckpointError(f"The checkpoint {path} is a folder; expected a torch checkpoint. Name the file in it.")
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {path} does not exist; expected a torch checkpoint.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be opened: {error.strerror}; expected one that can be read. Check its mode."
        ) from error
    if not head:
        raise CheckpointError(f"The checkpoint {path} is empty; expected a state dict. Copy or save it again.")
    if head.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"The checkpoint {path} is a Git LFS pointer, not the checkpoint. Run `git lfs pull` to fetch it."
        )
    if path.suffix.lower() != ".safetensors" and not head.startswith(_MAGIC):
        raise CheckpointError(
            f"The checkpoint {path} is no torch checkpoint: it begins with {head[:12]!r}. Expected a file of "
            f"torch.save. Save the state dict again: {_HOW_TO_SAVE}."
        )


def _load(path: Path) -> Any:
    """Load what torch allows without running anything, and the options of scripts, which are plain values too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about old files, which is not for the user to solve
            torch.serialization.add_safe_globals([Namespace])
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refused_text(path, str(error))) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"The checkpoint {path} is a TorchScript archive, which carries code. Expected a state dict. Save one "
                f"from the model itself: {_HOW_TO_SAVE}; or, where you trust the file, convert it and pass the .xml: "
                f"{_HOW_TO_CONVERT}."
            ) from error
        raise CheckpointError(_broken_text(path, error)) from error
    except _BROKEN as error:
        raise CheckpointError(_broken_text(path, error)) from error


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f"The checkpoint {path} is of safetensors, which is not installed. Run: pip install safetensors"
        ) from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise CheckpointError(_broken_text(path, error)) from error


def _refused_text(path: Path, reason: str) -> str:
    """One paragraph on a pickle that torch refused to load. Torch's own advice, to trust the file, is left out."""
    wanted = _GLOBAL.search(reason)
    if wanted is None:
        return (
            f"The checkpoint {path} is a pickle that holds more than tensors and plain values, or it is broken; "
            f"nothing in it was run. Expected a state dict: {_HOW_TO_SAVE}."
        )
    return (
        f"The checkpoint {path} wants to run {wanted.group(1)} when it is loaded, which is refused: a pickle can run "
        f"anything, and nothing in this one was run. Expected a state dict of tensors. If you trust where the file "
        f"comes from, {_way_out(path, wanted.group(1))}."
    )


def _way_out(path: Path, wanted: str) -> str:
    """Say what to do with a pickle: those of Ultralytics are of no use as state dicts."""
    if wanted.startswith(_ULTRALYTICS):
        return f"export it, and pass what that writes: yolo export model={path} format=openvino (or onnx)"
    return f"load it there and save the state dict alone: {_HOW_TO_SAVE}"


def _broken_text(path: Path, error: Exception) -> str:
    reason = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".") or type(error).__name__
    return (
        f"The checkpoint {path} cannot be read: {reason}. The file is broken or incomplete; expected a state dict of "
        f"torch.save. Copy it again, or save it again: {_HOW_TO_SAVE}."
    )


# --------------------------------------------------------------------------------------------------------------------
# Contents
# --------------------------------------------------------------------------------------------------------------------


def _own(path: Path, loaded: Mapping[str, Any], weights: Weights | None) -> Contents:
    """Take one of our own checkpoints apart."""
    description, state = loaded[DESCRIPTION], loaded.get("state_dict")
    if not isinstance(description, dict) or not isinstance(state, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} has the key {DESCRIPTION!r} but no description and state_dict behind it. Expected "
            "a checkpoint that otx_xai wrote. Train or save the model again."
        )
    kept = _chosen(path, {key: value for key, value in loaded.items() if key != DESCRIPTION}, weights)
    return Contents(kept.stored, dict(description), kept.stored, weights=kept.kind)


def _chosen(path: Path, loaded: Any, weights: Weights | None) -> Kept:
    """Find the weights in what a training script saved."""
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} holds a {type(loaded).__name__}; expected a state dict, which maps names to "
            f"tensors: {_HOW_TO_SAVE}."
        )
    kept = choose_weights(path, loaded, weights)
    if kept is None:
        raise CheckpointError(
            f"The checkpoint {path} holds no tensors; its keys are {some(list(loaded))}. Expected a state dict, or "
            f"one under 'state_dict' or 'model': {_HOW_TO_SAVE}."
        )
    return kept


def _arguments(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Lightning's ``save_hyperparameters`` kept; as one argument where the module took it as one."""
    arguments, name = loaded.get("hyper_parameters"), loaded.get("hparams_name")
    if not isinstance(arguments, Mapping):
        return {}
    return {str(key): value for key, value in arguments.items()} if name in (None, "kwargs") else {name: arguments}
