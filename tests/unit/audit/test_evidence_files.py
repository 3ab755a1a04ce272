"""The evidence on disk: what is described comes back, and a killed run leaves nothing behind its last whole line."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from otx_xai.audit.evidence_files import EvidenceFiles, Kept, Layout
from otx_xai.audit.evidence_joining import joined
from otx_xai.audit.evidence_reading import Setting, open_records, open_stored, read_evidence, with_more_maps
from otx_xai.errors import OutputError
from otx_xai.records import ClassAnswer, ImageInfo, InputGeometry, Prediction, Task
from otx_xai.report.explained import ExplainedImage, PlacedMaps
from otx_xai.report.journal import JOURNAL, each_record, record

LABELS = tuple("abcdefghijklmn")
GEOMETRY = InputGeometry((32, 48))
SETTING = Setting(Task.MULTI_CLASS_CLS, LABELS, False, GEOMETRY, None)
GIVEN = {f"{i}.png": [i % 3] for i in range(6)}


def explained(number: int, maps: int = 4, features: int = 5) -> ExplainedImage:
    rng = np.random.default_rng(number)
    scores = rng.dirichlet(np.ones(len(LABELS))).astype(np.float32)
    best = np.argsort(-scores)[:maps]
    image = rng.integers(0, 256, (20 + number, 30, 3), np.uint8)
    targets = tuple(Prediction(int(i), LABELS[i], float(scores[i])) for i in best)
    grids = rng.random((maps, 3, 4), np.float32)
    answer = ClassAnswer(
        scores, rng.random(features, np.float32), np.stack([np.arange(maps), 7.0 + np.arange(maps)], 1)
    )
    info = ImageInfo(f"/somewhere/{number}.png", f"{number}.png", str(number))
    placed = PlacedMaps(grids, (20 + number, 30), GEOMETRY)
    return ExplainedImage(info, image, targets[:1], targets, placed, answer=answer)


def write(folder: Path, numbers: list[int], *, lines: list[dict[str, object]] | None = None) -> list[dict[str, object]]:
    files = EvidenceFiles(folder, Kept(GIVEN, len(LABELS)))
    if lines:
        files.take_up(lines)
    files.open()
    added = []
    for number in numbers:
        one = explained(number)
        added.append({**record(one, [], "m"), **files.add(files.describe(one))})
    files.close()
    every = [*(lines or []), *added]
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in every))
    return every


def test_what_is_described_comes_back(tmp_path: Path) -> None:
    write(tmp_path, list(range(6)))
    found = read_evidence(open_stored(tmp_path), SETTING, GIVEN)
    assert found.names == tuple(f"{i}.png" for i in range(6))
    assert found.given[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert found.best.shape == (6, 10)
    for i in range(6):
        one = explained(i)
        assert one.answer is not None
        scores = one.answer.scores
        assert found.best[i].tolist() == np.argsort(-scores)[:10].tolist()
        np.testing.assert_array_equal(found.best_scores[i], np.sort(scores)[::-1][:10])
        assert found.given_scores[i, 0] == scores[i % 3]
        np.testing.assert_allclose(found.features[i], one.answer.features, atol=1e-3)
        assert found.sizes[i].tolist() == [20 + i, 30]
        for row in np.flatnonzero(found.maps.image == i):
            place = [target.target for target in one.targets].index(int(found.maps.target[row]))
            np.testing.assert_array_equal(found.maps.grids[row], np.rint(one.maps[place] * 255))
            assert found.maps.ranges[row].tolist() == [place, 7 + place]
        wanted = {int(scores.argmax())} | ({i % 3} & {target.target for target in one.targets})
        assert set(found.maps.target[found.maps.image == i].tolist()) == wanted
    np.testing.assert_allclose(found.looks["brightness"][0], 0.5, atol=0.05)


def test_thumbnails_are_small_pictures_of_the_images(tmp_path: Path) -> None:
    write(tmp_path, [0, 1])
    sizes = [
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape
        for jpeg in open_stored(tmp_path).thumbnails()
    ]
    assert sizes == [(20, 30, 3), (21, 30, 3)]


def test_an_interrupted_run_goes_on_behind_its_last_line(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    write(whole, list(range(6)))
    lines = write(broken, [0, 1, 2, 3])[:2]  # two records have no line yet
    for name in ("images", "maps", "thumbnails"):
        with open(broken / f"{name}.bin", "ab") as file:
            file.write(b"torn")
    write(broken, [2, 3, 4, 5], lines=lines)
    for name in ("images", "maps", "boxes", "thumbnails"):
        assert (broken / f"{name}.bin").read_bytes() == (whole / f"{name}.bin").read_bytes()


def test_lines_in_another_order_find_their_records(tmp_path: Path) -> None:
    lines = write(tmp_path, list(range(4)))
    before = read_evidence(open_stored(tmp_path), SETTING, GIVEN)
    (tmp_path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in [lines[3], lines[0], lines[2]]))
    stored = open_stored(tmp_path)
    after = read_evidence(stored, SETTING, GIVEN)
    np.testing.assert_array_equal(after.best, before.best[[3, 0, 2]])
    np.testing.assert_array_equal(after.features, before.features[[3, 0, 2]])
    assert len(list(stored.thumbnails())) == 3
    for i, old in enumerate([3, 0, 2]):
        now, then = after.maps.image == i, before.maps.image == old
        np.testing.assert_array_equal(after.maps.grids[now], before.maps.grids[then])


def test_boxes_and_their_maps(tmp_path: Path) -> None:
    setting = Setting(Task.DETECTION, LABELS, False, GEOMETRY, None)
    files = EvidenceFiles(tmp_path, Kept({}, 0))
    files.open()
    lines = []
    for number, count in enumerate([0, 2, 1]):
        boxes = tuple(Prediction(j, LABELS[j], 0.9 - j / 10, (j, 1.0, 9.0, 8.0), j) for j in range(count))
        info = ImageInfo(f"{number}.png", f"{number}.png", str(number))
        maps = np.full((count, 3, 4), (number + 1) / 5, np.float32)
        image = np.zeros((20, 30, 3), np.uint8)
        one = ExplainedImage(info, image, boxes, boxes, PlacedMaps(maps, (20, 30), GEOMETRY))
        lines.append({**record(one, [], "odam"), **files.add(files.describe(one))})
    files.close()
    (tmp_path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_evidence(open_stored(tmp_path), setting, {})
    assert found.found is not None
    assert found.found.image.tolist() == [1, 1, 2]
    assert found.found.target.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.found.score, [0.9, 0.8, 0.9])
    assert found.found.xyxy[1].tolist() == [1, 1, 9, 8]
    assert found.maps.image.tolist() == [1, 1, 2]
    assert found.maps.box.tolist() == [0, 1, 2]
    assert found.maps.grids[:, 0, 0].tolist() == [102, 102, 153]
    assert found.predicted.tolist() == [-1, -1, -1]


def test_a_second_look_adds_maps_in_the_order_of_the_images(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write(first, list(range(4)))
    write(second, [1, 3])
    evidence = read_evidence(open_stored(first), SETTING, GIVEN)
    assert with_more_maps(evidence, read_evidence(open_stored(second), SETTING, GIVEN)) is evidence
    other = read_evidence(open_stored(second), SETTING, GIVEN)
    other.maps.target[:] = 13
    more = with_more_maps(evidence, other)
    assert more.maps.image.tolist() == sorted(more.maps.image.tolist())
    assert set(more.maps.image[more.maps.target == 13].tolist()) >= {1, 3}
    assert len(more.maps) > len(evidence.maps)


def test_nothing_at_all_is_read_as_nothing(tmp_path: Path) -> None:
    found = read_evidence(open_stored(tmp_path), SETTING, {})
    assert len(found) == 0
    assert found.predicted.shape == (0,)
    assert len(found.maps) == 0


def test_broken_files_are_told(tmp_path: Path) -> None:
    lines = write(tmp_path, [0, 1])
    (tmp_path / "layout.json").write_text("{")
    with pytest.raises(OutputError, match=r"layout\.json is missing or broken"):
        open_stored(tmp_path)
    Layout(10, 1, 5, (3, 4)).write(tmp_path)
    (tmp_path / "images.bin").write_bytes(b"")
    with pytest.raises(OutputError, match="shorter than its journal"):
        open_stored(tmp_path)
    files = EvidenceFiles(tmp_path, Kept(GIVEN, len(LABELS)))
    files.take_up(lines)
    with pytest.raises(OutputError, match="shorter than its journal"):
        files.open()


@pytest.mark.parametrize("name", ["maps", "thumbnails"])
def test_evidence_that_is_cut_short_is_not_filled_up(tmp_path: Path, name: str) -> None:
    lines = write(tmp_path, [0, 1])
    path = tmp_path / f"{name}.bin"
    content = path.read_bytes()[:-1]
    path.write_bytes(content)
    files = EvidenceFiles(tmp_path, Kept(GIVEN, len(LABELS)))
    files.take_up(lines)
    with pytest.raises(OutputError, match=rf"shorter than its journal \({name}\.bin has {len(content)} bytes"):
        files.open()
    files.close()
    assert path.read_bytes() == content
    path.unlink()
    with pytest.raises(OutputError, match=rf"shorter than its journal \({name}\.bin has 0 bytes"):
        files.open()
    files.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "maps.bin").symlink_to("/dev/full")
    files = EvidenceFiles(tmp_path, Kept(GIVEN, len(LABELS)))
    files.open()
    with pytest.raises(OutputError, match="No space left"):
        files.add(files.describe(explained(0)))
    with pytest.raises(OutputError, match="No space left"):
        files.close()  # what could not be written is tried again
    files.close()


@pytest.mark.parametrize("size", [(375, 500), (1, 900), (900, 1), (799, 801), (1500, 2000), (399, 300), (5, 4)])
def test_images_of_any_size_are_looked_at(tmp_path: Path, size: tuple[int, int]) -> None:
    one = explained(0)
    flat = np.full((*size, 3), (200, 100, 50), np.uint8)
    files = EvidenceFiles(tmp_path, Kept(GIVEN, len(LABELS)))
    described = files.describe(replace(one, image=flat))
    brightness, contrast, sharpness = described.fields["looks"]
    assert brightness == pytest.approx((0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255, abs=0.01)
    assert contrast == 0
    assert sharpness == 0
    shown = cv2.imdecode(np.frombuffer(described.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    assert max(shown.shape[:2]) == min(160, max(size))
    assert abs(shown[..., ::-1].reshape(-1, 3).mean(axis=0) - (200, 100, 50)).max() < 4


def test_joined_records_are_those_of_one_run(tmp_path: Path) -> None:
    """Also where a part was written in another order, as one is whose images failed at first."""
    for name, numbers in {"one": range(6), "first": (2, 0, 1), "second": (), "third": (3, 4, 5)}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, list(numbers))
    lines = sorted(each_record(tmp_path / "first" / JOURNAL), key=lambda line: str(line["name"]))
    (tmp_path / "all").mkdir()
    with joined(tmp_path / "all") as records:
        firsts = [records.add(open_records(tmp_path / "first", lines))]
        firsts += [records.add(open_stored(tmp_path / name)) for name in ("second", "third")]
    assert firsts == [0, 3, 3]
    for name in ("layout.json", "images.bin", "maps.bin", "boxes.bin", "thumbnails.bin"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


@pytest.mark.parametrize("name", ["maps", "thumbnails"])
def test_records_that_end_too_early_are_not_joined(tmp_path: Path, name: str) -> None:
    write(tmp_path, [0, 1])
    path = tmp_path / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "all").mkdir()
    with joined(tmp_path / "all") as records, pytest.raises(OutputError, match=rf"{name}\.bin ends too early"):
        records.add(open_stored(tmp_path))


def test_records_of_another_kind_are_not_joined(tmp_path: Path) -> None:
    write(tmp_path, [0])
    stored = open_stored(tmp_path)
    other = replace(stored, layout=replace(stored.layout, grid=(3, 5)))
    (tmp_path / "all").mkdir()
    with joined(tmp_path / "all") as records:
        records.add(stored)
        with pytest.raises(OutputError, match=r"has records of another kind than that before it"):
            records.add(other)


def test_memory_does_not_grow_with_what_is_joined(tmp_path: Path) -> None:
    write(tmp_path, list(range(6)))
    (tmp_path / "all").mkdir()
    with joined(tmp_path / "all") as records:
        records.add(open_stored(tmp_path))  # what is made once
        tracemalloc.start()
        for _ in range(100):
            records.add(open_stored(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    written = sum(path.stat().st_size for path in (tmp_path / "all").glob("*.bin"))
    assert peak < written / 10
