"""How often an audit's checks find what was planted, and what was not: recall and false alarms over many seeds.

For each seed, networks learn drawn data (``otx_xai.data.planted``) that are clean, or have a mark in the corner of 90 %
of one class, the same mark anywhere, or a background colour. Each is audited on new data of its kind; the clean network
also on data with each fault, which it ignores: a harmless correlation. Training takes about 3 s of processor time.

    python benchmarks/audit_recall.py --seeds 5
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planted_audit import Audited, planted_audit, trained, without_boxes

from otx_xai.audit import background, edge_colours, shortcuts
from otx_xai.audit.findings import FindingState
from otx_xai.audit.statistics import wilson
from otx_xai.data.planted import Fault

LOOKS = (Fault.WATERMARK, Fault.ROAMING, Fault.BACKGROUND)
WANTED = {
    Fault.WATERMARK: "shortcut:circle: lower left",
    Fault.ROAMING: "shortcut:circle: the same pixels",
    Fault.BACKGROUND: "background_reliance:circle",
}


def verified(audit: Audited, boxes: bool) -> tuple[set[str], set[str]]:
    """Return the keys of what was verified, and of what was refuted."""
    evidence = audit.evidence if boxes else without_boxes(audit.evidence)
    shared = shortcuts.shared_by_classes(evidence, audit.fetch)
    found = shortcuts.shortcuts(evidence, shared, audit.fetch, audit.forward)
    alone = [] if boxes else edge_colours.edge_reliances(evidence, audit.fetch, audit.forward)
    losses = [*alone, *background.background_losses(evidence, audit.fetch, audit.forward)]
    keys = {f"background_reliance:{evidence.labels[loss.target]}" for loss in losses if loss.is_material}
    of = {state: {one.key for one in found if one.state is state} for state in FindingState}
    return keys | of[FindingState.VERIFIED], of[FindingState.REFUTED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--images", type=int, default=180)
    asked = parser.parse_args()
    hits: Counter[str] = Counter()
    for number in range(asked.seeds):
        seed, start = asked.first + number, time.process_time()
        for fault in (Fault.CLEAN, *LOOKS):
            for learned in {fault, Fault.CLEAN}:
                audit = planted_audit(fault, learned, seed=seed, count=asked.images)
                for boxes in (True, False):
                    keys, refuted = verified(audit, boxes)
                    name = f"{'learned' if learned is fault else 'harmless'} {fault}{'' if boxes else ', no boxes'}"
                    wanted = WANTED.get(fault) if learned is fault else None
                    hits[name] += wanted in keys if wanted else bool(keys)
                    print(f"  seed {seed} {name}: {sorted(keys) or '-'}; refuted {sorted(refuted) or '-'}", flush=True)
        planted_audit.cache_clear()
        trained.cache_clear()
        print(f"seed {seed}: {time.process_time() - start:.0f} s of processor time", flush=True)
        table(hits, number + 1)


def table(hits: Counter[str], seeds: int) -> None:
    print(f"\n| audit | verified, of {seeds} | 95 % interval |\n|---|---|---|")
    for name, count in hits.items():
        low, high = wilson(count, seeds)
        print(f"| {name} | {count} | {low:.2f}-{high:.2f} |")
    false = [name for name in hits if "clean" in name or name.startswith("harmless")]
    low, high = wilson(sum(hits[name] for name in false), seeds * len(false))
    print(
        f"| all that should find nothing ({seeds * len(false)}) | {sum(hits[name] for name in false)} | "
        f"{low:.3f}-{high:.3f} |\n",
        flush=True,
    )


if __name__ == "__main__":
    main()
