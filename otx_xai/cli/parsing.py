"""How options are declared and read."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from enum import Enum
from inspect import signature
from typing import TYPE_CHECKING, Any

from otx_xai.cli import VERBS
from otx_xai.cli.faults import told_plainly
from otx_xai.errors import ConfigError
from otx_xai.options import Kind, options_of
from otx_xai.recipe import SECTIONS, read_recipe
from otx_xai.storage.json_text import parse_json

if TYPE_CHECKING:
    from otx_xai.engine import Engine
    from otx_xai.settings import RunSettings

_LIST_KEYS = ("labels", "targets", "methods")
_WIDTH = 32


def make_parser(verb: str, examples: str | None = None) -> Any:
    """Return a parser with the options that every sub-command has."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"otx {verb}",
        usage=f"otx {verb} [--option value …]",
        description=VERBS[verb][1],
        epilog=examples,
        formatter_class=_Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action="config", metavar="NAME|FILE", help="a recipe (`otx find`), or a YAML file of these options"
    )
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Options in one column, what they mean in the other."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_WIDTH)


def add(
    group: Any,
    name: str,
    metavar: str,
    meaning: str,
    default: Any = None,
    kind: Kind = None,
) -> None:
    """Add an option. Text is checked by the engine, which knows what it means; numbers and flags here."""
    default = default.value if isinstance(default, Enum) else default
    more: dict[str, Any] = {}
    kind = kind or (type(default) if isinstance(default, bool | int | float) else None)
    if kind is not None:
        more["type"] = kind
    if kind is bool:
        more |= {"nargs": "?", "const": True}
    shown = "" if default is None else f" (default: {default})"
    group.add_argument(f"--{name}", metavar=metavar, default=default, help=f"{meaning}{shown}", **more)


def add_record(
    parser: Any, record: type, prefix: str = "", group: str = "", *, only: Sequence[str] | None = None
) -> None:
    """Add the options that a record of settings declares, under their headings; see :mod:`otx_xai.options`.

    Args:
        parser: of :func:`make_parser`.
        record: a dataclass.
        prefix: what their names begin with, such as ``input.``.
        group: heading of those that name none.
        only: names of the fields that are options of the sub-command; all by default.
    """
    groups: dict[str, Any] = {}
    for told in options_of(record, prefix, group):
        if only is not None and told.name.removeprefix(prefix) not in only:
            continue
        if told.group not in groups:
            groups[told.group] = parser.add_argument_group(told.group)
        add(groups[told.group], told.name, told.metavar, told.help, told.default, told.kind)


def parse(parser: Any, verb: str, argv: Sequence[str]) -> dict[str, Any]:
    """Return the options, nested like their names.

    Args:
        parser: of :func:`make_parser`.
        verb: the sub-command.
        argv: its arguments; what ``--config`` names was put in place by :func:`open_config`.

    Raises:
        ConfigError: an option is unknown or malformed, or the configuration file is.
    """
    try:
        options: dict[str, Any] = parser.parse_args(list(argv)).as_dict()
    except argparse.ArgumentError as error:
        reason = told_plainly(error, (name for action in parser._actions for name in action.option_strings))
        raise ConfigError(f"{reason}. `otx {verb} --help` lists all options.") from error
    options.pop("config")
    return {name: _listed(value) if name in _LIST_KEYS else value for name, value in options.items()}


def _listed(value: Any) -> Any:
    """Read a JSON list, such as ``["dog", 3]``, which the shell hands over as text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return parse_json(value)
        except ValueError:  # [dog,3] is understood as dog,3
            return value
    return value


def engine_for(record: type[RunSettings], parser: Any, verb: str, argv: Sequence[str]) -> tuple[Engine, dict[str, Any]]:
    """Read the arguments of a verb that runs any model into its settings, and make the engine that does the job.

    Args:
        record: of the settings of the verb.
        parser: of its options.
        verb: the sub-command.
        argv: its arguments.

    Returns:
        The engine, and the settings that are none of its own.

    Raises:
        ConfigError: an option is unknown or malformed, or the configuration file is.
    """
    opened, recipe = open_config(argv, leave_out=SECTIONS)
    options = parse(parser, verb, opened)
    settings = vars(record.from_options(options | {"model": options["model"] or recipe.get("model")}))
    from otx_xai.engine import Engine  # faulty options cost no more than reading them

    own = settings.keys() & signature(Engine).parameters.keys()
    rest = {name: value for name, value in settings.items() if name not in own}
    return Engine(**{name: settings[name] for name in own}), rest


def open_config(argv: Sequence[str], *, leave_out: Sequence[str] = ()) -> tuple[list[str], dict[str, Any]]:
    """Read what ``--config`` names, a recipe or a file, and put its content in the place of the name.

    Args:
        argv: arguments.
        leave_out: entries of the file that the sub-command has no options for.

    Returns:
        The arguments, and the entries that were left out.

    Raises:
        ConfigError: there is no such recipe or file, or it is no YAML.
    """
    opened: list[str] = []
    left_out: dict[str, Any] = {}
    remaining = iter(argv)
    for word in remaining:
        if word != "--config" and not word.startswith("--config="):
            opened.append(word)
            continue
        name = word.partition("=")[2] or next(remaining, "")
        if not name or name.startswith("--"):
            raise ConfigError("--config has no value; expected a YAML file, or the name of a recipe (`otx find`).")
        content = read_recipe(name)
        left_out |= {key: value for key, value in content.items() if key in leave_out}
        kept = {key: value for key, value in content.items() if key not in leave_out}
        if "config" in kept:
            raise ConfigError(
                "A configuration file has the entry 'config'; expected options. Give each file by itself."
            )
        opened.append(f"--config={json.dumps(kept, default=str)}")
    return opened, left_out


def spelled_out(argv: list[str]) -> list[str]:
    """Write ``--ray WHERE`` as ``--ray.address WHERE``, which stands beside ``--ray.actors``."""
    return [re.sub("^--ray(?==|$)", "--ray.address", word) for word in argv]
