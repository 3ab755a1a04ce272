"""What an audit costs beside `otx explain`, and an audit of ten thousand images from its first one to its open page.

    python benchmarks/audit_pass.py [--images 300] [--rounds 5] [--many 10000] [--checkpoint model.xml …]

First: processor time an image of the pass that takes the evidence of an audit, over that of `otx explain` of the same
method without pictures, for the one that both choose by themselves and for the cheapest. Both take turns in one
process, each with a few and with many images, so that opening, compiling and ending do not count. Nothing is labelled:
images that are classified wrongly get a second look for the maps of their labels, which is one pass more for these.

Then a whole audit of many drawn images by a network that takes next to no time: processor and wall time of the
evidence and of what follows it, sizes of what is written, and with Playwright and Chromium (`make page` installs the
former into .browser) when its page stands, and how much memory its tab takes.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import classifiers
from end_to_end import INPUT, make_images, make_model

from otx_xai.audit.audit_result import FOLDER
from otx_xai.engine import Engine, audit_job
from otx_xai.engine.evidence_job import EVIDENCE

FEW = 20
"""Images of the shorter run of each pair."""
CHEAPEST = "reciprocam"
"""Method beside which anything else that is done to an image stands out most."""
GOAL = 1.05
"""By the method that both choose by themselves."""


class _GatheredError(Exception):
    """The evidence is there; what an audit does with it is not measured."""


def explain(checkpoint: Path, method: str | None, images: Path, work_dir: Path) -> None:
    """Explain without pictures."""
    Engine(work_dir=work_dir).explain(
        checkpoint, data_root=images, input=INPUT, explain_method=method, keep_explanations=False, resume=False
    )


def gather(checkpoint: Path, method: str | None, images: Path, work_dir: Path) -> None:
    """Take the evidence of an audit."""
    asked = audit_job.ask

    def stop(*_: object, **__: object) -> None:
        raise _GatheredError

    audit_job.ask = stop  # type: ignore[assignment]
    try:
        Engine(work_dir=work_dir).audit(checkpoint, data_root=images, input=INPUT, explain_method=method, resume=False)
    except _GatheredError:
        pass
    finally:
        audit_job.ask = asked


def cost(work: Callable[[Path, Path], None], few: Path, many: Path, images: int, work_dir: Path) -> float:
    """Return the processor time of an image more, in seconds."""
    used = []
    for folder in (few, many):
        start = time.process_time()
        work(folder, work_dir)
        used.append(time.process_time() - start)
        shutil.rmtree(work_dir)
    return (used[1] - used[0]) / (images - FEW)


def compare(checkpoint: Path, method: str | None, root: Path, images: int, rounds: int) -> float:
    """Print the cost of both, and return their ratio."""
    costs: list[tuple[float, float]] = []
    for _ in range(rounds):
        works = (partial(work, checkpoint, method) for work in (explain, gather))
        costs.append(tuple(cost(work, root / "few", root / "many", images, root / "out") for work in works))  # type: ignore[arg-type]
    plain, evidence = (1000 * median(column) for column in zip(*costs, strict=True))
    ratio = median(evidence / plain for plain, evidence in costs)
    print(
        f"{method or 'by default'}: explain {plain:.2f} ms an image, evidence {evidence:.2f} ms: {ratio:.3f}",
        flush=True,
    )
    return ratio


def audit_many(root: Path, images: int) -> Path:
    """Audit many small images, print what it takes, and return the page."""
    model = classifiers.save_colour_classifier(root / "colours.xml", "red green blue deep_purple")
    rng = np.random.default_rng(0)
    for number in range(images):
        colour = list(classifiers.COLOURS)[number % len(classifiers.COLOURS)]
        place = root / "colours" / colour
        place.mkdir(parents=True, exist_ok=True)
        picture = classifiers.coloured_image((48, 64), colour, tuple(rng.uniform(0.2, 0.8, 2)))
        cv2.imwrite(str(place / f"{number:06}.jpg"), picture[..., ::-1])
    gathered: list[tuple[float, float]] = []
    asked = audit_job.ask

    def note(*told: object, **more: object) -> object:
        gathered.append((time.process_time(), time.monotonic()))
        return asked(*told, **more)  # type: ignore[arg-type]

    audit_job.ask = note  # type: ignore[assignment]
    started = (time.process_time(), time.monotonic())
    audit = Engine(work_dir=root / "audit").audit(model, data_root=root / "colours")
    ended, (middle,) = (time.process_time(), time.monotonic()), gathered
    audit_job.ask = asked
    for what, one, other in (("evidence", started, middle), ("questions, checks, report", middle, ended)):
        print(f"{what}: {other[0] - one[0]:.1f} s of processor time, {other[1] - one[1]:.1f} s")
    folder = root / "audit" / FOLDER
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    evidence = sum(size for path, size in sizes.items() if EVIDENCE in path.parts)
    print(f"evidence {evidence / images:.0f} bytes an image, index.html {sizes[folder / 'index.html']} bytes,", end=" ")
    print(f"the rest {(sum(sizes.values()) - evidence) / 1e6:.1f} MB; {len(audit.findings)} findings")
    return folder / "index.html"


def open_page(page: Path) -> None:
    """Print when the page stands, and the memory of its tab."""
    try:
        from page.test_page_in_browser import drawn, tab_memory
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        print(f"the page was not opened: {error}")
        return
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        times = []
        for view in ("overview", "images", "images"):
            opened = browser.new_page(viewport={"width": 1440, "height": 900})
            opened.goto(f"{page.as_uri()}#/{view}")
            opened.wait_for_selector("html[data-ready]")
            drawn(opened)
            times.append(opened.evaluate("performance.now()") / 1000)
        print(f"page: stands after {', '.join(f'{seconds:.2f}' for seconds in times)} s, tab of {tab_memory():.0f} MB")
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=10_000, help="images of the whole audit; 0 leaves it out")
    parser.add_argument("--checkpoint", type=Path, help="network of 224 px instead of a random MobileNetV2")
    asked = parser.parse_args()
    logging.getLogger("otx_xai").setLevel(logging.ERROR)
    os.environ["CI"] = "true"
    ratio = 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if asked.images:
            checkpoint = asked.checkpoint or root / "model.xml"
            if asked.checkpoint is None:
                make_model(checkpoint)
            for name, count in (("few", FEW), ("many", asked.images)):
                make_images(root / name, count)
            ratio = compare(checkpoint, None, root, asked.images, asked.rounds)
            compare(checkpoint, CHEAPEST, root, asked.images, asked.rounds)
        if asked.many:
            open_page(audit_many(root, asked.many))
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
