"""Which weights a checkpoint holds: those of the last step, and those that the trainer averaged over training.

Averaged weights (EMA, SWA) are what the trainer validated, so they count where there are any.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from otx_xai.checkpoints.kept_weights import Kept, State
from otx_xai.checkpoints.parameter_names import some, tell_left_out, tensors_in, with_short_names
from otx_xai.checkpoints.twins import twins_by_key, twins_in
from otx_xai.errors import CheckpointError, ConfigError
from otx_xai.records import Weights

logger = logging.getLogger("otx_xai")

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params", "module")
"""Keys under which training scripts put the state dict, in the order of preference."""

_AVERAGES = (
    *(f"{name}_ema" for name in _WRAPPERS),
    *(f"ema_{name}" for name in _WRAPPERS),
    *(f"swa_{name}" for name in _WRAPPERS),
    *("ema", "model_ema_state_dict", "average_model_state", "averaged_model"),
)
"""Keys under which they put the averaged one."""

_PARTS = (
    *(f"{name}_ema." for name in ("model", "net", "network", "module")),
    *(f"ema_{name}." for name in ("model", "net", "network", "module")),
    *("averaged_model.", "swa_model.", "ema."),
)
"""What the names of averaged weights begin with that lie among the others, as a part of the module."""

_LISTS = ("shadow_params", "ema_weights")
"""Averages without names, in the order of the module's parameters."""

_COUNTERS = ("n_averaged", "num_updates", "updates", "optimization_step")
"""How many steps an average is of; 0: it still is what training began with."""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def choose_weights(path: object, loaded: Mapping[Any, Any], wanted: Weights | None) -> Kept | None:
    """Find the weights in what a training script saved.

    Args:
        path: the file, for messages.
        loaded: what it holds.
        wanted: averaged or last ones; ``None``: the averaged ones where there are any.

    Returns:
        Those that count; ``None`` where there are no tensors. The log tells which, where there was a choice.

    Raises:
        ConfigError: there are none of the wanted kind.
        CheckpointError: averaged ones have no names, and do not fit the others.
    """
    kept = _kept(path, loaded, wanted)
    if not kept:
        return None
    chosen = next((one for one in kept if one.kind is wanted), None) if wanted else kept[0]
    if chosen is None:
        raise ConfigError(
            f"--weights is {wanted}, and the checkpoint {path} holds no such weights. It holds: {_listed(kept)}. Leave "
            "--weights away."
        )
    if len(kept) > 1 or chosen.kind is Weights.EMA:
        others = [one for one in kept if one is not chosen]
        rest = f" --weights {others[0].kind} takes: {_listed(others)}." if others else ""
        logger.info("Weights of %s: %s.%s", path, _listed([chosen]), rest)
    tell_left_out(chosen.stored)
    alike = _alike(loaded, chosen)
    if alike:
        logger.warning("%s also holds weights of these names under %s, which are not used.", path, alike)
    return chosen


def _alike(loaded: Mapping[Any, Any], chosen: Kept) -> str:
    """Name the keys of other weights for the same network, of which nothing tells what they are."""
    told = {*_AVERAGES, *_LISTS, *_WRAPPERS, "current_model_state"}
    others = {key: value for key, value in loaded.items() if key not in told and isinstance(value, Mapping)}
    return ", ".join(repr(key) for key, value in others.items() if _inner(value)[1].keys() == chosen.stored.keys())


def _kept(path: object, loaded: Mapping[Any, Any], wanted: Weights | None) -> list[Kept]:
    """Return all sets of weights in a checkpoint, averaged ones first."""
    swapped = _swapped(loaded)
    if swapped is not None:
        return swapped
    raw = _raw({key: value for key, value in loaded.items() if key not in _AVERAGES and key not in _LISTS})
    if raw is not None and _is_average(raw):
        return [replace(raw, kind=Weights.EMA)]
    inside = None if raw is None else _inside(raw)
    if inside is not None:
        return inside
    if raw is not None and wanted is Weights.RAW:
        return [raw]
    averaged = next(filter(None, (_average(path, found, raw) for found in _averages(loaded))), None)
    return [one for one in (averaged, raw) if one is not None]


