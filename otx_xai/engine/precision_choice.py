"""The stage of a job that decides what numbers the device computes with, where that is left open."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from otx_xai.explain.plan import Plan
from otx_xai.explain.precision import Measured, fewer_bits, measure
from otx_xai.process import one_thread_each
from otx_xai.records import Precision
from otx_xai.report.manifest import Manifest
from otx_xai.runtime import Session

logger = logging.getLogger("otx_xai")

_ENTRY = "precision"
"""Entry of a manifest that holds what was measured."""


def settle(
    exact: Session,
    plan: Plan,
    device: str,
    images: Sequence[Any],
    *,
    loader: Any = None,
    normalised: bool = False,
    kept: Mapping[str, Any] | None = None,
) -> tuple[Session, Mapping[str, Any]]:
    """Decide between float32 and fewer bits by the first images of a run.

    Args:
        exact: the plan, compiled in float32.
        plan: what explains.
        device: OpenVINO device.
        images: of the run.
        loader: gives their pixels.
        normalised: it gives what the network is fed.
        kept: what was decided before, as it was returned.

    Returns:
        The session to explain with, and what was measured, in the terms of JSON.

    Raises:
        ConfigError: what was decided before is nothing that the device can.
    """

    def compiled(precision: Precision) -> Session:
        return plan.compiled(device, as_images=not normalised, latency=False, precision=precision)

    if kept is not None:
        taken = Precision(kept["taken"])
        logger.info("Precision: %s, which an earlier part of this run has found out.", taken)
        return (exact if taken is Precision.F32 else compiled(taken)), kept
    fewer = fewer_bits(device)
    if fewer is None:
        measured, fast = Measured(Precision.F32), exact
    else:
        fast = compiled(fewer)
        with one_thread_each():
            measured = measure(plan, exact, fast, fewer, images, loader)
    logger.info("Precision: %s", measured.sentence())
    return (exact if measured.precision is Precision.F32 else fast), measured.entry()


def settled(
    exact: Session,
    plan: Plan,
    told: Precision,
    device: str,
    images: Sequence[Any],
    manifest: Manifest,
    *,
    loader: Any = None,
    normalised: bool = False,
    resume: bool = True,
) -> Session:
    """Return the session that a run explains with: where the precision is left open, decide it and tell its manifest.

    Args:
        exact: the plan, compiled in what the user says, or in float32.
        plan: what explains.
        told: what the user says of the precision.
        device: OpenVINO device.
        images: of the run.
        manifest: of the run.
        loader: see :func:`settle`.
        normalised: see :func:`settle`.
        resume: a run that goes on keeps what it has found out.
    """
    if told is not Precision.AUTO:
        return exact
    kept = manifest.kept(_ENTRY) if resume else None
    session, entry = settle(exact, plan, device, images, loader=loader, normalised=normalised, kept=kept)
    manifest.note(**{_ENTRY: entry})
    return session
