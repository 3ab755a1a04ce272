"""Spreads a run over a cluster as ``otx explain --ray`` does, with processes that stop, or die, where they are told.

The only argument is JSON: ``settings`` (of ``ExplainSettings``), ``ray`` (of ``RayOptions``), and what is told to the
processes: ``point`` and ``marker``, where the first one waits to be killed, having written its number into the file;
``lethal``, names of images that kill; ``sleep``, seconds that an image takes.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any


def opener(told: dict[str, Any], settings: Any, cores: int) -> Any:
    """Make a process ready, and let it do as told; sent by value, as everything in a script is."""
    import os
    import signal
    import time

    from otx_xai.engine.ray_job import open_shards
    from otx_xai.explain import run_sources
    from otx_xai.report import Journal
    from otx_xai.shards import shard_plan, shard_run
    from otx_xai.storage import is_url

    def pause() -> None:
        try:
            file = os.open(told["marker"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        os.write(file, f"{os.getpid()}\n".encode())
        time.sleep(600)

    def around(module: Any, name: str, before: bool) -> None:
        inner = getattr(module, name)

        def paused(*args: Any, **more: Any) -> Any:
            if before:
                pause()
            result = inner(*args, **more)
            if not before:
                pause()
            return result

        setattr(module, name, paused)

    read = run_sources.read_for_network

    def reading(file: str, *more: Any) -> Any:
        time.sleep(told.get("sleep", 0))
        if file.endswith(tuple(told.get("lethal", ()))) and told.get("lethal"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return read(file, *more)

    run_sources.read_for_network = reading
    places: dict[str, tuple[Any, str, bool]] = {
        "plan": (shard_plan, "write_object" if is_url(settings.work_dir) else "write_lines", True),
        "mid": (Journal, "append", False),
        "before": (shard_run, "write_part", True),
        "after": (shard_run, "write_part", False),
    }
    if told.get("point"):
        around(*places[told["point"]])
    return open_shards(settings, cores)


def main() -> int:
    import logging

    from otx_xai.cli import main as otx  # noqa: F401 - what the command imports
    from otx_xai.engine.ray_job import explain_on_ray
    from otx_xai.errors import OtxXaiError
    from otx_xai.records import RayOptions
    from otx_xai.settings import ExplainSettings
    from otx_xai.storage import place_of

    told = json.loads(sys.argv[1])
    logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
    settings = ExplainSettings(**told["settings"], ray=RayOptions(**told["ray"]))
    try:
        done = explain_on_ray(settings, place_of(told["settings"]["work_dir"]), partial(opener, told))
    except OtxXaiError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(done.summary())
    return done.exit_code


if __name__ == "__main__":
    sys.exit(main())
