"""Make the models of the zoo, explain them, compare, and write the table.

    python tests/models_zoo/run.py out/models [--only PATTERN] [--made] [--deep]

It runs in an environment of its own (``make models``), since it needs packages that ours must not depend on.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import logging
import os
import sys
from pathlib import Path

import deepening
import table
from judging import judge
from record import Entry, file_of, load, store

FAMILIES = (
    "timm_classifiers",
    "torchvision_classifiers",
    "transformers_classifiers",
    "ultralytics_classifiers",
    "ultralytics_detectors",
    "transformers_detectors",
    "torchvision_detectors",
    "undecoded_detectors",
    "tflite_detectors",
)
ENOUGH = 0.95
OFFLINE = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "HF_HUB_OFFLINE": "1", "CI": "true"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of models, runs and the table")
    parser.add_argument("--only", default="*", help="names of models, such as 'timm-*'")
    parser.add_argument("--made", action="store_true", help="take the models that are there already")
    parser.add_argument("--no-judging", action="store_true", help="only make the models")
    parser.add_argument(
        "--deep", action="store_true", help="also each box of detectors, D-RISE, and an 8-bit model a package"
    )
    options = parser.parse_args()
    os.environ.update(OFFLINE)
    root = (options.out / "zoo").resolve()
    root.mkdir(parents=True, exist_ok=True)
    failed = [] if options.made else _make(root, options.only)
    if options.no_judging:
        return bool(failed)
    models = [load(file) for file in sorted(root.glob("*.json")) if fnmatch.fnmatch(file.stem, options.only)]
    results: list[table.Result] = []
    for model in models:
        results.append(_said(judge(model, root, options.out / "runs")))
        if options.deep and model.kind == "detector":
            results.append(_said(deepening.boxes(model, root, options.out / "runs")))
            results.append(_said(deepening.perturbed(model, root, options.out / "runs")))
        (options.out / "table.md").write_text(table.markdown(results))  # as far as it is known
    for model in deepening.first_of_packages(models, root) if options.deep else []:
        quantised = deepening.in_8_bits(model, root, options.out / "runs")
        results += [] if quantised is None else [_said(quantised)]
    (options.out / "table.md").write_text(table.markdown(results))
    print(table.markdown(results))
    silent = any(result.silent for result in results)
    return int(bool(failed) or silent or table.rate(results) < ENOUGH)


def _make(root: Path, pattern: str) -> list[str]:
    """Make the models that are not there yet, and return the names of those that cannot be made."""
    failed = []
    for family in FAMILIES:
        entries: list[Entry] = importlib.import_module(family).entries()
        for entry in entries:
            if fnmatch.fnmatch(entry.name, pattern) and not file_of(entry.name, root).exists():
                failed += [] if _is_made(entry, root) else [entry.name]
    return failed


def _is_made(entry: Entry, root: Path) -> bool:
    print(f"making {entry.name}", file=sys.stderr, flush=True)
    try:
        store(entry, root)
    except Exception:
        # whatever a package raises, the other models are still made, and the run fails in the end
        logging.exception("%s cannot be made", entry.name)
        return False
    return True


def _said(result: table.Result) -> table.Result:
    mark = "good" if result.good else f"BAD {result.words}"
    print(f"{result.name} ({result.seconds:.0f} s): {mark}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
