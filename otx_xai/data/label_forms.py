"""The text of a label file → names in the order of classes: plain lines, tables with an index, YAML and JSON.

Where a file says which name has which index, that decides; the order of its rows does not.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otx_xai.errors import LabelError

Named = tuple[tuple[str, ...], str]
"""Names, and how the file lists them, in words; empty for plain lines and lists."""

_SYNSET = re.compile(r"n\d{8}(?:[\s,:]+(?P<name>\S.*))?")
_INDEX = re.compile(r"\d+(?:\.0+)?")
"""A whole number, which pandas writes with a zero behind its point where a column has gaps."""
_BY_COLON = re.compile(r"(\d+)\s*:\s+(\S.*)")
_BY_MARK = (
    re.compile(r"(?P<index>\d+)\s*(?:[:.)=]|->|-\s)\s*(?P<name>\S.*)"),
    re.compile(r"(?P<name>.*\S)\s*(?:[:=]|->)\s*(?P<index>\d+)"),
)
"""Lines such as ``0:cat``, ``0. cat`` and ``cat=0``."""
_SEPARATORS = ("\t", ";", ",")
_INDEX_WORDS = ("id", "index", "idx", "number", "classid", "classindex", "labelid", "categoryid", "labelindex")
_NAME_WORDS = ("name", "label", "class", "category", "title", "classname", "labelname", "categoryname", "displayname")
_LISTS = (
    *("names", "label_names", "labels", "classes", "class_names", "id2label", "categories"),
    *("idx_to_class", "class_to_idx", "label_map"),
)
"""Keys of a mapping under which names stand, the first one that is there."""


def names_in(text: str, suffix: str, source: str) -> Named:
    """Read the names of a label file.

    ====================  ==========================================================================================
    plain lines           one name a line, in the order of classes; where every line begins with a synset of WordNet
                          (``n01440764 tench``), the names are what stands behind it
    a table               an index and a name a line, in either order, separated by tabs, semicolons, commas or
                          colons, with or without a line of titles; by spaces, points, brackets and signs of equality
                          too, where that fits every line
    YAML, JSON            a list of names; a mapping of index to name or of name to index; either of them under
                          ``names``, ``labels``, ``classes``, ``id2label``, ``label2id``, …; ``categories`` as in COCO
    ====================  ==========================================================================================

    Args:
        text: the content.
        suffix: of the file, in lower case.
        source: what the file is called in errors.

    Raises:
        LabelError: it is malformed, or indices are missing, repeated, or do not begin at 0.
    """
    stripped = text.strip()
    if suffix == ".json":
        return _structure(_from_json(stripped, source), source)
    if suffix in (".yaml", ".yml") or (stripped[:1] + stripped[-1:]) in ("{}", "[]"):
        return _structure(_from_yaml(stripped, source), source)
    lines = _without_synsets([line.strip(" \r") for line in text.rstrip().split("\n")] if stripped else [])
    found = _table(lines, source)
    return (
        (tuple(line.strip() for line in lines), "") if found is None else (tuple(_without_synsets(found[0])), found[1])
    )


def _without_synsets(lines: Sequence[str]) -> Sequence[str]:
    """Return what stands behind the synsets where every line has one, else the lines."""
    matches = [_SYNSET.fullmatch(line) for line in lines]
    names = [match["name"] for match in matches if match is not None and match["name"]]
    return names if len(names) == len(lines) else lines


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def _table(lines: Sequence[str], source: str) -> Named | None:
    """Read a table of indices and names; ``None`` where the lines are none."""
    for separator in _SEPARATORS:
        rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=separator)]
        if len(rows) == len(lines) and (found := _separated(rows, lines, source, separator)):
            return found
    return _by_colons(lines, source) or _by_marks(lines, source) or _by_spaces(lines, source)


@dataclass(frozen=True)
class _Columns:
    """Where index and name stand in a row, as positions from the front or from the end.

    ``is_exact``: a name is this one field; else it is all but the index, as it may hold separators.
    """

    index: int
    name: int
    is_exact: bool = False


def _separated(rows: Sequence[Sequence[str]], lines: Sequence[str], source: str, separator: str) -> Named | None:
    """Read a table whose fields are separated by tabs, semicolons or commas."""
    titles = _titles(rows)
    first = 1 if titles else 0
    columns = _columns(titles, rows[first:], source)
    if columns is None:
        return None
    pairs = []
    for number, (row, line) in enumerate(zip(rows[first:], lines[first:], strict=True), start=first + 1):
        index, name = _fields(row, columns, separator)
        if not _INDEX.fullmatch(index) or not name:
            raise LabelError(
                f"{source}: line {number}, {line!r}, is no index and name, as other lines are. Expected both in every "
                "line, or in none."
            )
        pairs.append((_number(index), name))
    return ordered(pairs, source), "by index"


def _titles(rows: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return the first line where it names the columns: it has no index, and all others have one."""
    head, *body = rows or [()]
    is_table = len(head) > 1 and body and all(any(map(_INDEX.fullmatch, row)) for row in body)
    return head if is_table and not any(map(_INDEX.fullmatch, head)) else ()


