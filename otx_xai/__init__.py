"""Explain trained vision models: any checkpoint in, saliency maps out.

    import otx_xai as xai

    explainer = xai.Explainer("model.xml", task=xai.Task.CLASSIFICATION)
    explanation = explainer(image, targets=["dog"], overlay=True)

Names are loaded on first use: importing the package loads neither torch nor lightning.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers know this name; typing costs more than all else that `otx --help` needs
if TYPE_CHECKING:
    from typing import Any

    __version__: str
    from otx_xai.audit.audit_result import Audit
    from otx_xai.callbacks import SaliencyCallback
    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.engine import Engine, ExplainRun
    from otx_xai.errors import OtxXaiError
    from otx_xai.explain import Explainer, insert_xai
    from otx_xai.explain.comparing import Comparison, compare
    from otx_xai.explain.explanation import Explanation
    from otx_xai.judging import Judgement
    from otx_xai.records import (
        AuditConfig,
        Colormap,
        DumpContent,
        ExplainConfig,
        ExplainMode,
        ImageFormat,
        InputOptions,
        Interpolation,
        Method,
        ResizeType,
        TargetExplainGroup,
        Task,
    )

_HOME = {
    "Audit": "otx_xai.audit.audit_result",
    "AuditConfig": "otx_xai.records",
    "SaliencyCallback": "otx_xai.callbacks",
    "Comparison": "otx_xai.explain.comparing",
    "compare": "otx_xai.explain.comparing",
    "OTXDataModule": "otx_xai.data.datamodule",
    "Engine": "otx_xai.engine",
    "ExplainRun": "otx_xai.engine",
    "OtxXaiError": "otx_xai.errors",
    "Explainer": "otx_xai.explain",
    "insert_xai": "otx_xai.explain",
    "Explanation": "otx_xai.explain.explanation",
    "Judgement": "otx_xai.judging",
    "Colormap": "otx_xai.records",
    "DumpContent": "otx_xai.records",
    "ExplainConfig": "otx_xai.records",
    "ExplainMode": "otx_xai.records",
    "ImageFormat": "otx_xai.records",
    "InputOptions": "otx_xai.records",
    "Interpolation": "otx_xai.records",
    "Method": "otx_xai.records",
    "ResizeType": "otx_xai.records",
    "TargetExplainGroup": "otx_xai.records",
    "Task": "otx_xai.records",
}

__all__ = [
    "Audit",
    "AuditConfig",
    "Colormap",
    "Comparison",
    "DumpContent",
    "Engine",
    "ExplainConfig",
    "ExplainMode",
    "ExplainRun",
    "Explainer",
    "Explanation",
    "ImageFormat",
    "InputOptions",
    "Interpolation",
    "Judgement",
    "Method",
    "OTXDataModule",
    "OtxXaiError",
    "ResizeType",
    "SaliencyCallback",
    "TargetExplainGroup",
    "Task",
    "__version__",
    "compare",
    "insert_xai",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("otx-xai")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0"


def __dir__() -> list[str]:
    return sorted(__all__)
