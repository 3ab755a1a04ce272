"""A layer of files that fails on demand: at one chosen operation a process is killed, paused, or told of an error.

It is laid over the files of a whole process, below the product, which has no hook for it.
"""

from __future__ import annotations

import builtins
import io
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Point = tuple[str, str, int]
"""What is done, to which file in the watched folder, and the how-manieth time: the same in every run."""

_NUMBERED = re.compile(r"\.[0-9a-f]{16}\.tmp$")


@dataclass(frozen=True)
class Fault:
    """What happens at one point.

    Args:
        point: where.
        kill: the process dies there, without a word.
        error: number of the error that the operation ends with; of a write the first half is written before.
        stays: every later operation that takes space fails alike: the disk is full.
        marker: the process makes this folder there, and waits until it is gone.
        meddle: what somebody else does to the file that is about to be read: ``vanish``, ``shorten``, ``overwrite``.
    """

    point: Point
    kill: bool = False
    error: int = 0
    stays: bool = False
    marker: str = ""
    meddle: str = ""


class FaultyFiles:
    """Watches what a process does to the files in a folder.

    Args:
        folder: watched.
        fault: happens; ``None``: nothing does, and the points are only listed.
        read: a folder of which reading is watched too.
    """

    def __init__(self, folder: Path, fault: Fault | None = None, read: Path | None = None) -> None:
        self._folder = os.path.realpath(folder)
        self._read = None if read is None else os.path.realpath(read)
        self._fault = fault
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.points: list[Point] = []
        self._failing = False

    def lay(self) -> None:
        """Lay the layer over this process, for the rest of its life."""
        opened = self._opened(io.open)
        builtins.open = io.open = opened
        os.open = self._low_opened(os.open)
        for name in ("replace", "rename", "symlink"):
            setattr(os, name, self._checked(name, getattr(os, name), 1))
        for name in ("unlink", "remove", "mkdir", "rmdir", "truncate"):
            setattr(os, name, self._checked(name, getattr(os, name), 0))
        shutil._use_fd_functions = False  # else files go by their names in an open folder, which tell no path

    def meet(self, kind: str, path: Any, torn: Callable[[], object] | None = None) -> None:
        """Come by a point: note it, and let happen what happens there."""
        name = self._name(path, self._read if kind == "read" else self._folder)
        if name is None:
            return
        with self._lock:
            number = self._seen[kind, name]
            self._seen[kind, name] += 1
            point = (kind, name, number)
            self.points.append(point)
        fault = self._fault
        if fault is None:
            return
        if fault.point == point:
            self._failing = fault.stays
            self._happen(fault, torn)
        elif self._failing and kind in ("open", "write", "mkdir", "symlink"):
            raise OSError(fault.error, os.strerror(fault.error), str(path))

    def _happen(self, fault: Fault, torn: Callable[[], object] | None) -> None:
        if fault.marker:
            Path(fault.marker).mkdir()
            while os.path.exists(fault.marker):
                time.sleep(0.005)
            return
        if fault.meddle:
            _meddle(Path(self._read or "", fault.point[1]), fault.meddle)
            return
        if torn is not None:
            torn()
        if fault.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(fault.error, os.strerror(fault.error), fault.point[1])

    def _name(self, path: Any, folder: str | None) -> str | None:
        """Return what a file in a folder is called, temporary ones by one name; ``None`` outside of it."""
        if isinstance(path, int) or folder is None:
            return None
        text = os.path.abspath(os.fsdecode(path))
        if text != folder and not text.startswith(folder + os.sep):
            return None
        return _NUMBERED.sub(".tmp", os.path.relpath(text, folder))

    def _checked(self, kind: str, function: Any, which: int) -> Any:
        def checked(*args: Any, **more: Any) -> Any:
            if not more.get("dir_fd"):
                self.meet(kind, args[which])
            return function(*args, **more)

        return checked

    def _low_opened(self, function: Any) -> Any:
        def opened(path: Any, flags: int, *args: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.meet("open", path)
            return int(function(path, flags, *args, **more))

        return opened

    def _opened(self, function: Any) -> Any:
        def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **more: Any) -> Any:
            if not set(mode) & set("wxa+"):
                self.meet("read", file)
                return function(file, mode, buffering, *args, **more)
            if self._name(file, self._folder) is None:
                return function(file, mode, buffering, *args, **more)
            self.meet("open", file)
            raw = _FaultyFile(self, file, mode.replace("b", "").replace("t", ""))
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **more)

        return opened


class _FaultyFile(io.FileIO):
    """A file whose writes and whose end are points."""

    def __init__(self, layer: FaultyFiles, path: Any, mode: str) -> None:
        super().__init__(path, mode)
        self._layer, self._path = layer, path

    def write(self, data: Any) -> int:
        half = bytes(data)[: len(data) // 2]
        self._layer.meet("write", self._path, lambda: super(_FaultyFile, self).write(half))
        return super().write(data) or 0

    def close(self) -> None:
        first = not self.closed
        super().close()
        if first:
            self._layer.meet("close", self._path)


def _meddle(path: Path, how: str) -> None:
    """Do to a file what other programs do."""
    if how == "vanish":
        path.unlink()
    elif how == "shorten":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.write_bytes(b"something else " * 100)
