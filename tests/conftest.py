"""Makes the helpers beside this file importable (``reference``, ``networks``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
