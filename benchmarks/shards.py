"""What it costs to spread a run: scaling of a run that only sleeps, and what the process that hands out shards needs.

Shards are pretended: an image takes a fixed time to sleep, and parts are written as they are by a real run. So neither
cores nor the model limit anything, and what is measured is Ray, the foreman, and the files. Both are measured side by
side on a cluster of this machine.

    python benchmarks/shards.py [--shards 10000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

SECONDS_AN_IMAGE = 0.02
IMAGES_A_SHARD = 25
SHARDS = 48
"""Of the scaling: half a second each, so that 4 processes work for 6 s."""


def opener(work_dir: str, images: int, shards: int, seconds: float, cores: int) -> Callable[[Any], Any]:
    """Make a process ready that sleeps; sent by value, as everything in a script is."""
    from otx_xai.explain.run import ExplainRun
    from otx_xai.records import ImageInfo
    from otx_xai.shards.parts import Part, write_part
    from otx_xai.shards.shard_plan import join_plan

    infos = [ImageInfo(f"nowhere/{i:07}.jpg", f"{i:07}.jpg", f"{i:07}") for i in range(images)]
    plan = join_plan(Path(work_dir), {"fingerprint": "", "settings": {}}, {}, infos, shards)

    def explain(order: Any) -> ExplainRun:
        names = [image.info.name for image in plan.images_of(order.shard)]
        time.sleep(seconds * len(names))
        write_part(plan, order.shard, names, Part(tuple({"name": name, "files": []} for name in names), {}, 0.0))
        return ExplainRun(plan.work_dir, len(names), len(names), 0, {}, 0, 0.0)

    return explain


def spread(actors: int, shards: int, images_a_shard: int, seconds: float) -> tuple[float, float]:
    """Spread a pretended run; return its time from the moment all processes are ready, and the driver's own."""
    from otx_xai.records import RayOptions
    from otx_xai.shards.foreman import Foreman
    from otx_xai.shards.parts import missing_parts
    from otx_xai.shards.ray_crew import RayCrew
    from otx_xai.shards.shard_plan import read_plan

    with tempfile.TemporaryDirectory() as folder:
        opened = partial(opener, folder, shards * images_a_shard, shards, seconds)
        crew = RayCrew(opened, RayOptions("local", actors, 0.25))
        try:
            while crew.idle() < actors:
                crew.news(1.0)
            plan = read_plan(Path(folder))
            start, own = time.monotonic(), time.process_time()
            Foreman(plan, crew, Event(), lambda _: None).run()
            taken = time.monotonic() - start, time.process_time() - own
            assert not missing_parts(plan)
        finally:
            crew.close()
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000, help="of the second measurement")
    many = parser.parse_args().shards

    from otx_xai.shards.ray_crew import cluster

    with cluster("local"):
        ideal = SHARDS * IMAGES_A_SHARD * SECONDS_AN_IMAGE
        print(f"{SHARDS} shards of {IMAGES_A_SHARD} images that sleep {SECONDS_AN_IMAGE * 1000:g} ms each")
        print("| processes | seconds | ideal | of linear |\n|---|---|---|---|")
        for actors in (1, 2, 4):
            taken, _ = spread(actors, SHARDS, IMAGES_A_SHARD, SECONDS_AN_IMAGE)
            print(f"| {actors} | {taken:.2f} | {ideal / actors:.2f} | {ideal / actors / taken:.3f} |", flush=True)
        taken, own = spread(4, many, 4, 0.0)
        print(
            f"\n{many} shards that take no time, 4 processes: {taken:.1f} s, of which the driver computes {own:.1f} s: "
        )
        print(f"{own / many * 1e3:.2f} ms a shard, {own / many:.2%} of a shard that takes a second, times 4 processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
