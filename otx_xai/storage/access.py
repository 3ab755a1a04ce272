"""Reading and writing whole files, wherever they are. The room of object stores is opened only for URLs."""

from __future__ import annotations

from pathlib import Path

from otx_xai.storage.local import replace_whole
from otx_xai.storage.urls import Url, is_url, place_of


def read_bytes(place: str | Path | Url) -> bytes:
    """Read a file.

    Raises:
        OSError: it is missing (FileNotFoundError), or cannot be read.
        ConfigError: a URL that is not supported, or whose package is missing.
    """
    if is_url(place):
        from otx_xai.storage.objects import read_object

        return read_object(_url(place))
    return Path(str(place)).read_bytes()


def read_text(place: str | Path | Url, encoding: str = "utf-8-sig") -> str:
    """Read a file of text, with every end of a line as a line feed.

    Args:
        place: path or URL.
        encoding: of the file; by default UTF-8, with or without a mark.

    Raises:
        OSError: it is missing (FileNotFoundError), or cannot be read.
        UnicodeDecodeError: it is no such text.
        ConfigError: a URL that is not supported, or whose package is missing.
    """
    return read_bytes(place).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def write_whole(place: str | Path | Url, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all, over what is there.

    On this machine it is renamed into its place; in a store it is put as one object.

    Raises:
        OSError: it cannot be written.
        ConfigError: a URL that is not supported, or whose package is missing.
    """
    if is_url(place):
        from otx_xai.storage.objects import write_object

        write_object(_url(place), data)
    else:
        replace_whole(str(place), data)


def exists(place: Path | Url) -> bool:
    """Whether a file is there.

    Raises:
        OSError: a store does not say.
    """
    if isinstance(place, Url):
        from otx_xai.storage.objects import look

        return look(place) is not None
    return place.exists()


def remove(place: Path | Url) -> None:
    """Remove a file, where there is one.

    Raises:
        OSError: it cannot be removed.
    """
    if isinstance(place, Url):
        from otx_xai.storage.objects import remove_object

        remove_object(place)
    else:
        place.unlink(missing_ok=True)


def _url(text: str | Path | Url) -> Url:
    place = place_of(text)
    assert isinstance(place, Url)
    return place
