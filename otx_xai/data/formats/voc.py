"""Pascal VOC: one XML file an image in ``Annotations``, images in ``JPEGImages``, splits in ``ImageSets/Main``."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from otx_xai.data.file_kinds import IMAGE_SUFFIXES
from otx_xai.data.formats.samples import Recognised, Sample, check_unique, counted, inside, no_boxes, unnamed
from otx_xai.errors import DataError
from otx_xai.records import Size, Task

_MARK = re.compile(r"\s+(-?1|0)$")
"""What stands behind a name in the lists of one class."""


_VOC = re.compile(r"(?i)voc")


def find_voc(root: str) -> str | None:
    """Return the folder with ``Annotations`` and ``JPEGImages``: the root, or one such as ``VOCdevkit/VOC2012`` in it.

    Raises:
        DataError: there are several, as in a folder with VOC2007 and VOC2012.
    """
    level = [root]
    for _ in range(3):
        found = [folder for folder in level if _annotation_folder(folder)]
        if len(found) > 1:
            raise DataError(
                f"{root!r} holds several Pascal VOC data sets: {', '.join(map(repr, found))}. Expected one; give the "
                "folder of one of them as data_root."
            )
        if found:
            return found[0]
        level = [os.path.join(folder, name) for folder in level for name in _folders(folder) if _VOC.match(name)]
    return None


def _annotation_folder(folder: str) -> str | None:
    """Return the folder of XML files, if ``folder`` has one and one for images."""
    if not _image_folder(folder):
        return None
    for name in _folders(folder):
        if name.lower() == "annotations":
            path = os.path.join(folder, name)
            return path if any(file.lower().endswith(".xml") for file in os.listdir(path)) else None
    return None


def _image_folder(folder: str) -> str | None:
    names = {name.lower(): name for name in _folders(folder)}
    return next((os.path.join(folder, names[name]) for name in ("jpegimages", "images") if name in names), None)


def _folders(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def read_voc(root: str, task: Task | None) -> Recognised:
    """Turn a Pascal VOC data set into samples.

    Coordinates are those of the VOC kit: the first pixel is 1, the last one belongs to the box. So a box from
    ``xmin`` to ``xmax`` covers ``[xmin - 1, xmax]`` here. Objects marked as difficult are kept.

    Args:
        root: the folder with ``Annotations``.
        task: detection where None, or multi-label classification.

    Returns:
        The data set, with the subset ``all`` where ``ImageSets/Main`` lists no split.

    Raises:
        DataError: a file is malformed, or an image or a listed annotation is missing.
    """
    annotations, images = _annotation_folder(root), _image_folder(root)
    if annotations is None or images is None:
        raise DataError(f"{root!r} is no Pascal VOC folder. Expected Annotations with XML files, and JPEGImages.")
    files = {
        os.path.splitext(name)[0]: os.path.join(annotations, name)
        for name in sorted(os.listdir(annotations))
        if name.lower().endswith(".xml") and not name.startswith(".")
    }
    suffixed = {os.path.splitext(name) for name in sorted(os.listdir(images))}
    by_stem = {stem: os.path.join(images, stem + end) for stem, end in suffixed if end.lower() in IMAGE_SUFFIXES}
    trees = {stem: parse_xml(file) for stem, file in files.items()}
    names = sorted({_text(item, "name", files[stem]) for stem, tree in trees.items() for item in tree.iter("object")})
    labels = check_unique(names, f"The annotations in {annotations!r}")
    left_out: Counter[str] = Counter()
    samples = {}
    for stem, tree in trees.items():
        path = _image_of(root, images, by_stem, stem, tree, files[stem])
        if path is None:
            left_out["images whose file is missing"] += 1
        else:
            samples[stem] = _sample(path, tree, labels, files[stem], left_out)
    if not samples:
        raise DataError(f"None of the {len(files)} images that {annotations!r} describes was found in {images!r}.")
    subsets = _subsets(root, samples, left_out)
    notes = tuple(note for what, number in sorted(left_out.items()) for note in counted(number, what))
    return Recognised(root, "voc", task or Task.DETECTION, labels, subsets, notes=notes)


def parse_xml(file: str) -> Element:
    """Read an XML file, and refuse a DOCTYPE: entities can grow without bound, or read other files.

    Raises:
        DataError: it has one, or it is no XML.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> NoReturn:
        raise DataError(
            f"The annotation {file!r} declares a DOCTYPE or entities, which Pascal VOC has no use for and which can be "
            "made to fill the memory. Expected plain elements. Do not trust the file, or remove the declaration."
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        with open(file, "rb") as stream:
            parser.ParseFile(stream)
    except OSError as error:
        raise DataError(f"The annotation {file!r} cannot be read: {error.strerror}. Check its rights.") from error
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"The annotation {file!r} is no XML: {error}. Export or fetch it again.") from error
    return builder.close()


