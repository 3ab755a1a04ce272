"""A checkpoint of an architecture that nobody knows → the user's own module with its weights.

This is the one place that imports code of the user, and only what the user names: the checkpoint names nothing.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from otx_xai.checkpoints.contents import Contents
from otx_xai.checkpoints.parameter_names import some
from otx_xai.errors import CheckpointError, ConfigError

logger = logging.getLogger("otx_xai")

HOW_TO_NAME = "--model package.module:Class"

_SHOWN = 5


def names_a_class(model: object) -> bool:
    """Whether a model is given as ``package.module:Class``."""
    return isinstance(model, str) and ":" in model


def import_class(name: str) -> Callable[..., Any]:
    """Import what the user names, from the path of Python or the current folder.

    Args:
        name: ``package.module:Class``; the class may be in another, ``package.module:Outer.Inner``, or a function that
            makes a module.

    Raises:
        ConfigError: there is no such module or class; the message says where it was looked for.
    """
    module_name, _, path = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *path.split("."))):
        raise ConfigError(f"--model is {name!r}; expected package.module:Class, such as my_project.networks:Net.")
    found: Any = _imported(name, module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigError(
                f"--model is {name!r}, and {_words(found)} has no {part!r}. It has: {some(_callables(found))}. "
                "Expected the name of a class in it."
            )
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"--model is {name!r}, which is a {type(found).__name__}; expected a class that is a module.")
    made: Callable[..., Any] = found
    return made


def build_module(made_by: Callable[..., Any], arguments: Mapping[str, Any], kept: Mapping[str, Any]) -> nn.Module:
    """Make a module.

    Args:
        made_by: its class, or a function that makes it.
        arguments: keyword arguments that the user gives.
        kept: those that a Lightning checkpoint keeps; the ones that the constructor takes are used.

    Raises:
        ConfigError: the constructor does not take the arguments, lacks some, or fails; or it makes no module.
    """
    name = getattr(made_by, "__name__", str(made_by))
    given = {**_taken(made_by, kept), **arguments}
    _check_arguments(made_by, name, given, kept)
    try:
        module = made_by(**given)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, OSError, ImportError) as error:
        raise ConfigError(
            f"{name}({_call(given)}) fails: {type(error).__name__}: {error}. Expected a class that can be made with "
            "these arguments; give others as init_args of the model."
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{name} makes a {type(module).__name__}; expected a torch.nn.Module.")
    if _is_configured_late(module):
        module.configure_model()
    return module


def fill(module: nn.Module, contents: Contents, path: object) -> None:
    """Load weights strictly: every name and shape of the module, and none beside them.

    Names may have anything in front of them that is the same for all, as where the module is a part of what was
    trained; what lies outside of that part is named in the log.

    Raises:
        CheckpointError: names or shapes differ.
    """
    wanted = module.state_dict()
    stored = contents.stored or contents.state
    prefix = min(_prefixes(wanted, stored), key=lambda one: _faults(wanted, stored, one))
    part = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    missing = [name for name in wanted if name not in part and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in part if name not in wanted]
    shapes = [
        f"{name} {tuple(part[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in part and part[name].shape != value.shape
    ]
    if missing or unexpected or shapes:
        lists = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        words = "; ".join(f"{len(names)} {what} ({some(names, _SHOWN)})" for what, names in lists.items() if names)
        raise CheckpointError(
            f"The weights in {path} do not fit {type(module).__name__}: {words}. Expected equal names and shapes; name "
            f"the class that was trained by {HOW_TO_NAME}, and give the arguments that it was made with."
        )
    left = [name for name in stored if not name.startswith(prefix)]
    if left:
        logger.info("Left out of the checkpoint, not under %s: %s.", prefix, some(left))
    module.load_state_dict(part, strict=False)


# --------------------------------------------------------------------------------------------------------------------
# Importing
# --------------------------------------------------------------------------------------------------------------------


def _imported(name: str, module_name: str) -> Any:
    with _current_folder_on_path():
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise ConfigError(_broken_text(name, error)) from error
            raise ConfigError(
                f"--model is {name!r}, and there is no module {error.name!r}: looked for in the current folder "
                f"{os.getcwd()} and on the path of Python. Expected package.module:Class; run in the folder that holds "
                "the package, install it, or add its folder to PYTHONPATH."
            ) from error
        except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, OSError) as error:
            raise ConfigError(_broken_text(name, error)) from error


@contextmanager
def _current_folder_on_path() -> Iterator[None]:
    """Let modules of the current folder be found, behind all others, as ``python script.py`` in it would."""
    folder = os.getcwd()
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def _broken_text(name: str, error: Exception) -> str:
    return (
        f"--model is {name!r}, and importing its module fails: {type(error).__name__}: {error}. Expected a module that "
        "can be imported; guard what it runs by if __name__ == '__main__'."
    )


def _words(found: Any) -> str:
    kind = "the module" if inspect.ismodule(found) else "the class"
    return f"{kind} {getattr(found, '__name__', found)!r}"


def _callables(found: Any) -> list[str]:
    """Return the names of the modules' classes that something holds, or else of its functions."""
    named = {name: value for name, value in vars(found).items() if not name.startswith("_")}
    classes = [name for name, value in named.items() if inspect.isclass(value) and issubclass(value, nn.Module)]
    return classes or [name for name, value in named.items() if callable(value)]


# --------------------------------------------------------------------------------------------------------------------
# Making
# --------------------------------------------------------------------------------------------------------------------


def _taken(made_by: Callable[..., Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a checkpoint that a constructor takes."""
    parameters = inspect.signature(made_by).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {name: value for name, value in kept.items() if not name.startswith("_")}
    return {name: kept[name] for name in parameters if name in kept}


def _check_arguments(made_by: Callable[..., Any], name: str, given: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` where a constructor needs more, or does not take what the user gives."""
    try:
        inspect.signature(made_by).bind(**given)
    except TypeError as error:
        said = f"the checkpoint keeps {some(list(kept))}" if kept else "the checkpoint keeps no arguments"
        raise ConfigError(
            f"{name} cannot be made: {error}; {said} (hyper_parameters of Lightning). Expected all of "
            f"{name}{inspect.signature(made_by)}; give them as init_args of the model, or give them defaults."
        ) from error


def _call(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r:.40}" for name, value in given.items())


def _is_configured_late(module: nn.Module) -> bool:
    """Whether a LightningModule makes its layers only when it is told to."""
    configure = getattr(type(module), "configure_model", None)
    return configure is not None and not configure.__module__.startswith(("lightning.", "pytorch_lightning."))


# --------------------------------------------------------------------------------------------------------------------
# Filling
# --------------------------------------------------------------------------------------------------------------------


def _prefixes(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Return what may stand in front of a module's names, nothing first."""
    first = next((name for name in wanted if not name.endswith("num_batches_tracked")), "")
    found = [name.removesuffix(first) for name in stored if first and name.endswith(f".{first}")]
    return ["", *found]


def _faults(wanted: Mapping[str, Any], stored: Mapping[str, Any], prefix: str) -> int:
    """Count the names below a prefix that only one side has, and shapes that differ."""
    names = {name.removeprefix(prefix) for name in stored if name.startswith(prefix)}
    both = names & wanted.keys()
    differing = sum(stored[prefix + name].shape != wanted[name].shape for name in both)
    return len(names ^ wanted.keys()) + int(differing)
