"""All methods, and the one place that chooses among them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otx_xai.errors import ConfigError, GraphError
from otx_xai.methods import (
    activation_map,
    aise,
    det_class_probability_map,
    drise,
    gradcam,
    guideddrise,
    guidedrise,
    hirescam,
    inst_seg_explain_algo,
    integratedgradients,
    layercam,
    multistridecam,
    odam,
    recipro_cam,
    rise,
    smoothgrad,
    vit_recipro_cam,
)
from otx_xai.methods.spec import Fit, MethodSpec
from otx_xai.model.opened import Model
from otx_xai.options import meant
from otx_xai.records import ExplainMode, Preset, Task

logger = logging.getLogger("otx_xai")

METHODS: tuple[MethodSpec, ...] = (
    vit_recipro_cam.SPEC,
    recipro_cam.SPEC,
    inst_seg_explain_algo.SPEC,
    det_class_probability_map.SPEC,
    activation_map.SPEC,
    multistridecam.SPEC,
    layercam.SPEC,
    gradcam.SPEC,
    hirescam.SPEC,
    integratedgradients.SPEC,
    smoothgrad.SPEC,
    odam.SPEC,
    rise.SPEC,
    guidedrise.SPEC,
    drise.SPEC,
    guideddrise.SPEC,
    aise.SPEC,
)
"""A row a method; auto mode takes the first that fits and may be chosen without being asked for."""

DEFAULT_PRESET = Preset.BALANCE
"""The effort of auto mode where the user says none."""

ASK_FOR_IT = f"; --preset {DEFAULT_PRESET} does"
"""Ends the refusal of a method that the default effort means, and that is put off."""

CLASSES_BY_DEFAULT = 5
"""Classes an image that take a backward pass each without being asked for: with so many, inference takes 2.6 times as
long at most."""

_UNIVERSAL = frozenset({"normalize", "seed"})
"""Options that mean nothing to some methods, and harm none: maps are always scaled, and not every method draws."""


@dataclass(frozen=True)
class Chosen:
    """A method that may explain a model.

    Args:
        spec: the method.
        reason: why it was chosen.
        refusals: of every method that was asked before: ``"name: why not"``.
    """

    spec: MethodSpec
    reason: str
    refusals: tuple[str, ...] = ()


def find_method(name: str) -> MethodSpec:
    """Return the method of this name, read without regard to case, ``-`` and ``_``.

    Raises:
        ConfigError: there is none.
    """
    folded = "".join(letter for letter in str(name).lower() if letter.isalnum())
    for spec in METHODS:
        if spec.name == folded:
            return spec
    known = [spec.name for spec in METHODS]
    raise ConfigError(f"{str(name)!r} is no explain_method; expected one of {', '.join(known)}.{meant(name, known)}")


def method_name(name: str | None) -> str | None:
    """Return the name of a method as its row spells it; ``None`` of none.

    Raises:
        ConfigError: there is no such method.
    """
    return None if name is None else find_method(name).name


def named_method(name: str | None, task: Task, mode: ExplainMode) -> MethodSpec | None:
    """Return the method that the user names, once it is clear that it explains the task, and by this mode.

    Raises:
        ConfigError: there is none of this name, it explains another task, or the mode contradicts it.
    """
    if name is None:
        return None
    spec = find_method(name)
    if mode is not ExplainMode.AUTO and spec.is_white_box is (mode is ExplainMode.BLACKBOX):
        raise ConfigError(f"explain_method {spec.name} is no {mode} method. Leave explain_mode to 'auto'.")
    if task not in spec.tasks:
        others = [row.name for row in METHODS if task in row.tasks and row.is_white_box is spec.is_white_box]
        raise ConfigError(
            f"explain_method {spec.name} explains no {_said(task)}; expected one of {', '.join(others)}. Or leave it "
            "out."
        )
    return spec


def candidates(
    model: Model,
    *,
    method: MethodSpec | None,
    mode: ExplainMode,
    refusals: list[str],
    target_layers: Sequence[str] = (),
    preset: Preset | None = None,
    classes: int = 1,
    told: bool = False,
    per_box: bool = False,
) -> Iterator[Chosen]:
    """Yield the methods that may explain a model, the best first; the caller takes the first that it gets to work.

    A named method is the only candidate. Else the table is walked, in auto mode that of the wanted effort first, unless
    it is put off: every method of the task and the mode is asked whether it fits, and those that do not are remembered
    with their reasons. Layers are named for white-box methods, so that no other is yielded with them.

    Args:
        model: the model.
        method: the one that the user names.
        mode: white box, black box, or auto.
        refusals: grows by ``"name: why not"`` of each method that does not fit.
        target_layers: that the user names.
        preset: the effort, where the user says so. Else auto mode means that of :data:`DEFAULT_PRESET`, unless what is
            wanted would take more than the effort it stands for.
        classes: how many classes of an image are wanted.
        told: the user names classes, whether they are found or not.
        per_box: each box is to have a map of its own.

    Raises:
        GraphError: the named method does not fit, or none does.
    """
    if method is not None:
        fit = fit_of(method, model, target_layers)
        if not fit.fits:
            raise GraphError(fit.reason)
        yield Chosen(method, "asked for")
        return
    effort = effort_of(preset, mode)
    rows = [spec for spec in METHODS if model.facts.task in spec.tasks and _allowed(spec, mode, target_layers)]
    put_off = set()
    for spec in (row for row in rows if effort in row.presets):
        fit = fit_of(spec, model, target_layers)
        if not fit.fits:
            refusals.append(f"{spec.name}: {fit.reason}")
        elif preset is None and (reason := _put_off(spec, fit, classes, target_layers, told=told, per_box=per_box)):
            refusals.append(f"{spec.name}: {reason}{ASK_FOR_IT}")
            put_off.add(spec.name)
        else:
            yield Chosen(spec, f"preset {effort}" + ("" if preset else ", the default"), tuple(refusals))
    for spec in (row for row in rows if effort not in row.presets or row.name in put_off):
        fit = fit_of(spec, model, target_layers)
        if fit.fits and fit.automatic:
            others = tuple(refusal for refusal in refusals if not refusal.startswith(f"{spec.name}: "))
            yield Chosen(spec, _reason(spec, mode, others), others)
        elif fit.fits and fit.passed_over:
            refusals.append(f"{spec.name}: {fit.passed_over}")
        elif not fit.fits and fit.automatic:
            refusals.append(f"{spec.name}: {fit.reason}")
    raise GraphError(_nothing_fits(refusals))


def fit_of(spec: MethodSpec, model: Model, target_layers: Sequence[str]) -> Fit:
    """Tell whether a method fits a model; each is asked once."""
    layers = tuple(target_layers)
    return model.structure.once((spec.name, "fits", layers), lambda: spec.fits(model, layers))


def _put_off(
    spec: MethodSpec, fit: Fit, classes: int, target_layers: Sequence[str], *, told: bool, per_box: bool
) -> str:
    """Say why a method is not what its effort means where the user does not ask for it; mostly nothing."""
    if spec.each_class_costs and classes > CLASSES_BY_DEFAULT:
        return f"each of {classes} classes would take a backward pass"
    if spec.second_pass is not None and told:
        return "it explains what is found, and a class that is named may have no box"
    if spec.second_pass is not None and target_layers:
        return "layers that are named are class heads where they can be"
    return fit.dear or (fit.dear_alone if per_box else "")


def effort_of(preset: Preset | None, mode: ExplainMode) -> Preset | None:
    """Return the effort that auto mode asks for where no method is named; other modes know none."""
    return preset or DEFAULT_PRESET if mode is ExplainMode.AUTO else None


def method_options(spec: MethodSpec, values: Mapping[str, Any], *, named: bool) -> Any:
    """Make a method's own options of what the user gives.

    Args:
        spec: the method.
        values: options by name; ``None`` stands for not given.
        named: the user has chosen this method, and so knows its options; else one that it does not have is told in a
            warning, and has no effect.

    Raises:
        ConfigError: an option that the chosen method does not have, or a value that is out of range.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if _is_met(spec, given.get("preset")):
        del given["preset"]
    unknown = sorted(given.keys() - spec.option_names - _UNIVERSAL)
    if unknown and named:
        own = ", ".join(sorted(spec.option_names)) or "none"
        raise ConfigError(
            f"{', '.join(unknown)}: {spec.name} has no such option; its own are: {own}. Leave {_it(unknown)} out, or "
            "choose another explain_method."
        )
    if unknown:
        logger.warning("%s: no effect with %s.", ", ".join(unknown), spec.name)
    return spec.make_options(given)


