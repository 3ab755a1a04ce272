"""From a model to the plan that explains it, as benchmarks want it: in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov

from otx_xai.explain.plan import How, Plan, plan
from otx_xai.model import Model, ModelOptions, open_model
from otx_xai.records import InputOptions, Task


def opened(
    model: str | Path | ov.Model, task: Task | None = None, labels: Any = None, options: InputOptions | None = None
) -> Model:
    """Open a model."""
    return open_model(model, ModelOptions(task, labels, options or InputOptions()))


def planned(
    model: str | Path | ov.Model,
    *,
    task: Task | None = None,
    labels: Any = None,
    options: InputOptions | None = None,
    targets: Any = None,
    method_options: dict[str, Any] | None = None,
    **how: Any,
) -> Plan:
    """Open a model, and choose what explains it."""
    return plan(opened(model, task, labels, options), How(options=method_options or {}, **how), targets=targets)
