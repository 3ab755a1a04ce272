"""Recipes: YAML files with the constructor arguments of model, data and trainer; one recipe serves every verb.

::

    task: detection
    model:
      class_path: otx_xai.models.Detector
      init_args: {architecture: fcos_resnet18, input_size: 160}
    data: {batch_size: 8}
    trainer: {max_epochs: 30}

Reading one needs neither torch nor lightning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from otx_xai.errors import ConfigError
from otx_xai.storage import Place, Url, place_of, read_text

SECTIONS = ("model", "data", "trainer")
"""What a recipe holds for the training framework, beside ``task``."""


@dataclass(frozen=True)
class Recipe:
    """One recipe of the package.

    Args:
        name: its file's name without suffix, unique among the recipes of its task.
        folder: of its task: ``classification``, ``detection`` or ``instance_segmentation``.
        path: the file.
        task: what it says; empty for one that only says how to explain.
        architecture: of its model; empty likewise.
    """

    name: str
    folder: str
    path: Path
    task: str
    architecture: str


def list_recipes(task: str | None = None) -> tuple[Recipe, ...]:
    """Return the recipes of the package, sorted by folder and name.

    Args:
        task: only those of this task, or of this folder.

    Raises:
        ConfigError: there are none of this task.
    """
    recipes = tuple(_recipe(path) for path in sorted(recipe_folder().glob("*/*.yaml")))
    if task is None:
        return recipes
    wanted = task.strip().lower().replace("-", "_")
    found = tuple(recipe for recipe in recipes if wanted in (recipe.task, recipe.folder))
    if not found:
        known = sorted({word for recipe in recipes for word in (recipe.task, recipe.folder) if word})
        raise ConfigError(f"There are no recipes of the task {task!r}; expected one of {', '.join(known)}.")
    return found


def recipe_folder() -> Path:
    """Return where recipes are: in the package once installed, beside it in the source tree."""
    package = Path(__file__).parent
    return next(folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir())


def find_recipe(name: str | Path) -> Place:
    """Return the file that a recipe's name, or a path, means.

    Args:
        name: a file, by path or URL, or ``fcos_resnet18``, or ``detection/fcos_resnet18``.

    Raises:
        ConfigError: there is none, or several tasks have one of this name.
    """
    path = place_of(name)
    if isinstance(path, Url) or path.is_file():
        return path
    recipes = list_recipes()
    found = [recipe for recipe in recipes if str(name) in (recipe.name, f"{recipe.folder}/{recipe.name}")]
    if len(found) == 1:
        return found[0].path
    if found:
        names = ", ".join(f"{recipe.folder}/{recipe.name}" for recipe in found)
        raise ConfigError(f"Several recipes are called {str(name)!r}: {names}. Write the name with its folder.")
    last = str(name).rpartition("/")[2]
    close = difflib.get_close_matches(last, [recipe.name for recipe in recipes], n=3)
    hint = f"Close names: {', '.join(close)}. " if close else ""
    raise ConfigError(
        f"--config {str(name)!r} is no file and no recipe. {hint}Expected a YAML file or the name of a recipe; "
        "`otx find` lists them."
    )


def read_recipe(name: str | Path) -> dict[str, Any]:
    """Read a recipe or another configuration file.

    Args:
        name: see :func:`find_recipe`.

    Raises:
        ConfigError: it is missing, cannot be read, or is no mapping.
    """
    path = find_recipe(name)
    try:
        content = yaml.safe_load(read_text(path, "utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The configuration file {path} cannot be read: {reason}. Expected YAML.") from error
    except (RecursionError, ValueError) as error:  # nested hundreds deep; a date that there is not
        raise ConfigError(
            f"The configuration file {path} cannot be read: {error}. Expected names and values."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"The configuration file {path} holds {type(content).__name__}; expected names and values.")
    return content


def override(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a nested mapping in which dotted names have new values.

    >>> override({"data": {"batch_size": 8}}, {"data.batch_size": 4, "trainer.max_epochs": 1})
    {'data': {'batch_size': 4}, 'trainer': {'max_epochs': 1}}
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if rest:
            inner = result.get(head)
            result[head] = override(inner if isinstance(inner, Mapping) else {}, {rest: value})
        elif isinstance(value, Mapping) and isinstance(result.get(head), Mapping):
            result[head] = override(result[head], dict(_flat(value)))
        else:
            result[head] = value
    return result


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _recipe(path: Path) -> Recipe:
    content = read_recipe(path)
    init_args = (content.get("model") or {}).get("init_args") or {}
    return Recipe(
        path.stem, path.parent.name, path, str(content.get("task", "")), str(init_args.get("architecture", ""))
    )
