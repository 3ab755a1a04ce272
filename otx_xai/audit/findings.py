"""What an audit says: findings, each with its state, its effect and the images that show it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otx_xai.options import Word


class FindingKind(Word):
    """What a finding is about."""

    CONFIDENT_ERROR = "confident_error"
    UNCERTAIN = "uncertain"
    AMBIGUOUS = "ambiguous"
    OTHER_OBJECT = "other_object"
    LOOK_ALIKE = "look_alike"
    BACKGROUND_FOCUS = "background_focus"
    BACKGROUND_RELIANCE = "background_reliance"
    SHORTCUT = "shortcut"
    LABEL_ERROR = "label_error"
    DRIFT = "drift"
    SILENT_DRIFT = "silent_drift"
    CALIBRATION = "calibration"
    SLICE = "slice"
    OUTLIER = "outlier"
    MISSED = "missed"
    DUPLICATE = "duplicate"
    BADLY_PLACED = "badly_placed"
    BACKGROUND_BOX = "background_box"


class FindingState(Word):
    """How far a finding is to be believed."""

    SUSPECTED = "suspected"
    """The evidence speaks for a cause, and nothing was tried."""
    VERIFIED = "verified"
    """Pixels were changed, and the scores followed more than those of the controls."""
    REFUTED = "refuted"
    """Pixels were changed, and the scores did not follow: the model does not rely on it."""
    MEASURED = "measured"
    """Counted, with its interval; no cause is claimed, so there is nothing to try."""


class Unit(Word):
    """What the number of an effect counts."""

    SHARE = "share"
    """A part of the images, boxes or energy, in [0, 1]."""
    PROBABILITY = "probability"
    """A difference of scores, in [-1, 1]."""
    LOG_ODDS = "log-odds"
    """A difference of log p / (1 - p), in nats."""
    DISTANCE = "distance"
    """Of maps: 1 - Pearson's correlation, in [0, 2]."""


@dataclass(frozen=True)
class Effect:
    """A measured number with its doubt.

    Args:
        value: the estimate.
        low: lower end of its 95 % interval; NaN where there is none.
        high: upper end.
        n: number of images, boxes or maps that it rests on.
        unit: what it counts.
    """

    value: float
    low: float
    high: float
    n: int
    unit: Unit = Unit.SHARE

    @property
    def size(self) -> float:
        """Its magnitude on one scale for all units, in [0, 1]: log-odds go through ``tanh(x / 4)``."""
        if not math.isfinite(self.value):
            return 0.0
        value = math.tanh(self.value / 4) if self.unit is Unit.LOG_ODDS else self.value
        return min(1.0, abs(value))

    def content(self) -> dict[str, Any]:
        """Return it in the terms of JSON: numbers that are not finite are ``None``."""
        return {
            "value": _plain(self.value),
            "interval": [_plain(self.low), _plain(self.high)],
            "n": self.n,
            "unit": str(self.unit),
        }


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Args:
        kind: what it is about.
        subject: the class, the slice, the place or the cluster that it concerns, in words that two audits of the same
            data share.
        statement: one sentence in plain English.
        effect: how much of it.
        state: how far it is to be believed.
        share: part of the images of the audit that it concerns, in [0, 1].
        images: names of images that show it, the clearest first.
        suggestion: what to do about it, one sentence.
        check: what was tried: numbers in the terms of JSON; empty where nothing was.
        p_value: of the test behind it, uncorrected; ``None`` where there is none. See :func:`corrected`.
    """

    kind: FindingKind
    subject: str
    statement: str
    effect: Effect
    state: FindingState
    share: float
    images: tuple[str, ...] = ()
    suggestion: str = ""
    check: Mapping[str, Any] = field(default_factory=dict, hash=False)
    p_value: float | None = None

    @property
    def key(self) -> str:
        """What identifies it in two audits: its kind and its subject."""
        return f"{self.kind}:{self.subject}"

    @property
    def severity(self) -> float:
        """Share of the images times the size of the effect, in [0, 1]; 0 of what was refuted."""
        return 0.0 if self.state is FindingState.REFUTED else self.share * self.effect.size

    def content(self) -> dict[str, Any]:
        """Return it as a line of ``findings.jsonl``."""
        return {
            "kind": str(self.kind),
            "subject": self.subject,
            "statement": self.statement,
            "effect": self.effect.content(),
            "state": str(self.state),
            "severity": round(self.severity, 6),
            "share": round(self.share, 6),
            "images": list(self.images),
            "suggestion": self.suggestion,
            "check": dict(self.check),
            "p_value": self.p_value,
        }


_ORDER = (FindingState.VERIFIED, FindingState.SUSPECTED, FindingState.MEASURED, FindingState.REFUTED)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, verified ones first and refuted ones last, and of each state the most severe first."""
    return tuple(sorted(findings, key=lambda one: (_ORDER.index(one.state), -one.severity, one.key)))


def _plain(number: float) -> float | None:
    return round(float(number), 6) if math.isfinite(number) else None


def said(effect: Effect, name: str = "95 % interval") -> str:
    """Return an effect in words: ``4.1 %, 95 % interval 3.0-5.5 %`` of a share, else ``1.20, 95 % interval 1.00-1.40``.

    Args:
        effect: what is said.
        name: of the interval; where there is no interval, none is named.
    """
    times, form, sign = (100, ".1f", " %") if effect.unit is Unit.SHARE else (1, ".2f", "")
    value, low, high = (times * number for number in (effect.value, effect.low, effect.high))
    if not math.isfinite(low) or not math.isfinite(high):
        return f"{value:{form}}{sign}"
    between = " to " if low < 0 else "-"
    return f"{value:{form}}{sign}, {name} {low:{form}}{between}{high:{form}}{sign}"
