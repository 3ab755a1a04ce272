"""What the parser of options complains of, in one line that repairs it."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_UNION = re.compile(
    r"(?:- )?Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: (?P<errors>.*) "
    r"Given value type: <class '[^']*'> Given value: (?P<value>.*)"
)
_NESTED = re.compile(r"NestedArg\(key='(?:[^']*)', val=(.*)\)")
_REFUSED = re.compile(r"Option '(\w+)' is not accepted")
_ALSO = re.compile(r"Expected (?:NoneType|a path but .* either not accessible or invalid)\.?")

_OTHER_NAMES: Mapping[str, str] = {
    "--checkpoint": "ckpt m model_file model_path weights",
    "--data_root": "d data dataset data_path i image images img imgs input source annotations",
    "--work_dir": "o out output output_dir output_path out_dir project save_dir save_path",
    "--device": "cuda gpu cpu",
    "--dump": "draw overlay overlays save save_images",
    "--targets": "class classes label",
    "--max_epochs": "e epoch epochs num_epochs",
    "--batch_size": "b batch bs",
}
"""What other tools call options of ours, by words with blanks between."""
_IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


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
    if reason.startswith("--data: Unable to load config"):
        return "--data has settings of its own, such as --data.batch_size; the images are given as --data_root PATH"
    if "Expected a dot import path string" in reason:
        return f"{key} is not known by a name; expected a class_path. The name of a recipe is given as --config NAME"
    union = _UNION.search(rest)
    if union is not None:
        causes = [cause for cause in re.split(r"(?:^| )- ", union["errors"]) if cause and not _ALSO.fullmatch(cause)]
        value = _NESTED.sub(r"\1", union["value"]).strip("'")
        return f"{key}{colon}{'; '.join(causes)}; it was given {value!r}"
    if reason.startswith("unrecognized arguments: "):
        typed, *values = reason.split()[2:]
        if not typed.startswith("-"):
            return f"{typed!r} stands behind no option; write it as {_usual(options)}"
        option, _, value = typed.partition("=")
        return f"{reason}{_near(option, options, value or ''.join(values[:1]))}"
    refused = _REFUSED.search(reason)
    return f"{reason}{_near(f'--{refused[1]}', options)}" if refused else reason


def _usual(options: Iterable[str]) -> str:
    """Return how a command is mostly called."""
    if "--max_epochs" in options:
        return "--config RECIPE --data_root PATH"
    listed = ", and several of --methods with commas between them" if "--methods" in options else ""
    return f"--checkpoint FILE --data_root PATH{listed}" if "--checkpoint" in options else "--option value"


def _near(word: str, options: Iterable[str], value: str = "") -> str:
    """Ask whether an option was meant that ends alike, such as ``--input.mean`` by ``--mean``, or reads alike.

    Args:
        word: what was typed for an option.
        options: all that the command has.
        value: what was typed behind it: where it is a file or a folder, it tells what was meant, if nothing else does.
    """
    known = sorted(options)
    name = word.strip("-")
    inside = [option for option in known if option.startswith(f"--{name}.")]
    if inside:
        return f" (it has settings of its own, such as {inside[0]})"
    meant = [option for option in known if option.rpartition(".")[2] == name]
    meant = meant or [option for option in known if option in _OTHER_NAMES and name in _OTHER_NAMES[option].split()]
    meant = meant or [option for option in known if option.endswith(f"_{name}")]
    meant = meant or difflib.get_close_matches(word, known, 1, 0.75)
    meant = meant or [option for option in _for_path(value) if option in known]
    return f" (did you mean {' or '.join(meant[:3])}?)" if meant else ""


def _for_path(value: str) -> tuple[str, ...]:
    """Return the option that a path is given by, where it is one."""
    path = Path(value)
    if not value or not path.exists():
        return ()
    return ("--data_root",) if path.is_dir() or path.suffix.lower() in _IMAGES else ("--checkpoint",)
