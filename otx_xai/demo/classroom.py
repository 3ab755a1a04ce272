"""Where the demos train: on few threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from otx_xai.errors import ConfigError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "logger": False}
"""Arguments of Lightning's Trainer."""


@contextmanager
def classroom(threads: int = 1) -> Iterator[None]:
    """Train on few threads: small layers gain little from more, and lose much where cores are busy.

    Args:
        threads: as many at most, and no more than there are cores.

    Raises:
        ConfigError: torch or Lightning is missing.
    """
    try:
        import lightning  # noqa: F401
        import torch
    except ImportError as error:
        raise ConfigError(
            f"The demo trains a network, and {error.name} is not installed. Run: pip install otx-xai[train]"
        ) from error
    before = torch.get_num_threads()
    torch.set_num_threads(min(threads, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
