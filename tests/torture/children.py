"""``otx`` in processes of its own, by the hundred: each is forked from one that has loaded everything already."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRELOADED = (
    "otx_xai.cli.explain",
    "otx_xai.cli.audit",
    "otx_xai.engine.explaining_jobs",
    "otx_xai.engine.judging_jobs",
    "otx_xai.engine.audit_job",
    "otx_xai.engine.judge_job",
    "otx_xai.neighbours.all_hints",
    "otx_xai.model.opening",
    "otx_xai.model.formats",
    "otx_xai.methods.table",
    "openvino",
    "PIL.Image",
    "tifffile",
    "filelock",
    "jsonargparse",
    "attr",
    "tqdm.contrib.logging",
    "cv2",
    "yaml",
)

_context = multiprocessing.get_context("forkserver")

_LOST = 255
"""What ``multiprocessing`` says where the server that forks cannot say how a process ended, once in some hundreds."""

_write = os.write
"""As it is before a job takes place on a disk that fails."""


def prepare(*more: str) -> None:
    """Say what else is loaded before processes are forked; counts before the first of them only."""
    os.environ |= {"CI": "true", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    _context.set_forkserver_preload([*PRELOADED, *more])


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: its exit code; of one that a signal killed the signal's number, negative.
        said: what it wrote to stdout and stderr.
    """

    code: int
    said: str

    @property
    def fault(self) -> str:
        """What is wrong with how it ended: empty of a documented exit code that says why."""
        if "Traceback" in self.said or "internal error" in self.said:
            return "a traceback: " + self.said.strip().splitlines()[-1]
        if self.code not in (0, 2, 3, 5, 6, 7, 8, 130):
            return f"exit code {self.code}"
        if self.code not in (0, 7, 8, 130) and self.said.count("otx: error: ") != 1:
            return f"exit code {self.code} without a reason"
        return ""


class Child:
    """A process that runs a function of a module, and writes what it says to a file.

    Args:
        function: of a module.
        arguments: of it, to be pickled.
        log: where what it says is written.
    """

    def __init__(self, function: Callable[..., int], arguments: Sequence[Any], log: Path) -> None:
        self._log = log
        self._process = _context.Process(target=_live, args=(function, tuple(arguments), str(log)))
        self._process.start()

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def end(self, timeout: float = 120) -> Ended:
        """Wait for its end; it is killed after ``timeout`` seconds, and -9 is its code then, too."""
        self._process.join(timeout)
        hangs = self._process.is_alive()
        if hangs:
            self._process.kill()
            self._process.join()
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        code = self._process.exitcode
        self._process.close()
        own = _code_file(str(self._log))
        if code == _LOST:
            code = int(own.read_text() or -9) if own.exists() else -9
        own.unlink(missing_ok=True)
        return Ended(-99 if hangs else -1 if code is None else code, said)


def _code_file(log: str) -> Path:
    """Return where a process writes its exit code; it stays empty where the process is killed."""
    return Path(f"{log}.code")


def _live(function: Callable[..., int], arguments: tuple[Any, ...], log: str) -> None:
    """Run in the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    own = os.open(_code_file(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    code = 1
    try:
        code = function(*arguments)
    except BaseException:  # noqa: BLE001 - whatever it is, the other process reads it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    _write(own, str(code).encode())
    os._exit(code)