def _allowed(spec: MethodSpec, mode: ExplainMode, target_layers: Sequence[str]) -> bool:
    if mode is ExplainMode.AUTO:
        return spec.is_white_box or not target_layers
    return spec.is_white_box is (mode is ExplainMode.WHITEBOX)


def _is_met(spec: MethodSpec, preset: Preset | None) -> bool:
    """Whether a method that auto mode has chosen is all that an effort asks for; those of one pass are of speed."""
    return preset in spec.presets or (preset is Preset.SPEED and spec.is_white_box)


def _reason(spec: MethodSpec, mode: ExplainMode, refusals: Sequence[str]) -> str:
    if mode is not ExplainMode.AUTO:
        return "asked for"
    if spec.is_white_box:
        return "white box: the graph allows it"
    return f"black box, because the graph gives no place for a branch: {_told_once(refusals)}"


def _nothing_fits(refusals: Sequence[str]) -> str:
    return _told_once(refusals) or "no method explains this task in this mode; leave explain_mode to 'auto'"


def _told_once(refusals: Sequence[str]) -> str:
    """Join the reasons of refusals; several methods may have the same."""
    return " ".join(dict.fromkeys(refusal.partition(": ")[2] for refusal in refusals))


def _said(task: Task) -> str:
    return "classification" if task.is_classification else str(task)


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
