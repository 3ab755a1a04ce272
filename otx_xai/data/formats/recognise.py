"""From a path to a data set: which format it is in, its samples, and how they are split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from glob import has_magic
from hashlib import blake2b
from pathlib import Path

from otx_xai.data.file_kinds import IMAGE_SUFFIXES
from otx_xai.data.formats.coco import find_coco, load_coco, read_coco
from otx_xai.data.formats.image_folder import read_image_folder
from otx_xai.data.formats.multilabel_csv import find_csv, load_csv, read_csv
from otx_xai.data.formats.samples import TITLES, Recognised, Sample
from otx_xai.data.formats.stored_data import read_stored
from otx_xai.data.formats.voc import find_voc, read_voc
from otx_xai.data.naming import name_images
from otx_xai.data.sources import LIST_SUFFIXES, find_images
from otx_xai.errors import ConfigError, DataError
from otx_xai.records import ImageInfo, Task
from otx_xai.storage import Url, place_of

_SERVES: dict[str, tuple[Task, ...]] = {
    "coco": (Task.DETECTION, Task.INSTANCE_SEGMENTATION, Task.MULTI_LABEL_CLS),
    "voc": (Task.DETECTION, Task.MULTI_LABEL_CLS),
    "multilabel_csv": (Task.MULTI_LABEL_CLS,),
    "imagefolder": (Task.CLASSIFICATION, Task.MULTI_CLASS_CLS),
}
_SUBSETS = ("train", "val", "test", "predict")


def recognise(
    data_root: str | Path, task: Task | str | None = None, *, val_fraction: float = 0.2, seed: int = 0
) -> Recognised:
    """Find out what lies at a path.

    ==================  ============================================================================================
    ImageFolder         one folder a class, with or without ``train``, ``val``, ``test`` above
    COCO                ``*.json`` in the folder, in ``annotations``, or in ``train``, ``val``, ``test``; or one given
    Pascal VOC          ``Annotations/*.xml`` and ``JPEGImages``, with or without ``ImageSets/Main/*.txt``
    multi-label CSV     ``*.csv`` in the folder with a column of files and 0/1 columns or ``labels``; or one given
    no annotations      a folder of images, one image, a list of paths, a pattern; see :func:`find_images`
    ==================  ============================================================================================

    Annotation files outrank folders. Annotations that do not serve the task are not used, and images are never
    refused for having none: the notes say why no format was recognised.

    Args:
        data_root: folder, file, or pattern; or the URL of one in an object store.
        task: which use is wanted, where there are several; COCO serves detection, and instance segmentation only if
            that is asked for.
        val_fraction: part of the training images in [0, 1) that becomes the subset ``val`` where there is none. Which
            ones follows from names and ``seed`` alone; in an ImageFolder every class gives its part.
        seed: another one picks other validation images.

    Raises:
        ConfigError: ``val_fraction`` is out of range, or the task has no such name.
        DataError: nothing is there, or annotations are malformed, contradict each other, or lead out of the folder.
    """
    wanted = None if task is None else Task(task)
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction is {val_fraction}; expected a number from 0 up to, but not including, 1.")
    place = place_of(data_root) if "://" in str(data_root) else data_root
    if isinstance(place, Url):
        return _split(_read_store(place, wanted), val_fraction, seed)
    root = os.path.expanduser(place)
    try:
        found = _read_folder(root, wanted) if os.path.isdir(root) else _read_file(root, wanted)
    except OSError as error:
        raise DataError(
            f"The data in {root!r} cannot be read: {error.strerror} ({error.filename!r}). Check its rights."
        ) from error
    return _split(found, val_fraction, seed)


def _read_store(root: Url, task: Task | None) -> Recognised:
    """Read what a URL stands for: a folder, a file of annotations; or a list, an image or a pattern."""
    suffix = root.suffix.lower()
    if suffix in (".json", ".csv"):
        folder, file = root.parent, root.name
        if suffix == ".json" and folder.name.lower() == "annotations":
            folder, file = folder.parent, f"{folder.name}/{file}"
        return read_stored(folder, lambda here: _read_file(here, task), file)
    if suffix in LIST_SUFFIXES or suffix in IMAGE_SUFFIXES or has_magic(root.text):
        kind = "list" if suffix in LIST_SUFFIXES else "pattern" if has_magic(root.text) else "file"
        return _without_annotations(root.text, kind, task, find_images(root.text))
    return read_stored(root, lambda here: _read_folder(here, task))


def _read_folder(root: str, task: Task | None) -> Recognised:
    """Read a folder with the one kind of annotations that serves the task, else by its class folders."""
    tables, csv_notes = find_csv(root)
    contents, coco_notes = find_coco(root)
    voc_root = find_voc(root)
    kinds = [kind for kind, found in (("coco", contents), ("voc", voc_root), ("multilabel_csv", tables)) if found]
    fitting = [kind for kind in kinds if task is None or task in _SERVES[kind]]
    if len(fitting) > 1:
        raise DataError(
            f"{root!r} holds annotations of several formats: {', '.join(TITLES[kind] for kind in fitting)}. Expected "
            "one. Say which task is wanted, give the JSON or CSV file as data_root, or move the others away."
        )
    if fitting == ["coco"]:
        return _named(root, read_coco(root, contents, task))
    if fitting == ["voc"] and voc_root is not None:
        return _named(root, read_voc(voc_root, task))
    if fitting == ["multilabel_csv"]:
        return _named(root, read_csv(root, tables))
    unused = tuple(f"{TITLES[kind]} is there, which does not serve task {task}" for kind in kinds)
    single_class = task is not None and not kinds
    return _read_images(root, task, single_class, (*unused, *csv_notes, *coco_notes))


def _read_images(root: str, task: Task | None, single_class: bool, notes: tuple[str, ...]) -> Recognised:
    images = find_images(root)
    if task is None or task in _SERVES["imagefolder"]:
        found = read_image_folder(root, images, single_class=single_class)
        if isinstance(found, Recognised):
            return replace(found, images=images, notes=found.notes + notes)
        notes = (found, *notes)
    return _without_annotations(root, "folder", task, images, notes)


def _read_file(root: str, task: Task | None) -> Recognised:
    """Read one file: annotations, a list, or an image; or a pattern."""
    suffix = os.path.splitext(root)[1].lower()
    if not os.path.isfile(root):
        return _without_annotations(root, "pattern", task, find_images(root))
    if suffix in (".json", ".csv"):
        kind = "coco" if suffix == ".json" else "multilabel_csv"
        if task is not None and task not in _SERVES[kind]:
            serves = ", ".join(map(str, _SERVES[kind]))
            raise DataError(f"{root!r} serves task {serves}, not {task}. Expected data for it; give other data.")
        folder = os.path.dirname(root)
        if suffix == ".csv":
            return _named(folder, read_csv(folder, {root: load_csv(root)}))
        if os.path.basename(os.path.abspath(folder)).lower() == "annotations":
            folder = os.path.normpath(os.path.join(folder, os.pardir))
        return _named(folder, read_coco(folder, {root: load_coco(root)}, task))
    return _without_annotations(root, "list" if suffix in LIST_SUFFIXES else "file", task, find_images(root))


def _without_annotations(
    root: str, kind: str, task: Task | None, images: Sequence[ImageInfo], notes: tuple[str, ...] = ()
) -> Recognised:
    subsets = {"predict": tuple(Sample(info) for info in images)}
    return Recognised(root, kind, task, (), subsets, tuple(images), notes)


def _named(root: str, found: Recognised) -> Recognised:
    """Give the images of all subsets their names, relative to the root."""
    files = {sample.image.file for subset in found.subsets.values() for sample in subset}
    places = sorted((os.path.relpath(file, root or os.curdir).replace(os.sep, "/"), file) for file in files)
    images = name_images([(file, place) for place, file in places])
    infos = {info.file: info for info in images}
    subsets = {
        name: tuple(replace(sample, image=infos[sample.image.file]) for sample in subset)
        for name, subset in found.subsets.items()
    }
    return replace(found, root=root, subsets=subsets, images=images)


def _split(found: Recognised, fraction: float, seed: int) -> Recognised:
    """Take the validation images out of the training images, where the data do not say which they are."""
    subsets = dict(found.subsets)
    train = subsets.pop("all", subsets.pop("train", ()))
    val = subsets.pop("val", ())
    if len(train) > 1 and not val and fraction:
        order = _mixed(train, seed, by_class=found.format == "imagefolder")
        picked = set(order[: max(1, round(len(train) * fraction))])
        val = tuple(sample for sample in train if sample.image.name in picked)
        train = tuple(sample for sample in train if sample.image.name not in picked)
    subsets |= {"train": train, "val": val}
    return replace(found, subsets={name: subsets[name] for name in _SUBSETS if subsets.get(name)})


def _mixed(samples: Sequence[Sample], seed: int, *, by_class: bool) -> list[str]:
    """Return the names in an order that follows from names and seed; any beginning of it has all classes in proportion.

    Within its class, the i-th of n images stands at (i + 1/2) / n; all are sorted by that.
    """
    groups: dict[tuple[int, ...], list[tuple[bytes, str]]] = {}
    for sample in samples:
        digest = blake2b(f"{seed}/{sample.image.name}".encode(), digest_size=8).digest()
        groups.setdefault(sample.classes if by_class else (), []).append((digest, sample.image.name))
    places = [
        ((index + 0.5) / len(group), digest, name)
        for group in groups.values()
        for index, (digest, name) in enumerate(sorted(group))
    ]
    return [name for _, _, name in sorted(places)]
