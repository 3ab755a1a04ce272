"""What users can say: words that are read without regard to case, and what the fields of a record tell of themselves.

A record of settings says of each field, where it is declared, how the command line and the docs show it::

    @dataclass(frozen=True)
    class Settings:
        seed: int = option(0, "N", "of the masks", "Black box")

Everything that lists options derives them from such records with :func:`options_of`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from enum import Enum
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from otx_xai.errors import ConfigError

_METADATA = "option"

AnyWord = TypeVar("AnyWord", bound="Word")

Kind = type[bool] | type[int] | type[float] | None
"""Type that an option's value is read as; ``None``: text, which the one who uses it reads."""


class Word(str, Enum):
    """A string enumeration that is read without regard to case, ``-`` and ``_``."""

    @classmethod
    def _missing_(cls, value: object) -> Word:
        folded = _fold(value)
        for member in cls:
            if folded in (_fold(member.value), _fold(member.name)):
                return member
        known = [str(member.value) for member in cls]
        # Other tools call a model's file its weights
        file = " It is a file; that of a model is given as --checkpoint." if os.path.isfile(str(value)) else ""
        raise ConfigError(f"{value!r} is no {cls.__name__}; expected one of {words(cls)}.{file or meant(value, known)}")

    def __str__(self) -> str:
        return str(self.value)


def _fold(value: object) -> str:
    return str(value).lower().replace("-", "").replace("_", "").replace(" ", "")


def meant(typed: object, known: Iterable[str], title: str = "") -> str:
    """Ask whether the known word was meant that reads most like what was typed; empty where none does.

    >>> meant("fp16", ["f32", "f16"])
    ' Did you mean f16?'
    """
    close = get_close_matches(str(typed).lower(), list(known), 1)
    return f" Did you mean {title}{close[0]}?" if close else ""


def words(kind: type[Word]) -> str:
    """Join the words of an enumeration with commas."""
    return ", ".join(member.value for member in kind)


def read_word(kind: type[AnyWord], value: str | None) -> AnyWord | None:
    """Read one word as a member of its enumeration.

    Raises:
        ConfigError: it is none.
    """
    return None if value is None else kind(value)


def read_words(record: object, **kinds: type[Word]) -> None:
    """Turn the words in a record, which users may write as plain text, into members of their enumerations.

    Args:
        record: a frozen dataclass that is being made.
        kinds: field → its enumeration.

    Raises:
        ConfigError: one is no word of its enumeration.
    """
    for name, kind in kinds.items():
        object.__setattr__(record, name, read_word(kind, getattr(record, name)))


@dataclass(frozen=True)
class Option:
    """What is shown of one setting, and how it is read.

    Args:
        metavar: what stands for its value, such as ``FILE``.
        help: what it means, in a few words.
        group: heading that it stands under; empty: that of the record it is in.
        decides: results depend on it.
        is_path: its value, where it is text, is a path, which may be relative.
        name: of the field; dotted where its record lies in another.
        kind: type that its value is read as.
        default: its value where nothing is said.
    """

    metavar: str
    help: str
    group: str = ""
    decides: bool = True
    is_path: bool = False
    name: str = ""
    kind: Kind = None
    default: Any = None


def option(
    default: Any, metavar: str, help: str, group: str = "", *, decides: bool = True, is_path: bool = False
) -> Any:
    """Declare a field of a record that is an option; see :class:`Option`."""
    return field(default=default, metadata={_METADATA: Option(metavar, help, group, decides, is_path)})


def section(record: type, group: str = "", *, decides: bool = True) -> Any:
    """Declare a field that holds a record of further options, by default one of its defaults."""
    return field(default_factory=record, metadata={_METADATA: Option("", "", group, decides)})


def option_of(declared: Any) -> Option | None:
    """Return what a field of a dataclass tells of itself; ``None`` of one that is no option."""
    told: Option | None = declared.metadata.get(_METADATA)
    return told


def options_of(record: type, prefix: str = "", group: str = "") -> Iterator[Option]:
    """Yield the options of a record in their order, those of records inside it in their place.

    Args:
        record: a dataclass.
        prefix: what their names begin with, such as ``input.``.
        group: heading of those that name none.
    """
    types = get_type_hints(record)
    for declared in fields(record):
        told = option_of(declared)
        if told is None:
            continue
        name, group_of = f"{prefix}{declared.name}", told.group or group
        if is_dataclass(types[declared.name]):
            yield from options_of(types[declared.name], f"{name}.", group_of)
        else:
            kind = _kind(types[declared.name])
            yield replace(told, name=name, group=group_of, kind=kind, default=declared.default)


def _kind(annotation: Any) -> Kind:
    """Return the one plain type that a field may have beside ``None``."""
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and kinds[0] in (bool, int, float) else None
