"""What users say of a run: what is explained and written, and what the model is fed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otx_xai.errors import ConfigError
from otx_xai.options import option, read_words, words
from otx_xai.records.words import (
    AuditReport,
    Colormap,
    DumpContent,
    ImageFormat,
    Interpolation,
    ResizeType,
    TargetExplainGroup,
    Task,
)

EXPLAINED = "What is explained"
"""Heading of options; and the next four."""
JUDGED = "What is judged"
AUDITED = "What is audited"
WRITTEN = "What is written"
SPREAD = "On several machines"


@dataclass(frozen=True)
class ExplainConfig:
    """What to explain of every image, and what to write.

    Args:
        target_explain_group: ``ALL`` classes, ``PREDICTIONS`` only, each of the ``BOXES`` that a detector finds, or
            one ``IMAGE`` map (activation map).
        predicted_maps_conf_thr: score in [0, 1] from which a class counts as predicted, of ``PREDICTIONS`` only.
            Where no class reaches it, the best one is explained.
        postprocess: write maps in the size of the image (else in the network's own resolution).
        crop_padded_map: cut the padding of the network's input off the map, so that it covers the image exactly.
        content: what to write: ``maps``, ``overlays``, ``both``, one contact ``sheet`` an image, the numbers of all
            maps of an image as ``npz``; or several of them, as a sequence, or with commas between. Where ``None``,
            ``both`` of a classifier, and ``maps`` and ``sheet`` of a detector.
        image_format: ``png`` or ``jpg``.
        max_size: longer side of written pictures at most, in pixels; larger images are shown smaller. 0: no limit.
        colormap: colours of maps in overlays: ``turbo``, ``inferno``, ``magma``, ``viridis``, ``cividis`` or ``jet``.
        overlay_weight: weight of the map in the overlay where it is high, in [0, 1]; where it is low the image stays.
        confidence_threshold: score in [0, 1] from which a detector's box counts as found, and so is listed; of
            ``BOXES`` each that is listed has a map. Where ``None``, the one in ``model_info``, or 0.5.
    """

    target_explain_group: TargetExplainGroup = option(
        TargetExplainGroup.PREDICTIONS,
        "GROUP",
        f"{words(TargetExplainGroup)}: one map for each class, for each predicted one, for each box, or one an image",
        EXPLAINED,
    )
    predicted_maps_conf_thr: float = option(
        0.3, "0-1", "score from which a class counts as predicted; boxes have a threshold of their own", EXPLAINED
    )
    postprocess: bool = option(True, "BOOL", "maps in the size of the image, else as the network has them", WRITTEN)
    crop_padded_map: bool = option(True, "BOOL", "cut the padding of the network's input off the maps", WRITTEN)
    content: DumpContent | str | None = option(
        None,
        "WORD[,WORD]",
        f"{words(DumpContent)}: pictures, one page an image, or the maps as numbers; both of a classifier, maps "
        "and sheet of a detector by default",
        WRITTEN,
    )
    image_format: ImageFormat = option(
        ImageFormat.PNG, "WORD", f"{words(ImageFormat)}: exact, or small and fast", WRITTEN
    )
    max_size: int = option(1024, "N", "longer side of pictures at most, in pixels; 0: as large as the image", WRITTEN)
    colormap: Colormap = option(Colormap.TURBO, "WORD", f"{words(Colormap)}: colours of maps in overlays", WRITTEN)
    overlay_weight: float = option(0.5, "0-1", "weight of the map in the overlay, where the map is high", WRITTEN)
    confidence_threshold: float | None = option(
        None,
        "0-1",
        "score from which a box counts, and has a map with --targets boxes; the model's own, or 0.5",
        EXPLAINED,
    )

    def __post_init__(self) -> None:
        read_words(self, target_explain_group=TargetExplainGroup, image_format=ImageFormat, colormap=Colormap)
        if self.content is not None:
            object.__setattr__(self, "content", _read_content(self.content))
        if self.max_size < 0:
            raise ConfigError(f"explain_config.max_size is {self.max_size}; expected a number of pixels, or 0 for all.")
        for name in ("predicted_maps_conf_thr", "overlay_weight", "confidence_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"explain_config.{name} is {value}; expected a number from 0 to 1.")

    @property
    def contents(self) -> frozenset[DumpContent]:
        """What to write, word by word: maps and overlays where it is both, or nothing is said."""
        asked = {DumpContent(word) for word in (self.content or DumpContent.BOTH).split(",")}
        both = {DumpContent.MAPS, DumpContent.OVERLAYS} if DumpContent.BOTH in asked else set()
        return frozenset(asked - {DumpContent.BOTH} | both)

    def of_task(self, task: Task) -> ExplainConfig:
        """Return what is written for a task, where nothing is said: of a detector a sheet instead of overlays."""
        if self.content is not None:
            return self
        return replace(self, content=DumpContent.BOTH if task.is_classification else _OF_DETECTORS)


_OF_DETECTORS = f"{DumpContent.MAPS},{DumpContent.SHEET}"


def _read_content(value: object) -> DumpContent | str:
    """Return a word; several in their order, each once, with commas between."""
    parts = value.strip("[]").split(",") if isinstance(value, str) else value
    asked = list(dict.fromkeys(map(DumpContent, parts if isinstance(parts, Iterable) else [parts])))
    if not asked:
        raise ConfigError(f"explain_config.content is empty; expected {words(DumpContent)}, or several of them.")
    return asked[0] if len(asked) == 1 else ",".join(asked)


@dataclass(frozen=True)
class InputOptions:
    """What the user says of the model's input; ``None`` leaves it to ``model_info`` and the graph.

    Args:
        mean: one number, or one a channel, subtracted on the 0-255 scale.
        scale: one number, or one a channel, to divide by, on the 0-255 scale.
        resize_type: ``standard``, ``fit_to_window``, ``fit_to_window_letterbox`` or ``crop``.
        pad_value: grey level 0-255 of the padding.
        reverse_input_channels: feed BGR rather than RGB.
        size: ``height,width`` of the network's input, or one number for both, where the model's own is dynamic.
        layout: axes of the model's input, ``NCHW`` or ``NHWC``, where the graph does not tell.
        crop: share of the image's height and width, in (0, 1], that is cut out of its middle before it is fitted in.
        interpolation: how images are resized: ``linear``, as OTX does it, or a filter of Pillow, such as ``bicubic``.
    """

    mean: Any = option(None, "X[,X,X]", "(x - mean) / scale on the 0-255 scale; one number, or one a channel")
    scale: Any = option(None, "X[,X,X]", "see --input.mean")
    resize_type: ResizeType | None = option(None, "TYPE", f"how images are fitted in: {words(ResizeType)}")
    pad_value: int | None = option(None, "0-255", "grey level of the padding")
    reverse_input_channels: bool | None = option(None, "BOOL", "the network wants BGR")
    size: Any = option(None, "H[,W]", "size of a dynamic input, one number for a square")
    layout: str | None = option(None, "NCHW|NHWC", "axes of the input")
    crop: float | None = option(None, "0-1", "share of the image's sides that a crop of its middle keeps; 1: all")
    interpolation: Interpolation | None = option(
        None, "WORD", f"how images are resized: {words(Interpolation)}; linear is OpenCV's, the others are Pillow's"
    )

    def __post_init__(self) -> None:
        read_words(self, resize_type=ResizeType, interpolation=Interpolation)
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ConfigError(f"--input.crop is {self.crop}; expected a share from more than 0 to 1, such as 0.875.")


@dataclass(frozen=True)
class AuditConfig:
    """How an audit is made, apart from the model and the data.

    Args:
        max_images: images at most, spread evenly over all that are found; all by default.
        check_images: images at most of each check that changes pixels; 0: nothing is checked.
        report: the page: ``full``, ``single`` (one file of at most 200 images) or ``noimages`` (no pixels at all).
        metadata: a CSV file with an image a line, whose first column names them; its other columns become slices.
        confidence_threshold: score in [0, 1] from which a detector's box counts as found.
    """

    max_images: int | None = option(
        None, "N", "images at most, spread evenly over all that are found; all by default", AUDITED
    )
    check_images: int = option(48, "N", "images at most of each check that changes pixels; 0: no checks", AUDITED)
    metadata: str | Path | None = option(
        None,
        "FILE",
        "CSV with an image a line, named in its first column: the others are slices",
        AUDITED,
        is_path=True,
    )
    confidence_threshold: float | None = option(
        None, "0-1", "score from which a box counts as found; the model's own, or 0.5", AUDITED
    )
    report: AuditReport = option(
        AuditReport.FULL,
        "WORD",
        f"{words(AuditReport)}: the page with all images, one file of 200 at most, or one without pixels",
        WRITTEN,
        decides=False,
    )

    def __post_init__(self) -> None:
        read_words(self, report=AuditReport)
        if self.max_images is not None and self.max_images < 1:
            raise ConfigError(f"--max_images is {self.max_images}; expected at least 1.")
        if self.check_images < 0:
            raise ConfigError(f"--check_images is {self.check_images}; expected 0, or a number of images.")
        if self.confidence_threshold is not None and not 0 <= self.confidence_threshold <= 1:
            raise ConfigError(f"--confidence_threshold is {self.confidence_threshold}; expected a number from 0 to 1.")


@dataclass(frozen=True)
class RayOptions:
    """How a run is spread over a cluster of Ray.

    Args:
        address: ``auto``: the cluster of this machine; ``local``: one of this process's own; ``HOST:PORT`` of a head
            node. ``None``: without Ray.
        actors: processes that explain; by default one a node, or as many as have ``cpus`` cores.
        cpus: cores of each; by default all of its node, or its share of them.
    """

    address: str | None = option(
        None, "WHERE", "auto, local, or HOST:PORT of a cluster of Ray; --ray WHERE for short", decides=False
    )
    actors: int | None = option(None, "N", "processes that explain; one a node by default", decides=False)
    cpus: float | None = option(None, "K", "cores of each; all of its node by default", decides=False)

    def __post_init__(self) -> None:
        if self.address is not None and not (
            self.address in ("auto", "local") or (":" in self.address and "://" not in self.address)
        ):
            raise ConfigError(f"--ray is {self.address!r}; expected auto, local, or HOST:PORT of the head node.")
        if self.actors is not None and self.actors < 1:
            raise ConfigError(f"--ray.actors is {self.actors}; expected at least 1.")
        if self.cpus is not None and not self.cpus > 0:
            raise ConfigError(f"--ray.cpus is {self.cpus}; expected a number of cores.")


def parse_numbers(value: object) -> tuple[float, ...] | None:
    """Finite numbers in ``value``: a number, a sequence, or text with commas or spaces between; else ``None``.

    >>> parse_numbers("123.7, 116.3 103.5"), parse_numbers(127), parse_numbers([1, "2"]), parse_numbers("a")
    ((123.7, 116.3, 103.5), (127.0,), (1.0, 2.0), None)
    """
    parts = value if isinstance(value, list | tuple) else str(value).strip("[]() ").replace(",", " ").split()
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def read_shard(shard: str) -> tuple[int, int]:
    """Read which shard is meant, and of how many.

    >>> read_shard("3/64")
    (3, 64)

    Raises:
        ConfigError: it is no number of a shard.
    """
    number, _, count = str(shard).partition("/")
    if number.strip().isdecimal() and count.strip().isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise ConfigError(f"--shard is {shard!r}; expected K/N, the K-th of N parts, from 1/N to N/N, such as 3/64.")
