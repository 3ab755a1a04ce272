"""Checkpoints of two networks that were trained side by side: student and teacher, online and target network.

A teacher of the same shapes as its student is taken for the average of it (Tarvainen and Valpola 2017, "Mean teachers
are better role models"), which is what such trainers validate. Of BYOL and MoCo the network that learns by gradients is
kept (Grill et al. 2020, He et al. 2020). Where the two are of different shapes, the student is what was trained.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from otx_xai.checkpoints.kept_weights import Kept, State
from otx_xai.checkpoints.parameter_names import some, with_short_names
from otx_xai.records import Weights

logger = logging.getLogger("otx_xai")

ValueT = TypeVar("ValueT")

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class _Pair:
    """How the two are called.

    Args:
        learner: the one that learns by gradients.
        follower: the one that follows it.
        follower_counts: the trainer validates the one that follows.
    """

    learner: str
    follower: str
    follower_counts: bool


_PAIRS = (
    _Pair("student", "teacher", follower_counts=True),
    _Pair("online", "target", follower_counts=False),
    _Pair("encoder_q", "encoder_k", follower_counts=False),
    *(_Pair(name, "teacher", follower_counts=True) for name in ("model", "net", "network")),
)


def twins_by_key(loaded: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Return what a checkpoint holds under keys for the two networks, by what they are called; empty without."""
    for pair in _PAIRS:
        found = {
            role: value
            for role in (pair.learner, pair.follower)
            for key, value in loaded.items()
            if isinstance(value, Mapping) and _without_role(str(key), role) is not None
        }
        if found:
            return found
    return {}


def twins_in(raw: Kept) -> list[Kept] | None:
    """Take a state apart that holds two networks, the one that counts first; ``None`` where it holds none of them."""
    for pair, state in ((pair, state) for pair in _PAIRS for state in (raw.state, raw.stored)):
        roles = {name: _role_of(name, pair) for name in state}
        learner, follower = (
            _part({name: value for name, value in state.items() if roles[name] == role}, role)
            for role in (pair.learner, pair.follower)
        )
        rest = [name for name, role in roles.items() if role is None]
        is_pair = follower or pair.learner == "student"
        if not is_pair or 2 * len(rest) > max(len(learner), len(follower)):  # parts of one network that are called so
            continue
        if rest:
            logger.info(
                "Left out of the checkpoint, of neither %s nor %s: %s.", pair.learner, pair.follower, some(rest)
            )
        return _ordered(raw, pair, learner, follower)
    return None


def _ordered(raw: Kept, pair: _Pair, learner: State, follower: State) -> list[Kept]:
    last = Kept(Weights.RAW, _where(raw, pair.learner), learner, _first(raw.stored, pair.learner))
    average = Kept(Weights.EMA, _where(raw, pair.follower), follower, _first(raw.stored, pair.follower))
    if not learner or not follower:
        return [last if learner else average]
    if _shapes(learner) != _shapes(follower):
        logger.warning(
            "The checkpoint holds two networks of different shapes, %s (%d tensors) and %s (%d tensors): the first "
            "counts, the other is left out.",
            *(last.where, len(learner), average.where, len(follower)),
        )
        return [last]
    return [average, last] if pair.follower_counts else [last, average]


def _where(raw: Kept, role: str) -> str:
    return f"{raw.where}.{role}" if raw.where else role


def _part(own: State, role: str) -> State:
    """Call the tensors of one of the two by the names that they have in it."""
    return with_short_names({_without_role(name, role) or name: value for name, value in own.items()})


def _first(stored: Mapping[str, ValueT], role: str) -> dict[str, ValueT]:
    """Put the tensors of one of the two in front: a class that fits both is filled with those that come first."""
    own = {name: value for name, value in stored.items() if _is_of(name, role)}
    return own | dict(stored)


def _role_of(name: str, pair: _Pair) -> str | None:
    return next((role for role in (pair.follower, pair.learner) if _without_role(name, role) is not None), None)


def _is_of(name: str, role: str) -> bool:
    return any(_without_role(part, role) is not None for part in name.split(".")[:3])


def _without_role(name: str, role: str) -> str | None:
    """Take a role out of the first part of a name, ``student_head.weight`` → ``head.weight``; ``None``: none there."""
    first, dot, rest = name.partition(".")
    words = f"_{first}_"
    if f"_{role}_" not in words:
        return None
    left = words.replace(f"_{role}_", "_", 1).strip("_")
    return f"{left}{dot}{rest}" if left else rest


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(_COUNTER)}
