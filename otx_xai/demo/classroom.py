"""Where the demos train: on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from otx_xai.errors import ConfigError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "logger": False}
"""Arguments of Lightning's Trainer."""


@contextmanager
def classroom() -> Iterator[None]:
    """Train on one thread: layers this small gain little from two, and lose much where cores are busy.

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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
