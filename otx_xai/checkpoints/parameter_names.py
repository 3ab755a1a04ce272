"""Names of parameters: what training scripts put in front of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch

logger = logging.getLogger("otx_xai")

ValueT = TypeVar("ValueT")

_PREFIXES = ("module", "model", "network", "net", "_orig_mod", "online_model")
"""What DataParallel, LightningModules and ``torch.compile`` put in front of every name."""


def tensors_in(state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the values that are tensors, by their names."""
    return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def with_short_names(state: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """Take prefixes off that most names share. What has none beside them is a loss or a metric, and is left out."""
    prefix = _shared_prefix(state)
    if prefix is None:
        return dict(state)
    return with_short_names({name.removeprefix(f"{prefix}."): state[name] for name in state if _is_below(name, prefix)})


def tell_left_out(state: Mapping[str, object]) -> None:
    """Log the names that :func:`with_short_names` leaves out."""
    prefix = _shared_prefix(state)
    if prefix is None:
        return
    others = [name for name in state if not _is_below(name, prefix)]
    if others:
        logger.info("Left out of the checkpoint, not under %s.: %s.", prefix, some(others))
    tell_left_out({name.removeprefix(f"{prefix}."): 0 for name in state if _is_below(name, prefix)})


def _shared_prefix(names: Collection[str]) -> str | None:
    """Return the prefix that most names have, if it is one that training scripts put there."""
    return next((one for one in _PREFIXES if 2 * sum(_is_below(name, one) for name in names) > len(names)), None)


def _is_below(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}.")


def some(names: Sequence[object], limit: int = 5) -> str:
    """Quote a few names and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(str(name)) for name in names[:limit]) + more if names else "none"
