"""Whether a model may ship: figures and findings against the limits of a pipeline, and the verdict in a sentence."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, said
from otx_xai.counting import counted
from otx_xai.errors import ConfigError
from otx_xai.options import Word


@dataclass(frozen=True)
class Figure:
    """One number of an audit that a person reads first, and a gate can ask for.

    Args:
        name: as gates call it.
        label: as people read it.
        effect: the number; NaN where it cannot be told.
        high_is_good: whether more of it is better.
        hint: what it means, one sentence.
    """

    name: str
    label: str
    effect: Effect
    high_is_good: bool
    hint: str

    @property
    def pessimistic(self) -> float:
        """The worse end of its interval, or the number itself where it has no interval."""
        end = self.effect.low if self.high_is_good else self.effect.high
        return end if math.isfinite(end) else self.effect.value

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON."""
        better = "high" if self.high_is_good else "low"
        return {
            "name": self.name,
            "label": self.label,
            "effect": self.effect.content(),
            "better": better,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Gate:
    """One condition under which an audit fails.

    Args:
        text: as the user wrote it.
        kind: of findings that must not be there.
        state: only findings of this state count; ``None``: all but refuted ones.
        figure: name of a figure that has a limit.
        limit: the limit.
    """

    text: str
    kind: FindingKind | None = None
    state: FindingState | None = None
    figure: str = ""
    limit: float = math.nan


@dataclass(frozen=True)
class GateResult:
    """What became of a gate.

    Args:
        gate: as the user wrote it.
        passed: whether the model may pass.
        why: one sentence with figures.
    """

    gate: str
    passed: bool
    why: str

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON."""
        return {"gate": self.gate, "passed": self.passed, "why": self.why}


class VerdictState(Word):
    """What an audit comes to."""

    PASS = "pass"
    """Every gate is passed, and nothing was verified."""
    ATTENTION = "attention"
    """No gate is failed, and something was verified or suspected that a person should look at."""
    FAIL = "fail"
    """A gate is failed."""


@dataclass(frozen=True)
class Verdict:
    """What an audit comes to, in a word and a sentence."""

    state: VerdictState
    sentence: str

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON."""
        return {"state": str(self.state), "sentence": self.sentence}


FIGURES = (
    "accuracy",
    "ap50",
    "energy_in_object",
    "missed",
    "background_reliance",
    "silent_drift",
    "box_agreement",
    "top1_agreement",
    "confident_errors",
    "ece",
    "label_errors",
    "drift",
    "ap",
    "background_boxes",
)
"""Names of all figures that gates can ask for, the first to be looked at first; an audit has those that it can."""


_LARGEST = {"drift": 2}
"""Largest value of figures that are no shares: a distance of maps."""


def parse_gates(fail_on: str | Sequence[str] | None) -> list[Gate]:
    """Read the conditions of ``--fail_on``.

    Args:
        fail_on: ``"verified_shortcut,accuracy=0.9"``, or a sequence. A kind of finding (with ``verified_``,
            ``suspected_`` or ``measured_`` in front, where only that state counts), or a figure with its limit: least
            value of what should be high, largest of what should be low.

    Raises:
        ConfigError: there is no such kind or figure, or a limit is no number.
    """
    if fail_on is None:
        return []
    words = fail_on.split(",") if isinstance(fail_on, str) else list(fail_on)
    return [_gate(word.strip()) for word in words if word.strip()]


def check_gates(gates: Iterable[Gate], findings: Sequence[Finding], figures: Sequence[Figure]) -> list[GateResult]:
    """Hold findings and figures against gates. Limits are compared with the pessimistic end of the interval."""
    by_name = {figure.name: figure for figure in figures}
    return [_of_figure(gate, by_name.get(gate.figure)) if gate.figure else _of_kind(gate, findings) for gate in gates]


def conclude(
    findings: Sequence[Finding], gates: Sequence[GateResult], *, labelled: bool = True, doubt: str = ""
) -> Verdict:
    """Return what findings and gates come to.

    Args:
        findings: of the audit.
        gates: what became of its conditions.
        labelled: the data have labels or boxes; without them little can be found, and nothing passes by that alone.
        doubt: why all of it may be a mistake of how the model is used; it is told before what was found.
    """
    failed = [gate for gate in gates if not gate.passed]
    verified = [one for one in findings if one.state is FindingState.VERIFIED]
    suspected = [one for one in findings if one.state is FindingState.SUSPECTED]
    if failed:
        more = f" ({len(failed)} of {len(gates)} gates failed)" if len(gates) > 1 else ""
        return Verdict(VerdictState.FAIL, f"{failed[0].why}{more}")
    if doubt:
        return Verdict(VerdictState.ATTENTION, doubt)
    if verified:
        worst = max(verified, key=lambda one: one.severity)
        others = f" {counted(len(verified) - 1, 'more verified finding')}." if len(verified) > 1 else ""
        return Verdict(VerdictState.ATTENTION, worst.statement + others)
    if suspected:
        worst = max(suspected, key=lambda one: one.severity)
        sentence = f"Nothing is verified; {counted(len(suspected), 'suspicion')} to look at. {worst.statement}"
        return Verdict(VerdictState.ATTENTION, sentence)
    if not labelled and not gates:
        return Verdict(
            VerdictState.ATTENTION, "Little was asked, as the data have no labels; of that nothing was found."
        )
    all_of = "The gate is" if len(gates) == 1 else f"All {len(gates)} gates are"
    passed = f"{all_of} passed, and nothing" if gates else "Nothing"
    return Verdict(VerdictState.PASS, f"{passed} was found that pixels or statistics confirm.")


def _gate(word: str) -> Gate:
    name, has_limit, limit = (part.strip() for part in word.partition("="))
    name = name.lower().replace("-", "_")
    if has_limit:
        if name not in FIGURES:
            raise ConfigError(f"--fail_on {word!r}: there is no figure {name!r}. {_close(name, FIGURES)}")
        return Gate(word, figure=name, limit=_limit(word, name, limit))
    states = (FindingState.VERIFIED, FindingState.SUSPECTED, FindingState.MEASURED)
    state = next((state for state in states if name.startswith(f"{state}_")), None)
    kind = name.removeprefix(f"{state}_") if state else name
    kinds = [str(one) for one in FindingKind]
    if kind not in kinds:
        figure = re.split(r"[<>:]", kind)[0].strip()
        hint = f" A figure takes a limit: {figure}=0.9." if figure in FIGURES else ""
        raise ConfigError(f"--fail_on {word!r}: there is no kind of finding {kind!r}. {_close(kind, kinds)}{hint}")
    return Gate(word, FindingKind(kind), state)


def _limit(word: str, name: str, text: str) -> float:
    most = _LARGEST.get(name, 1)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit <= most:
        raise ConfigError(f"--fail_on {word!r}: expected a limit from 0 to {most}, such as {name}=0.25, not {text!r}.")
    return limit


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return f"{meant}Expected one of {', '.join(known)}."


def _of_figure(gate: Gate, figure: Figure | None) -> GateResult:
    if figure is None or not math.isfinite(figure.pessimistic):
        why = f"{gate.text}: this audit has no figure {gate.figure}, so the gate cannot be passed."
        return GateResult(gate.text, False, why)
    good = figure.high_is_good
    passed = figure.pessimistic >= gate.limit if good else figure.pessimistic <= gate.limit
    least = "at least" if good else "at most"
    why = f"{figure.label}: {said(figure.effect)}; {least} {gate.limit:g} was asked for, and the worse end counts."
    return GateResult(gate.text, passed, why)


def _of_kind(gate: Gate, findings: Sequence[Finding]) -> GateResult:
    states = {gate.state} if gate.state else set(FindingState) - {FindingState.REFUTED}
    found = [one for one in findings if one.kind is gate.kind and one.state in states]
    state = f"{gate.state} " if gate.state else ""
    if not found:
        return GateResult(gate.text, True, f"No {state}finding {gate.kind}.")
    worst = max(found, key=lambda one: one.severity)
    return GateResult(gate.text, False, f"{counted(len(found), f'{state}finding')} {gate.kind}: {worst.statement}")