def _text(element: Element, name: str, file: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise DataError(f"The annotation {file!r} has an <{element.tag}> without <{name}>. Expected one; correct it.")
    return text


def _image_of(root: str, images: str, by_stem: dict[str, str], stem: str, tree: Element, file: str) -> str | None:
    """Return the image of an annotation: the one of its name, else the one that it names."""
    name = (tree.findtext("filename") or "").strip()
    named = inside(root, images, name, f"The annotation {file!r}") if name else None
    if stem in by_stem:
        return by_stem[stem]
    return named if named and os.path.isfile(named) else None


def _sample(path: str, tree: Element, labels: tuple[str, ...], file: str, left_out: Counter[str]) -> Sample:
    size = _size(tree)
    highest = (size[1], size[0]) if size else (math.inf, math.inf)
    boxes, classes = [], []
    for item in tree.iter("object"):
        x1, y1, x2, y2 = _corners(item, file)
        x1, x2 = (min(max(x, 0.0), highest[0]) for x in (x1 - 1, x2))
        y1, y2 = (min(max(y, 0.0), highest[1]) for y in (y1 - 1, y2))
        if x2 > x1 and y2 > y1:
            boxes.append([x1, y1, x2, y2])
            classes.append(labels.index(_text(item, "name", file)))
        else:
            left_out["boxes without area"] += 1
    return Sample(
        unnamed(path),
        classes=tuple(sorted(set(classes))),
        boxes=np.array(boxes, np.float32) if boxes else no_boxes(),
        box_labels=tuple(classes),
        size=size,
    )


def _size(tree: Element) -> Size | None:
    height, width = ((tree.findtext(f"size/{name}") or "").strip() for name in ("height", "width"))
    if height.isdecimal() and width.isdecimal() and int(height) and int(width):
        return int(height), int(width)
    return None


def _corners(item: Element, file: str) -> tuple[float, float, float, float]:
    box = item.find("bndbox")
    if box is None:
        raise DataError(f"The annotation {file!r} has an <object> without <bndbox>. Expected one; correct it.")
    texts = [_text(box, name, file) for name in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = map(float, texts)
    except ValueError as error:
        raise DataError(f"The annotation {file!r} has the box {', '.join(texts)}. Expected four numbers.") from error
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise DataError(f"The annotation {file!r} has the box {', '.join(texts)}. Expected four finite numbers.")
    return x1, y1, x2, y2


def _subsets(root: str, samples: dict[str, Sample], left_out: Counter[str]) -> dict[str, tuple[Sample, ...]]:
    """Read which image belongs to which split."""
    listed = {split: _read_list(os.path.join(root, "ImageSets", "Main", f"{split}.txt")) for split in _LISTS}
    subsets: dict[str, tuple[Sample, ...]] = {}
    for split in ("train", "val", "test"):
        names = listed[split]
        if names is None:
            continue
        known = [samples[name] for name in names if name in samples]
        if len(known) < len(names):
            left_out[f"names in {split}.txt without image or annotation"] += len(names) - len(known)
        if known:
            subsets[split] = tuple(known)
    if "train" not in subsets and "val" not in subsets and listed["trainval"]:
        subsets["all"] = tuple(samples[name] for name in listed["trainval"] if name in samples)
    return subsets or {"all": tuple(samples.values())}


_LISTS = ("train", "val", "test", "trainval")


def _read_list(path: str) -> list[str] | None:
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = [line.strip() for line in stream]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list {path!r} cannot be read: {error}. Expected one image name a line.") from error
    return list(dict.fromkeys(_MARK.sub("", line) for line in lines if line))
