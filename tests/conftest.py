"""Makes the helpers beside this file importable (``reference``, ``networks``), and keeps telemetry out of the tests."""

import os
import sys
from pathlib import Path

# OpenVINO forks the process for every event that it reports of an import or a conversion, unless it runs in CI; these
# forks took a third of the time of the suite.
os.environ["CI"] = "true"
sys.path.insert(0, str(Path(__file__).parent))

collect_ignore = ["clients"]  # they run in an environment of their own: make clients
