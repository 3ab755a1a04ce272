"""A torch checkpoint on disk → tensors by name, and the model's own description where there is one.

Checkpoints come from strangers. Nothing in them is ever executed: the only loaders are ``torch.load`` with
``weights_only=True`` and safetensors.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from otx_xai.errors import CheckpointError

logger = logging.getLogger("otx_xai")

DESCRIPTION = "otx_xai"
"""Key under which our own checkpoints say what they are."""

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")

_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "weights",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
"""Keys under which training scripts put the state dict, in the order of preference."""

_PREFIXES = ("module", "model", "network", "net", "_orig_mod")
"""What DataParallel, LightningModules and ``torch.compile`` put in front of every name."""

_LFS_POINTER = b"version https://git-lfs"
_MAGIC = (b"PK\x03\x04", b"\x80\x02")
"""How files of ``torch.save`` begin: a zip archive, or (until torch 1.5) a pickle of protocol 2."""

_GLOBAL = re.compile(r"(?:GLOBAL|class) ([\w.]+)")
_HOW_TO_SAVE = "torch.save(model.state_dict(), 'model.pth')"


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Args:
        state: tensors by parameter name, on the CPU; wrappers and prefixes are taken off.
        description: what :meth:`~otx_xai.models.base.OTXModel.description` said when it was saved; ``None`` in
            checkpoints of others.
    """

    state: dict[str, torch.Tensor]
    description: dict[str, Any] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor by its name."""
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}


def read_checkpoint(path: str | Path) -> Contents:
    """Read a ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file without running anything in it.

    Args:
        path: one of ours, a plain state dict, or one in a wrapper such as ``{"state_dict": …}``, ``{"model": …}``; a
            Lightning checkpoint is such a wrapper. Names may have prefixes such as ``module.`` or ``model.``.

    Raises:
        CheckpointError: the file is missing, empty, broken, of another kind, or wants more than tensors and plain
            values.
    """
    path = Path(path).expanduser()
    _check_file(path)
    loaded = _load_safetensors(path) if path.suffix.lower() == ".safetensors" else _load(path)
    if isinstance(loaded, Mapping) and DESCRIPTION in loaded:
        return _own(path, loaded)
    return Contents(_without_prefixes(_unwrapped(path, loaded)))


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
    """Load what torch allows without running anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about old files, which is not for the user to solve
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refused_text(path, str(error))) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"The checkpoint {path} is a TorchScript archive, which carries code. Expected a state dict. Save one "
                f"from the model itself: {_HOW_TO_SAVE}."
            ) from error
        raise CheckpointError(_broken_text(path, error)) from error
    except (EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
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
        f"comes from, load it there and save the state dict alone: {_HOW_TO_SAVE}."
    )


def _broken_text(path: Path, error: Exception) -> str:
    reason = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".") or type(error).__name__
    return (
        f"The checkpoint {path} cannot be read: {reason}. The file is broken or incomplete; expected a state dict of "
        f"torch.save. Copy it again, or save it again: {_HOW_TO_SAVE}."
    )


# --------------------------------------------------------------------------------------------------------------------
# Contents
# --------------------------------------------------------------------------------------------------------------------


def _own(path: Path, loaded: Mapping[str, Any]) -> Contents:
    """Take one of our own checkpoints apart."""
    description, state = loaded[DESCRIPTION], loaded.get("state_dict")
    if not isinstance(description, dict) or not isinstance(state, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} has the key {DESCRIPTION!r} but no description and state_dict behind it. Expected "
            "a checkpoint that otx_xai wrote. Train or save the model again."
        )
    return Contents(_tensors(state), dict(description))


def _unwrapped(path: Path, loaded: Any) -> dict[str, torch.Tensor]:
    """Find the state dict in what a training script saved."""
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} holds a {type(loaded).__name__}; expected a state dict, which maps names to "
            f"tensors: {_HOW_TO_SAVE}."
        )
    state = _inner_state(loaded)
    if not state:
        raise CheckpointError(
            f"The checkpoint {path} holds no tensors; its keys are {_some(list(loaded))}. Expected a state dict, or "
            f"one under {', '.join(map(repr, _WRAPPERS[:4]))}: {_HOW_TO_SAVE}."
        )
    return state


def _inner_state(loaded: Mapping[Any, Any], depth: int = 3) -> dict[str, torch.Tensor]:
    """Return the tensors in the first wrapper that has some, else those right here. A dict may contain itself."""
    inner = (loaded.get(key) for key in _WRAPPERS) if depth else ()
    states = (_inner_state(value, depth - 1) for value in inner if isinstance(value, Mapping))
    return next((state for state in states if state), None) or _tensors(loaded)


def _tensors(state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _without_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take prefixes off that most names share. What has none beside them is a loss or a metric, and is left out."""
    for prefix in _PREFIXES:
        inner = {name.removeprefix(f"{prefix}."): tensor for name, tensor in state.items() if _is_below(name, prefix)}
        if 2 * len(inner) > len(state):
            others = [name for name in state if not _is_below(name, prefix)]
            if others:
                logger.info("Left out of the checkpoint, not under %s.: %s.", prefix, _some(others))
            return _without_prefixes(inner)
    return state


def _is_below(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}.")


def _some(names: list[Any], limit: int = 5) -> str:
    """Quote a few names and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(str(name)) for name in names[:limit]) + more if names else "none"
