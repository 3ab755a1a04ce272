"""``otx train``, ``test``, ``predict`` and ``export``: the verbs of torch checkpoints.

One recipe serves them all: it holds constructor arguments of model, data and trainer; what one call needs is a flag.
"""

from __future__ import annotations

from typing import Any

from otx_xai.cli.parsing import add, add_record, make_parser, open_config, parse
from otx_xai.counting import counted
from otx_xai.errors import ConfigError
from otx_xai.recipe import SECTIONS

_EXAMPLES = {
    "train": "examples:\n  otx train --config fcos_resnet18 --data_root shapes --work_dir out --trainer.max_epochs 20",
    "test": "examples:\n  otx test --config fcos_resnet18 --data_root shapes --work_dir out",
    "predict": "examples:\n  otx predict --checkpoint out/.latest/train/best.ckpt --data_root photos",
    "export": "examples:\n  otx export --checkpoint best.ckpt --explain True --work_dir out",
}

_INPUT = ("mean", "scale", "resize_type", "pad_value", "size")
"""What a checkpoint can be told of its input: its network is always fed RGB, and has one layout."""


def run(verb: str, argv: list[str]) -> int:
    """Run one of the verbs, and return the exit code."""
    return _export(verb, argv) if verb == "export" else _with_data(verb, argv)


def _with_data(verb: str, argv: list[str]) -> int:
    argv, _ = open_config(argv)
    parser = data_parser(verb)
    options = parse(parser, verb, argv)
    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.engine import Engine

    if not options["data_root"]:
        raise ConfigError("No data was given; expected a folder of images and annotations. Pass it as --data_root.")
    data = OTXDataModule(options["data_root"], options["task"], **(options["data"] or {}))
    trainer = {name: value for name, value in (options["trainer"] or {}).items() if value is not None}
    if options.get("max_epochs") is not None:
        trainer["max_epochs"] = options["max_epochs"]
    engine = Engine(options["model"], data, options["task"], options["work_dir"], options["checkpoint"], **trainer)
    if verb == "train":
        _report(engine.train(checkpoint=options["checkpoint"], start_from=options["start_from"], seed=options["seed"]))
    elif verb == "test":
        _report(engine.test())
    else:
        print(f"Predicted {counted(len(engine.predict()), 'image')}.")
    return 0


def data_parser(verb: str) -> Any:
    """Declare the options of ``otx train``, ``test`` and ``predict``."""
    import lightning

    from otx_xai.data.datamodule import OTXDataModule
    from otx_xai.models import OTXModel

    parser = make_parser(verb, _EXAMPLES[verb])
    what = "to go on from" if verb == "train" else "the newest of --work_dir by default"
    add(parser, "checkpoint", "FILE", f".ckpt or .pth, {what}")
    add(parser, "data_root", "PATH", "images and annotations: ImageFolder, COCO, Pascal VOC, multi-label CSV, a folder")
    add(parser, "task", "TASK", "what the model does, where data of several uses leaves it open")
    add(parser, "work_dir", "FOLDER", "folder of runs; otx-workspace by default")
    add(parser, "seed", "N", "of weights, order and augmentation", 0)
    if verb == "train":
        add(parser, "start_from", "FILE", ".ckpt or .pth of another model to begin with, where names and shapes fit")
        add(parser, "max_epochs", "N", "epochs of training; short for --trainer.max_epochs", kind=int)
    parser.add_subclass_arguments(OTXModel, "model", required=False, instantiate=False)
    parser.add_class_arguments(OTXDataModule, "data", instantiate=False, skip={"data_root", "task"})
    parser.add_class_arguments(lightning.Trainer, "trainer", instantiate=False, skip={"default_root_dir"})
    return parser


def _export(verb: str, argv: list[str]) -> int:
    argv, recipe = open_config(argv, leave_out=(*SECTIONS, "data_root", "seed"))
    options = parse(export_parser(), verb, argv)
    from otx_xai.engine import Engine
    from otx_xai.records import InputOptions

    own = {name: options.pop(name) for name in ("work_dir", "checkpoint", "task", "model")}
    engine = Engine(**own | {"model": own["model"] or recipe.get("model")})
    report = engine.export(input=InputOptions(**options.pop("input")), **options)
    print(report.path)
    return 0


def export_parser() -> Any:
    """Declare the options of ``otx export``."""
    from otx_xai.records import InputOptions

    parser = make_parser("export", _EXAMPLES["export"])
    add(parser, "checkpoint", "FILE", ".ckpt or .pth; the newest of --work_dir by default")
    add(parser, "work_dir", "FOLDER", "folder of runs; otx-workspace by default")
    add(parser, "export_format", "WORD", "openvino or onnx", "openvino")
    add(parser, "precision", "WORD", "of the weights in the file: fp32 or fp16", "fp32")
    add(parser, "explain", "BOOL", "put the saliency branch in", False)
    add(parser, "batch", "N", "images an inference; open for classifiers, 1 for detectors by default", kind=int)
    add(parser, "model", "NAME", "architecture of a plain state dict, where its keys do not tell")
    add(parser, "task", "TASK", "what the model does, where it does not tell")
    add(parser, "labels", "FILE|a,b,c", "class names, where the checkpoint does not tell")
    add(parser, "weights", "WORD", "of a checkpoint that holds both: ema (averaged over training), the default, or raw")
    heading = "Model input, where the checkpoint does not tell"
    add_record(parser, InputOptions, "input.", heading, only=_INPUT)
    return parser


def _report(metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        print(f"{name:<24} {value:.4f}")
