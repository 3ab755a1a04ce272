"""``otx demo``."""

from __future__ import annotations

from otx_xai.cli.parsing import add, make_parser, parse


def run(verb: str, argv: list[str]) -> int:
    """Run the demo, and return the exit code."""
    parser = make_parser(verb)
    add(parser, "task", "TASK", "classification, detection, instance_segmentation or audit; all by default")
    add(parser, "work_dir", "FOLDER", "folder of results", "otx-workspace/demo")
    add(parser, "seed", "N", "of the pictures and of the training", 0)
    options = parse(parser, verb, argv)
    from otx_xai.demo import run_demo
    from otx_xai.engine.workspace import WORKSPACE, folder_here, named_folder

    work_dir = folder_here(named_folder(options["work_dir"]), "demo") or WORKSPACE / "demo"
    for number, result in enumerate(run_demo(work_dir, options["task"], seed=options["seed"])):
        print(("\n" if number else "") + result.summary(), flush=True)
    return 0