def _columns(titles: Sequence[str], body: Sequence[Sequence[str]], source: str) -> _Columns | None:
    """Return which column holds indices and which names; ``None`` where no column holds indices."""
    ends = [place for place in (0, -1) if 2 * len(_indices(body, place)) > len(body)]
    if not ends:
        return None
    words = [re.sub(r"[\W_]", "", title.lower()) for title in titles]
    index, name = (_only(words, known) for known in (_INDEX_WORDS, _NAME_WORDS))
    if index is not None and name is not None:
        return _Columns(index, name, is_exact=True) if len(titles) > 2 else _of_two(-index)
    if len(titles) > 2:
        raise LabelError(
            f"{source} has the columns {', '.join(titles)}; expected one titled index (or id), and one titled name."
        )
    return _of_two(ends[0] if len(ends) == 1 else _index_end(body, source))


def _of_two(end: int) -> _Columns:
    """Return the columns of a table whose first (0) or last (-1) field is the index."""
    return _Columns(0, 1) if end == 0 else _Columns(-1, 0)


def _index_end(body: Sequence[Sequence[str]], source: str) -> int:
    """Return at which end the indices stand where there are numbers at both: they are complete there only."""
    firsts, lasts = _indices(body, 0), _indices(body, -1)
    if _is_complete(firsts) != _is_complete(lasts) or firsts == lasts:
        return -1 if _is_complete(lasts) and firsts != lasts else 0
    raise LabelError(
        f"{source} has numbers in its first and in its last column, so that it is not known which are the indices. "
        "Add a first line: index,name, or name,index."
    )


def _indices(body: Sequence[Sequence[str]], place: int) -> list[int]:
    """Return the indices at one end of the lines that have one, and a name beside it."""
    return [_number(row[place]) for row in body if len(row) > 1 and _INDEX.fullmatch(row[place])]


def _only(words: Sequence[str], known: Sequence[str]) -> int | None:
    places = [place for place, word in enumerate(words) if word in known]
    return places[0] if len(places) == 1 else None


def _fields(row: Sequence[str], columns: _Columns, separator: str) -> tuple[str, str]:
    """Return index and name of a line; a name that holds separators without quotes is put together again."""
    if len(row) < 2 or columns.index >= len(row) or columns.name >= len(row):
        return "", ""
    if columns.is_exact:
        return row[columns.index], row[columns.name]
    name = row[1:] if columns.index == 0 else row[:-1]
    return row[columns.index], (", " if separator == "," else separator).join(name)


def _by_colons(lines: Sequence[str], source: str) -> Named | None:
    """Read lines such as ``0: tench``."""
    matches = [match for match in map(_BY_COLON.fullmatch, lines) if match is not None]
    if not matches or len(matches) < len(lines):
        return None
    return ordered([(int(match[1]), match[2].strip()) for match in matches], source), "by index"


