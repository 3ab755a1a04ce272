"""The engine: one method a job, each a list of stages.

``engine.py`` holds the class, ``*_jobs.py`` its methods, ``*_job.py``, ``explaining.py`` and ``training.py`` the
stages, and ``workspace.py`` the folders of runs.
"""

from otx_xai.engine.engine import Engine
from otx_xai.explain.run import ExplainRun

__all__ = ["Engine", "ExplainRun"]
