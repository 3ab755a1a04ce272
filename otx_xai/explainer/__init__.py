"""Where users of openvino_xai import from: ``from otx_xai.explainer import ExplainMode``."""

import sys

from otx_xai.explain import Explainer, ExplainMode, Explanation, explanation, insert_xai

__all__ = ["ExplainMode", "Explainer", "Explanation", "insert_xai"]

sys.modules[f"{__name__}.explanation"] = explanation  # from otx_xai.explainer.explanation import Explanation
