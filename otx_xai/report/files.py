"""Results on disk: names that are safe everywhere, files that are whole or absent, pictures and journal of a run."""

from __future__ import annotations

import json
import os
import re
import secrets
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from otx_xai.errors import LabelError, OutputError
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import (
    DumpContent,
    ExplainConfig,
    ExplainedImage,
    FloatArray,
    ImageFormat,
    InputGeometry,
    Prediction,
    UInt8Array,
)
from otx_xai.report.pictures import TILE_SIZE, annotate, overlay, sheet, shrink

MAP_FOLDER = "saliency_map"
"""Folder of a run that holds its pictures."""

_SLUG_BYTES = 80
_KEPT_PUNCTUATION = frozenset("-+=,&'()")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)")
_PNG_FILTER = 19
"""``cv2.IMWRITE_PNG_FILTER``, which OpenCV 4.10 does not know, and ignores; its values are those of libpng."""
_PNG_FILTER_UP, _PNG_FILTER_AVG = 32, 64


def _png_options(strategy: int, row_filter: int) -> tuple[int, ...]:
    return (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, strategy, _PNG_FILTER, row_filter)


# Measured on overlays and maps: a third of the time of plain level 1, and not larger.
_PNG_COLOUR = _png_options(cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, _PNG_FILTER_AVG)
_PNG_GREY = _png_options(cv2.IMWRITE_PNG_STRATEGY_RLE, _PNG_FILTER_UP)
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 90)


# ---------------------------------------------------------------------------------------------------------------------
# Names.


def slug(text: str) -> str:
    """Make a text part of a file name that every file system takes.

    Letters and digits of all scripts and ``-+=,&'()`` stay; any run of other characters becomes one ``_``. So there is
    never a dot in it, which the naming of images relies on (see :mod:`otx_xai.data.sources`).

    Args:
        text: any text, such as a class name.

    Returns:
        1 to 80 bytes of UTF-8, in Unicode's composed form; ``unnamed`` where nothing is left.
    """
    kept = "".join(letter if _stays(letter) else "_" for letter in unicodedata.normalize("NFC", text))
    kept = _cut(re.sub("_+", "_", kept).strip("_"), _SLUG_BYTES).rstrip("_")
    return f"{kept}_" if _RESERVED.fullmatch(kept) else kept or "unnamed"


def slugs(labels: Sequence[str]) -> tuple[str, ...]:
    """Make one slug a label, no two the same even where upper and lower case are not told apart.

    Labels that give the same slug get their class index appended: ``crane_134`` and ``crane_517``.

    Args:
        labels: class names, in the order of classes.

    Returns:
        As many slugs, each of at most 80 bytes of UTF-8.
    """
    plain = [slug(label) for label in labels]
    keys = [_fold(text) for text in plain]
    uses = Counter(keys)
    taken = set(keys)
    unique = []
    for index, (text, key) in enumerate(zip(plain, keys, strict=True)):
        if uses[key] == 1:
            unique.append(text)
            continue
        end = f"_{index}"
        while _fold(_with_end(text, end)) in taken:
            end += f"_{index}"
        unique.append(_with_end(text, end))
        taken.add(_fold(unique[-1]))
    return tuple(unique)


def _stays(letter: str) -> bool:
    return letter.isalnum() or letter in _KEPT_PUNCTUATION or unicodedata.category(letter).startswith("M")


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _with_end(text: str, end: str) -> str:
    return _cut(text, _SLUG_BYTES - len(end)) + end


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


