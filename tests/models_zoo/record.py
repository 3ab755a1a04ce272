"""What is known of one model of the zoo: how it is made, what it answers, and where all that lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["classifier", "detector"]
Box = tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2 in pixels of the picture, score, class."""


@dataclass(frozen=True)
class Answer:
    """What the package that a model comes from says of one picture.

    Args:
        scores: of a classifier, one a class.
        boxes: of a detector, after its own suppression.
    """

    scores: tuple[float, ...] = ()
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Made:
    """What making a model left.

    Args:
        checkpoint: file or folder that a user would hand over.
        answers: picture → what is right. Pictures lie in the folder that the maker was given.
        classes: number of classes.
        plain: what plain OpenVINO makes of the very file, decoded as ``answers`` are; empty where that was not asked.
    """

    checkpoint: Path
    answers: dict[str, Answer]
    classes: int
    plain: dict[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Args:
        name: of its folder.
        kind: classifier or detector.
        package: that it comes from.
        how: it was exported, in words.
        make: writes the model into the first folder and pictures into the second.
        options: of ``otx explain`` that no file tells.
    """

    name: str
    kind: Kind
    package: str
    how: str
    make: Callable[[Path, Path], Made]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A model that was made, as its ``.json`` has it."""

    name: str
    kind: Kind
    package: str
    how: str
    options: tuple[str, ...]
    classes: int
    checkpoint: str
    answers: dict[str, Answer] = field(default_factory=dict)
    plain: dict[str, Answer] = field(default_factory=dict)


def store(entry: Entry, root: Path) -> None:
    """Make a model in ``root/<name>``, its pictures in ``root/<name>.pictures``, and say so in ``root/<name>.json``."""
    folder, pictures = root / entry.name, pictures_of(entry.name, root)
    folder.mkdir(parents=True, exist_ok=True)
    pictures.mkdir(exist_ok=True)
    made = entry.make(folder, pictures)
    stored = Stored(
        entry.name,
        entry.kind,
        entry.package,
        entry.how,
        entry.options,
        made.classes,
        made.checkpoint.relative_to(root).as_posix(),
        made.answers,
        made.plain,
    )
    file_of(entry.name, root).write_text(json.dumps(asdict(stored), indent=1))


def load(file: Path) -> Stored:
    """Read what :func:`store` wrote."""
    content: dict[str, Any] = json.loads(file.read_text())
    told = {
        key: {name: _answer(answer) for name, answer in content.pop(key, {}).items()} for key in ("answers", "plain")
    }
    return Stored(**content | {"options": tuple(content["options"])} | told)


def file_of(name: str, root: Path) -> Path:
    """Return where a model is described."""
    return root / f"{name}.json"


def pictures_of(name: str, root: Path) -> Path:
    """Return where the pictures of a model lie."""
    return root / f"{name}.pictures"


def _answer(content: dict[str, Any]) -> Answer:
    return Answer(
        **{key: tuple(tuple(v) if isinstance(v, list) else v for v in value) for key, value in content.items()}
    )
