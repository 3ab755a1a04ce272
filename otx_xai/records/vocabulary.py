"""Types that arrays and users' words have, and names of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Size = tuple[int, int]

Target = int | np.integer[Any] | str
"""One class as users say it: its index or its name."""
Targets = Target | Sequence[Target] | NDArray[np.integer[Any]] | None
"""Classes as users say them: indices, names, ``"a,b"``, -1 for all, or a word such as ``"predicted"``."""
Labels = str | Path | Sequence[str] | None
"""Class names as users give them: a file, ``"a,b"``, or the names; ``None``: those that the model knows."""

SALIENCY_MAP = "saliency_map"
"""Output of a model: its maps. This and the next are the names that OTX and Model API know."""
FEATURE_VECTOR = "feature_vector"
SALIENCY_TARGETS = "saliency_targets"
"""Output of a model: the classes of its maps, where the graph chose them."""
SCORES = "saliency_scores"
"""Output of a classifier: probabilities, whatever its own output is."""
XAI_OUTPUTS = frozenset({SALIENCY_MAP, FEATURE_VECTOR, SALIENCY_TARGETS, SCORES})
