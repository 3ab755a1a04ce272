"""Everything that ``otx explain``, ``judge`` and ``audit``, and the methods of ``Engine`` behind them, can be told.

The options of the command line, ``config.yaml``, what makes two runs the same, and the table in the docs derive from
it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from otx_xai.errors import ConfigError
from otx_xai.options import option, option_of, read_words, section, words
from otx_xai.records import (
    AUDITED,
    EXPLAINED,
    JUDGED,
    SPREAD,
    WRITTEN,
    AuditConfig,
    Decode,
    ExplainConfig,
    ExplainMode,
    InputOptions,
    JudgedClass,
    Labels,
    Method,
    Pack,
    Precision,
    Preset,
    RayOptions,
    Targets,
    Task,
    Weights,
    read_shard,
)
from otx_xai.storage import Url, is_url, place_of

if TYPE_CHECKING:
    from typing import Self

_MODEL = "Model"
_INPUT = "Model input, where the model does not tell"
_BLACK_BOX = "Black box"
_PIXELS = "Gradients of pixels"


@dataclass(frozen=True)
class RunSettings:
    """What runs of explaining and of judging are both told: the model, its input, the images, and how to explain.

    Text that stands for a word of an enumeration is read when the record is made. Paths stay as they are given.

    Raises:
        ConfigError: a word is none of its enumeration, or a number is out of range.
    """

    checkpoint: str | Path | None = option(
        None,
        "FILE",
        "model, by path or URL: .xml (with its .bin), .onnx, .tflite, .ckpt, .pth or .safetensors",
        _MODEL,
        is_path=True,
    )
    model: Any = option(
        None,
        "NAME",
        "architecture of a plain state dict, where its keys do not tell: mobilenet_v2, timm/…, or package.module:Class",
        _MODEL,
    )
    output: str | None = option(None, "NAME", "output that is explained, where a classifier has several", _MODEL)
    format: str | None = option(
        None, "NAME", "how the outputs of a detector spell boxes, where graph and names leave it open", _MODEL
    )
    weights: Weights | None = option(
        None,
        "WORD",
        f"of a checkpoint that holds both: {words(Weights)}; averaged over training (ema) by default",
        _MODEL,
    )
    labels: Labels = option(
        None, "FILE|a,b,c", "class names, where the model does not tell: one a line, a JSON list, or a,b,c", _MODEL
    )
    task: Task | None = option(None, "TASK", f"what the model does, where it does not tell: {words(Task)}", _MODEL)
    device: str = option("CPU", "NAME", "OpenVINO device: CPU, GPU, NPU, AUTO, …", _MODEL)
    precision: Precision = option(
        Precision.F32,
        "WORD",
        f"{words(Precision)}: numbers that the device computes with; auto tries the first 16 images in fewer bits, and "
        "takes these where maps and best classes stay the same and it is faster",
        _MODEL,
    )
    batch_size: int = option(1, "N", "images an inference, where the model leaves its batch open", _MODEL)
    input: InputOptions = section(InputOptions, _INPUT)
    data_root: str | Path | None = option(
        None,
        "PATH",
        "images: a folder (with its sub-folders), one image, a list (.txt), a glob in quotes; or a URL of one",
        EXPLAINED,
        is_path=True,
    )
    decode: Decode = option(Decode.EXACT, "WORD", f"{words(Decode)}: JPEGs no larger than needed", EXPLAINED)
    target_layer: str | None = option(
        None,
        "NAME[,NAME]",
        "layer that is explained, class heads of a detector, several layers of layercam; found by default",
        EXPLAINED,
    )
    preset: Preset | None = option(
        None,
        "WORD",
        f"effort: {words(Preset)}; a classifier takes one pass, multistridecam (the default, of up to 5 classes an "
        "image), or guidedrise, a detector one pass, odam (the default, of single boxes where one costs a fraction of "
        "a pass), or guideddrise; RISE, D-RISE and AISE balance by default",
        _BLACK_BOX,
    )
    num_masks: int | None = option(
        None, "N", "forward passes at most an image of RISE and D-RISE; the preset decides", _BLACK_BOX
    )
    tolerance: float | None = option(
        None, "X", "end at this standard error of a map, a part of its range, such as 0.05", _BLACK_BOX
    )
    seed: int = option(0, "N", "of the masks, and of the noise of smoothgrad", _BLACK_BOX)
    num_steps: int | None = option(
        None, "N", "gradients an image of integratedgradients (50 by default) and smoothgrad (25)", _PIXELS
    )
    noise: float | None = option(
        None, "0-1", "standard deviation of the noise of smoothgrad, as a part of the image's range; 0.15", _PIXELS
    )
    work_dir: str | Path | None = option(
        None,
        "FOLDER",
        "results; otx-workspace/<timestamp> by default; `otx explain` and `otx audit` also write to a URL",
        WRITTEN,
        decides=False,
        is_path=True,
    )

    def __post_init__(self) -> None:
        read_words(self, task=Task, weights=Weights, precision=Precision, preset=Preset, decode=Decode)
        if self.batch_size < 1:
            raise ConfigError(f"--batch_size is {self.batch_size}; expected at least 1.")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Make the record of options as they are read from a command line or a file, records as nested mappings.

        Raises:
            ConfigError: a value is not what its option expects.
        """
        makers: dict[str, Any] = {own.name: own.default_factory for own in fields(cls)}
        inner = [name for name, maker in makers.items() if is_dataclass(maker) and options.get(name) is not None]
        for name in inner:
            if not isinstance(options[name], Mapping):
                raise ConfigError(f"--{name} is {options[name]!r}; expected names and values below it.")
        made = {name: makers[name](**options[name]) for name in inner}
        return cls(**{**options, **made})

    def of_method(self) -> dict[str, Any]:
        """Return the options of single methods by name, ``None`` where the method decides."""
        return {
            "preset": self.preset,
            "num_masks": self.num_masks,
            "tolerance": self.tolerance,
            "seed": self.seed or None,
            "num_steps": self.num_steps,
            "noise": self.noise,
        }

    def arguments(self) -> dict[str, Any]:
        """Return all settings, as ``config.yaml`` lists them: paths from the root, records as dicts."""
        return _entries(self, decisive=False)

    def decisive(self) -> dict[str, Any]:
        """Return the settings that results depend on, in the form of :meth:`arguments`."""
        return _entries(self, decisive=True)


