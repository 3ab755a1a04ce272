"""What a run was asked to do, with what, how far it came, what went wrong: ``run.json`` and ``config.yaml``."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import cv2
import numpy as np
import openvino as ov
import yaml

from otx_xai import __version__
from otx_xai.errors import OutputError
from otx_xai.report.files import write_atomic, write_json
from otx_xai.storage import Place, read_bytes
from otx_xai.storage.json_text import parse_json

logger = logging.getLogger("otx_xai")

MANIFEST = "run.json"
CONFIG = "config.yaml"

_LONGEST_SHOWN = 60
"""Characters of a setting up to which its value is shown where it differs; it is only named beyond that."""


class Manifest:
    """The manifest of one run, which it writes into its work directory when it begins and when it ends.

    Args:
        work_dir: folder of the run, which exists, on this machine or in a store.
        command: name of the job.
        settings: everything that results depend on, apart from the content of the model; made of plain
            values, enumerations and arrays.
        model_sha256: of the content of the model.
        images: number of images of the run.
        refusals: why other methods are not used, each ``"<method>: <why>"``.
        not_read: files among the images that are passed over.
        keeps_complete: a complete run of the same settings goes on too, which finds nothing left to do: it is one of
            several of a job that has not ended.
    """

    def __init__(
        self,
        work_dir: Place,
        command: str,
        settings: Mapping[str, Any],
        model_sha256: str,
        images: int,
        *,
        refusals: Iterable[str] = (),
        not_read: Iterable[str] = (),
        keeps_complete: bool = False,
    ) -> None:
        self._keeps_complete = keeps_complete
        self._folder, self._path = work_dir, work_dir / MANIFEST
        self._images = images
        self._content: dict[str, Any] = {
            "status": "running",
            "command": command,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "model_sha256": model_sha256,
            "settings": plain(settings),
            "refusals": list(refusals),
            "not_read": list(not_read),
            "versions": versions(),
        }
        decisive = [command, self._content["model_sha256"], self._content["settings"], __version__]
        self._content["fingerprint"] = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @classmethod
    def again(cls, work_dir: Place, told: Mapping[str, Any], images: int) -> Manifest:
        """Make a manifest of what another one has told, perhaps in another process.

        Args:
            work_dir: folder of the run, which exists.
            told: by the other one; see :attr:`told`.
            images: number of images of the run.
        """
        manifest = cls(work_dir, told["command"], told["settings"], told["model_sha256"], images)
        manifest._content |= told
        return manifest

    @property
    def told(self) -> dict[str, Any]:
        """What it says before anything is done, of whichever process: all but the status and the time."""
        return {key: value for key, value in self._content.items() if key not in ("status", "started")}

    def continues(self) -> bool:
        """Whether the work directory holds an unfinished run of the same settings, model and version.

        Where it holds one of other settings, which is lost when this one begins, the log says what differs.

        Raises:
            OutputError: there is a ``run.json`` that cannot be read.
        """
        try:
            before = parse_json(read_bytes(self._path))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self._path} cannot be read ({error}); expected the manifest of an earlier run. Remove it, or choose "
                f"another --work_dir."
            ) from error
        is_complete = not isinstance(before, dict) or before.get("status") == "complete"
        if is_complete and not self._keeps_complete:
            return False
        if isinstance(before, dict) and before.get("fingerprint") == self._content["fingerprint"]:
            return True
        if is_complete:
            return False
        logger.warning(
            "Beginning anew: the unfinished run in %s was another. What differs: %s. Another --work_dir keeps both.",
            self._folder,
            ", ".join(differences(before, self._content)) or "its fingerprint",
        )
        return False

    def kept(self, name: str) -> Any:
        """Return an entry of the run that goes on here; ``None`` where none goes on, or it has no such entry."""
        try:
            before = parse_json(read_bytes(self._path))
        except (OSError, ValueError):  # execution tells of it
            return None
        goes_on = isinstance(before, dict) and before.get("fingerprint") == self._content["fingerprint"]
        if not goes_on or (before["status"] == "complete" and not self._keeps_complete):
            return None
        return before.get(name)

    def note(self, **entries: Any) -> None:
        """Hold further entries, which the file gets when it is written next."""
        self._content |= entries

    def write(self, status: str, explained: int, failures: Mapping[str, str], **more: Any) -> None:
        """Replace the file.

        Args:
            status: ``running``, ``complete``, ``interrupted`` or ``failed``.
            explained: number of images that are done.
            failures: image name → what went wrong.
            more: further entries.

        Raises:
            OutputError: it cannot be written.
        """
        self._content |= {
            "status": status,
            "counts": {"images": self._images, "explained": explained, "failed": len(failures)},
            "failures": [{"name": name, "error": error} for name, error in failures.items()],
            **more,
        }
        write_json(self._path, self._content)


def write_config(work_dir: Place, arguments: Mapping[str, Any], name: str = CONFIG) -> None:
    """Write ``config.yaml``, with which ``otx <command> --config`` does the same again.

    Args:
        work_dir: folder of the run, which exists.
        arguments: of the command, defaults included; what is ``None`` is left out.
        name: of the file.

    Raises:
        OutputError: it cannot be written.
    """
    text = yaml.safe_dump(plain(arguments), sort_keys=False, allow_unicode=True)
    write_atomic(work_dir / name, text.encode("utf-8", "backslashreplace"))


def plain(value: Any) -> Any:
    """Return a value in the terms of JSON and YAML, without the entries that are ``None``.

    >>> from pathlib import Path
    >>> plain({"size": (2, 3), "path": Path("a"), "mean": None})
    {'size': [2, 3], 'path': 'a'}
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return [plain(entry) for entry in value] if isinstance(value, Iterable) else str(value)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which entries of two manifests that decide about results differ; settings go by their dotted names."""
    old, new = _decisive(before), _decisive(now)
    words = []
    for name in new | old:
        was, is_now = (repr(entries[name]) if name in entries else "not given" for entries in (old, new))
        if was != is_now:
            shown = max(len(was), len(is_now)) <= _LONGEST_SHOWN
            words.append(f"{name} ({was} before, {is_now} now)" if shown else name)
    return words


def _decisive(manifest: Mapping[str, Any]) -> dict[str, Any]:
    versions = manifest.get("versions") or {}
    return {
        "command": manifest.get("command"),
        **_flat(manifest.get("settings") or {}),
        "model_sha256": manifest.get("model_sha256"),
        "otx_xai": versions.get("otx_xai"),
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings that may lie in sections by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    return {
        "otx_xai": __version__,
        "openvino": ov.get_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
    }
