"""How many planted errors of boxes stand among the first 3 % of an audit's review: left out, and moved by half a side.

For each seed, FCOS learns drawn shapes by its recipe (some 35 s of processor time for six epochs), and an audit of new
pictures takes what it finds. Then errors are planted into their annotations, ten times: one of a hundred boxes is left
out, one moved by half its side in any direction. A planted error is found where a row of the review lies on the object
(an intersection over union of at least 0.5).

    python benchmarks/annotation_recall.py --seeds 3 [--epochs 6]
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from otx_xai.audit.box_annotations import annotation_errors, annotation_findings
from otx_xai.audit.box_review import annotations_to_review
from otx_xai.audit.evidence_table import BoxTable, Evidence
from otx_xai.audit.statistics import wilson
from otx_xai.data.shape_sets import write_coco
from otx_xai.demo.classroom import QUIET, classroom
from otx_xai.engine import Engine, audit_job
from otx_xai.errors import OtxXaiError
from otx_xai.postprocess.overlaps import overlaps

SIDE = 96
TRAINED = 600
AUDITED = 500
REVIEWED = 0.03
EACH = 0.01
PLANTINGS = 10
KINDS = ("overlooked", "moved")


class _GatheredError(OtxXaiError):
    """The evidence is there; what an audit does with it is not measured."""


def evidence_of(seed: int, epochs: int, folder: Path) -> Evidence:
    """Train a detector, and return the evidence of its audit, with right annotations."""
    options = {"data.augment": False, "model.init_args.input_size": SIDE}
    write_coco(folder / "data", {"train": TRAINED, "val": 12}, seed=seed, size=SIDE, patterned=True)
    write_coco(folder / "new", {"val": AUDITED}, seed=1000 + seed, size=SIDE, patterned=True)
    with classroom():
        told = QUIET | options
        engine = Engine.from_config("fcos_slim", data_root=folder / "data", work_dir=folder, max_epochs=epochs, **told)
        engine.train(seed=seed, check_val_every_n_epoch=epochs)
    gathered: list[Evidence] = []
    asked = audit_job.ask

    def keep(evidence: Evidence, *_: object, **__: object) -> None:
        gathered.append(evidence)
        raise _GatheredError

    audit_job.ask = keep  # type: ignore[assignment]
    try:
        Engine(work_dir=folder / "audit").audit(
            engine.export().path, data_root=folder / "new", explain_method="detclassprobabilitymap"
        )
    except _GatheredError:
        pass
    finally:
        audit_job.ask = asked
    return gathered[0]


def planted(evidence: Evidence, seed: int, each: float = EACH) -> tuple[Evidence, list[tuple[str, int, np.ndarray]]]:
    """Leave boxes out and move others; return also what was done to which image, and the right box."""
    assert evidence.objects is not None
    rng, objects = np.random.default_rng(seed), evidence.objects
    count = round(each * len(objects))
    chosen = rng.permutation(len(objects))[: 2 * count]
    xyxy, stays = objects.xyxy.copy(), np.ones(len(objects), np.bool_)
    stays[chosen[:count]] = False
    for row in chosen[count:]:
        angle = rng.uniform(0, 2 * np.pi)
        way = (xyxy[row, 2:] - xyxy[row, :2]) / 2 * (np.cos(angle), np.sin(angle))
        xyxy[row] += np.tile(way, 2)
    errors = [(KINDS[i >= count], int(objects.image[row]), objects.xyxy[row]) for i, row in enumerate(chosen)]
    left = BoxTable(objects.image[stays], objects.target[stays], xyxy[stays], objects.score[stays])
    return replace(evidence, objects=left), errors


def hits(evidence: Evidence, errors: list[tuple[str, int, np.ndarray]]) -> dict[str, int]:
    """Count the planted errors of each kind among the first rows of the review."""
    assert evidence.found is not None
    assert evidence.objects is not None
    review = annotations_to_review(evidence, annotation_errors(evidence))
    first = int(REVIEWED * len(evidence.objects))
    image, box = review.image[:first], evidence.found.xyxy[review.found[:first]]
    found = dict.fromkeys(KINDS, 0)
    for kind, where, true in errors:
        found[kind] += bool((overlaps(box[image == where], true[None]) >= 0.5).any())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    logging.getLogger("otx_xai").setLevel(logging.ERROR)
    os.environ["CI"] = "true"
    total, found, false = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), 0
    for seed in range(asked.first, asked.first + asked.seeds):
        with tempfile.TemporaryDirectory() as folder:
            evidence = evidence_of(seed, asked.epochs, Path(folder))
        false += len(annotation_findings(evidence, annotation_errors(evidence)))
        for number in range(PLANTINGS):
            wrong, errors = planted(evidence, number)
            own = hits(wrong, errors)
            for kind in KINDS:
                total[kind] += sum(name == kind for name, _, _ in errors)
                found[kind] += own[kind]
        print(f"after seed {seed}: {found} of {total}; findings about right annotations: {false}", flush=True)
    print("\n| planted | among the first 3 % | 95 % interval |\n|---|---|---|")
    for kind in KINDS:
        low, high = wilson(found[kind], total[kind])
        print(f"| {kind} | {found[kind]} of {total[kind]} | {low:.2f}-{high:.2f} |")


if __name__ == "__main__":
    main()
