"""The road for one model in hand: :class:`Explainer`, :func:`insert_xai`, and the stages that they share."""

from otx_xai.explain.explainer import Explainer
from otx_xai.explain.explanation import Explanation
from otx_xai.explain.insertion import insert_xai
from otx_xai.records import ExplainMode

__all__ = ["ExplainMode", "Explainer", "Explanation", "insert_xai"]
