"""Memory over time: one ``Explainer`` thousands of times, alone and from eight threads, and ten thousand images.

Run it with ``python tests/torture/memory.py``. It fails where memory grows.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import classifiers

MOST_GROWTH = 1024
"""Bytes a call by which the resident memory may grow on average: less than any array that a call makes."""
MOST_RATIO = 1.05
"""Peak of a run of many images, as a multiple of that of a hundred."""
THREADS = 8


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def growth(explain: Callable[[], object], calls: int) -> tuple[float, int]:
    """Call something again and again.

    Args:
        explain: the call.
        calls: how many; the first fifth warms up, and does not count.

    Returns:
        Slope of the resident memory in bytes a call, and the memory at the end in bytes.
    """
    every = max(1, calls // 200)
    places, sizes = [], []
    for number in range(calls):
        explain()
        if number >= calls // 5 and number % every == 0:
            places.append(number)
            sizes.append(resident())
    return float(np.polyfit(places, sizes, 1)[0]), sizes[-1]


def peak(model: Path, photos: Path, work_dir: Path) -> tuple[int, float]:
    """Return the peak memory of a run in bytes, and its processor time in seconds."""
    argv = ["explain", "--checkpoint", model, "--data_root", photos, "--dump", "True", "--work_dir", work_dir]
    with subprocess.Popen(
        [sys.executable, "-m", "otx_xai.cli", *map(str, argv)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the run of {photos} ended with {process.returncode}")
    return used.ru_maxrss * 1024, used.ru_utime + used.ru_stime


def _photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    encoded = cv2.imencode(".jpg", classifiers.coloured_image((48, 64))[..., ::-1])[1].tobytes()
    for number in range(count):
        (folder / f"{number:05}.jpg").write_bytes(encoded)
    return folder


def _of_one(model: Path, calls: int) -> list[str]:
    from otx_xai import Explainer

    explainer = Explainer(model)
    picture = classifiers.coloured_image((48, 64))
    slope, size = growth(lambda: explainer(picture), calls)
    print(f"one Explainer, {calls} calls: {slope:+.0f} bytes a call, {size >> 20} MiB at the end", flush=True)
    found = [] if slope <= MOST_GROWTH else [f"one Explainer grows by {slope:.0f} bytes a call"]
    expected = explainer(picture).saliency_map
    differing: list[int] = []

    def work(count: int) -> None:
        for _ in range(count):
            maps = explainer(picture).saliency_map
            if any(not np.array_equal(maps[key], expected[key]) for key in expected):
                differing.append(1)

    _in_threads(lambda: work(calls // THREADS // 5))  # each thread gets memory of its own at first
    before = resident()
    _in_threads(lambda: work(calls // THREADS))
    grown = (resident() - before) / calls
    print(f"{THREADS} threads, {calls} calls: {grown:+.0f} bytes a call, {len(differing)} differ", flush=True)
    found += [] if grown <= MOST_GROWTH else [f"{THREADS} threads grow by {grown:.0f} bytes a call"]
    return found + ([f"{len(differing)} maps of threads differ"] if differing else [])


def _in_threads(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work) for _ in range(THREADS)]:
            future.result()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as place:
        model = classifiers.save_colour_classifier(Path(place, "colours.xml"), "red green blue deep_purple")
        began = time.process_time()
        found += _of_one(model, options.calls)
        print(f"processor time: {time.process_time() - began:.0f} s", flush=True)
        few, _ = peak(model, _photos(Path(place, "few"), 100), Path(place, "out_few"))
        many, seconds = peak(model, _photos(Path(place, "many"), options.images), Path(place, "out_many"))
        ratio = many / few
        print(
            f"{options.images} images: peak {many >> 20} MiB, of 100 images {few >> 20} MiB, ratio {ratio:.3f}; "
            f"{seconds:.0f} s of processor time"
        )
        found += [] if ratio <= MOST_RATIO else [f"{options.images} images take {ratio:.3f} of the memory of 100"]
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
