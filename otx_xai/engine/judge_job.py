"""Stages of ``Engine.judge``: the images and what is known of them, the methods, and what a run leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from otx_xai.data import search_images
from otx_xai.data.formats import Recognised, Sample, recognise
from otx_xai.data.loaders import LoadedImage, loaded_images
from otx_xai.engine.explaining import Images, images_of, tell_decoding
from otx_xai.engine.precision_choice import settle
from otx_xai.errors import ConfigError, DataError
from otx_xai.explain.plan import How, plan
from otx_xai.judging.cases import Known
from otx_xai.judging.judgement import JUDGEMENT, PLOT, Judgement
from otx_xai.judging.plot import draw_judgement
from otx_xai.judging.trial import Trial, evenly, named_methods, nominate
from otx_xai.model import Model
from otx_xai.records import ImageInfo, JudgedClass, Precision
from otx_xai.report.files import write_drawing, write_json
from otx_xai.report.manifest import plain, versions
from otx_xai.settings import JudgeSettings, absolute

logger = logging.getLogger("otx_xai")

_TOLD = (
    "images",
    "judged",
    "steps",
    "sanity",
    "confidence_threshold",
    "target_layer",
    "preset",
    "num_masks",
    "tolerance",
    "seed",
    "device",
    "precision",
    "decode",
)
"""Settings that :data:`JUDGEMENT` holds: those that figures depend on, and no paths."""


@dataclass(frozen=True)
class JudgedData:
    """The images, and their annotations where there are any.

    Args:
        images: all of them.
        annotations: ``None`` where there are none.
    """

    images: Images
    annotations: Recognised | None = None


def data_at(root: str | Path) -> JudgedData:
    """Find images and annotations at a path; annotations that cannot be read are told, and left out.

    Raises:
        DataError: there is no image.
    """
    try:
        found = recognise(root)
    except DataError as error:
        images = search_images(root)  # says so where it is the images that are missing
        logger.warning("Annotations are not used: %s", error)
        return JudgedData(Images(images.images, absolute(root), not_read=images.not_read))
    logger.info("%s: %s", root, found.summary())
    return JudgedData(Images(found.images, absolute(root)), found)


def data_of(module: Any, *, pictures: bool = True) -> JudgedData:
    """Find the images of a data module or a loader.

    Args:
        module: the data module or the loader.
        pictures: what is normalised already cannot be used.

    Raises:
        DataError: there are none.
        ConfigError: they come normalised, so that there is no picture to hide parts of.
    """
    images = images_of(module)
    if images.normalised and pictures:
        raise ConfigError(
            "The loader gives floating-point tensors, which are normalised already; here pictures are "
            "changed, and parts of them hidden. "
            "Expected uint8 images (3, H, W), an OTXDataModule, or a data_root."
        )
    return JudgedData(images, getattr(module, "recognised", None))


def check_methods(settings: JudgeSettings) -> None:
    """Read the names of methods, before anything is opened that takes time.

    Raises:
        ConfigError: there is no such method, or one is named twice.
    """
    named_methods(settings.methods)


def run_trial(work_dir: Path, model: Model, settings: JudgeSettings, data: JudgedData) -> Judgement:
    """Judge a model's maps, and write what was found.

    Args:
        work_dir: folder of the run, which exists.
        model: open.
        settings: of the run.
        data: the images.

    Raises:
        ConfigError: methods or settings do not fit the model or the data.
        GraphError: no method fits the model.
        OutputError: results cannot be written.
    """
    ballot = nominate(model, settings)
    if ballot.refused:
        logger.info("Not judged: %s", "; ".join(f"{name}: {why}" for name, why in ballot.refused.items()))
    logger.info("Judging %s.", ", ".join(ballot.names))
    tell_decoding(replace(model.facts, tiling=None), settings.decode)
    chosen = evenly(data.images.images, settings.images)
    known = known_of(data.annotations, chosen, model.facts.labels)
    _check_truth(settings, model, known)
    about = _about(model, settings)
    if settings.precision is Precision.AUTO:
        settings, about["precision"] = _with_precision(model, settings, data.images, chosen)
    trial = Trial(work_dir, model, ballot, settings, known, about)
    judgement = trial.run(_sources(data.images, chosen), len(chosen), len(data.images.images))
    write_json(work_dir / JUDGEMENT, judgement.content())
    if judgement.scores:
        write_drawing(work_dir / PLOT, draw_judgement(judgement))
    return judgement


def known_of(annotations: Recognised | None, images: Iterable[ImageInfo], labels: Sequence[str]) -> dict[str, Known]:
    """Return what annotations tell of some images, in the classes of a model.

    Classes go by their names, without regard to case and with ``_`` for a space; where a name lists synonyms with
    commas between, as those of ImageNet do, by each of them that means one class; by their numbers where the model has
    no names and as many classes. Those that the model does not have are left out.

    Args:
        annotations: of the data; ``None``: nothing is known.
        images: those that are asked about.
        labels: class names of the model.
    """
    if annotations is None or not annotations.labels:
        return {}
    names = _synonyms(labels) | {_folded(label): number for number, label in reversed(list(enumerate(labels)))}
    by_number = len(labels) == len(annotations.labels) and not names.keys() & set(map(_folded, annotations.labels))
    numbers = [
        number if by_number and list(labels) == [str(i) for i in range(len(labels))] else names.get(_folded(label))
        for number, label in enumerate(annotations.labels)
    ]
    samples = {sample.image.name: sample for subset in annotations.subsets.values() for sample in subset}
    return {image.name: _known(samples[image.name], numbers) for image in images if image.name in samples}


def _synonyms(labels: Sequence[str]) -> dict[str, int]:
    """Return the classes of names that are one of several of a class, and of no other."""
    owners: dict[str, set[int]] = {}
    for number, label in enumerate(labels):
        for synonym in label.split(",") if "," in label else ():
            owners.setdefault(_folded(synonym), set()).add(number)
    return {synonym: numbers.pop() for synonym, numbers in owners.items() if len(numbers) == 1}


def _known(sample: Sample, numbers: Sequence[int | None]) -> Known:
    classes = [numbers[label] for label in sample.classes]
    labels = [numbers[label] for label in sample.box_labels]
    kept = [i for i, label in enumerate(labels) if label is not None]
    return Known(
        tuple(number for number in classes if number is not None),
        np.asarray(sample.boxes, np.float32)[kept],
        tuple(label for label in labels if label is not None),
    )


def _folded(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


def _check_truth(settings: JudgeSettings, model: Model, known: Mapping[str, Known]) -> None:
    if settings.judged is not JudgedClass.TRUTH:
        return
    if not model.facts.task.is_classification:
        raise ConfigError("--judged is truth, and the model finds boxes: judged are the boxes that it finds itself.")
    if not any(one.all_classes() for one in known.values()):
        raise ConfigError(
            "--judged is truth, and no annotation of these images names a class of the model. Expected class folders, "
            "COCO, Pascal VOC or a multi-label CSV whose class names are those of the model (--labels)."
        )


def _with_precision(
    model: Model, settings: JudgeSettings, images: Images, chosen: Sequence[ImageInfo]
) -> tuple[JudgeSettings, Mapping[str, Any]]:
    """Return the settings with the precision that the default maps of the first images allow, and what was measured."""
    planned = plan(model, How(target_layer=settings.target_layer, options=settings.of_method()), best=1, told=False)
    exact = planned.compiled(settings.device, latency=False)
    session, measured = settle(exact, planned, settings.device, chosen, loader=images.loader)
    return replace(settings, precision=session.precision), measured


def _sources(images: Images, chosen: Sequence[ImageInfo]) -> Iterator[ImageInfo | LoadedImage]:
    if images.loader is None:
        yield from chosen
        return
    names = {image.name for image in chosen}
    yield from (image for image in loaded_images(images.loader, images.images) if image.name in names)


def _about(model: Model, settings: JudgeSettings) -> dict[str, Any]:
    """Return what figures rest on, without anything that only this machine knows."""
    facts = replace(model.facts, tiling=None)
    told = {name: getattr(settings, name) for name in _TOLD}
    return {
        "command": "judge",
        "task": str(facts.task),
        "score": "probability of the class" if facts.task.is_classification else "how well the box is found again",
        "classes": len(facts.labels),
        "input_size": list(facts.geometry.size),
        "model_sha256": model.digest,
        "settings": plain(told),
        "versions": versions(),
    }
