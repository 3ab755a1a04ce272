"""Which architecture a plain state dict belongs to, from the names and shapes of its tensors alone.

Networks are built without memory (on torch's meta device) for two numbers of classes. What differs between the two is
the head, and how it differs tells the number of classes of the state dict; everything else must be equal.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from otx_xai.errors import CheckpointError
from otx_xai.models.architectures import (
    TIMM_PREFIX,
    architectures,
    build_network,
    classifier_family,
    input_defaults,
)
from otx_xai.records import Task

logger = logging.getLogger("otx_xai")

Shapes = Mapping[str, tuple[int, ...]]
ValueT = TypeVar("ValueT")

PROBE = 11
"""Number of classes that networks are built with for comparison; the second one has one more."""

_LEGACY_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
"""How torchvision's own files name parameters that its networks call otherwise by now."""

_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Side heads that only training uses."""

_POSITIONS = {"encoder.pos_embedding": "conv_proj.weight", "pos_embed": "patch_embed.proj.weight"}
"""Position embeddings of vision transformers, and the layer whose kernel is a patch."""

_COUNTER = "num_batches_tracked"
"""Batch norms count batches; files from before torch 0.4.1 lack the count, and nothing depends on it."""

_NUMBER = re.compile(r"\d+")
_SHOWN = 3
_FAMILIES = 3
_FAMILIES_OF_TIMM = 5


@dataclass(frozen=True)
class Fit:
    """How well a state dict fits an architecture.

    Args:
        task: what the architecture is for.
        architecture: its name.
        num_classes: as the head's shape tells; ``None`` where the state dict has no head of it.
        size: height and width that the position embedding is for; ``None`` where there is none.
        missing: names that only the architecture has.
        unexpected: names that only the state dict has.
        mismatched: names with shapes that differ, in words.
        resized: position embeddings are all that differs, and those fit at ``size``.
    """

    task: Task
    architecture: str
    num_classes: int | None
    size: int | None
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    resized: bool = False

    @property
    def faults(self) -> int:
        """How many names or shapes do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)

    @property
    def fits(self) -> bool:
        """Whether the state dict is one of this architecture."""
        return not self.faults and self.num_classes is not None

    def __str__(self) -> str:
        lists = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        parts = [f"{len(names)} {word} ({_some(names)})" for word, names in lists.items() if names]
        return f"{self.architecture}: {', '.join(parts) or ('equal' if self.fits else 'without head')}"


def recognise(found: Shapes, task: Task | None = None, hint: str = "") -> Fit:
    """Find the architecture of a state dict among torchvision's and, where it is installed, timm's.

    Args:
        found: shapes by name, without prefixes.
        task: what the model does, where the user says so; by default a state dict with a ``backbone`` may be a
            detector, and any other is a classifier.
        hint: what the file is called. Where several architectures fit, the one in this name is taken.

    Returns:
        The fit. Where several architectures have these names and shapes, the log names the others.

    Raises:
        CheckpointError: none fits; the message compares with the three closest.
    """
    fits: list[Fit] = []
    if task is None and any(name.startswith("backbone.") for name in found):
        fits = [fit for kind in (Task.DETECTION, Task.INSTANCE_SEGMENTATION) for fit in _fits_of_detectors(kind, found)]
    elif task is not None and not task.is_classification:
        fits = _fits_of_detectors(task, found)
    if not any(fit.fits for fit in fits) and (task is None or task.is_classification):
        fits += _fits_of_torchvision(found)
        if not any(fit.fits for fit in fits) and find_spec("timm") is not None:
            fits += _fits_of_timm(found, hint)
    exact = sorted((fit for fit in fits if fit.fits), key=lambda fit: (fit.resized, not _is_in(fit.architecture, hint)))
    if not exact:
        raise CheckpointError(_unknown_text(found, fits))
    others = [fit.architecture for fit in exact[1:] if fit.resized is exact[0].resized]
    if others:
        logger.warning(
            "The checkpoint fits %s and as well %s; --model chooses.", exact[0].architecture, ", ".join(others)
        )
    elif exact[0].architecture.startswith(TIMM_PREFIX) and not _is_in(exact[0].architecture, hint):
        logger.warning(
            "The checkpoint fits %s. timm may have others of the same shapes, normalised otherwise; --model chooses.",
            exact[0].architecture,
        )
    return exact[0]


