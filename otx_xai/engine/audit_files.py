"""The last stage of ``Engine.audit``: what is said of an audit, and the files that say it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from otx_xai.audit.audit_result import Audit
from otx_xai.audit.comparison import AUDIT, SCHEMA
from otx_xai.audit.deliverables import (
    COCO,
    write_findings,
    write_images,
    write_junit,
    write_review,
    write_summary,
)
from otx_xai.audit.evidence_reading import Stored
from otx_xai.audit.evidence_table import NO_CLASS, Evidence
from otx_xai.audit.page_rows import Shown, page_images
from otx_xai.audit.questions import Answers
from otx_xai.page.write_page import write_page
from otx_xai.records import AuditReport, FloatArray, ImageInfo
from otx_xai.report.files import write_json
from otx_xai.report.manifest import plain, versions
from otx_xai.settings import AuditSettings, absolute
from otx_xai.storage import Place, is_url

_TOLD = (
    "max_images",
    "check_images",
    "explain_method",
    "target_layer",
    "preset",
    "confidence_threshold",
    "fail_on",
    "seed",
    "device",
    "report",
)
"""Settings that the page tells: those that figures depend on, and no paths."""


@dataclass(frozen=True, eq=False)
class Told:
    """What an audit rests on, for the record: names, and no paths.

    Args:
        settings: of the audit.
        model_name: file of the model; empty of one in hand.
        baseline_name: file of the baseline; empty without one.
        data_name: folder of the data; empty of a loader.
        method: what made the maps.
        reason: why this method.
        task: of the model.
        passes: number of changed images that checks have shown the model.
    """

    settings: AuditSettings
    model_name: str
    baseline_name: str
    data_name: str
    method: str
    reason: str
    task: str
    passes: int

    @property
    def title(self) -> str:
        """What the audit is called."""
        return f"{self.model_name or 'a model'} on {self.data_name or 'its data'}"


def write_audit(
    folder: Path, audit: Audit, answers: Answers, told: Told, stored: Stored, images: Sequence[ImageInfo] | None
) -> None:
    """Write everything that an audit leaves, the page last.

    Args:
        folder: in which the audit is made.
        audit: what was found.
        answers: of the questions.
        told: what it rests on.
        stored: files of the evidence.
        images: those of the data, which the page links to; ``None``: it links to none.

    Raises:
        OutputError: a file cannot be written.
    """
    content = content_of(audit, answers, told)
    shown = Shown(
        answers.cases.tolist(),
        audit.findings,
        () if images is None else links(answers.evidence, images, audit.folder),
        answers.values,
        answers.found_faults,
        answers.object_faults,
        answers.baseline,
        answers.least_box,
        answers.slice_images,
    )
    write_json(folder / AUDIT, content)
    write_findings(folder, audit.findings)
    write_images(folder, image_columns(answers))
    write_review(folder, answers.review, answers.evidence.labels)
    if answers.coco is not None:
        write_json(folder / COCO, answers.coco)
    figures = tuple(audit.metrics.values())
    write_summary(folder, told.title, audit.verdict, figures, audit.findings, audit.gates, audit.notes)
    write_junit(folder, audit.gates, audit.findings)
    report = told.settings.report
    pixels = None if report is AuditReport.NOIMAGES else stored.thumbnails()
    write_page(folder, content, page_images(answers.evidence, shown, pixels), kind=report.value)


def content_of(audit: Audit, answers: Answers, told: Told) -> dict[str, Any]:
    """Return what ``audit.json`` holds, in the terms of JSON; ``docs/reference/audit.md`` describes it."""
    evidence = answers.evidence
    settings = plain({name: getattr(told.settings, name) for name in _TOLD})
    return {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "title": told.title,
        "task": told.task,
        "multilabel": evidence.multilabel,
        "verdict": audit.verdict.content(),
        "figures": [figure.content() for figure in audit.metrics.values()],
        "gates": [gate.content() for gate in audit.gates],
        "findings": [finding.content() for finding in audit.findings],
        "notes": list(audit.notes),
        "model": {
            "name": told.model_name,
            "task": told.task,
            "classes": len(evidence.labels),
            "input": list(evidence.geometry.size),
            "method": f"{told.method} ({told.reason})" if told.reason else told.method,
            **({"baseline": told.baseline_name} if told.baseline_name else {}),
        },
        "data": {
            "name": told.data_name,
            "images": len(evidence),
            "failed": len(audit.failures),
            "labelled": int(evidence.is_labelled.sum()),
            "boxes": 0 if evidence.objects is None else len(evidence.objects),
            "check_passes": told.passes,
        },
        "failures": [{"name": name, "error": error} for name, error in audit.failures.items()],
        "labels": list(evidence.labels),
        "cases": answers.case_counts,
        **_with_baseline(answers.tables, told),
        "label_review": list(answers.review),
        "versions": versions(),
        "settings": settings,
        "seconds": round(audit.seconds, 3),
    }


def _with_baseline(tables: Mapping[str, Any], told: Told) -> dict[str, Any]:
    drift = tables["drift"]
    return dict(tables) | {"drift": drift and {"baseline": told.baseline_name, **drift}}


def image_columns(answers: Answers) -> dict[str, list[Any]]:
    """Return the table of images, name → a value an image."""
    evidence = answers.evidence
    columns: dict[str, list[Any]] = {
        "name": list(evidence.names),
        "height": evidence.sizes[:, 0].tolist(),
        "width": evidence.sizes[:, 1].tolist(),
        "case": answers.cases.tolist(),
        "given": [[target for target in row if target != NO_CLASS] for row in evidence.given.tolist()],
    }
    if evidence.best.shape[1]:
        columns |= {
            "predicted": evidence.predicted.tolist(),
            "score": _numbers(evidence.best_scores[:, 0]),
            "given_score": _numbers(evidence.given_scores[:, 0]),
        }
    columns |= {name: _numbers(own) for name, own in (dict(evidence.looks) | dict(answers.values)).items()}
    return columns | {f"slice_{name}": list(values) for name, values in evidence.metadata.items()}


def links(evidence: Evidence, images: Sequence[ImageInfo], folder: Place) -> list[str]:
    """Return where the original of each image is, relative to the page, with ``/``.

    Empty where the way leads through the root of the file system: it would spell the whole path; and where one of the
    two is in a store, and the other is not in the same bucket.
    """
    files: Mapping[str, str] = {image.name: absolute(image.file) for image in images}
    here = absolute(str(folder))
    return [_link(files[name], here) for name in evidence.names]


def _link(file: str, folder: str) -> str:
    if is_url(file) or is_url(folder):
        store, _, inner = file.partition("://")
        other, _, page = folder.partition("://")
        if store != other or inner.partition("/")[0] != page.partition("/")[0]:
            return ""
        return quote(posixpath.relpath(inner, page))
    try:
        shared = os.path.commonpath([file, folder])
    except ValueError:  # on another drive
        return ""
    is_root = os.path.dirname(shared) == shared
    return "" if is_root else os.path.relpath(file, folder).replace(os.sep, "/")


def _numbers(values: FloatArray) -> list[float | None]:
    """Return numbers as Python's own; ``None`` where they are not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]
