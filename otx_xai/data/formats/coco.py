"""COCO: one JSON file a split, with images, categories, boxes and masks."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from otx_xai.data.annotations import Segment, parse_run_lengths
from otx_xai.data.formats.samples import (
    Recognised,
    Sample,
    check_unique,
    counted,
    finite_numbers,
    inside,
    no_boxes,
    split_of_file,
    split_of_folder,
    unnamed,
)
from otx_xai.errors import DataError
from otx_xai.records import Size, Task

Content = Mapping[str, Any]


def find_coco(root: str) -> tuple[dict[str, Content], tuple[str, ...]]:
    """Find the COCO files of a folder: in it, in ``annotations``, and in folders called after a split.

    Where some are called ``instances_*``, the others (captions, key points) are not looked at.

    Returns:
        Path → content, and notes on JSON files that are none.

    Raises:
        DataError: a file that is called ``instances_*`` cannot be read.
    """
    folders = [root]
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    folders += [os.path.join(root, name) for name in names if name.lower() == "annotations" or split_of_folder(name)]
    files = [
        os.path.join(folder, name)
        for folder in folders
        for name in sorted(os.listdir(folder))
        if name.lower().endswith(".json") and not name.startswith(".")
    ]
    instances = [file for file in files if os.path.basename(file).startswith("instances_")]
    contents, notes = {}, []
    for file in instances or files:
        try:
            contents[file] = load_coco(file)
        except DataError as error:
            if instances:
                raise
            notes.append(f"no COCO file: {os.path.relpath(file, root)!r} ({_first_sentence(error)})")
    return contents, tuple(notes)


def _first_sentence(error: DataError) -> str:
    return str(error).split(". ", 1)[0]


def load_coco(file: str) -> Content:
    """Read a JSON file, and check that it has the three lists of COCO.

    Raises:
        DataError: it has not, or it is no JSON.
    """
    try:
        with open(file, encoding="utf-8-sig") as stream:
            content = json.load(stream)
    except OSError as error:
        raise DataError(f"The annotations {file!r} cannot be read: {error.strerror}. Check their rights.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"The annotations {file!r} are no JSON: {error}. Export or fetch them again.") from error
    missing = [name for name in ("images", "annotations", "categories") if not _has_records(content, name)]
    if missing:
        raise DataError(
            f"The annotations {file!r} are not in COCO's format: they lack a list of {', '.join(missing)}. Expected "
            "an object with the lists images, annotations and categories."
        )
    return dict(content)


def _has_records(content: Any, name: str) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get(name), list)
        and all(isinstance(record, dict) for record in content[name])
    )


def read_coco(root: str, contents: Mapping[str, Content], task: Task | None) -> Recognised:
    """Turn COCO files into samples.

    Left out and counted in the notes: crowds, boxes without area, images whose file is missing, annotations of images
    that are not listed. Images without boxes are kept: they show the background.

    Args:
        root: what image paths must not leave.
        contents: path → content.
        task: detection where None; instance segmentation also reads the masks, multi-label classification takes the
            classes of all boxes.

    Returns:
        The data set, with a subset ``all`` for a file that is not called after a split.

    Raises:
        DataError: files contradict each other, or an entry is malformed.
    """
    files = _by_split(root, contents)
    first = files.get("train") or next(iter(files.values()))
    labels = check_unique(_category_names(first, contents[first]), f"The annotations {first!r}")
    subsets: dict[str, tuple[Sample, ...]] = {}
    left_out: Counter[str] = Counter()
    for split, file in files.items():
        reader = _Reader(root, file, labels, task is Task.INSTANCE_SEGMENTATION, left_out)
        subsets[split] = reader.read(contents[file])
    notes = tuple(note for what, number in sorted(left_out.items()) for note in counted(number, what))
    return Recognised(root, "coco", task or Task.DETECTION, labels, subsets, notes=notes)


def _by_split(root: str, contents: Mapping[str, Content]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for file in contents:
        stem = os.path.splitext(os.path.basename(file))[0]
        folder = os.path.basename(os.path.dirname(os.path.abspath(file)))
        in_root = os.path.dirname(os.path.abspath(file)) == os.path.abspath(root)
        split = split_of_file(stem) or (None if in_root else split_of_folder(folder)) or "all"
        found.setdefault(split, []).append(file)
    clash = next((files for files in found.values() if len(files) > 1), None)
    if clash or ("all" in found and len(found) > 1):
        several = clash or list(contents)
        raise DataError(
            f"Several COCO files in {root!r} may hold the same images: {', '.join(map(repr, several))}. Expected one "
            "file a split, called after train, val or test. Rename them, or give one of them as data_root."
        )
    return {split: found[split][0] for split in ("train", "val", "test", "all") if split in found}


def _category_names(file: str, content: Content) -> list[str]:
    return [name for _, name in sorted(_categories(file, content).items())]


def _categories(file: str, content: Content) -> dict[int, str]:
    """Return id → name."""
    categories: dict[int, str] = {}
    for record in content["categories"]:
        number, name = record.get("id"), record.get("name")
        if type(number) is not int or not isinstance(name, str) or not name or number in categories:
            raise DataError(
                f"The annotations {file!r} hold a category with id {number!r} and name {name!r}. Expected whole "
                "numbers, each once, with a name. Correct the list of categories."
            )
        categories[number] = name
    return categories


class _Reader:
    """Reads one COCO file; remembers where its images were found, and counts what is left out."""

    def __init__(self, root: str, file: str, labels: tuple[str, ...], with_masks: bool, left_out: Counter[str]) -> None:
        self.root = root
        self.file = file
        self.labels = labels
        self.with_masks = with_masks
        self.left_out = left_out
        self.folders = _image_folders(root, file)

    def read(self, content: Content) -> tuple[Sample, ...]:
        targets = self._targets(content)
        by_image = defaultdict(list)
        for annotation in content["annotations"]:
            by_image[_key(annotation.get("image_id"))].append(annotation)
        samples = []
        missing = []
        seen = set()
        for record in content["images"]:
            number = _key(record.get("id"))
            if number is None or number in seen:
                raise DataError(
                    f"The annotations {self.file!r} hold an image with id {record.get('id')!r}, file name "
                    f"{record.get('file_name')!r}. Expected a number or a text that no other image has."
                )
            seen.add(number)
            annotations = by_image.pop(number, [])
            path = self._find(record)
            if path is None:
                missing.append(record["file_name"])
            else:
                samples.append(self._sample(path, _declared_size(record), annotations, targets))
        if not samples:
            raise DataError(
                f"None of the {len(missing)} images that {self.file!r} names was found"
                + (f" ({missing[0]!r} is the first)" if missing else "")
                + f". Looked in {', '.join(map(repr, self.folders))}. Put the images there, or correct file_name."
            )
        if missing:
            self.left_out["images whose file is missing"] += len(missing)
        if by_image:
            self.left_out["annotations of images that are not listed"] += sum(map(len, by_image.values()))
        return tuple(samples)

    def _targets(self, content: Content) -> dict[int | str | None, int]:
        """Return category id → class index."""
        categories = _categories(self.file, content)
        if unknown := sorted(set(categories.values()) - set(self.labels)):
            raise DataError(
                f"The annotations {self.file!r} name a category {unknown[0]!r} that the training annotations lack: "
                f"{', '.join(self.labels)}. Expected the same categories in all splits."
            )
        return {number: self.labels.index(name) for number, name in categories.items()}

    def _find(self, record: Content) -> str | None:
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(
                f"The annotations {self.file!r} hold an image (id {record.get('id')!r}) with file_name {name!r}. "
                "Expected the path of its file. Correct the entry."
            )
        source = f"The annotation file {self.file!r}"
        paths = (inside(self.root, folder, name, source) for folder in self.folders)
        return next((path for path in paths if os.path.isfile(path)), None)

    def _sample(
        self, path: str, size: Size | None, annotations: Sequence[Content], targets: Mapping[int | str | None, int]
    ) -> Sample:
        boxes, classes, segments = [], [], []
        for annotation in annotations:
            where = f"annotation {annotation.get('id')!r} in {self.file!r}"
            target = targets.get(_key(annotation.get("category_id")))
            if target is None:
                raise DataError(
                    f"The {where} is of category {annotation.get('category_id')!r}, which the file does not list: its "
                    f"ids are {', '.join(map(str, targets))}. Add the category, or remove the annotation."
                )
            if annotation.get("iscrowd"):
                self.left_out["crowds"] += 1
                continue
            box = _box(annotation, size, where)
            if box is None:
                self.left_out["boxes without area"] += 1
                continue
            boxes.append(box)
            classes.append(target)
            if self.with_masks:
                segments.append(_segment(annotation, size, where))
        return Sample(
            unnamed(path),
            classes=tuple(sorted(set(classes))),
            boxes=np.array(boxes, np.float32) if boxes else no_boxes(),
            box_labels=tuple(classes),
            segments=tuple(segments) if self.with_masks else None,
            size=size,
        )


def _key(value: Any) -> int | str | None:
    """Return an id, if the value can be one."""
    return value if type(value) in (int, str) else None


def _image_folders(root: str, file: str) -> list[str]:
    """Return where the images of a file may lie, the most particular folder first.

    For ``instances_train2017.json`` those are ``train2017``, ``images/train2017``, ``train``, ``images/train``, then
    the file's own folder, ``images``, and the root.
    """
    stem = os.path.splitext(os.path.basename(file))[0]
    words = [stem.split("_", 1)[-1], split_of_file(stem) or ""]
    places = [os.path.join(above, word) for word in words if word for above in ("", "images")]
    folders = [os.path.join(root, place) for place in places]
    own = os.path.dirname(file)
    folders += [own, os.path.join(own, "images"), os.path.join(root, "images"), root]
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder or os.curdir)]


def _declared_size(record: Content) -> Size | None:
    height, width = record.get("height"), record.get("width")
    if type(height) is int and type(width) is int and height > 0 and width > 0:
        return height, width
    return None


def _box(annotation: Content, size: Size | None, where: str) -> list[float] | None:
    """Return ``xyxy``, cut to the image; None where no area is left."""
    values = annotation.get("bbox")
    if not finite_numbers(values, 4):
        raise DataError(
            f"The bbox of {where} is {values!r}. Expected four numbers: left, top, width, height, in pixels. Correct "
            "or remove the annotation."
        )
    left, top, width, height = map(float, annotation["bbox"])
    highest = (size[1], size[0]) if size else (np.inf, np.inf)
    x1, x2 = (min(max(x, 0.0), highest[0]) for x in (left, left + width))
    y1, y2 = (min(max(y, 0.0), highest[1]) for y in (top, top + height))
    return [x1, y1, x2, y2] if x2 > x1 and y2 > y1 else None


def _segment(annotation: Content, size: Size | None, where: str) -> Segment:
    given = annotation.get("segmentation")
    if isinstance(given, dict) and isinstance(given.get("size"), list) and isinstance(given.get("counts"), list | str):
        mask = parse_run_lengths(given["size"], given["counts"], where)
        if size and mask.size != size:
            raise DataError(
                f"The mask of {where} is {mask.size[0]}x{mask.size[1]} pixels (height x width), its image "
                f"{size[0]}x{size[1]}. Expected a mask of the image's size. Correct or remove the annotation."
            )
        return mask
    if isinstance(given, list):
        lines = [given] if finite_numbers(given) and given else given
        if all(finite_numbers(line) and len(line) % 2 == 0 for line in lines):
            outlines = tuple(np.array(line, np.float32).reshape(-1, 2) for line in lines if len(line) >= 6)
            if outlines:
                return outlines
    raise DataError(
        f"The {where} has no mask: its segmentation is {_short(given)}. Expected polygons of at least three points, or "
        "run lengths, on every box for instance segmentation. Complete the masks, or ask for task detection."
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