def compare_with(task: Task, architecture: str, found: Shapes) -> Fit:
    """Compare the shapes of a state dict, by name and without prefixes, with one architecture.

    Raises:
        ConfigError: the architecture is unknown.
    """
    found = without_auxiliary(architecture, found)
    small = _network_shapes(task, architecture, PROBE)
    is_near = len(_counted(small) ^ _counted(found)) * 10 <= len(small)
    # The second network only matters where the names are about right
    large = _network_shapes(task, architecture, PROBE + 1) if is_near else small
    return _compare(task, architecture, small, large, found)


def differences(task: Task, architecture: str, wanted: Shapes, found: Shapes) -> Fit:
    """Compare the shapes of a state dict with those of a network that is built for it."""
    return _compare(task, architecture, wanted, wanted, found)


def _compare(task: Task, architecture: str, small: Shapes, large: Shapes, found: Shapes) -> Fit:
    """Compare with an architecture that has shapes ``small`` for ``PROBE`` classes, and ``large`` for one more."""
    shared = {name: found[name] for name in small if name in found and len(found[name]) == len(small[name])}
    counts = (_classes(small[name], large[name], shape) for name, shape in shared.items())
    num_classes = next((count for count in counts if count is not None), None)
    wanted = {name: _scaled(small[name], large[name], num_classes or PROBE) for name in small}
    mismatched = [name for name in small if name in found and found[name] != wanted[name]]
    size = _input_size(small, found)
    resized = size is not None and bool(mismatched) and set(mismatched) <= _POSITIONS.keys()
    return Fit(
        task=task,
        architecture=architecture,
        num_classes=num_classes,
        size=size,
        missing=tuple(name for name in small if name in _counted(small) and name not in found),
        unexpected=tuple(name for name in found if name in _counted(found) and name not in small),
        mismatched=()
        if resized
        else tuple(f"{name} {_words(found[name])} for {_words(wanted[name])}" for name in mismatched),
        resized=resized,
    )


def current_names(state: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """Give parameters the names that torchvision has for them now."""
    return {_current_name(name): value for name, value in state.items()}


def _current_name(name: str) -> str:
    for pattern, replacement in _LEGACY_NAMES:
        name = pattern.sub(replacement, name)
    return name


def without_auxiliary(architecture: str, state: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """Leave out the side heads of an architecture."""
    return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY.get(architecture, ("\0",)))}


# --------------------------------------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------------------------------------


class OnMeta(TorchFunctionMode):  # type: ignore[misc]
    """Build modules without memory and without time for their initial values.

    ``torch.device("meta")`` would take the small calculations along that some constructors do with tensors.
    """

    _FACTORIES = frozenset({torch.empty, torch.ones, torch.rand, torch.randn, torch.zeros})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make new tensors on the meta device."""
        extra = {"device": "meta"} if func in self._FACTORIES else {}
        return func(*args, **{**(kwargs or {}), **extra})


@cache
def _network_shapes(task: Task, architecture: str, num_classes: int) -> Shapes:
    """Build a network without memory and return the shapes of its state dict by name."""
    size = input_defaults(task, architecture).size
    with OnMeta(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what constructors say to those who use them
        state = build_network(task, architecture, num_classes=num_classes, size=size).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _counted(shapes: Shapes) -> set[str]:
    """Return the names that matter."""
    return {name for name in shapes if not name.endswith(_COUNTER)}


def _classes(small: tuple[int, ...], large: tuple[int, ...], found: tuple[int, ...]) -> int | None:
    """Return the number of classes that one tensor of the head tells, ``None`` if it is none of the head."""
    for few, many, size in zip(small, large, found, strict=True):
        if many != few and (size - few) % (many - few) == 0:
            return PROBE + (size - few) // (many - few)
    return None


def _scaled(small: tuple[int, ...], large: tuple[int, ...], num_classes: int) -> tuple[int, ...]:
    """Return the shape of a tensor for a number of classes."""
    return tuple(few + (num_classes - PROBE) * (many - few) for few, many in zip(small, large, strict=True))


def _input_size(small: Shapes, found: Shapes) -> int | None:
    """Return the side of the square input that the position embedding of a transformer is for."""
    for name, patch in _POSITIONS.items():
        if name in small and patch in small and len(found.get(name, ())) == 3:
            side = math.isqrt(found[name][1])
            prefix = found[name][1] - side**2
            if prefix == small[name][1] - math.isqrt(small[name][1]) ** 2:
                return int(side * small[patch][-1])
    return None


# --------------------------------------------------------------------------------------------------------------------
# Candidates
# --------------------------------------------------------------------------------------------------------------------


def _fits_of_detectors(task: Task, found: Shapes) -> list[Fit]:
    """Compare with all detectors, or all instance segmenters."""
    return [compare_with(task, name, found) for name in architectures(task)]


def _fits_of_torchvision(found: Shapes) -> list[Fit]:
    """Compare with the classifiers of torchvision's closest families, one family after the other."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in architectures(Task.CLASSIFICATION):
        families[classifier_family(name)].append(name)
    return _fits_of_families(found, families.values())


