"""Which images findings name, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from otx_xai.audit.evidence_table import Evidence

EXAMPLES = 12
"""Images that a finding names at most."""


def examples(evidence: Evidence, images: Iterable[int] | NDArray[np.integer]) -> tuple[str, ...]:
    """Return the names of images, in their order, each once, at most :data:`EXAMPLES`.

    Args:
        evidence: that they are of.
        images: rows, the clearest first.
    """
    rows = images.tolist() if isinstance(images, np.ndarray) else images
    return tuple(evidence.names[row] for row in islice(dict.fromkeys(rows), EXAMPLES))


def falling(values: NDArray[np.floating], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the chosen rows, those of the largest values first; of equal values the first one."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-values[rows].astype(np.float64), kind="stable")].astype(np.int64)
