"""What the processes of the torture suite run."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from torture.faulty_files import Fault, FaultyFiles


def command(
    argvs: Sequence[Sequence[str]], folder: str, fault: Fault | None = None, points: str = "", read: str | None = None
) -> int:
    """Run ``otx`` over files that fail, several times if need be, up to the first that does not end well.

    Args:
        argvs: its arguments, each time.
        folder: where files are watched.
        fault: what happens, where.
        points: the points that it came by are written to this file at its end.
        read: a folder of which reading is watched too.
    """
    from otx_xai.cli import main

    layer = FaultyFiles(Path(folder), fault, None if read is None else Path(read))
    write = os.open(points, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if points else None
    layer.lay()
    code = 0
    for argv in argvs:
        code = code or main(list(argv))
    if write is not None:
        os.write(write, json.dumps(layer.points).encode())
    return code


def jumping(argv: Sequence[str], seed: int) -> int:
    """Run ``otx`` while the clock jumps by up to a year at every look, back and forth."""
    from otx_xai.cli import main
    from otx_xai.report import manifest

    rng = random.Random(seed)
    right = time.time

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=_jump(rng))

    time.time = lambda: right() + _jump(rng)
    manifest.datetime = Jumping
    return main(list(argv))


def _jump(rng: random.Random) -> float:
    return rng.choice((-1, 1)) * rng.random() * 365 * 24 * 3600