def _listed(kept: Sequence[Kept]) -> str:
    words = {Weights.EMA: "those averaged over training (ema)", Weights.RAW: "those of the last step (raw)"}
    return ", ".join(f"{words[one.kind]}" + (f", under {one.where!r}" if one.where else "") for one in kept)


# --------------------------------------------------------------------------------------------------------------------
# Weights of the last step
# --------------------------------------------------------------------------------------------------------------------


def _raw(loaded: Mapping[Any, Any]) -> Kept | None:
    """Return the tensors in the first wrapper that has some, else those right here."""
    where, stored = _inner(loaded)
    if not stored:
        twins = twins_by_key(loaded)
        stored = {f"{role}.{name}": value for role, one in twins.items() for name, value in _inner(one)[1].items()}
    return Kept(Weights.RAW, where, with_short_names(stored), stored) if stored else None


def _inner(loaded: Mapping[Any, Any], depth: int = 3) -> tuple[str, State]:
    """Return where tensors are, and they. A dict may contain itself."""
    keys = [key for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)] if depth else []
    for key in keys:
        where, state = _inner(loaded[key], depth - 1)
        if state:
            return f"{key}.{where}" if where else key, state
    return "", tensors_in(loaded)


def _is_average(raw: Kept) -> bool:
    """Whether these are the state of an ``AveragedModel``, saved alone."""
    steps = raw.stored.get("n_averaged")
    return steps is not None and bool(steps) and all(n == "n_averaged" or n.startswith("module.") for n in raw.stored)


# --------------------------------------------------------------------------------------------------------------------
# Averages
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _AsStored:
    """What lies under a key that promises averages."""

    where: str
    value: Any


def _swapped(loaded: Mapping[Any, Any]) -> list[Kept] | None:
    """Return the weights where the trainer put averaged ones in the place of the last: Lightning, and MMEngine."""
    current, averaging, meta = (loaded.get(key) for key in ("current_model_state", "averaging_state", "meta"))
    if isinstance(current, Mapping) and isinstance(averaging, Mapping):
        key, begun = "current_model_state", _has_steps("state_dict", averaging)
    elif isinstance(meta, Mapping) and "mmengine_version" in meta and isinstance(loaded.get("ema_state_dict"), Mapping):
        key, begun = "ema_state_dict", True
    else:
        return None
    last, other = tensors_in(loaded[key]), loaded.get("state_dict")
    raw = Kept(Weights.RAW, key, with_short_names(last), last)
    averaged = _named(_AsStored("state_dict", other), raw) if begun and isinstance(other, Mapping) else None
    return [one for one in (averaged, raw) if one is not None]


def _averages(loaded: Mapping[Any, Any]) -> Iterator[_AsStored]:
    """Yield what lies under keys that promise averages, here and in the states of Lightning's callbacks."""
    callbacks = loaded.get("callbacks")
    inner = callbacks.items() if isinstance(callbacks, Mapping) else ()
    places = [("", loaded), *((f"callbacks.{key}.", value) for key, value in inner if isinstance(value, Mapping))]
    for prefix, place in places:
        for key in (key for key in (*_AVERAGES, *_LISTS) if place.get(key) is not None):
            if prefix == "" or _has_steps(f"{prefix}{key}", place):
                yield _AsStored(f"{prefix}{key}", place[key])


def _has_steps(where: str, counted: Mapping[Any, Any]) -> bool:
    """Whether an average has begun: before its first step it is what training began with."""
    counts = [counted[key] for key in _COUNTERS if counted.get(key) is not None]
    if not any(isinstance(count, int | torch.Tensor) and int(count) == 0 for count in counts):
        return True
    logger.info("The average under %r is of no step yet, and so is left out.", where)
    return False


def _average(path: object, found: _AsStored, raw: Kept | None) -> Kept | None:
    """Return averaged weights; ``None`` where these are none."""
    value = found.value
    if isinstance(value, Mapping):
        if not _has_steps(found.where, value):
            return None
        listed = next((key for key in _LISTS if isinstance(value.get(key), list | tuple)), None)
        if listed is None:
            return _named(found, raw)
        found = _AsStored(f"{found.where}.{listed}", value[listed])
    if isinstance(found.value, list | tuple) and found.value:
        return _unnamed(path, found, raw)
    return None


