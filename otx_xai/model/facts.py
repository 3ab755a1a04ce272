"""The facts of a model in one record, each with its source: ``model_info``, a neighbour, the graph, or the user."""

from __future__ import annotations

from dataclasses import dataclass

from otx_xai.counting import counted
from otx_xai.graph.box_classes import BoxClasses
from otx_xai.model.identity import Identity, Told
from otx_xai.model.image_input import InputDescription
from otx_xai.model.label_names import box_class_names, class_names
from otx_xai.model.model_info import malformed, read_flag, read_share
from otx_xai.records import InputGeometry, ModelFacts, Task, Tiling, parse_numbers

ANY_SIZE = (-1, -1)
"""Height and width of a network's input that are open, and stay so."""


@dataclass(frozen=True)
class Naming:
    """Names of classes.

    Args:
        names: one a class, in order.
        source: where they come from, in words.
        first_label: what a detector calls the first one.
    """

    names: tuple[str, ...]
    source: str
    first_label: int


def name_classes(told: Told, classes: BoxClasses, *, finds_boxes: bool) -> Naming:
    """Name the classes of a model.

    Args:
        told: what is said of it.
        classes: what its graph tells of them.
        finds_boxes: whether it is a detector, which may have a class for nothing, and not tell their number.

    Raises:
        LabelError: the number of names is not the number of classes, or is not known at all.
        ModelError: ``model_info`` is malformed.
    """
    if finds_boxes:
        return Naming(*box_class_names(told.options.labels, told.info, classes, told.hints))
    return Naming(*class_names(told.options.labels, told.info, classes.count or 0, told.hints), 0)


def read_facts(identity: Identity, image: InputDescription | None, naming: Naming, told: Told) -> ModelFacts:
    """Gather what is known of a model.

    Args:
        identity: what it does.
        image: what it is fed; ``None`` where nobody asks.
        naming: of its classes.
        told: what is said of it.

    Raises:
        ModelError: ``model_info`` is malformed.
    """
    info, given = told.info, told.options.confidence_threshold
    task = identity.task
    return ModelFacts(
        task=task,
        labels=naming.names,
        geometry=InputGeometry(ANY_SIZE) if image is None else image.geometry,
        input_layout="NCHW" if image is None else image.layout,
        mean=() if image is None else image.mean,
        scale=() if image is None else image.scale,
        reverse_input_channels=image is not None and image.reverse_channels,
        zero=() if image is None else image.zero,
        channels=3 if image is None else image.channels,
        multilabel=task is Task.MULTI_LABEL_CLS,
        confidence_threshold=read_share(info, "confidence_threshold") if given is None else given,
        iou_threshold=read_share(info, "iou_threshold"),
        first_label=naming.first_label,
        tiling=None if task.is_classification else read_tiling(info),
        box_format="" if identity.boxes is None else identity.boxes.format.name,
        normalisation_known=image is None or image.normalisation_known or told.options.normalised,
        sources=_sources(identity, image, naming),
    )


def _sources(identity: Identity, image: InputDescription | None, naming: Naming) -> dict[str, str]:
    sources = {"task": identity.source, "labels": naming.source}
    if identity.boxes is not None:
        sources["box_format"] = identity.boxes.match.reason
    if image is not None:
        sources |= {"input": image.source, "normalisation": image.normalisation_source}
    return sources


def read_tiling(info: dict[str, str]) -> Tiling | None:
    """Read how large images are to be tiled; ``None`` where ``model_info`` has no ``tile_size``.

    Raises:
        ModelError: a value is malformed, or tiles do not get anywhere.
    """
    if not info.get("tile_size", "").strip():
        return None
    default = Tiling(_count(info, "tile_size", 1))
    overlap = read_share(info, "tiles_overlap", default.overlap)
    if overlap == 1:
        raise malformed(info, "tiles_overlap", "a number from 0 to less than 1")
    return Tiling(
        size=default.size,
        overlap=overlap,
        max_predictions=_count(info, "max_pred_number", default.max_predictions),
        whole_image=default.whole_image if "tile_with_full_img" not in info else read_flag(info, "tile_with_full_img"),
    )


def _count(info: dict[str, str], key: str, default: int) -> int:
    if not info.get(key, "").strip():
        return default
    numbers = parse_numbers(info[key])
    if numbers is None or len(numbers) != 1 or numbers[0] < 1 or numbers[0] != int(numbers[0]):
        raise malformed(info, key, "a whole number of at least 1")
    return int(numbers[0])


def log_line(facts: ModelFacts) -> str:
    """One line that tells what is known of a model and who said so."""
    height, width = facts.geometry.size
    tiling = facts.tiling
    tiles = f" | tiles of {tiling.size} pixels, {tiling.overlap:.0%} overlap (model_info/tile_size)" if tiling else ""
    boxes = f"boxes as {facts.box_format} | " if facts.box_format else ""
    return (
        f"task {facts.task} ({facts.sources.get('task', 'given')}) | "
        f"{counted(len(facts.labels), 'label')} ({facts.sources.get('labels', 'given')}) | "
        f"input {height}x{width} {facts.input_layout} {facts.geometry.resize_type} "
        f"({facts.sources.get('input', 'given')}) | "
        f"{boxes}normalisation {facts.sources.get('normalisation', 'given')}{tiles}"
    )
