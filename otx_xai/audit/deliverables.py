"""The files of an audit for programs and for people at work: tables, the list of labels to review, reports for CI."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from otx_xai.audit.findings import Finding, said
from otx_xai.audit.gates import Figure, GateResult, Verdict
from otx_xai.errors import DataError
from otx_xai.report.files import utf8, write_atomic
from otx_xai.storage import place_of, read_text

FINDINGS, REVIEW, SUMMARY, JUNIT, COCO = (
    "findings.jsonl",
    "label_review.csv",
    "summary.md",
    "junit.xml",
    "coco_results.json",
)
IMAGES = ("images.parquet", "images.jsonl")
"""The table of images: the first where pyarrow is installed, else the second."""

REVIEW_COLUMNS = ("image", "given", "suggested", "confidence", "reason", "box", "verdict")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_VERDICTS = ("given", "suggested")


def write_findings(folder: Path, findings: Iterable[Finding]) -> None:
    """Write ``findings.jsonl``: a finding a line.

    Raises:
        OutputError: it cannot be written.
    """
    lines = (json.dumps(one.content(), ensure_ascii=False) + "\n" for one in findings)
    write_atomic(folder / FINDINGS, utf8("".join(lines)))


def write_images(folder: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """Write the table of images, as Parquet where pyarrow is installed, else a JSON object a line.

    Args:
        folder: of the audit.
        columns: name → a value an image: numbers, texts, or lists of them.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        from pyarrow import BufferOutputStream, parquet, table
    except ImportError:
        path = folder / IMAGES[1]
        rows = zip(*columns.values(), strict=True)
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
        write_atomic(path, utf8("".join(lines)))
        return path
    path, sink = folder / IMAGES[0], BufferOutputStream()
    parquet.write_table(table({name: list(map(_clean, values)) for name, values in columns.items()}), sink)
    write_atomic(path, sink.getvalue().to_pybytes())
    return path


def write_review(folder: Path, rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Write ``label_review.csv``, whose last column a person fills.

    Cells that a spreadsheet would take for formulas get an apostrophe in front, which :func:`read_review` takes off.

    Args:
        folder: of the audit.
        rows: :data:`REVIEW_COLUMNS` of each label that is in doubt, classes by number; what is missing stays empty.
        labels: class names.

    Raises:
        OutputError: it cannot be written.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(REVIEW_COLUMNS)
    for row in rows:
        named = {key: labels[row[key]] if row.get(key, -1) >= 0 else "" for key in _VERDICTS}
        cells = dict(row) | named
        writer.writerow([_defused(cells.get(name, "")) for name in REVIEW_COLUMNS])
    write_atomic(folder / REVIEW, utf8(out.getvalue()))


def read_review(path: str | Path, labels: Sequence[str]) -> dict[str, int]:
    """Read the labels that a person has decided on in a ``label_review.csv``.

    Args:
        path: the file. The column ``verdict`` holds ``given``, ``suggested`` or a class name; lines where it is empty
            are left as they are, and so are those of boxes.
        labels: class names of the model.

    Returns:
        Name of an image → its class.

    Raises:
        DataError: the file cannot be read, a column is missing, or a verdict is no class.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(place_of(path)))))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"The review {str(path)!r} cannot be read: {error}. Expected {REVIEW} of an audit.") from error
    if rows and not {"image", "given", "suggested", "verdict"} <= rows[0].keys():
        raise DataError(f"{str(path)!r} is no review; expected the columns {', '.join(REVIEW_COLUMNS)}.")
    numbers = {label: number for number, label in reversed(list(enumerate(labels)))}
    decided = {}
    for number, row in enumerate(rows, 2):
        verdict = _fused(row["verdict"]).strip()
        if not verdict or (row.get("box") or "").strip():
            continue
        name = _fused(row[verdict.lower()]) if verdict.lower() in _VERDICTS else verdict
        if name not in numbers:
            raise DataError(
                f"Line {number} of {str(path)!r} says {verdict!r}; expected 'given', 'suggested', a class name of the "
                "model, or nothing."
            )
        decided[_fused(row["image"])] = numbers[name]
    return decided


def write_summary(
    folder: Path,
    title: str,
    verdict: Verdict,
    figures: Sequence[Figure],
    findings: Sequence[Finding],
    gates: Sequence[GateResult],
    notes: Sequence[str] = (),
) -> None:
    """Write ``summary.md``, to be put into a pull request; notes say what could not be asked or checked.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [f"# Audit of {_marked(title)}", "", f"**{str(verdict.state).upper()}** {_marked(verdict.sentence)}", ""]
    lines += ["| figure | value | n |", "|---|---|---|"]
    lines += [f"| {_marked(figure.label)} | {said(figure.effect)} | {figure.effect.n} |" for figure in figures]
    if gates:
        lines += ["", "| gate | | why |", "|---|---|---|"]
        lines += [
            f"| `{_marked(gate.gate)}` | {'passed' if gate.passed else '**failed**'} | {_marked(gate.why)} |"
            for gate in gates
        ]
    lines += ["", "## Findings", ""]
    lines += [f"- **{one.state}** {one.kind}: {_marked(one.statement)} {_marked(one.suggestion)}" for one in findings]
    if not findings:
        lines.append("None.")
    if notes:
        lines += ["", "## Not asked, or not checked", "", *(f"- {_marked(note)}" for note in notes)]
    write_atomic(folder / SUMMARY, utf8("\n".join(lines) + "\n"))


def write_junit(folder: Path, gates: Sequence[GateResult], findings: Sequence[Finding]) -> None:
    """Write ``junit.xml``: a test case a gate, which CI servers show; without gates one for each verified finding.

    Raises:
        OutputError: it cannot be written.
    """
    cases = [(gate.gate, "" if gate.passed else gate.why) for gate in gates]
    if not gates:
        cases = [(one.key, one.statement) for one in findings if one.state == "verified"]
    failed = str(sum(bool(why) for _, why in cases))
    suite = ElementTree.Element("testsuite", name="otx audit", tests=str(len(cases)), failures=failed)
    for name, why in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="audit", name=_printable(name))
        if why:
            ElementTree.SubElement(case, "failure", message=_printable(why))
    write_atomic(folder / JUNIT, ElementTree.tostring(suite, "utf-8", xml_declaration=True))


def _defused(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fused(text: str | None) -> str:
    text = text or ""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _marked(text: str) -> str:
    """Return text without what Markdown would read as markup, on one line."""
    shown = " ".join(text.split())
    for mark in "\\`*_<>[]|#":
        shown = shown.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return shown


def _printable(text: str) -> str:
    """Return text that XML can hold: control characters and lone surrogates are escaped."""
    return "".join(letter if letter.isprintable() or letter in "\t\n" else ascii(letter)[1:-1] for letter in text)


def _clean(value: object) -> object:
    """Return a value whose text is valid UTF-8: file names may not be."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
