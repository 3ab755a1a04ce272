"""The engine: one method a job, each a list of stages.

``engine.py`` holds the class, ``explaining.py`` and ``training.py`` the stages, ``workspace.py`` the folders of runs.
"""

from otx_xai.engine.engine import Engine
from otx_xai.explain.run import ExplainRun

__all__ = ["Engine", "ExplainRun"]