# ---------------------------------------------------------------------------------------------------------------------
# Files.


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all, even if the process is killed.

    Folders are created as needed. An existing file is replaced.

    Args:
        path: where to.
        data: the content.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            _write_new(temporary, data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(_unwritable_text(path, error)) from error
    finally:
        _remove(temporary)


def write_picture(path: str | Path, picture: UInt8Array, image_format: ImageFormat = ImageFormat.PNG) -> None:
    """Encode a picture and write it atomically.

    Args:
        path: where to; its suffix is not looked at.
        picture: RGB ``uint8`` ``(H, W, 3)``, or grey ``(H, W)``.
        image_format: PNG (exact, lightly compressed) or JPEG (quality 90).

    Raises:
        OutputError: the picture cannot be encoded or written.
    """
    suffix, is_colour = f".{image_format}", picture.ndim == 3
    options = _JPEG if image_format is ImageFormat.JPG else _PNG_COLOUR if is_colour else _PNG_GREY
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if is_colour else picture
    try:
        encoded, data = cv2.imencode(suffix, bgr, options)
    except cv2.error as error:
        raise OutputError(_unencodable_text(path, picture, suffix)) from error
    if not encoded:
        raise OutputError(_unencodable_text(path, picture, suffix))
    write_atomic(path, data.tobytes())


def write_json(path: str | Path, obj: object) -> None:
    """Write an object as indented JSON (UTF-8), atomically.

    Args:
        path: where to.
        obj: what :mod:`json` can write.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, _utf8(json.dumps(obj, indent=2, ensure_ascii=False) + "\n"))


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder is gone or locked: the error that led here says so
        return


def _utf8(text: str) -> bytes:
    # File names that are no UTF-8 come as lone surrogates. As escapes they stay valid JSON, and survive reading it.
    return text.encode("utf-8", "backslashreplace")


def _unwritable_text(path: Path, error: OSError) -> str:
    return (
        f"The file {str(path)!r} cannot be written: {error.strerror}. Expected a folder with write permission and free "
        "space; free it, or give another --work_dir."
    )


def _unencodable_text(path: str | Path, picture: UInt8Array, suffix: str) -> str:
    return (
        f"The picture {str(path)!r}, {picture.dtype} {picture.shape}, cannot be encoded as {suffix}. Expected uint8 "
        "(H, W, 3) or (H, W) with sides of 1 to 65500 pixels; make it smaller, or write PNG."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Pictures of a run.


class Dump:
    """Renders and writes the pictures of explained images; any number of threads may write different images at once.

    Pictures go to ``<work_dir>/saliency_map/``, and are called

    * ``<stem>_class_<label>_saliency_map.png``, the map in grey, at the size of the image (or of the network's map),
    * ``<stem>_class_<label>_overlay.png``, the map over the image, captioned with class and score,
    * ``<stem>_sheet.png``, the image and all its overlays on one page,

    without ``_class_<label>`` for a map of the whole image (target -1), and with ``.jpg`` for JPEG.

    Args:
        work_dir: folder of the run.
        labels: class names, in the order of classes.
        config: what to write.
        geometry: how images were fitted into the network's input.
    """

    def __init__(
        self, work_dir: str | Path, labels: Sequence[str], config: ExplainConfig, geometry: InputGeometry
    ) -> None:
        self._work_dir = Path(work_dir)
        self._slugs = slugs(labels)
        self._config = config
        self._geometry = geometry

    def write(self, explained: ExplainedImage) -> tuple[str, ...]:
        """Render and write the pictures of one image.

        Args:
            explained: the image, its targets and maps.

        Returns:
            The files written, relative to ``work_dir``, with ``/``.

        Raises:
            OutputError: a file cannot be written.
            LabelError: a target has no label.
        """
        if self._config.content is DumpContent.SHEET:
            return (self._write_picture(f"{explained.info.stem}_sheet", self._sheet(explained)),)
        return tuple(
            self._write_picture(name, picture)
            for target, saliency_map in zip(explained.targets, explained.maps, strict=True)
            for name, picture in self._render(explained, target, saliency_map)
        )

    def _render(
        self, explained: ExplainedImage, target: Prediction, saliency_map: FloatArray
    ) -> Iterator[tuple[str, UInt8Array]]:
        stem = f"{explained.info.stem}{self._class_part(target)}"
        content = self._config.content
        wants_overlay = content in (DumpContent.OVERLAYS, DumpContent.BOTH)
        on_image = self._on_image(explained, saliency_map) if wants_overlay or self._config.postprocess else None
        if content in (DumpContent.MAPS, DumpContent.BOTH):
            shown = on_image if self._config.postprocess and on_image is not None else saliency_map
            yield f"{stem}_saliency_map", to_uint8(shown)
        if wants_overlay and on_image is not None:
            yield f"{stem}_overlay", annotate(self._overlay(explained, on_image), _caption(target))

    def _sheet(self, explained: ExplainedImage) -> UInt8Array:
        tiles = [(shrink(explained.image, TILE_SIZE), explained.info.name.rpartition("/")[2])]
        for target, saliency_map in zip(explained.targets, explained.maps, strict=True):
            picture = self._overlay(explained, self._on_image(explained, saliency_map))
            tiles.append((shrink(picture, TILE_SIZE), _caption(target)))
        return sheet(tiles)

    def _on_image(self, explained: ExplainedImage, saliency_map: FloatArray) -> FloatArray:
        height, width = explained.image.shape[:2]
        on_image: FloatArray = to_image(
            saliency_map[np.newaxis], (height, width), self._geometry, crop_padding=self._config.crop_padded_map
        )[0]
        return on_image

    def _overlay(self, explained: ExplainedImage, on_image: FloatArray) -> UInt8Array:
        return overlay(explained.image, on_image, self._config.overlay_weight)

    def _class_part(self, target: Prediction) -> str:
        if target.target == -1:
            return ""
        if target.target >= len(self._slugs):
            raise LabelError(
                f"Class {target.target} was explained, and there are {len(self._slugs)} labels. Expected one label a "
                "class: check the labels that were given, or those in the model's model_info."
            )
        return f"_class_{self._slugs[target.target]}"

    def _write_picture(self, name: str, picture: UInt8Array) -> str:
        file = f"{MAP_FOLDER}/{name}.{self._config.image_format}"
        write_picture(self._work_dir / file, picture, self._config.image_format)
        return file


def _caption(target: Prediction) -> str:
    if target.target == -1:
        return target.label or "activation map"
    return f"{target.label} {target.score:.2f}"


# ---------------------------------------------------------------------------------------------------------------------
# The journal.


class Journal:
    """A file of JSON lines, one an image, whole lines only; to be used from one thread, and closed.

    Args:
        path: the file, ``predictions.jsonl``. Folders are created as needed.
        resume: continue an existing file behind its last whole line, instead of replacing it.

    Raises:
        OutputError: the file cannot be written, or is no journal that could be continued.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if resume and self._path.exists():
                os.truncate(self._path, _whole_lines(self._path)[1])
            self._file = open(self._path, "ab" if resume else "wb")  # noqa: SIM115
        except OSError as error:
            raise OutputError(_unwritable_text(self._path, error)) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record as one line, at once.

        Args:
            record: what :mod:`json` can write.

        Raises:
            OutputError: the line cannot be written.
        """
        line = _utf8(json.dumps(record, ensure_ascii=False) + "\n")
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise OutputError(_unwritable_text(self._path, error)) from error

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: str | Path) -> list[dict[str, Any]]:
    """Read the records of a journal; a torn last line, as a killed run leaves it, is left out.

    Args:
        path: the file.

    Returns:
        One record a whole line, in order; none where there is no file.

    Raises:
        OutputError: the file cannot be read, or a line other than the last is no JSON object.
    """
    try:
        return _whole_lines(Path(path))[0]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"The journal {str(path)!r} cannot be read: {error.strerror}. Check its rights.") from error


def record(explained: ExplainedImage, files: Iterable[str], method: str) -> dict[str, object]:
    """Describe the results of one image for the journal.

    Args:
        explained: the image and its results.
        files: what was written, relative to the folder of the run.
        method: what explained it.

    Returns:
        A dict that :mod:`json` can write: ``path``, ``name``, ``size`` ``[h, w]``, ``predictions`` and ``targets``
        (each ``{target, label, score}``), ``files``, ``method``, ``seconds``.
    """
    height, width = explained.image.shape[:2]
    return {
        "path": str(explained.info.path),
        "name": explained.info.name,
        "size": [height, width],
        "predictions": [_plain(prediction) for prediction in explained.predictions],
        "targets": [_plain(target) for target in explained.targets],
        "files": list(files),
        "method": str(method),
        "seconds": round(float(explained.seconds), 6),
    }


def _plain(prediction: Prediction) -> dict[str, object]:
    return {"target": int(prediction.target), "label": str(prediction.label), "score": float(prediction.score)}


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of the whole lines, and the number of bytes that these lines take."""
    records: list[dict[str, Any]] = []
    size = 0
    with open(path, "rb") as file:
        lines = iter(file)
        for number, line in enumerate(lines, 1):
            entry = _parse(line)
            if entry is not None:
                records.append(entry)
                size += len(line)
            elif next(lines, None) is not None:
                raise OutputError(
                    f"Line {number} of the journal {str(path)!r} is broken: {line[:40]!r} is no JSON object. Expected "
                    "one object a line; only the last one may be torn. Remove the line, or start a new run."
                )
    return records, size


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object of a whole line, or ``None``."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