def _by_marks(lines: Sequence[str], source: str) -> Named | None:
    """Read lines such as ``0:cat``, ``0) cat`` and ``cat=0``.

    Names may begin or end like this (``1:1 square``), so that the numbers are indices only where they run from 0 or 1.
    """
    for pattern in _BY_MARK:
        matches = [match for match in map(pattern.fullmatch, lines) if match is not None]
        pairs = [(_number(match["index"]), match["name"].strip()) for match in matches]
        first = min((index for index, _ in pairs), default=2)
        if len(pairs) == len(lines) > 1 and first < 2 and _is_complete([index - first for index, _ in pairs]):
            return ordered(pairs, source), "by index"
    return None


def _by_spaces(lines: Sequence[str], source: str) -> Named | None:
    """Read lines such as ``0 tench`` or ``tench 0``.

    Names may end with a number (``Boeing 707``), so that one at the end is an index only where these are complete.
    """
    firsts, lasts = [line.split(None, 1) for line in lines], [line.rsplit(None, 1) for line in lines]
    if lines and all(len(row) == 2 and _INDEX.fullmatch(row[0]) for row in firsts):
        return ordered([(_number(index), name) for index, name in firsts], source), "by index"
    if not lines or not all(len(row) == 2 and _INDEX.fullmatch(row[1]) for row in lasts):
        return None
    pairs = [(_number(index), name.strip()) for name, index in lasts]
    is_table = _is_complete([index for index, _ in pairs]) and len({name for _, name in pairs}) == len(pairs)
    return (ordered(pairs, source), "by index") if is_table else None


def _number(index: str) -> int:
    return int(index.partition(".")[0])


def _is_complete(indices: Sequence[int]) -> bool:
    return sorted(indices) == list(range(len(indices)))


def ordered(pairs: Sequence[tuple[int, str]], source: str) -> tuple[str, ...]:
    """Put names in the order of their indices.

    Raises:
        LabelError: indices are missing, repeated, or do not begin at 0.
    """
    indices = sorted(index for index, _ in pairs)
    if _is_complete(indices):
        return tuple(name for _, name in sorted(pairs))
    repeated = [index for index, count in Counter(indices).items() if count > 1]
    if repeated:
        names = ", ".join(repr(name) for index, name in pairs if index == repeated[0])
        raise LabelError(f"{source} gives index {repeated[0]} to {names}. Expected each index once: correct the file.")
    missing = min(set(range(len(indices) + 1)) - set(indices))
    raise LabelError(
        f"{source} has {len(indices)} names with indices from {indices[0]} to {indices[-1]}, and none with {missing}. "
        f"Expected 0 to {len(indices) - 1}: count from 0, or name the classes that are missing (0 may be the "
        "background). If these numbers are a part of the names, write a JSON list of names."
    )


# ---------------------------------------------------------------------------------------------------------------------
# YAML and JSON


def _from_json(text: str, source: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _mapping(pairs, source))
    except json.JSONDecodeError as error:
        raise LabelError(f"{source} is not JSON ({error}); expected a list of names.") from error
    except RecursionError as error:
        raise LabelError(_too_deep(source)) from error


def _from_yaml(text: str, source: str) -> Any:
    import yaml

    try:
        # Composed, not loaded: all scalars stay texts (also "no", "1e3" and "null"), and repeated keys are seen
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return _plain(root, source)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{source} is not YAML ({reason}); expected a list or mapping of names.") from error
    except RecursionError as error:
        raise LabelError(_too_deep(source)) from error


def _too_deep(source: str) -> str:
    return f"{source} nests lists or mappings hundreds deep; expected a list or mapping of names. Correct the file."


def _plain(node: Any, source: str) -> Any:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, source) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return _mapping([(_plain(key, source), _plain(value, source)) for key, value in node.value], source)
    return None if node is None else node.value


