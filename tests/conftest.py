"""Makes the helpers beside this file importable (``reference``, ``networks``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore = ["clients"]  # they run in an environment of their own: make clients
