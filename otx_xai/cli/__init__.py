"""``otx <verb>``: one sub-command a job. Help and faulty options cost no more than reading them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from otx_xai.errors import EXIT_INTERRUPTED, ConfigError, OtxXaiError

VERBS = {
    "train": ("train", "train a model on a folder of images and annotations"),
    "test": ("train", "measure a checkpoint on the test part of the data"),
    "predict": ("train", "predict images with a checkpoint: predictions.jsonl"),
    "export": ("train", "export a checkpoint to OpenVINO IR or ONNX"),
    "explain": ("explain", "explain the images of a folder: saliency maps, overlays, predictions"),
    "merge": ("merging_verb", "put the shards of `otx explain --shard` together"),
    "judge": ("judging", "compare explain methods on the same images: how good are their maps?"),
    "audit": ("audit", "audit a model on a data set: what is wrong with it or its data, with evidence, on one page"),
    "find": ("find", "list the recipes"),
    "demo": ("demo", "draw shapes, train a small network on them, explain it, and check the maps"),
}
"""Sub-commands: the module that runs each, and what it does."""

EXIT_INTERNAL = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``otx``.

    Args:
        argv: arguments; those of the process by default. ``--debug`` anywhere shows tracebacks.

    Returns:
        The exit code; see :mod:`otx_xai.errors`.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in words
    try:
        return _run([word for word in words if word != "--debug"])
    except OtxXaiError as error:
        if debug:
            raise
        print(f"otx: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("otx: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"otx: internal error: {reason}. The same command with --debug shows where.", file=sys.stderr)
        return EXIT_INTERNAL


def _start_log() -> None:
    import logging  # costs more than all else that `otx --help` needs
    import os

    level = os.environ.get("OTX_XAI_LOG", "INFO").upper()
    if not isinstance(logging.getLevelName(level), int):
        raise ConfigError(f"OTX_XAI_LOG is {level}; expected DEBUG, INFO, WARNING or ERROR.")
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


def _run(argv: list[str]) -> int:
    verb = argv[0] if argv else "--help"
    if verb in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if verb in ("-V", "-v", "--version", "version"):
        from otx_xai import __version__

        print(f"otx_xai {__version__}")
        return 0
    if verb not in VERBS:
        from otx_xai.options import meant

        close = meant(verb, VERBS, "otx ")
        raise ConfigError(
            f"{verb!r} is no sub-command; expected one of {', '.join(VERBS)}. `otx --help` lists them.{close}"
        )
    _start_log()
    module = import_module(f"otx_xai.cli.{VERBS[verb][0]}")
    code: int = module.run(verb, argv[1:])
    return code


def _usage() -> str:
    rows = "\n".join(f"  {verb:<9} {what}" for verb, (_, what) in VERBS.items())
    return (
        f"usage: otx [-h] [--version] <sub-command> [--debug] …\n\n{rows}\n\n"
        "`otx <sub-command> --help` lists its options."
    )