def _mapping(pairs: Sequence[tuple[Any, Any]], source: str) -> dict[str, Any]:
    repeated = [key for key, count in Counter(str(key) for key, _ in pairs).items() if count > 1]
    if repeated:
        raise LabelError(f"{source} has the key {repeated[0]!r} twice. Expected each once: correct the file.")
    return {str(key): value for key, value in pairs}


def _structure(value: Any, source: str) -> Named:
    """Read a list, a mapping, or what stands under a known key of one."""
    if isinstance(value, Mapping):
        key = next((key for key in _LISTS if isinstance(value.get(key), list | Mapping)), None)
        if key == "id2label":
            return _both_ways(value, source)
        if key is not None:
            names, words = _structure(value[key], source)
            return names, f"{key}{', ' if words else ''}{words}"
        if isinstance(value.get("label2id"), Mapping):
            names, words = _from_mapping(value["label2id"], source)
            return names, f"label2id, {words}"
        return _from_mapping(value, source)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return _from_categories(value, source)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(item.strip() for item in value), ""
    raise LabelError(
        f'{source} is no JSON list of names; expected ["first", "second", …], or {{"0": "first", "1": "second", …}}.'
    )


def _both_ways(value: Mapping[str, Any], source: str) -> Named:
    """Read ``id2label``, which ``label2id`` may not contradict."""
    names, words = _from_mapping(value["id2label"], source)
    back = value.get("label2id")
    if isinstance(back, Mapping):
        wrong = [name for index, name in enumerate(names) if str(back.get(name, index)) != str(index)]
        if wrong and len(set(names)) == len(names):
            raise LabelError(
                f"{source} gives {wrong[0]!r} index {names.index(wrong[0])} in id2label and {back[wrong[0]]} in "
                "label2id. Expected the same: correct the file."
            )
    return names, f"id2label, {words}"


def _from_mapping(value: Mapping[str, Any], source: str) -> Named:
    """Read index → name, index → (synset, name) as Keras writes it, or name → index."""
    texts = {key: _text(item) for key, item in value.items()}
    is_forward = all(map(_INDEX.fullmatch, texts))
    is_backward = all(text is not None and _INDEX.fullmatch(text) for text in texts.values())
    if is_forward and is_backward and any(key != text for key, text in texts.items()):
        raise LabelError(
            f"{source} maps numbers to numbers, so that it is not known which are the indices. Expected a list of "
            "names."
        )
    if is_forward and all(text is not None for text in texts.values()):
        return ordered([(_number(key), str(text)) for key, text in texts.items()], source), "by index"
    if is_backward and texts:
        return ordered([(_number(str(text)), key) for key, text in texts.items()], source), "by index"
    raise LabelError(
        f"{source} is no JSON list of names, nor a mapping of index to name (keys: {', '.join([*value][:5])}); "
        'expected ["first", "second", …], or {"0": "first", "1": "second", …}.'
    )


def _text(value: Any) -> str | None:
    """Return a name or an index as a text; ``None`` for anything else."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and _SYNSET.fullmatch(value[0]):
        value = value[1]
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value).strip() if is_plain else None


def _from_categories(value: Sequence[Mapping[str, Any]], source: str) -> Named:
    """Read categories as COCO has them, whose ids need not be indices: classes are in the order of ids."""
    rows = [(_text(item.get("id", item.get("index"))), _text(item.get("name", item.get("label")))) for item in value]
    pairs = [
        (_number(number), name) for number, name in rows if number and _INDEX.fullmatch(number) and name is not None
    ]
    if len(pairs) < len(rows):
        raise LabelError(
            f'{source} has entries without an id or a name; expected [{{"id": 1, "name": "first"}}, …]. Complete them.'
        )
    numbers = sorted(number for number, _ in pairs)
    if len(set(numbers)) < len(numbers):
        raise LabelError(f"{source} has entries of the same id. Expected each id once: correct the file.")
    has_gaps = numbers[-1] - numbers[0] >= len(numbers)
    span = f"{numbers[0]} to {numbers[-1]}{', with gaps' if has_gaps else ''}"
    return tuple(name for _, name in sorted(pairs)), f"classes in the order of ids, which are {span}"
