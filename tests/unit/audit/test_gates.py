"""Gates, verdicts, and what changed between two audits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from otx_xai.audit.comparison import compare, read_audit
from otx_xai.audit.findings import Effect, Finding, FindingKind, FindingState, Unit, ranked
from otx_xai.audit.gates import Figure, check_gates, conclude, parse_gates
from otx_xai.errors import ConfigError, DataError

V, S, M, R = FindingState.VERIFIED, FindingState.SUSPECTED, FindingState.MEASURED, FindingState.REFUTED


def finding(
    kind: str = "shortcut", state: FindingState = V, value: float = 0.4, half: float = 0.1, subject: str = "class a"
) -> Finding:
    effect = Effect(value, value - half, value + half, 40)
    return Finding(FindingKind(kind), subject, f"{kind} of {subject}.", effect, state, 0.3)


FIGURES = [
    Figure("accuracy", "Right", Effect(0.92, 0.88, 0.95, 200), True, ""),
    Figure("background_reliance", "Loss without background", Effect(0.2, 0.1, 0.3, 30), False, ""),
    Figure("ece", "Calibration", Effect(math.nan, math.nan, math.nan, 0), False, ""),
]


@pytest.mark.parametrize(
    ("fail_on", "findings", "passed"),
    [
        ("verified_shortcut", [finding()], [False]),
        ("verified_shortcut", [finding(state=S)], [True]),
        ("shortcut", [finding(state=S)], [False]),
        ("shortcut", [finding(state=R)], [True]),
        ("accuracy=0.9", [], [False]),  # 0.92 is above, but the lower end of its interval is not
        ("accuracy=0.88", [], [True]),
        ("background_reliance=0.25, accuracy=0.8", [], [False, True]),
        ("ece=0.1", [], [False]),
        ("Verified-Shortcut", [finding()], [False]),
        (["verified_drift", "ap50=0.5"], [finding("drift", M)], [True, False]),
    ],
)
def test_gates(fail_on: str, findings: list[Finding], passed: list[bool]) -> None:
    results = check_gates(parse_gates(fail_on), findings, FIGURES)
    assert [result.passed for result in results] == passed
    assert (conclude(findings, results).state == "fail") == (not all(passed))


def test_a_gate_that_nothing_can_pass_says_so() -> None:
    (result,) = check_gates(parse_gates("ece=0.1"), [], FIGURES)
    assert "no figure ece" in result.why
    (result,) = check_gates(parse_gates("accuracy=0.9"), [], FIGURES)
    assert (
        result.why == "Right: 92.0 %, 95 % interval 88.0-95.0 %; at least 0.9 was asked for, and the worse end counts."
    )


@pytest.mark.parametrize(
    ("fail_on", "match"),
    [
        ("verified_shortcuts", "Did you mean 'shortcut'"),
        ("acuracy=0.9", "Did you mean 'accuracy'"),
        ("accuracy=high", "expected a limit from 0 to 1, such as accuracy=0.25, not 'high'"),
        ("accuracy=90", "expected a limit from 0 to 1"),  # per cent
        ("ece=nan", "expected a limit from 0 to 1"),
        ("drift=2.5", "expected a limit from 0 to 2"),
        ("accuracy", r"A figure takes a limit: accuracy=0\.9"),
        ("refuted_shortcut", "no kind of finding 'refuted_shortcut'"),
    ],
)
def test_gates_that_nobody_knows(fail_on: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        parse_gates(fail_on)


def test_the_verdict_names_the_worst() -> None:
    worst = finding(value=0.9, subject="class b")
    verdict = conclude([finding(), worst], [])
    assert verdict.state == "attention"
    assert verdict.sentence == "shortcut of class b. 1 more verified finding."
    assert conclude([finding(state=S)], []).sentence.startswith("Nothing is verified; 1 suspicion to look at.")
    assert conclude([finding(state=M), finding(state=R)], []).state == "pass"
    (passed,) = check_gates(parse_gates("accuracy=0.8"), [], FIGURES)
    assert conclude([], [passed]).sentence.startswith("The gate is passed, and nothing")
    assert conclude([worst], [], doubt="Fed otherwise.").sentence == "Fed otherwise."
    assert conclude([], [], labelled=False).sentence.startswith("Little was asked")


def test_findings_are_ranked_by_state_and_severity() -> None:
    listed = [finding(state=R), finding(state=M), finding(value=0.2), finding(state=S), finding(value=0.9)]
    assert [(one.state, one.effect.value) for one in ranked(listed)] == [
        (V, 0.9),
        (V, 0.2),
        (S, 0.4),
        (M, 0.4),
        (R, 0.4),
    ]
    assert finding(state=R).severity == 0
    assert Effect(4.0, 3, 5, 9, Unit.LOG_ODDS).size == pytest.approx(math.tanh(1))
    assert Effect(math.nan, math.nan, math.nan, 0).size == 0


def audit(*findings: Finding, accuracy: float = 0.9) -> dict[str, object]:
    figure = Figure("accuracy", "Right", Effect(accuracy, math.nan, math.nan, 10), True, "")
    return {"schema": 1, "findings": [one.content() for one in findings], "figures": [figure.content()]}


def test_what_came_went_and_grew() -> None:
    old = audit(finding(), finding("drift", M, 0.2), finding("slice", M, 0.3, subject="dark"), finding("outlier", M))
    new = audit(
        finding("drift", M, 0.9), finding("slice", M, 0.35, subject="dark"), finding("label_error", V), accuracy=0.8
    )
    found = compare(json.loads(json.dumps(old)), json.loads(json.dumps(new)))
    assert [(change.word, change.kind) for change in found.changes] == [
        ("came", "label_error"),
        ("grew", "drift"),
        ("went", "shortcut"),
        ("went", "outlier"),
    ]
    assert found.same == 1
    assert found.figures == {"Right": (0.9, 0.8)}
    assert found.is_worse
    assert "came: verified label_error" in found.summary()
    assert json.loads(json.dumps(found.content()))["worse"] is True


def test_what_is_verified_now_has_grown() -> None:
    found = compare(audit(finding(state=S)), audit(finding()))
    assert [change.word for change in found.changes] == ["grew"]
    assert compare(audit(finding(state=R)), audit(finding())).changes[0].word == "came"
    same = compare(audit(finding()), audit(finding()))
    assert not same.changes
    assert "No finding came" in same.summary()


def test_audits_are_read_from_their_folders(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(audit()))
    assert read_audit(tmp_path) == read_audit(tmp_path / "audit") == read_audit(tmp_path / "audit" / "audit.json")
    with pytest.raises(DataError, match="holds no audit"):
        read_audit(tmp_path / "nothing")
    (tmp_path / "audit" / "audit.json").write_text('{"schema": 0}')
    with pytest.raises(DataError, match="expected schema 1"):
        read_audit(tmp_path)
