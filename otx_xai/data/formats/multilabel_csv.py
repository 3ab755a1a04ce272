"""Multi-label CSV: a column of files, and one 0/1 column a class or one column of labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otx_xai.data.formats.samples import Recognised, Sample, check_unique, counted, inside, split_of_file, unnamed
from otx_xai.errors import DataError
from otx_xai.records import Task

_FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_name", "image_path", "img", "name", "path")
_LABEL_COLUMNS = ("labels", "classes", "tags")
_SEPARATORS = (";", "|", " ")


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file: which file has which labels.

    Args:
        labels: class names: in the order of their columns, or sorted.
        rows: pairs of a file name and its labels.
    """

    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def find_csv(root: str) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Find the multi-label tables in a folder.

    Returns:
        Path → table, and notes on CSV files that are none.
    """
    names = sorted(name for name in os.listdir(root) if name.lower().endswith(".csv") and not name.startswith("."))
    tables, notes = {}, []
    for name in names:
        try:
            tables[os.path.join(root, name)] = load_csv(os.path.join(root, name))
        except DataError as error:
            notes.append(f"no multi-label CSV: {name!r} ({str(error).split('. ', 1)[0]})")
    return tables, tuple(notes)


def load_csv(file: str) -> Table:
    """Read a multi-label CSV.

    The first row names the columns. One of them holds files (``file``, ``image``, ``path``, …). Either one holds
    ``labels``, separated by ``;``, ``|`` or spaces, or all others are classes that hold 0 or 1.

    Raises:
        DataError: the file is not of this form.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(row)]
    except OSError as error:
        raise DataError(f"The table {file!r} cannot be read: {error.strerror}. Check its rights.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The table {file!r} is no CSV in UTF-8: {error}. Save it as such.") from error
    if len(rows) < 2:
        raise DataError(f"The table {file!r} has {len(rows)} rows. Expected the names of the columns, and images.")
    header, body = rows[0], rows[1:]
    names = [name.lower() for name in header]
    file_column = next((names.index(name) for name in _FILE_COLUMNS if name in names), None)
    if file_column is None:
        raise DataError(
            f"The table {file!r} has no column of files among its columns {', '.join(header[:8])}. Expected one that "
            f"is called {', '.join(_FILE_COLUMNS)}. Rename it."
        )
    uneven = next((index for index, row in enumerate(body) if len(row) != len(header)), None)
    if uneven is not None:
        raise DataError(
            f"Row {uneven + 2} of the table {file!r} has {len(body[uneven])} cells. Expected {len(header)}, as in its "
            "first row. Put cells that hold a comma into quotation marks."
        )
    label_column = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    if label_column is not None:
        return _from_words(file, body, file_column, label_column)
    return _from_flags(file, header, body, file_column)


def _from_words(file: str, body: Sequence[Sequence[str]], file_column: int, label_column: int) -> Table:
    texts = [row[label_column] for row in body]
    separator = next((mark for mark in _SEPARATORS if any(mark in text for text in texts)), _SEPARATORS[0])
    rows = tuple(
        (row[file_column], tuple(word.strip() for word in text.split(separator) if word.strip()))
        for row, text in zip(body, texts, strict=True)
    )
    return Table(check_unique(sorted({word for _, words in rows for word in words}), f"The table {file!r}"), rows)


def _from_flags(file: str, header: Sequence[str], body: Sequence[Sequence[str]], file_column: int) -> Table:
    columns = [index for index in range(len(header)) if index != file_column]
    labels = check_unique([header[index] for index in columns], f"The table {file!r}")
    for number, row in enumerate(body, start=2):
        wrong = next((index for index in columns if row[index] not in ("0", "1")), None)
        if wrong is not None:
            raise DataError(
                f"Row {number} of the table {file!r} holds {row[wrong]!r} for {header[wrong]!r}. Expected 0 or 1 for "
                "every class, or one column called 'labels' that lists them. Correct or remove the column."
            )
    rows = tuple((row[file_column], tuple(header[index] for index in columns if row[index] == "1")) for row in body)
    return Table(labels, rows)


def read_csv(root: str, tables: Mapping[str, Table]) -> Recognised:
    """Turn tables into samples.

    Args:
        root: what image paths must not leave; paths are relative to the table's folder, or to ``images`` in it.
        tables: path → table; several must be called after splits.

    Returns:
        The data set, with a subset ``all`` for a table that is not called after a split.

    Raises:
        DataError: tables contradict each other, or images are missing.
    """
    files: dict[str, str] = {}
    for file in tables:
        split = split_of_file(os.path.splitext(os.path.basename(file))[0]) or "all"
        if split in files or ("all" in (split, *files) and files):
            raise DataError(
                f"Several tables in {root!r} may hold the same images: {', '.join(map(repr, tables))}. Expected one a "
                "split, called after train, val or test. Rename them, or give one of them as data_root."
            )
        files[split] = file
    first = tables[files.get("train") or next(iter(files.values()))]
    missing = 0
    subsets = {}
    for split in ("train", "val", "test", "all"):
        if split in files:
            subsets[split], lost = _samples(root, files[split], tables[files[split]], first.labels)
            missing += lost
    return Recognised(
        root,
        "multilabel_csv",
        Task.MULTI_LABEL_CLS,
        first.labels,
        subsets,
        notes=counted(missing, "images whose file is missing"),
    )


def _samples(root: str, file: str, table: Table, labels: tuple[str, ...]) -> tuple[tuple[Sample, ...], int]:
    if unknown := sorted(set(table.labels) - set(labels)):
        raise DataError(
            f"The table {file!r} names a class {unknown[0]!r} that the training table lacks: {', '.join(labels)}. "
            "Expected the same classes in all splits."
        )
    indices = {label: index for index, label in enumerate(labels)}
    own = os.path.dirname(file)
    samples = []
    for name, words in table.rows:
        places = [inside(root, folder, name, f"The table {file!r}") for folder in (own, os.path.join(own, "images"))]
        path = next((place for place in places if os.path.isfile(place)), None)
        if path is not None:
            samples.append(Sample(unnamed(path), tuple(sorted(indices[word] for word in set(words)))))
    if not samples:
        raise DataError(
            f"None of the {len(table.rows)} images that {file!r} names was found ({table.rows[0][0]!r} is the first). "
            "Expected paths relative to the folder of the table, or to 'images' in it."
        )
    return tuple(samples), len(table.rows) - len(samples)
