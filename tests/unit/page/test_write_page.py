"""What is written for the page of an audit. What a browser makes of it is in tests/page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import page_content
import pytest
from page_content import HOSTILE, audit_content, audit_images, drawing, image_name

from otx_xai.errors import OutputError
from otx_xai.page import write_page as write_page_module
from otx_xai.page.page_image import PageImage, PageMap
from otx_xai.page.write_page import MOST_OF_ONE_FILE, write_page

ASSETS = Path(__file__).parents[3] / "otx_xai" / "page" / "assets"

CALL = re.compile(r"otxAudit\.add\('(\w+)',(\d+),'((?:[^'\\]|\\['\\])*)'\);\n")

MAKES_MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setAttribute\('style"


def parts(text: str) -> dict[tuple[str, int], Any]:
    """Read scripts as the page does: a literal of JavaScript with two escapes, which holds JSON."""
    calls = CALL.findall(text)
    return {(kind, int(number)): json.loads(re.sub(r"\\(['\\])", r"\1", data)) for kind, number, data in calls}


def read_all(folder: Path) -> dict[tuple[str, int], Any]:
    read: dict[tuple[str, int], Any] = {}
    for path in sorted((folder / "data").glob("*-?????.js")):
        read |= parts(path.read_text("ascii"))
    return read


def thumbnail(folder: Path, cell: int) -> np.ndarray:
    atlas = cv2.imread(str(folder / "data" / f"thumbs-{cell // 64:05}.jpg"))
    row, column = divmod(cell % 64, 8)
    return atlas[row * 160 : row * 160 + 160, column * 160 : column * 160 + 160]


def one(**told: Any) -> PageImage:
    return replace(next(audit_images(1)), **told)


def test_what_is_written_of_images_is_what_was_given(tmp_path: Path) -> None:
    images = list(audit_images(230))
    files = write_page(tmp_path, audit_content(230), images)
    assert files[-1] == tmp_path / "index.html"
    assert sorted(files) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    read = read_all(tmp_path)
    rows = read["images", 0]
    assert rows["names"] == [image.name for image in images]
    assert rows["cases"] == [image.case for image in images]
    assert rows["given"] == [list(image.given) for image in images]
    assert rows["slices"] == [list(image.slices) for image in images]
    assert rows["best"] == [[image.best[0][0], pytest.approx(image.best[0][1], abs=1e-4)] for image in images]
    assert rows["baseline"] == [int(number % 3 == 0) for number in range(230)]
    long = [*read["details", 0], *read["details", 1]]
    assert [len(row["maps"]) for row in long] == [len(image.maps) for image in images]
    for image, row in zip(images, long, strict=True):
        for given, held in zip(image.maps, row["maps"], strict=True):
            grid = np.frombuffer(base64.b64decode(held["grid"]), np.uint8).reshape(held["size"])
            assert np.array_equal(grid, given.grid)
            assert held["baseline"] == given.baseline
    content = read["content", 0]
    assert content["content"] == audit_content(230)
    assert dict(content["page"]["places"])[image_name(4)] == 4


def test_thumbnails_lie_where_the_rows_say(tmp_path: Path) -> None:
    images = [replace(image, thumbnail=None) if n == 3 else image for n, image in enumerate(audit_images(100))]
    write_page(tmp_path, audit_content(100), images)
    cells = read_all(tmp_path)["images", 0]["cells"]
    assert cells[3][0] == -1
    for number in (0, 2, 4, 63, 64, 65, 99):
        cell, height, width = cells[number]
        wanted = cv2.imdecode(np.frombuffer(images[number].thumbnail or b"", np.uint8), cv2.IMREAD_COLOR)
        assert (height, width) == wanted.shape[:2]
        found = thumbnail(tmp_path, cell)[:height, :width]
        assert np.abs(found.astype(int) - wanted).mean() < 6


def test_a_large_or_broken_thumbnail_is_no_trouble(tmp_path: Path) -> None:
    images = [one(name="large", thumbnail=drawing(1, (300, 640))), one(name="broken", thumbnail=b"\xff\xd8nothing")]
    write_page(tmp_path, audit_content(0), images)
    assert read_all(tmp_path)["images", 0]["cells"] == [[0, 75, 160], [-1, 0, 0]]


@pytest.mark.parametrize("kind", ["full", "single", "noimages"])
def test_hostile_texts_stay_texts(tmp_path: Path, kind: Any) -> None:
    content = audit_content(3, labels=[HOSTILE, "__proto__", *page_content.LABELS[2:]])
    content |= {"title": HOSTILE, "settings": {"__proto__": HOSTILE, HOSTILE: 1}}
    write_page(tmp_path, content, [one(name=HOSTILE, case=HOSTILE, values=((HOSTILE, 0.5),))], kind=kind)
    html = (tmp_path / "index.html").read_bytes().decode("utf-8")
    for path in tmp_path.rglob("data/*-*.js"):
        assert not set(path.read_text("ascii")) & {"<", ">", "\u2028"}
    assert "<img" not in html
    assert html.count("<script") == html.count("</script>") == 2
    assert "\\udcff" in html  # a byte that is no UTF-8 does not make the page one that is none
    read = parts(html) if kind == "single" else read_all(tmp_path)
    assert read["images", 0]["names"] == [HOSTILE]
    held = read["content", 0]["content"]
    assert held["labels"][0] == held["title"] == held["settings"]["__proto__"] == HOSTILE


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    content = audit_content(1)
    content["model"] = {"loss": float("nan"), "most": float("inf"), "held": np.float32("nan"), "counts": np.arange(3)}
    image = one(values=(("energy", float("nan")),), best=((2, float("nan")),))
    write_page(tmp_path, content, [image])
    read = read_all(tmp_path)
    assert read["content", 0]["content"]["model"] == {"loss": None, "most": None, "held": None, "counts": [0, 1, 2]}
    assert read["images", 0]["values"] == {"energy": [None]}
    assert read["images", 0]["best"] == [[2, None]]


def test_one_file_holds_the_images_of_findings(tmp_path: Path) -> None:
    content = audit_content(900)
    files = write_page(tmp_path, content, audit_images(900), kind="single")
    assert files == [tmp_path / "index.html"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == files
    read = parts(files[0].read_text("utf-8"))
    names = read["images", 0]["names"]
    assert len(names) == MOST_OF_ONE_FILE
    assert names == sorted(names, key=lambda name: name[-9:]), "they keep their order"
    for finding in content["findings"]:
        assert set(finding["images"][:12]) <= set(names)
    assert {kind for kind, _ in read} == {"images", "details", "thumbs", "content"}
    assert all(text.startswith("data:image/jpeg;base64,") for (kind, _), text in read.items() if kind == "thumbs")


def test_a_page_without_images_has_no_pixel_and_no_link(tmp_path: Path) -> None:
    images = (replace(image, link="../val/a.jpg") for image in audit_images(10))
    files = write_page(tmp_path, audit_content(10), images, kind="noimages")
    assert not [path for path in files if path.suffix == ".jpg"]
    read = read_all(tmp_path)
    assert {tuple(cell) for cell in read["images", 0]["cells"]} == {(-1, 0, 0)}
    assert {row["link"] for row in read["details", 0]} == {""}
    assert not any("val/a.jpg" in path.read_text("utf-8") for path in files)


def test_links_are_addresses_of_files(tmp_path: Path) -> None:
    links = ["../a b/ü#1?.jpg", "javascript:alert(1).jpg", "x/\udcff.jpg", ""]
    write_page(tmp_path, audit_content(0), [one(name=str(n), link=link) for n, link in enumerate(links)])
    assert [row["link"] for row in read_all(tmp_path)["details", 0]] == [
        "./../a%20b/%C3%BC%231%3F.jpg", "./javascript%3Aalert%281%29.jpg", "./x/%FF.jpg", "",
    ]  # fmt: skip


@pytest.mark.parametrize("link", ["/srv/a.jpg", "C:\\a.jpg", "d:/a.jpg", "\\\\host\\a.jpg", "https://host/a.jpg"])
def test_links_to_places_of_this_machine_are_refused(tmp_path: Path, link: str) -> None:
    with pytest.raises(ValueError, match="expected a path relative to the folder of the page"):
        write_page(tmp_path, audit_content(0), [one(link=link)])
    assert not (tmp_path / "index.html").exists()


def test_a_page_is_whole_or_absent_and_leaves_nothing_of_the_last(tmp_path: Path) -> None:
    write_page(tmp_path, audit_content(300), audit_images(300))
    (tmp_path / "data" / "mine.txt").write_text("kept")

    def breaking() -> Iterator[PageImage]:
        yield from audit_images(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_page(tmp_path, audit_content(5), breaking())
    assert not (tmp_path / "index.html").exists()
    files = write_page(tmp_path, audit_content(5), audit_images(5))
    assert sorted([*files, tmp_path / "data" / "mine.txt"]) == sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert [path.name for path in write_page(tmp_path, audit_content(5), audit_images(5), kind="single")] == [
        "index.html"
    ]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_page(tmp_path, audit_content(1), audit_images(1))


def test_an_audit_without_images_has_a_page(tmp_path: Path) -> None:
    files = write_page(tmp_path, audit_content(0), [])
    assert [path.name for path in files] == ["content-00000.js", "page.css", "page.js", "index.html"]


def test_memory_does_not_grow_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_page_module, "_CHUNK", 100)
    monkeypatch.setattr(write_page_module, "_LONG_CHUNK", 50)

    def most(count: int) -> int:
        content = audit_content(0)
        tracemalloc.start()
        write_page(tmp_path / str(count), content, audit_images(count, baseline=False))
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return taken

    few, many = most(150), most(900)
    assert many < 1.1 * few, (few, many)


def test_sizes(tmp_path: Path) -> None:
    files = write_page(tmp_path, audit_content(2000), audit_images(2000))
    sizes = {path.name: path.stat().st_size for path in files}
    assert sizes["index.html"] < 10_000
    assert sizes["page.js"] + sizes["page.css"] < 120_000
    rows = sum(size for name, size in sizes.items() if name.startswith(("images-", "details-")))
    assert rows / 2000 < 1200, "bytes an image at 7 x 7 places"


def test_nothing_may_be_loaded_but_what_is_ours(tmp_path: Path) -> None:
    write_page(tmp_path / "full", audit_content(3), audit_images(3))
    write_page(tmp_path / "single", audit_content(3), audit_images(3), kind="single")
    html = (tmp_path / "full" / "index.html").read_text("utf-8")
    assert "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';" in html.replace("&#39;", "'")
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|//", html)
    html = (tmp_path / "single" / "index.html").read_text("utf-8")
    policy = html.split('content="', 1)[1].split('"', 1)[0].replace("&#39;", "'")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        hashed = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts}
        allowed = policy.split(rule, 1)[1].split(";", 1)[0].split()
        assert hashed == set(allowed)
    assert "unsafe" not in policy
    assert not re.search(r"\ssrc=|\shref=\"(?!#)", html.split("<script>", 1)[0])


def test_scripts_make_no_markup_of_texts() -> None:
    assert {path.name for path in ASSETS.iterdir()} == {"index.html.j2", "page.css", *write_page_module._SCRIPTS}
    for name in write_page_module._SCRIPTS:
        text = (ASSETS / name).read_text("utf-8")
        assert not re.search(MAKES_MARKUP, text), name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert len(text.splitlines()) <= 400, name


def test_a_map_of_any_grid(tmp_path: Path) -> None:
    grid = np.arange(3 * 5, dtype=np.uint8).reshape(5, 3)[:, ::-1]
    write_page(tmp_path, audit_content(0), [one(maps=(PageMap(1, -1, grid, float("nan"), 2.0),))])
    held = read_all(tmp_path)["details", 0][0]["maps"][0]
    assert held["size"] == [5, 3]
    assert held["range"] == [None, 2.0]
    assert np.array_equal(np.frombuffer(base64.b64decode(held["grid"]), np.uint8).reshape(5, 3), grid)


def test_images_with_many_maps_share_a_part_with_fewer_others(tmp_path: Path) -> None:
    """A detector has a map of each box; a browser reads a part as a whole."""
    grid = np.zeros((40, 40), np.uint8)
    many = tuple(PageMap(1, box, grid, 0.0, 1.0) for box in range(60))
    images = [one(name=str(n), maps=many if n < 9 else ()) for n in range(150)]
    write_page(tmp_path, audit_content(0), images)
    read = read_all(tmp_path)
    assert read["content", 0]["page"]["starts"] == [0, 4, 8]
    assert [len(read["details", number]) for number in range(3)] == [4, 4, 142]