def _named(found: _AsStored, raw: Kept | None) -> Kept | None:
    """Return averages that lie under names."""
    where, stored = _inner(found.value)
    state = with_short_names(stored)
    where = f"{found.where}.{where}" if where else found.where
    if raw is None:
        return Kept(Weights.EMA, where, state, stored) if state else None
    return _in_place_of(raw, state, where)


def _in_place_of(raw: Kept, averages: State, where: str) -> Kept | None:
    """Put averages in the place of the last weights: buffers that no average is kept of stay.

    Averages of parts that are not in the last weights, or of other shapes, are none of these weights.
    """
    fitting = {name: value for name, value in averages.items() if name in raw.state}
    if not fitting or any(value.shape != raw.state[name].shape for name, value in fitting.items()):
        logger.info("What lies under %r is no average of the weights under %r, and is left out.", where, raw.where)
        return None
    stored_names = with_short_names({name: name for name in raw.stored})
    stored = raw.stored | {long: fitting[short] for short, long in stored_names.items() if short in fitting}
    missing = [name for name in raw.state if name not in fitting and not name.endswith(_BUFFERS)]
    if missing:
        logger.info("Not averaged under %r, taken from the last step: %s.", where, some(missing))
    return Kept(Weights.EMA, where, raw.state | fitting, stored)


def _unnamed(path: object, found: _AsStored, raw: Kept | None) -> Kept | None:
    """Give averages without names those of the last weights, by their order."""
    values = [value for value in found.value if isinstance(value, torch.Tensor)]
    if raw is None or not values:
        return None
    for names in (list(raw.state), _parameters(raw.state)):
        if [value.shape for value in values] == [raw.state[name].shape for name in names]:
            return _in_place_of(raw, dict(zip(names, values, strict=True)), found.where)
    raise CheckpointError(
        f"The checkpoint {path} holds averaged weights under {found.where!r} without names: {len(values)} tensors, "
        f"which do not fit the {len(_parameters(raw.state))} parameters under {raw.where!r}. Expected one for each, in "
        "their order. Pass --weights raw to take those of the last step."
    )


def _parameters(state: State) -> list[str]:
    """Return the names that are no buffers, as far as names and types tell."""
    return [name for name, value in state.items() if value.is_floating_point() and not name.endswith(_BUFFERS)]


# --------------------------------------------------------------------------------------------------------------------
# Averages among the other weights
# --------------------------------------------------------------------------------------------------------------------


def _inside(raw: Kept) -> list[Kept] | None:
    """Take a state apart that holds an averaged copy of its module; ``None`` where it holds none."""
    for prefix in _PARTS:
        copy = {name.removeprefix(prefix): value for name, value in raw.stored.items() if name.startswith(prefix)}
        rest = {name: value for name, value in raw.stored.items() if not name.startswith(prefix)}
        where = f"{raw.where}.{prefix}*" if raw.where else f"{prefix}*"
        own = Kept(Weights.RAW, raw.where, with_short_names(rest), rest)
        averages = _without_dots(own.state, copy) or with_short_names(copy)
        if copy and not rest:
            return [Kept(Weights.EMA, where, averages, raw.stored)]
        if 2 * len(averages.keys() & own.state.keys()) <= len(own.state):
            continue  # a part of the network with such a name
        averaged = _in_place_of(own, averages, where) if _has_steps(where, copy) else None
        beside = {name: value for name, value in raw.stored.items() if name.startswith(prefix)}
        return [replace(one, stored=one.stored | beside) for one in (averaged, own) if one is not None]
    return twins_in(raw)


def _without_dots(state: State, copy: State) -> State:
    """Return averages by their proper names, where a part of a module could not have dots in its own."""
    proper = {name.replace(".", ""): name for name in state}
    return {proper[name]: value for name, value in copy.items() if "." not in name and name in proper}
