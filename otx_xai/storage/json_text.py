"""JSON, and one kind of error for all that is none."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return the value that a text is.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested so deep that Python gives up.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