@dataclass(frozen=True)
class SpreadSettings(RunSettings):
    """What runs are told that can be done in shards, by several processes.

    Raises:
        ConfigError: a shard is none, or two ways of spreading are named.
    """

    shard: str | None = option(
        None,
        "K/N",
        "only the K-th of N parts of the images, such as 3/64; `otx merge` puts them together",
        SPREAD,
        decides=False,
    )
    shard_size: int = option(512, "N", "images a shard at most, with --ray", SPREAD, decides=False)
    ray: RayOptions = section(RayOptions, SPREAD, decides=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None:
            read_shard(self.shard)
        if self.shard is not None and self.ray.address is not None:
            raise ConfigError("--shard and --ray were both given; expected one: Ray explains all shards.")
        if self.shard_size < 1:
            raise ConfigError(f"--shard_size is {self.shard_size}; expected at least 1.")


@dataclass(frozen=True)
class ExplainSettings(SpreadSettings):
    """The settings of one run of explaining; :meth:`otx_xai.Engine.explain` says what each means.

    The name of the method stays as it is given; the table of methods reads it.

    Raises:
        ConfigError: a word is none of its enumeration, or a number is out of range.
    """

    output_model: str | Path | None = option(
        None,
        "FILE",
        "also save the model with its saliency_map output to this .xml",
        _MODEL,
        decides=False,
        is_path=True,
    )
    targets: Targets = option(
        None,
        "a,b",
        "classes, by name or index; -1: all; predicted (the default): those with a score from "
        "--explain_config.predicted_maps_conf_thr, the best one where none has; boxes: each box of a detector",
        EXPLAINED,
    )
    explain_method: str | None = option(None, "METHOD", f"{words(Method)}; chosen by default", EXPLAINED)
    explain_mode: ExplainMode = option(
        ExplainMode.AUTO,
        "MODE",
        f"{words(ExplainMode)}: white box where the graph allows it, else perturbed images",
        _BLACK_BOX,
    )
    dump: bool = option(False, "BOOL", "write pictures, not only predictions.jsonl", WRITTEN)
    explain_config: ExplainConfig = section(ExplainConfig)
    pack: Pack | None = option(
        None,
        "WORD",
        f"{words(Pack)}: put the pictures of --pack_size images into one file, which WebDataset reads",
        WRITTEN,
    )
    pack_size: int = option(512, "N", "images whose pictures are packed into one file", WRITTEN)
    resume: bool = option(
        True, "BOOL", "go on with an interrupted run of the same settings, else begin anew", WRITTEN, decides=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        read_words(self, explain_mode=ExplainMode, pack=Pack)
        if self.pack_size < 1:
            raise ConfigError(f"--pack_size is {self.pack_size}; expected at least 1.")
        if self.pack is not None and not self.dump:
            raise ConfigError("--pack was given, and no pictures are written. Add --dump True, or leave --pack out.")


@dataclass(frozen=True)
class JudgeSettings(RunSettings):
    """The settings of one run of judging; :meth:`otx_xai.Engine.judge` says what each means.

    Raises:
        ConfigError: a word is none of its enumeration, or a number is out of range.
    """

    methods: str | Sequence[str] | None = option(
        None,
        "a,b",
        "methods to compare; by default all white boxes that fit, and the one that explain_mode auto takes",
        JUDGED,
    )
    images: int = option(50, "N", "number of images, spread evenly over all that are found", JUDGED)
    judged: JudgedClass = option(
        JudgedClass.PREDICTED,
        "WORD",
        f"{words(JudgedClass)}: whose maps are judged, the class that the model predicts, or that of the annotations",
        JUDGED,
    )
    steps: int = option(50, "N", "of insertion and deletion; the paper takes 224 at an input of 224", JUDGED)
    sanity: bool = option(False, "BOOL", "also see which maps change where weights or classes do", JUDGED)
    confidence_threshold: float | None = option(
        None, "0-1", "score from which a box counts as found; the model's own, or 0.5", JUDGED
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        read_words(self, judged=JudgedClass)
        for name in ("images", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} is {getattr(self, name)}; expected at least 1.")
        if self.confidence_threshold is not None and not 0 <= self.confidence_threshold <= 1:
            raise ConfigError(f"--confidence_threshold is {self.confidence_threshold}; expected a number from 0 to 1.")


@dataclass(frozen=True)
class AuditSettings(AuditConfig, SpreadSettings):
    """The settings of one audit; :meth:`otx_xai.Engine.audit` says what each means.

    Raises:
        ConfigError: a word is none of its enumeration, or a number is out of range.
    """

    baseline: str | Path | None = option(
        None, "FILE", "another model of the same classes: what changed from it to this one", AUDITED, is_path=True
    )
    baseline_input: InputOptions = section(InputOptions, "Input of the baseline, where it is another than --input.*")
    explain_method: str | None = option(None, "METHOD", f"{words(Method)}; chosen by default", AUDITED)
    fail_on: str | Sequence[str] | None = option(
        None,
        "a,b=X",
        "end with exit code 8 where one of these is found: kinds such as verified_shortcut, or a figure with its "
        "limit, such as accuracy=0.9 or background_reliance=0.25",
        AUDITED,
        decides=False,
    )
    review: str | Path | None = option(
        None,
        "FILE",
        "label_review.csv of an audit of these data, with a person's verdicts: takes them as the labels",
        AUDITED,
        is_path=True,
    )
    dry_run: bool = option(False, "BOOL", "only say how long it would take, and how much it would write", WRITTEN)
    resume: bool = option(
        True, "BOOL", "go on with an interrupted audit of the same settings, else begin anew", WRITTEN, decides=False
    )

    def __post_init__(self) -> None:
        SpreadSettings.__post_init__(self)
        AuditConfig.__post_init__(self)
        if self.dry_run and (self.shard is not None or self.ray.address is not None):
            raise ConfigError("--dry_run was given beside --shard or --ray; expected one: it looks at 16 images only.")


def absolute(path: str | Path) -> str:
    """Return a path from the root, ``~`` expanded, links kept; a URL as it is."""
    place = place_of(path)
    return str(place) if isinstance(place, Url) else os.path.abspath(place)


def is_file(labels: Labels) -> TypeGuard[str | Path]:
    """Whether labels are a file rather than the names themselves."""
    return is_url(labels) or (isinstance(labels, str | Path) and os.path.isfile(os.path.expanduser(labels)))


def _entries(record: Any, *, decisive: bool) -> dict[str, Any]:
    """Return the options of a record by name, those of a record in it as a dict."""
    entries = {}
    for declared in fields(record):
        told, value = option_of(declared), getattr(record, declared.name)
        if told is None or (decisive and not told.decides):
            continue
        if is_dataclass(value):
            value = _entries(value, decisive=decisive)
        elif (told.is_path and value) or (declared.name == "labels" and is_file(value)):
            value = absolute(value)
        entries[declared.name] = value
    return entries
