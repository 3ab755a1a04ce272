"""``otx explain``."""

from __future__ import annotations

from typing import Any

from otx_xai.cli.parsing import add, make_parser, open_config, parse, words
from otx_xai.recipe import SECTIONS

_EXAMPLES = """\
examples:
  otx explain --checkpoint model.xml --data_root photos --dump True --work_dir out
  otx explain --checkpoint model.onnx --data_root 'photos/**/*.jpg' --dump True --labels cat,dog,horse \\
              --targets cat --explain_config.content overlays --input.mean 127.5 --input.scale 127.5
  otx explain --config out/config.yaml --explain_config.image_format jpg
"""


def run(verb: str, argv: list[str]) -> int:
    """Explain, and return the exit code."""
    argv, recipe = open_config(argv, leave_out=SECTIONS)
    options = parse(explain_parser(), verb, argv)
    from otx_xai.engine import Engine
    from otx_xai.records import ExplainConfig, InputOptions

    own = {name: options.pop(name) for name in ("work_dir", "checkpoint", "data_root", "task", "device", "model")}
    engine = Engine(**own | {"model": own["model"] or recipe.get("model")})
    config = ExplainConfig(**options.pop("explain_config"))
    done = engine.explain(
        explain_config=config, input=InputOptions(**options.pop("input")), keep_explanations=False, **options
    )
    print(done.summary())
    return done.exit_code


def explain_parser() -> Any:
    """Declare the options of ``otx explain``."""
    parser = make_parser("explain", _EXAMPLES)
    _add_model(parser.add_argument_group("Model"))
    _add_input(parser.add_argument_group("Model input, where the model does not tell"))
    _add_explained(parser.add_argument_group("What is explained"))
    _add_black_box(parser.add_argument_group("Black box"))
    _add_written(parser.add_argument_group("What is written"))
    return parser


def _add_model(group: Any) -> None:
    from otx_xai.records import Task

    add(group, "checkpoint", "FILE", "model: .xml (with its .bin), .onnx, .tflite, .ckpt, .pth or .safetensors")
    add(group, "model", "NAME", "architecture of a plain state dict, where its keys do not tell: mobilenet_v2, timm/…")
    add(group, "labels", "FILE|a,b,c", "class names, where the model does not tell: one a line, a JSON list, or a,b,c")
    add(group, "task", "TASK", f"what the model does, where it does not tell: {words(Task)}")
    add(group, "device", "NAME", "OpenVINO device: CPU, GPU, NPU, AUTO, …", "CPU")
    add(group, "batch_size", "N", "images an inference, where the model leaves its batch open", 1)
    add(group, "output_model", "FILE", "also save the model with its saliency_map output to this .xml")


def _add_input(group: Any) -> None:
    from otx_xai.records import ResizeType

    add(group, "input.mean", "X[,X,X]", "(x - mean) / scale on the 0-255 scale; one number, or one a channel")
    add(group, "input.scale", "X[,X,X]", "see --input.mean")
    add(group, "input.resize_type", "TYPE", f"how images are fitted in: {words(ResizeType)}")
    add(group, "input.pad_value", "0-255", "grey level of the padding", kind=int)
    add(group, "input.reverse_input_channels", "BOOL", "the network wants BGR", kind=bool)
    add(group, "input.size", "H[,W]", "size of a dynamic input, one number for a square")
    add(group, "input.layout", "NCHW|NHWC", "axes of the input")


def _add_explained(group: Any) -> None:
    from otx_xai.records import ExplainConfig, Method, TargetExplainGroup

    defaults = ExplainConfig()
    add(
        group,
        "data_root",
        "PATH",
        "images: a folder (with its sub-folders), one image, a list (.txt), a glob in quotes",
    )
    add(
        group,
        "targets",
        "a,b",
        "classes, by name or index; -1: all; predicted (the default): those with a score from "
        "--explain_config.predicted_maps_conf_thr, the best one where none has; boxes: each box of a detector",
    )
    add(group, "explain_method", "METHOD", f"{words(Method)}; chosen by default")
    add(
        group,
        "target_layer",
        "NAME[,NAME]",
        "layer that is explained, class heads of a detector; found by default",
    )
    add(
        group,
        "explain_config.target_explain_group",
        "GROUP",
        f"{words(TargetExplainGroup)}: one map for each class, for each predicted one, for each box, or one an image",
        defaults.target_explain_group,
    )
    add(
        group,
        "explain_config.predicted_maps_conf_thr",
        "0-1",
        "score from which a class counts as predicted",
        defaults.predicted_maps_conf_thr,
    )
    add(
        group,
        "explain_config.confidence_threshold",
        "0-1",
        "score from which a detector's box counts; the model's own by default, or 0.5",
        kind=float,
    )


def _add_black_box(group: Any) -> None:
    from otx_xai.records import ExplainMode, Preset

    add(
        group,
        "explain_mode",
        "MODE",
        f"{words(ExplainMode)}: white box where the graph allows it, else perturbed images",
        ExplainMode.AUTO,
    )
    add(group, "preset", "WORD", f"effort of RISE, D-RISE and AISE: {words(Preset)} (balance by default)")
    add(group, "num_masks", "N", "forward passes at most an image of RISE and D-RISE; the preset decides", kind=int)
    add(group, "tolerance", "X", "end at this standard error of a map, a part of its range, such as 0.05", kind=float)
    add(group, "seed", "N", "of the masks", 0)


def _add_written(group: Any) -> None:
    from otx_xai.records import DumpContent, ExplainConfig, ImageFormat

    defaults = ExplainConfig()
    add(group, "work_dir", "FOLDER", "results; otx-workspace/<timestamp> by default")
    add(group, "dump", "BOOL", "write pictures, not only predictions.jsonl", False)
    add(
        group,
        "explain_config.content",
        "WORD",
        f"pictures: {words(DumpContent)} (one page an image)",
        defaults.content,
    )
    add(
        group,
        "explain_config.image_format",
        "WORD",
        f"{words(ImageFormat)}: exact, or small and fast",
        defaults.image_format,
    )
    add(group, "explain_config.overlay_weight", "0-1", "weight of the map in the overlay", defaults.overlay_weight)
    add(
        group,
        "explain_config.postprocess",
        "BOOL",
        "maps in the size of the image, else as the network has them",
        defaults.postprocess,
    )
    add(
        group,
        "explain_config.crop_padded_map",
        "BOOL",
        "cut the padding of the network's input off the maps",
        defaults.crop_padded_map,
    )
    add(group, "resume", "BOOL", "go on with an interrupted run of the same settings, else begin anew", True)
