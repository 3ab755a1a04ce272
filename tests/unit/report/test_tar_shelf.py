"""Pictures in tar files: the same bytes whatever happened, and entries that WebDataset groups by image."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

from otx_xai.data.naming import name_images
from otx_xai.errors import OutputError
from otx_xai.report.depots import FolderDepot
from otx_xai.report.shelves import Line
from otx_xai.report.tar_shelf import PACKING, Packing, TarShelf, clear_packing, entry_name

NAMES = ("a/cat.jpg", "a/cat.png", "b/v1.2.png", "b/v1.3.png", "50%.png", "é.png", "z" * 130 + ".png")
IMAGES = name_images([(f"in/{name}", name) for name in NAMES])
_SAMPLE = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
"""How WebDataset parts the name of an entry into the key of a sample and an extension."""


def shelf_in(folder: Path, size: int = 3) -> TarShelf:
    packing = Packing(size, {image.name: place for place, image in enumerate(IMAGES)})
    return TarShelf(FolderDepot(folder), folder, folder / ".staging", IMAGES, packing)


def line_of(number: int) -> Line:
    image = IMAGES[number]
    files = [f"saliency_map/{image.stem}_{kind}" for kind in ("class_a_overlay.png", "class_a_saliency_map.png")]
    return {"name": image.name, "path": image.file, "files": files}


def put(shelf: TarShelf, folder: Path, numbers: Sequence[int]) -> list[Line]:
    """Put the files of images, as a run does."""
    lines = []
    for number in numbers:
        plain = line_of(number)
        for file in plain["files"]:
            (folder / ".staging" / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / ".staging" / file).write_bytes(f"content of {file}".encode())
        lines.append(shelf.describe(plain))
        shelf.put(lines[-1], plain["files"])
    return lines


def packed(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "saliency_map").iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """What a run leaves that nobody disturbs."""
    shelf = shelf_in(tmp_path / "whole")
    put(shelf, tmp_path / "whole", range(len(IMAGES)))
    shelf.settle()
    clear_packing(tmp_path / "whole")
    assert not (tmp_path / "whole" / PACKING).exists()
    return packed(tmp_path / "whole")


def test_a_kill_while_a_tar_file_is_taken_apart_costs_no_entry(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped has packed a part of a group; the next is killed as it unpacks that, the third goes on."""
    first = shelf_in(tmp_path)
    lines = put(first, tmp_path, (0, 1))
    first.settle()
    clear_packing(tmp_path)
    extract, calls = tarfile.TarFile.extractfile, iter(range(100))

    class Killed:
        def read(self, size: int = -1) -> bytes:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractfile", lambda *args: Killed() if next(calls) == 2 else extract(*args))
        second = shelf_in(tmp_path)
        second.take_up(lines)
        lines += put(second, tmp_path, (2,))
        with pytest.raises(KeyboardInterrupt):
            second.settle()
    third = shelf_in(tmp_path)
    assert all(third.has(line) for line in lines)
    third.take_up(lines)
    put(third, tmp_path, range(3, len(IMAGES)))
    third.settle()
    assert packed(tmp_path) == whole


def test_entries_are_samples_of_webdataset(whole: dict[str, bytes], tmp_path: Path) -> None:
    assert sorted(whole) == ["00000.tar", "00001.tar", "00002.tar"]
    samples = []
    for name in sorted(whole):
        with tarfile.open(tmp_path / "whole/saliency_map" / name) as pack:
            entries = pack.getmembers()
            for entry in entries:
                assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode) == (
                    0,
                    0,
                    0,
                    "",
                    "",
                    0o644,
                )
            parts = [_SAMPLE.match(entry.name) for entry in entries]
            keys = [part[1] for part in parts if part is not None]
            assert len(keys) == len(entries)
            samples += [key for key, _ in groupby(keys)]
            assert {part[2] for part in parts if part} == {"class_a_overlay.png", "class_a_saliency_map.png"}
            for number, entry in enumerate(entries):
                place = int(name[:5]) * 3 + number // 2
                content = pack.extractfile(entry)
                assert content is not None
                assert content.read() == f"content of {line_of(place)['files'][number % 2]}".encode()
    assert len(samples) == len(set(samples)) == len(IMAGES)


@pytest.mark.parametrize(
    ("stem", "file", "entry"),
    [
        ("cat", "saliency_map/cat_sheet.jpg", "cat.sheet.jpg"),
        ("a.b/c.d", "saliency_map/a.b/c.d_maps.npz", "a.b/c%2Ed.maps.npz"),
        ("50%2E", "saliency_map/50%2E_overlay.png", "50%252E.overlay.png"),
    ],
)
def test_names_of_entries(stem: str, file: str, entry: str) -> None:
    assert entry_name(stem, file) == entry


@pytest.mark.parametrize("killed_after", range(len(IMAGES)))
@pytest.mark.parametrize("settled", [False, True])
def test_a_run_that_goes_on_gives_the_same_bytes(
    whole: dict[str, bytes], tmp_path: Path, killed_after: int, settled: bool
) -> None:
    out = tmp_path / "out"
    first = shelf_in(out)
    lines = put(first, out, range(killed_after))
    if settled:
        first.settle()
        clear_packing(out)
    second = shelf_in(out)
    assert all(map(second.has, lines))
    second.take_up(lines)
    put(second, out, range(killed_after, len(IMAGES)))
    second.settle()
    clear_packing(out)
    assert packed(out) == whole


@pytest.mark.parametrize("failed", [[0], [1, 4], [2, 3, 6]])
def test_images_that_failed_at_first_take_their_places_later(
    whole: dict[str, bytes], tmp_path: Path, failed: list[int]
) -> None:
    out = tmp_path / "out"
    first = shelf_in(out)
    lines = put(first, out, [number for number in range(len(IMAGES)) if number not in failed])
    first.settle()
    clear_packing(out)
    assert packed(out) != whole
    second = shelf_in(out)
    second.take_up([line for line in lines if second.has(line)])
    put(second, out, failed)
    second.settle()
    assert packed(out) == whole


def test_what_is_not_there_is_done_again(whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "whole"
    lines = [shelf_in(out).describe(line_of(number)) for number in range(len(IMAGES))]
    assert all(map(shelf_in(out).has, lines))
    (out / "saliency_map/00001.tar").write_bytes(whole["00001.tar"][:1000])
    (out / "saliency_map/00002.tar").unlink()
    assert list(map(shelf_in(out).has, lines)) == [True] * 3 + [False] * 4
    assert not shelf_in(out).has({**lines[0], "pack": "saliency_map/00001.tar"})
    assert not shelf_in(out, size=2).has(lines[2])
    assert not shelf_in(out).has({**lines[0], "name": "unknown"})


def test_a_tar_file_that_breaks_meanwhile_is_told(whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "whole"
    shelf = shelf_in(out)
    shelf.take_up([shelf.describe(line_of(0))])
    (out / "saliency_map/00000.tar").write_bytes(b"broken")
    put(shelf, out, [1])
    with pytest.raises(OutputError, match=r"00000\..*\.tar' cannot be written"):
        shelf.settle()