def _fits_of_families(found: Shapes, families: Iterable[list[str]]) -> list[Fit]:
    """Compare with all members of the families whose first member shares most names, until one fits."""
    fits: list[Fit] = []
    ranked = sorted(
        families, key=lambda names: _overlap(found, _network_shapes(Task.CLASSIFICATION, names[0], PROBE)), reverse=True
    )
    for names in ranked[:_FAMILIES]:
        fits += [compare_with(Task.CLASSIFICATION, name, found) for name in names]
        if any(fit.fits for fit in fits):
            break
    return fits


def _fits_of_timm(found: Shapes, hint: str) -> list[Fit]:
    """Compare with timm's architectures whose first layer and classifier are in the state dict, until one fits.

    Hundreds share these two, so what the file is called decides which come first, then short names.
    """
    import timm

    families: dict[str, list[str]] = defaultdict(list)
    for name in sorted(timm.list_models(), key=lambda name: (not _is_in(name, hint), len(name), name)):
        if _has_ends(found, timm.get_pretrained_cfg(name)):
            families[timm.models.model_entrypoint(name).__module__].append(TIMM_PREFIX + name)
    ranked = sorted(
        families.values(),
        key=lambda names: (
            not _is_in(names[0], hint),
            -_overlap(found, _network_shapes(Task.CLASSIFICATION, names[0], PROBE)),
        ),
    )
    fits: list[Fit] = []
    for name in (name for names in ranked[:_FAMILIES_OF_TIMM] for name in names):
        fits.append(compare_with(Task.CLASSIFICATION, name, found))
        if fits[-1].fits and not fits[-1].resized:
            break
    return fits


def _has_ends(found: Shapes, config: Any) -> bool:
    """Whether a state dict has the first convolution and the classifier that timm's configuration names."""
    ends = [config.first_conv, config.classifier]
    names = [name for end in ends for name in (end if isinstance(end, tuple | list) else (end,)) if name]
    return bool(names) and all(f"{name}.weight" in found for name in names)


def _is_in(architecture: str, hint: str) -> bool:
    return architecture.removeprefix(TIMM_PREFIX) in hint


def _overlap(found: Shapes, wanted: Shapes) -> float:
    """Return the part of all kinds of names that both have; names that differ in numbers are of one kind."""
    ours, theirs = ({_NUMBER.sub("#", name) for name in shapes} for shapes in (found, wanted))
    return len(ours & theirs) / len(ours | theirs)


# --------------------------------------------------------------------------------------------------------------------
# Words
# --------------------------------------------------------------------------------------------------------------------


def _unknown_text(found: Shapes, fits: list[Fit]) -> str:
    closest = sorted(fits, key=lambda fit: fit.faults)[:_SHOWN]
    return (
        f"The state dict ({len(found)} tensors: {_some(tuple(found))}) fits no architecture of torchvision or timm. "
        f"Compared with the closest, names and shapes are: {'; '.join(str(fit) for fit in closest)}. Expected equal "
        "names and shapes. Say with --model which architecture it is; where it is your own, name its class by --model "
        "package.module:Class; or export the model to ONNX and pass that."
    )


def _some(names: tuple[str, ...]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _words(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"
