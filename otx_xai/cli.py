"""``otx <verb>``: one sub-command for each method of :class:`otx_xai.engine.Engine`, built from its signature."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from otx_xai.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, OtxXaiError

_VERBS = {
    "explain": "explain the images of a folder: saliency maps, overlays, predictions",
    "demo": "draw shapes, train a small network on them, explain it, and check the maps",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``otx``.

    Args:
        argv: arguments; those of the process by default.

    Returns:
        The exit code; see :mod:`otx_xai.errors`.
    """
    logging.basicConfig(level=os.environ.get("OTX_XAI_LOG", "INFO").upper(), format="%(message)s", stream=sys.stderr)
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except OtxXaiError as error:
        print(f"otx: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("otx: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(argv: list[str]) -> int:
    verb = argv[0] if argv else "--help"
    if verb in ("-h", "--help"):
        print(_usage())
        return 0
    if verb in ("-V", "--version"):
        from otx_xai import __version__

        print(f"otx_xai {__version__}")
        return 0
    if verb not in _VERBS:
        print(f"otx: error: {verb!r} is no sub-command.\n\n{_usage()}", file=sys.stderr)
        return 2
    return {"explain": _explain, "demo": _demo}[verb](argv[1:])


def _usage() -> str:
    rows = "\n".join(f"  {verb:<9} {what}" for verb, what in _VERBS.items())
    return f"usage: otx [-h] [--version] <sub-command> …\n\n{rows}\n\n`otx <sub-command> --help` lists its options."


def _parser(verb: str) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"otx {verb}", description=_VERBS[verb], exit_on_error=True)
    parser.add_argument("--config", action="config", help="YAML file with any of these options (a recipe)")
    return parser


def _explain(argv: list[str]) -> int:
    from otx_xai.engine import Engine

    parser = _parser("explain")
    parser.add_class_arguments(Engine, None, skip={"datamodule"})
    parser.add_method_arguments(
        Engine, "explain", None, skip={"datamodule", "checkpoint", "data_root", "trainer_kwargs"}
    )
    parser.add_argument("--seed", type=int, default=0, help="of random methods; white-box methods have none")
    options = parser.instantiate_classes(parser.parse_args(argv)).as_dict()
    for name in ("config", "seed"):
        options.pop(name)
    names = ("work_dir", "checkpoint", "data_root", "task", "device")
    engine = Engine(**{name: options.pop(name) for name in names})
    run = engine.explain(**options)
    print(run.summary())
    if run.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_PARTIAL if run.failures else 0


def _demo(argv: list[str]) -> int:
    parser = _parser("demo")
    parser.add_argument("--work_dir", type=str, default="otx-workspace/demo", help="folder of results")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures and of the training")
    options = parser.parse_args(argv)
    from otx_xai.demo import run_demo

    print(run_demo(options.work_dir, seed=options.seed).summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
