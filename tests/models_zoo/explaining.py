"""Explain a model of the zoo as a user would, and read what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

SECONDS = 400
"""A command is ended after as long."""

_COMMAND = """
import logging, sys
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s", stream=sys.stderr)
from otx_xai.cli import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Run:
    """What a run left.

    Args:
        code: how it ended.
        log: all that it wrote to standard error.
        lines: of ``predictions.jsonl``.
        folder: of the run.
        seconds: of the whole command.
    """

    code: int
    log: str
    lines: list[dict[str, Any]]
    folder: Path
    seconds: float

    @property
    def warnings(self) -> list[str]:
        """What it warned of."""
        logged = [line for line in self.log.splitlines() if line.startswith("WARNING")]
        return logged + [word for line in self.lines for word in line.get("warnings", [])]

    @property
    def error(self) -> str:
        """The last line of the log, which says what went wrong."""
        return self.log.strip().splitlines()[-1] if self.log.strip() else f"exit code {self.code}, and not a word"

    def flat_maps(self) -> list[str]:
        """Return what was explained but has no map, or one that is the same everywhere."""
        flat = [name for line in self.lines for name in line["files"] if _is_flat(self.folder / name)]
        bare = [line["name"] for line in self.lines if len(line["files"]) < max(1, len(line["targets"]))]
        return flat + bare


def explain(checkpoint: Path, pictures: Path, folder: Path, *options: str) -> Run:
    """Run ``otx explain`` in a process of its own."""
    words = ["explain", "--checkpoint", checkpoint, "--data_root", pictures, "--work_dir", folder]
    words += ["--dump", "True", "--explain_config.content", "maps", "--resume", "False", *options]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=os.environ | {"CI": "true"},
            check=False,
        )
        code, log = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        code, log = -1, f"ended after {SECONDS} seconds"
    seconds = time.monotonic() - began
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text(log)
    journal = folder / "predictions.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if code >= 0 and journal.exists() else []
    return Run(code, log, lines, folder, seconds)


def _is_flat(file: Path) -> bool:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return picture is None or int(picture.max()) == int(picture.min())
