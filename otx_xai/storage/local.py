"""Files of this machine that are whole or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal


def replace_whole(path: str | Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that it is there as a whole or not at all, even if the process is killed.

    Folders are created as needed. An existing file is replaced.

    Args:
        path: where to.
        data: the content, or an iterable of its parts: what that raises leaves no file.

    Raises:
        OSError: the file cannot be written.
    """
    target = os.fspath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    try:
        write_in_folder(temporary, data, "xb")
        os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def write_in_folder(path: str | Path, data: bytes | Iterable[bytes], mode: Literal["wb", "xb"] = "wb") -> None:
    """Write a file; folders are created as needed.

    Args:
        path: where to.
        data: the content, or its parts.
        mode: of opening it.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        _write(path, data, mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
        _write(path, data, mode)


def _write(path: str | Path, data: bytes | Iterable[bytes], mode: Literal["wb", "xb"]) -> None:
    with open(path, mode) as file:
        file.writelines((data,) if isinstance(data, bytes) else data)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # the folder is gone or locked: the error that led here says so
        return
