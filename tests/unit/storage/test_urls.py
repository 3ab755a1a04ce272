"""Places: what is a URL, what it means, and that none brings credentials along."""

from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.errors import ConfigError
from otx_xai.storage import Url, is_url, place_of


@pytest.mark.parametrize("text", ["s3://b/c", "gs://b", "hf://org/model", "memory://a", "S3://b/c", "ftp://host/x"])
def test_urls_are_told_from_paths(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize(
    "text", ["a/b", "/a/b", "C:\\a", "c:/a", "a:b", "file:///a/b", "cat,dog", "x//y", Path("s3://b")]
)
def test_paths_are_no_urls(text: object) -> None:
    assert not is_url(text)


def test_places_are_paths_or_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert place_of("a/b") == Path("a/b")
    assert place_of("~/b") == Path("/somewhere/b")
    assert place_of("file:///a/with%20space") == Path("/a/with space")
    assert place_of("S3://bucket/Folder/") == Url("s3://bucket/Folder")
    assert place_of(Url("s3://bucket")) == Url("s3://bucket")


def test_parts_of_a_url() -> None:
    url = Url("s3://bucket/a") / "b.tar.gz"
    assert (str(url), url.protocol, url.name, url.suffix) == ("s3://bucket/a/b.tar.gz", "s3", "b.tar.gz", ".gz")
    assert url.parent == Url("s3://bucket/a")
    assert (Url("s3://bucket").name, Url("s3://bucket").parent) == ("", Url("s3://bucket"))


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:hush@bucket/a",
        "s3://key@bucket/a",
        "gs://bucket/a?token=hush",
        "https://host/a?X-Amz-Signature=hush&b=1",
        "file://me:hush@host/a",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="holds credentials") as caught:
        place_of(text)
    assert "hush" not in str(caught.value)


def test_wild_cards_are_no_queries() -> None:
    assert place_of("s3://bucket/img?.jpg") == Url("s3://bucket/img?.jpg")
    assert place_of("s3://bucket/a/[0-9]@2x*.jpg") == Url("s3://bucket/a/[0-9]@2x*.jpg")


def test_other_kinds_of_urls_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"ftp:// URL, which is not supported; expected one of s3://, gs://"):
        place_of("ftp://host/a")


@pytest.mark.parametrize("text", ["s3://", "s3:///"])
def test_a_bucket_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="names no bucket"):
        place_of(text)
