"""Places: paths of this machine, and URLs of object stores, which never hold credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from otx_xai.errors import ConfigError

EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf", "memory": ""}
"""Protocols that are read and written, and the extra of this package that each needs; empty: ``fsspec`` alone."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_CREDENTIALS = re.compile(r"^[A-Za-z0-9+.-]+://[^/]*@|\?[^/?]*=")
"""``user:password@`` and queries such as ``?token=…``, which would end up in every file that names the place."""


@dataclass(frozen=True)
class Url:
    """An object, or a folder of objects, in a store. Without credentials: those come from the environment.

    Args:
        text: such as ``s3://bucket/folder/file.jpg``, without a slash at its end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.text}/{name}")

    @property
    def protocol(self) -> str:
        """What stands before ``://``."""
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """The last component; empty for a whole bucket."""
        return PurePosixPath(self._inner).name if "/" in self._inner else ""

    @property
    def suffix(self) -> str:
        """The suffix of the last component."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder that this is in; a whole bucket is its own."""
        return Url(self.text.rpartition("/")[0]) if self.name else self

    @property
    def _inner(self) -> str:
        return self.text.partition("://")[2]


Place = Path | Url
"""Where a file or a folder is."""


def is_url(place: object) -> bool:
    """Whether a text, or a place, is a URL rather than a path; ``file://…`` is none, as it means a path."""
    if isinstance(place, Url):
        return True
    scheme = _SCHEME.match(place) if isinstance(place, str) else None
    return scheme is not None and scheme[1].lower() != "file"


def place_of(text: str | Path | Url) -> Place:
    """Return the place that a user means.

    Args:
        text: a path, whose ``~`` is expanded; ``file:///a/path``; or a URL such as ``s3://bucket/folder``.

    Returns:
        A path, or a URL without the slash at its end.

    Raises:
        ConfigError: a URL holds credentials, names no bucket, or is of a kind that is not supported.
    """
    if not isinstance(text, str):
        return text.expanduser() if isinstance(text, Path) else text
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(text).expanduser()
    if _CREDENTIALS.search(text):
        raise ConfigError(
            f"A {scheme[1]}:// URL holds credentials (user:password@, or ?name=value), which would be written into the "
            "files of the run. Expected a plain URL: leave them to the environment, such as AWS_PROFILE or "
            "GOOGLE_APPLICATION_CREDENTIALS."
        )
    protocol = scheme[1].lower()
    if protocol == "file":
        return Path(unquote(urlsplit(text).path))
    if protocol not in EXTRAS:
        raise ConfigError(
            f"{text!r} is a {protocol}:// URL, which is not supported; expected one of "
            f"{', '.join(f'{known}://' for known in (*EXTRAS, 'file'))}, or a path."
        )
    inner = text[scheme.end() :].rstrip("/")
    if not inner.strip("/"):
        raise ConfigError(f"{text!r} names no bucket; expected {protocol}://bucket/folder.")
    return Url(f"{protocol}://{inner}")
