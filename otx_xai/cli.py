"""``otx <verb>``: one sub-command a job. Help and faulty options cost no more than reading them."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any

from otx_xai.errors import EXIT_INTERRUPTED, ConfigError, OtxXaiError

_VERBS = {
    "explain": "explain the images of a folder: saliency maps, overlays, predictions",
    "demo": "draw shapes, train a small network on them, explain it, and check the maps",
}
_LIST_KEYS = ("labels", "targets")
_WIDTH = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``otx``.

    Args:
        argv: arguments; those of the process by default.

    Returns:
        The exit code; see :mod:`otx_xai.errors`.
    """
    try:
        _start_log()
        return _run(sys.argv[1:] if argv is None else list(argv))
    except OtxXaiError as error:
        print(f"otx: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("otx: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _start_log() -> None:
    level = os.environ.get("OTX_XAI_LOG", "INFO").upper()
    if not isinstance(logging.getLevelName(level), int):
        raise ConfigError(f"OTX_XAI_LOG is {level}; expected DEBUG, INFO, WARNING or ERROR.")
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


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
        raise ConfigError(f"{verb!r} is no sub-command; expected one of {', '.join(_VERBS)}. `otx --help` lists them.")
    return {"explain": _explain, "demo": _demo}[verb](argv[1:])


def _usage() -> str:
    rows = "\n".join(f"  {verb:<9} {what}" for verb, what in _VERBS.items())
    return f"usage: otx [-h] [--version] <sub-command> …\n\n{rows}\n\n`otx <sub-command> --help` lists its options."


# ---------------------------------------------------------------------------------------------------------------------
# otx explain

_EXAMPLES = """\
examples:
  otx explain --checkpoint model.xml --data_root photos --dump True --work_dir out
  otx explain --checkpoint model.onnx --data_root 'photos/**/*.jpg' --dump True --labels cat,dog,horse \\
              --targets cat --explain_config.content overlays --input.mean 127.5 --input.scale 127.5
  otx explain --config out/config.yaml --explain_config.image_format jpg
"""


def _explain(argv: list[str]) -> int:
    options = _parse(_explain_parser(), "explain", argv)
    from otx_xai.engine import Engine
    from otx_xai.records import ExplainConfig, InputOptions

    engine = Engine(**{name: options.pop(name) for name in ("work_dir", "checkpoint", "data_root", "task", "device")})
    config = ExplainConfig(**options.pop("explain_config"))
    run = engine.explain(
        explain_config=config, input=InputOptions(**options.pop("input")), keep_explanations=False, **options
    )
    print(run.summary())
    return run.exit_code


def _explain_parser() -> Any:
    from otx_xai.records import DumpContent, ExplainConfig, ImageFormat, Method, ResizeType, TargetExplainGroup, Task

    defaults = ExplainConfig()
    flavours = [task for task in Task if task.is_classification]
    methods = [method for method in Method if method in (Method.RECIPROCAM, Method.VITRECIPROCAM, Method.ACTIVATIONMAP)]
    parser = _parser("explain", _EXAMPLES)

    group = parser.add_argument_group("Model")
    _add(group, "checkpoint", "FILE", "model: .xml (with its .bin), .onnx or .tflite")
    _add(group, "labels", "FILE|a,b,c", "class names, where the model does not tell: one a line, a JSON list, or a,b,c")
    _add(group, "task", "TASK", f"what the model does, where it does not tell: {_words(flavours)}")
    _add(group, "device", "NAME", "OpenVINO device: CPU, GPU, NPU, AUTO, …", "CPU")
    _add(group, "batch_size", "N", "images an inference, where the model leaves its batch open", 1)
    _add(group, "output_model", "FILE", "also save the model with its saliency_map output to this .xml")

    group = parser.add_argument_group("Model input, where the model does not tell")
    _add(group, "input.mean", "X[,X,X]", "(x - mean) / scale on the 0-255 scale; one number, or one a channel")
    _add(group, "input.scale", "X[,X,X]", "see --input.mean")
    _add(group, "input.resize_type", "TYPE", f"how images are fitted in: {_words(ResizeType)}")
    _add(group, "input.pad_value", "0-255", "grey level of the padding", kind=int)
    _add(group, "input.reverse_input_channels", "BOOL", "the network wants BGR", kind=bool)
    _add(group, "input.size", "H[,W]", "size of a dynamic input, one number for a square")
    _add(group, "input.layout", "NCHW|NHWC", "axes of the input")

    group = parser.add_argument_group("What is explained")
    _add(
        group,
        "data_root",
        "PATH",
        "images: a folder (with its sub-folders), one image, a list (.txt), a glob in quotes",
    )
    _add(
        group,
        "targets",
        "a,b",
        "classes, by name or index; -1: all; predicted (the default): those with a score from "
        "--explain_config.predicted_maps_conf_thr, the best one where none has",
    )
    _add(group, "explain_method", "METHOD", f"{_words(methods)}; chosen by the graph by default")
    _add(group, "target_layer", "NAME", "layer whose output is explained; found from the graph by default")
    _add(
        group,
        "explain_config.target_explain_group",
        "GROUP",
        f"{_words(TargetExplainGroup)}: one map for each class, for each predicted one, or one an image",
        defaults.target_explain_group,
    )
    _add(
        group,
        "explain_config.predicted_maps_conf_thr",
        "0-1",
        "score from which a class counts as predicted",
        defaults.predicted_maps_conf_thr,
    )
    _add(group, "seed", "N", "of random methods; this version has none", 0)

    group = parser.add_argument_group("What is written")
    _add(group, "work_dir", "FOLDER", "results; otx-workspace/<timestamp> by default")
    _add(group, "dump", "BOOL", "write pictures, not only predictions.jsonl", False)
    _add(
        group,
        "explain_config.content",
        "WORD",
        f"pictures: {_words(DumpContent)} (one page an image)",
        defaults.content,
    )
    _add(
        group,
        "explain_config.image_format",
        "WORD",
        f"{_words(ImageFormat)}: exact, or small and fast",
        defaults.image_format,
    )
    _add(group, "explain_config.overlay_weight", "0-1", "weight of the map in the overlay", defaults.overlay_weight)
    _add(
        group,
        "explain_config.postprocess",
        "BOOL",
        "maps in the size of the image, else as the network has them",
        defaults.postprocess,
    )
    _add(
        group,
        "explain_config.crop_padded_map",
        "BOOL",
        "cut the padding of the network's input off the maps",
        defaults.crop_padded_map,
    )
    _add(group, "resume", "BOOL", "go on with an interrupted run of the same settings, else begin anew", True)
    return parser


def _demo(argv: list[str]) -> int:
    parser = _parser("demo")
    _add(parser, "work_dir", "FOLDER", "folder of results", "otx-workspace/demo")
    _add(parser, "seed", "N", "of the pictures and of the training", 0)
    options = _parse(parser, "demo", argv)
    from otx_xai.demo import run_demo

    print(run_demo(options["work_dir"], seed=options["seed"]).summary())
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Parsing


def _parser(verb: str, examples: str | None = None) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"otx {verb}",
        usage=f"otx {verb} [--option value …]",
        description=_VERBS[verb],
        epilog=examples,
        formatter_class=_Help,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML file with any of these options")
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Options in one column, what they mean in the other."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_WIDTH)


def _add(
    group: Any,
    name: str,
    metavar: str,
    meaning: str,
    default: Any = None,
    kind: type[bool] | type[int] | type[float] | None = None,
) -> None:
    """Add an option. Text is checked by the engine, which knows what it means; numbers and flags here."""
    default = default.value if isinstance(default, Enum) else default
    more: dict[str, Any] = {}
    kind = kind or (type(default) if isinstance(default, bool | int | float) else None)
    if kind is not None:
        more["type"] = kind
    if kind is bool:
        more |= {"nargs": "?", "const": True}
    shown = "" if default is None else f" (default: {default})"
    group.add_argument(f"--{name}", metavar=metavar, default=default, help=f"{meaning}{shown}", **more)


def _words(options: Any) -> str:
    return ", ".join(str(option.value) for option in options)


def _parse(parser: Any, verb: str, argv: list[str]) -> dict[str, Any]:
    """Return the options, nested like their names.

    Raises:
        ConfigError: an option is unknown or malformed, or the configuration file is.
    """
    try:
        options: dict[str, Any] = parser.parse_args(argv).as_dict()
    except argparse.ArgumentError as error:
        reason = re.sub(r'^Parser key "(.+?)":', r"--\1:", " ".join(str(error).split()).rstrip("."))
        reason = re.sub(r"a <class '(\w+)'>", r"\1", reason)
        raise ConfigError(f"{reason}. `otx {verb} --help` lists all options.") from error
    options.pop("config")
    return {name: _listed(value) if name in _LIST_KEYS else value for name, value in options.items()}


def _listed(value: Any) -> Any:
    """Read a JSON list, such as ``["dog", 3]``, which the shell hands over as text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:  # [dog,3] is understood as dog,3
            return value
    return value


if __name__ == "__main__":
    sys.exit(main())
