"""What an audit hands back: findings, figures, gates, and where the page is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from otx_xai.audit.findings import Finding, FindingState, said
from otx_xai.audit.gates import Figure, GateResult, Verdict
from otx_xai.counting import counted
from otx_xai.errors import EXIT_GATE, EXIT_INTERRUPTED, EXIT_PARTIAL, DataError
from otx_xai.storage import Place

FOLDER, PAGE = "audit", "index.html"
"""Folder of an audit in its work directory, and the page in it."""

_SHOWN = 8
_WIDTH = 100


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Args:
        folder: where its files are.
        verdict: what it comes to.
        findings: verified ones first.
        metrics: figures by name, such as ``accuracy``; each has an ``effect`` with its interval.
        gates: what became of the conditions of ``fail_on``.
        images: number of images that it rests on.
        failures: images that could not be read, name → why.
        notes: what could not be asked or checked, and why, in sentences.
        seconds: time it took.
        interrupted: whether it was stopped; findings are missing then.
        dry: nothing was concluded; ``notes`` say how long it would take, or which shard of the evidence was taken.
    """

    folder: Place
    verdict: Verdict
    findings: tuple[Finding, ...]
    metrics: Mapping[str, Figure]
    gates: tuple[GateResult, ...]
    images: int
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    dry: bool = False

    @property
    def page(self) -> Place:
        """The page, to be opened in a browser."""
        return self.folder / PAGE

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def exit_code(self) -> int:
        """What ``otx`` ends with; see :mod:`otx_xai.errors`."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if not self.images and not (self.dry and not self.failures):  # a shard may have no image
            return DataError.exit_code
        if not self.passed:
            return EXIT_GATE
        return EXIT_PARTIAL if self.failures else 0

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return a few lines of plain text."""
        if self.interrupted:
            return (
                f"Interrupted after {counted(self.images, 'image')}: the same command goes on where this one stopped."
            )
        if self.dry:
            return self.verdict.sentence
        lines = [
            f"Audited {counted(self.images, 'image')} in {self.seconds:.1f} s: {self.page}",
            *_wrapped(f"{str(self.verdict.state).upper()}: {self.verdict.sentence}"),
            *([""] if self.metrics else []),
            *(f"  {figure.label}: {said(figure.effect)}, n = {figure.effect.n}" for figure in self.metrics.values()),
        ]
        told = [one for one in self.findings if one.state is not FindingState.REFUTED]
        if told:
            lines.append("")
        for one in told[:_SHOWN]:
            lines += _wrapped(f"[{one.state}] {one.kind}: {one.statement}", "  ")
        if len(told) > _SHOWN:
            lines.append(f"  and {counted(len(told) - _SHOWN, 'more finding')}.")
        refuted = len(self.findings) - len(told)
        if refuted:
            lines.append(f"  {counted(refuted, 'suspicion')} {'was' if refuted == 1 else 'were'} refuted.")
        lines += [""] if self.gates or self.notes or self.failures else []
        lines += [*(f"{'passed' if gate.passed else 'FAILED'}: {gate.gate}. {gate.why}" for gate in self.gates)]
        for note in self.notes:
            lines += _wrapped(note)
        if self.failures:
            lines.append(f"{counted(len(self.failures), 'image')} failed; audit.json says why.")
        return "\n".join(lines).rstrip()


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return text in lines that a terminal shows whole, all but the first set in."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
