"""What the parser of options complains of, in one line that repairs it."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable

_UNION = re.compile(
    r"(?:- )?Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: (?P<errors>.*) "
    r"Given value type: <class '[^']*'> Given value: (?P<value>.*)"
)
_NESTED = re.compile(r"NestedArg\(key='(?:[^']*)', val=(.*)\)")
_ALSO = re.compile(r"Expected (?:NoneType|a path but .* either not accessible or invalid)\.?")


def told_plainly(error: argparse.ArgumentError, options: Iterable[str]) -> str:
    """Return what is wrong with the arguments of a command, without the full stop.

    Args:
        error: of the parser.
        options: all that the command has, as they are typed: ``--data_root``, …
    """
    options = list(options)
    reason = re.sub(r'^Parser key "(.+?)":', r"--\1:", " ".join(str(error).split()).rstrip("."))
    reason = re.sub(r"a <class '(\w+)'>", r"\1", reason)
    key, colon, rest = reason.partition(": ")
    union = _UNION.search(rest)
    if union is not None:
        causes = [cause for cause in re.split(r"(?:^| )- ", union["errors"]) if cause and not _ALSO.fullmatch(cause)]
        value = _NESTED.sub(r"\1", union["value"]).strip("'")
        return f"{key}{colon}{'; '.join(causes)}; it was given {value!r}"
    if reason.startswith("unrecognized arguments: "):
        typed = reason.split()[2]
        if not typed.startswith("-"):
            like = "--checkpoint FILE --data_root PATH" if "--checkpoint" in options else "--option value"
            return f"{typed!r} stands behind no option; write it as {like}"
        return f"{reason}{_near(typed.partition('=')[0], options)}"
    return reason


def _near(word: str, options: Iterable[str]) -> str:
    """Ask whether an option was meant that ends alike, such as ``--input.mean`` by ``--mean``, or reads alike."""
    known = sorted(options)
    name = word.strip("-")
    meant = [option for option in known if option.rpartition(".")[2] == name]
    meant = meant or [option for option in known if option.endswith(f"_{name}")]
    meant = meant or difflib.get_close_matches(word, known, 1, 0.75)
    return f" (did you mean {' or '.join(meant[:3])}?)" if meant else ""
