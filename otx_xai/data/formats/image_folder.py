"""ImageFolder: one folder a class, with or without ``train``, ``val``, ``test`` above."""

from __future__ import annotations

import os
from collections.abc import Sequence

from otx_xai.data.formats.samples import Recognised, Sample, split_of_folder
from otx_xai.records import ImageInfo, Task


def read_image_folder(root: str, images: Sequence[ImageInfo], *, single_class: bool) -> Recognised | str:
    """Read the classes of images from their folders.

    Args:
        root: the folder.
        images: all images in it.
        single_class: whether one folder alone counts as a class.

    Returns:
        The data set, whose subset without a split is called ``all``; or why this is no ImageFolder.
    """
    parts = [os.path.relpath(info.file, root).split(os.sep) for info in images]
    tops = {part[0] for part in parts if len(part) > 1}
    outside = next((part[0] for part in parts if len(part) == 1), None)
    if outside is not None:
        return f"no ImageFolder, since {outside!r} lies outside of class folders"
    splits = {top for top in tops if split_of_folder(top)}
    if splits and splits == tops:
        return _read_splits(root, images, parts)
    nested = sorted(splits & {part[0] for part in parts if len(part) > 2})
    if nested:
        other = sorted(tops - splits)[0]
        return f"no ImageFolder, since the folder {other!r} lies beside {nested[0]!r}"
    if len(tops) < 2 and not single_class:
        return f"no ImageFolder, since there is one folder only ({sorted(tops)[0]!r})"
    return _gather(root, [("all", part[0], info) for info, part in zip(images, parts, strict=True)])


def _read_splits(root: str, images: Sequence[ImageInfo], parts: Sequence[Sequence[str]]) -> Recognised | str:
    classified = {part[0] for part in parts if len(part) > 2}
    flat = {part[0] for part in parts if len(part) == 2}
    folders = sorted(classified | flat)
    if not classified:
        return f"no ImageFolder, since {folders[0]!r} holds images without class folders"
    if mixed := sorted(classified & flat):
        return f"no ImageFolder, since {mixed[0]!r} holds class folders and, beside them, images without a class"
    if len({split_of_folder(folder) for folder in folders}) < len(folders):
        return f"no ImageFolder, since several of the folders {', '.join(folders)} stand for one split"
    found = []
    for info, part in zip(images, parts, strict=True):
        split = split_of_folder(part[0]) if part[0] in classified else None
        found.append((split or "predict", part[1] if split else None, info))
    return _gather(root, found)


def _gather(root: str, found: Sequence[tuple[str, str | None, ImageInfo]]) -> Recognised:
    labels = sorted({label for _, label, _ in found if label is not None})
    indices = {label: index for index, label in enumerate(labels)}
    subsets: dict[str, list[Sample]] = {}
    for split, label, info in found:
        subsets.setdefault(split, []).append(Sample(info, () if label is None else (indices[label],)))
    samples = {split: tuple(subset) for split, subset in subsets.items()}
    return Recognised(root, "imagefolder", Task.MULTI_CLASS_CLS, tuple(labels), samples)
