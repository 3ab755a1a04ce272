"""Drawn shapes in formats that only tests write: Pascal VOC, and tables of several labels."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from otx_xai.data.shape_sets import Counts, SceneFile, write_coco
from otx_xai.data.shapes import SHAPE_LABELS


def write_voc(folder: Path, counts: Counts, **drawn: Any) -> list[SceneFile]:
    """Write ``JPEGImages``, ``Annotations``, and ``ImageSets/Main`` where there are splits."""
    images, annotations, sets = (folder / name for name in ("JPEGImages", "Annotations", "ImageSets/Main"))
    scenes = write_coco(folder / "drawn", counts, **drawn)
    images.mkdir()
    annotations.mkdir()
    files = []
    for number, file in enumerate(scenes):
        path = file.path.rename(images / f"{number:06d}.jpg")
        files.append(SceneFile(path, file.split, file.scene))
        (annotations / f"{path.stem}.xml").write_bytes(_voc(files[-1], drawn.get("labels", SHAPE_LABELS)))
        if file.split:
            sets.mkdir(parents=True, exist_ok=True)
            with (sets / f"{file.split}.txt").open("a") as listed:
                listed.write(f"{path.stem}\n")
    shutil.rmtree(folder / "drawn")
    return files


def _voc(file: SceneFile, labels: tuple[str, ...]) -> bytes:
    tree = ElementTree.Element("annotation")
    ElementTree.SubElement(tree, "filename").text = file.path.name
    size = ElementTree.SubElement(tree, "size")
    for name, value in zip(("height", "width", "depth"), file.scene.image.shape, strict=True):
        ElementTree.SubElement(size, name).text = str(value)
    for (x1, y1, x2, y2), target in zip(file.scene.boxes.tolist(), file.scene.targets, strict=True):
        item = ElementTree.SubElement(tree, "object")
        ElementTree.SubElement(item, "name").text = labels[target]
        box = ElementTree.SubElement(item, "bndbox")
        for name, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            ElementTree.SubElement(box, name).text = str(int(value))
    return ElementTree.tostring(tree)


def write_multilabel_csv(folder: Path, counts: Counts, *, columns: bool = True, **drawn: Any) -> tuple[SceneFile, ...]:
    """Write ``images[/<split>]``, and ``<split>.csv`` or ``labels.csv``: a column a class, or one of all names."""
    files, labels = write_coco(folder, counts, **drawn), drawn.get("labels", SHAPE_LABELS)
    shutil.rmtree(folder / "annotations")
    for split in dict.fromkeys(file.split for file in files):
        with (folder / f"{split or 'labels'}.csv").open("w", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["file", *labels] if columns else ["file", "labels"])
            for file in files:
                if file.split == split:
                    shown = sorted(set(file.scene.targets))
                    told = [int(target in shown) for target in range(len(labels))]
                    name = file.path.relative_to(folder).as_posix()
                    writer.writerow([name, *told] if columns else [name, ";".join(labels[target] for target in shown)])
    return files
