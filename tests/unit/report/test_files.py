import json
import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from otx_xai.errors import LabelError, OutputError
from otx_xai.postprocess import to_image, to_uint8
from otx_xai.records import (
    Colormap,
    DumpContent,
    ExplainConfig,
    ImageFormat,
    ImageInfo,
    InputGeometry,
    MapGrid,
    Prediction,
    ResizeType,
    Task,
)
from otx_xai.report import (
    ExplainedImage,
    Journal,
    PlacedMaps,
    Results,
    annotate,
    overlay,
    read_journal,
    record,
    restore_order,
    slug,
    slugs,
    take_up,
    write_atomic,
    write_json,
    write_picture,
    writers_of,
)
from otx_xai.report.depots import FolderDepot
from otx_xai.report.files import write_drawing
from otx_xai.report.pictures import limited
from otx_xai.report.shelves import PlainShelf

GEOMETRY = InputGeometry((32, 32), ResizeType.FIT_TO_WINDOW_LETTERBOX)
LABELS = ("tabby cat", "St. Bernard", "tabby/cat")


def read(path):
    return cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


def no_space(*args, **kwargs):
    raise OSError(28, "No space left on device")


def written(folder, item, config=None, labels=LABELS):
    writers = writers_of(config or ExplainConfig(), folder, labels)
    return tuple(file for writer in writers for file in writer.write(item))


def explained(stem="photo", targets=((0, 0.93), (1, 0.5)), size=(30, 40), geometry=GEOMETRY, grid=None):
    rng = np.random.default_rng(0)
    predictions = tuple(Prediction(t, LABELS[t] if t >= 0 else "", score) for t, score in targets)
    return ExplainedImage(
        ImageInfo(f"in/{stem}.jpg", f"{stem}.jpg", stem),
        rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        predictions,
        predictions,
        PlacedMaps(rng.random((len(targets), 7, 7), np.float32), size, geometry, grid),
        0.25,
    )


class TestSlug:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("cat", "cat"),
            ("tabby cat", "tabby_cat"),
            ("Größe 猫", "Größe_猫"),
            ("gro\u0308ße", "größe"),
            ("हिन्दी", "हिन्दी"),
            ("jack-o'-lantern (lit)", "jack-o'-lantern_(lit)"),
            ('a/b\\c:d*e?f"g<h>i|j\0k\nl', "a_b_c_d_e_f_g_h_i_j_k_l"),
            ("../../etc/passwd", "etc_passwd"),
            (".hidden", "hidden"),
            ("St. Bernard.", "St_Bernard"),
            ("  __  ", "unnamed"),
            ("", "unnamed"),
            ("???", "unnamed"),
            ("CON", "CON_"),
            ("lpt1", "lpt1_"),
            ("console", "console"),
            ("\udcff", "unnamed"),
        ],
    )
    def test_examples(self, text, expected):
        assert slug(text) == expected

    @pytest.mark.parametrize("text", ["x" * 300, "猫" * 100, "é" * 79 + "猫", ("x" * 79) + "_y"])
    def test_length_is_limited(self, text):
        assert 70 < len(slug(text).encode()) <= 80
        assert text.startswith(slug(text))

    def test_of_anything_is_safe(self):
        rng = random.Random(0)
        for _ in range(3000):
            text = "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x3000), 0xD800])) for _ in range(9))
            found = slug(text)
            assert found
            assert not set(found) & set('/\\:*?"<>|. ')
            assert all(letter.isprintable() or ord(letter) > 127 for letter in found)
            found.encode()


class TestSlugs:
    def test_same_labels_get_their_index(self):
        assert slugs(["crane", "dog", "crane", "Dog!", "x"]) == ("crane_0", "dog_1", "crane_2", "Dog_3", "x")

    def test_an_index_that_is_taken_is_avoided(self):
        assert slugs(["a", "a", "a_0", "A_1"]) == ("a_0_0", "a_1_1", "a_0", "A_1")

    def test_none(self):
        assert slugs([]) == ()

    @pytest.mark.parametrize("seed", range(100))
    def test_are_unique_without_regard_to_case(self, seed):
        rng = random.Random(seed)
        labels = ["".join(rng.choices(["a", "A", "_", "_1", "0", "é", "e\u0301", "x" * 40], k=4)) for _ in range(50)]
        found = slugs(labels)
        assert len({text.casefold() for text in found}) == 50
        assert all(0 < len(text.encode()) <= 80 for text in found)

    def test_many_equal_labels(self):
        assert len(set(slugs(["x" * 200] * 20_000))) == 20_000


class TestWriteAtomic:
    def test_creates_folders_and_replaces(self, tmp_path):
        path = tmp_path / "a/b/c.bin"
        write_atomic(path, b"one")
        write_atomic(str(path), b"two")
        assert path.read_bytes() == b"two"
        assert os.listdir(path.parent) == ["c.bin"]

    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "c.bin"
        write_atomic(path, b"one")
        monkeypatch.setattr(os, "replace", no_space)
        with pytest.raises(OutputError, match=r"c\.bin' cannot be written: No space left"):
            write_atomic(path, b"two")
        assert path.read_bytes() == b"one"
        assert os.listdir(tmp_path) == ["c.bin"]

    def test_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(OutputError, match="cannot be written"):
            write_atomic(tmp_path / "a/b/c", b"")

    def test_threads_do_not_mix(self, tmp_path):
        def work(number):
            for _ in range(20):
                write_atomic(tmp_path / "new/shared.bin", bytes([number]) * 10_000)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        data = (tmp_path / "new/shared.bin").read_bytes()
        assert len(data) == 10_000
        assert len(set(data)) == 1
        assert os.listdir(tmp_path / "new") == ["shared.bin"]


class TestWritePicture:
    def test_png_is_exact_and_rgb(self, tmp_path):
        picture = np.random.default_rng(0).integers(0, 256, (13, 17, 3)).astype(np.uint8)
        write_picture(tmp_path / "größe.png", picture)
        np.testing.assert_array_equal(read(tmp_path / "größe.png")[..., ::-1], picture)
        write_picture(tmp_path / "grey.png", picture[..., 0])
        np.testing.assert_array_equal(read(tmp_path / "grey.png"), picture[..., 0])

    def test_jpeg(self, tmp_path):
        write_picture(tmp_path / "a.jpg", np.full((16, 16, 3), (200, 100, 10), np.uint8), ImageFormat.JPG)
        assert (tmp_path / "a.jpg").read_bytes()[:2] == b"\xff\xd8"
        np.testing.assert_allclose(read(tmp_path / "a.jpg")[8, 8], (10, 100, 200), atol=4)

    def test_what_cannot_be_encoded(self, tmp_path):
        with pytest.raises(OutputError, match=r"\(1, 70000, 3\), cannot be encoded as jpg"):
            write_picture(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8), ImageFormat.JPG)


def test_write_json(tmp_path):
    write_json(tmp_path / "a/manifest.json", {"größe": [1, 2.5], "path": "\udcff"})
    text = (tmp_path / "a/manifest.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "größe"')
    assert json.loads(text) == {"größe": [1, 2.5], "path": "\udcff"}


class TestWriters:
    def write(self, tmp_path, item=None, **config):
        return written(tmp_path, item or explained(), ExplainConfig(**config))

    def test_both(self, tmp_path):
        item = explained()
        files = self.write(tmp_path, item)
        assert files == (
            "saliency_map/photo_class_tabby_cat_0_saliency_map.png",
            "saliency_map/photo_class_tabby_cat_0_overlay.png",
            "saliency_map/photo_class_St_Bernard_saliency_map.png",
            "saliency_map/photo_class_St_Bernard_overlay.png",
        )
        assert sorted(f"saliency_map/{name}" for name in os.listdir(tmp_path / "saliency_map")) == sorted(files)
        on_image = to_image(item.maps, (30, 40), GEOMETRY)
        np.testing.assert_array_equal(read(tmp_path / files[2]), to_uint8(on_image[1]))
        expected = annotate(overlay(item.image, on_image[0]), "tabby cat 0.93", scale=Colormap.TURBO)
        np.testing.assert_array_equal(read(tmp_path / files[1])[..., ::-1], expected)

    def test_network_resolution(self, tmp_path):
        item = explained()
        files = self.write(tmp_path, item, postprocess=False)
        np.testing.assert_array_equal(read(tmp_path / files[0]), to_uint8(item.maps[0]))
        assert read(tmp_path / files[1]).shape == (30, 40, 3)

    def test_padding_is_kept_on_request(self, tmp_path):
        item = explained()
        files = self.write(tmp_path, item, crop_padded_map=False)
        expected = to_image(item.maps[:1], (30, 40), GEOMETRY, crop_padding=False)[0]
        np.testing.assert_array_equal(read(tmp_path / files[0]), to_uint8(expected))

    def test_places_lie_on_their_grid(self, tmp_path):
        grid = MapGrid((0.5, 2), (9, 8))
        item = explained(grid=grid)
        files = self.write(tmp_path, item, content="maps")
        expected = to_image(item.maps[:1], (30, 40), GEOMETRY, grid=grid)[0]
        np.testing.assert_array_equal(read(tmp_path / files[0]), to_uint8(expected))
        whole = InputGeometry((30, 40))  # a map over the image itself, as of tiles, has no such grid
        files = self.write(tmp_path, explained(geometry=whole), content="maps")
        expected = to_image(item.maps[:1], (30, 40), whole)[0]
        np.testing.assert_array_equal(read(tmp_path / files[0]), to_uint8(expected))

    @pytest.mark.parametrize("postprocess", [True, False])
    @pytest.mark.parametrize(("content", "ending"), [("maps", "_saliency_map"), ("overlays", "_overlay")])
    def test_one_kind(self, tmp_path, content, ending, postprocess):
        files = self.write(tmp_path, content=DumpContent(content), postprocess=postprocess)
        assert [file.removesuffix(f"{ending}.png") for file in files] == [
            "saliency_map/photo_class_tabby_cat_0",
            "saliency_map/photo_class_St_Bernard",
        ]

    def test_sheet(self, tmp_path):
        assert self.write(tmp_path, content=DumpContent.SHEET) == ("saliency_map/photo_sheet.png",)
        assert read(tmp_path / "saliency_map/photo_sheet.png").shape[1] == 3 * 412 + 12

    @pytest.mark.parametrize(("targets", "side"), [(1, 480), (3, 400), (8, 320), (9, 240)])
    @pytest.mark.parametrize("limit", [100, 1024])
    def test_pictures_on_a_sheet_of_few_are_larger(self, tmp_path, targets, side, limit):
        item = explained(targets=[(i % 3, 0.5) for i in range(targets)])
        (file,) = self.write(tmp_path, item, content=DumpContent.SHEET, max_size=limit)
        columns = {1: 2, 3: 4, 8: 3, 9: 4}[targets]
        assert read(tmp_path / file).shape[1] == columns * (min(side, limit) + 12) + 12

    @pytest.mark.parametrize(("task", "files"), [(Task.CLASSIFICATION, 4), (Task.DETECTION, 3)])
    def test_a_detector_gets_maps_and_a_sheet_where_nothing_is_said(self, tmp_path, task, files):
        config = ExplainConfig(max_size=20).of_task(task)
        assert len(written(tmp_path, explained(), config)) == files
        asked = ExplainConfig(content=DumpContent.BOTH).of_task(task)
        assert len(written(tmp_path, explained(), asked)) == 4

    @pytest.mark.parametrize("as_read", [False, True], ids=["whole", "made smaller while it was read"])
    def test_pictures_are_limited(self, tmp_path, as_read):
        item = explained(size=(300, 401))
        small = limited(item.image, (75, 100))
        files = self.write(tmp_path, replace(item, image=small) if as_read else item, max_size=100)
        for file in files:
            assert read(tmp_path / file).shape[:2] == (75, 100)
        whole = to_image(item.maps, (300, 401), GEOMETRY)[0]
        expected = cv2.resize(whole, (100, 75), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(read(tmp_path / files[0]) / 255, expected, atol=0.03)
        laid = to_image(item.maps, (300, 401), GEOMETRY, size=(75, 100))[0]
        expected = annotate(overlay(small, laid), "tabby cat 0.93", scale=Colormap.TURBO)
        np.testing.assert_array_equal(read(tmp_path / files[1])[..., ::-1], expected)
        assert read(tmp_path / self.write(tmp_path, item, max_size=0)[0]).shape == (300, 401)
        assert read(tmp_path / self.write(tmp_path, item)[0]).shape == (300, 401), "small ones are as they are"

    @pytest.mark.parametrize(
        ("config", "expected"),
        [({}, [75, 100]), ({"content": "npz,maps"}, [75, 100]), ({"max_size": 0}, None), ({"content": "sheet"}, None)],
    )
    def test_a_line_tells_how_large_its_pictures_are(self, tmp_path, config, expected):
        item = explained(size=(300, 400))
        results = Results(tmp_path, [item.info], LABELS, ExplainConfig(**{"max_size": 100, **config}))
        with results.opened():
            line = results.write(item, "reciprocam")
        assert (line["size"], line.get("picture_size")) == ([300, 400], expected)

    def test_jpg_in_folders(self, tmp_path):
        files = self.write(tmp_path, explained("a/b/photo"), image_format=ImageFormat.JPG)
        assert files[1] == "saliency_map/a/b/photo_class_tabby_cat_0_overlay.jpg"
        assert all((tmp_path / file).read_bytes()[:2] == b"\xff\xd8" for file in files)

    def test_map_of_the_whole_image(self, tmp_path):
        files = self.write(tmp_path, explained(targets=((-1, 0.0),)))
        assert files == ("saliency_map/photo_saliency_map.png", "saliency_map/photo_overlay.png")

    @pytest.mark.parametrize("equal", [False, True])
    def test_boxes_have_the_numbers_of_their_predictions(self, tmp_path, equal):
        """Two predictions may be equal in everything: they still are two boxes, and two files."""
        item = explained()
        corners = (1.0, 2.0, 9.0, 12.0)
        second = Prediction(1, LABELS[1], 0.5, corners, 1)
        third = Prediction(1, LABELS[1], 0.5 if equal else 0.4, corners, 2)
        assert (second == replace(third, number=1)) is equal
        boxes = (Prediction(0, LABELS[0], 0.9, corners, 0), second, third)
        item = replace(item, predictions=boxes, targets=boxes[1:])
        files = self.write(tmp_path, item, content="maps", postprocess=False)
        assert files == tuple(f"saliency_map/photo_class_St_Bernard_box_{n}_saliency_map.png" for n in (1, 2))
        for file, saliency_map in zip(files, item.maps, strict=True):
            np.testing.assert_array_equal(read(tmp_path / file), to_uint8(saliency_map))

    @pytest.mark.parametrize("number", [None, -1, 0, 1, 2])
    def test_a_box_that_is_no_prediction(self, number):
        item, box = explained(), Prediction(0, "x", 0.9, (1, 2, 3, 4), number)
        with pytest.raises(ValueError, match="none of the image's predictions"):
            replace(item, targets=(box,))

    def test_image_without_maps(self, tmp_path):
        item = explained(targets=())
        assert self.write(tmp_path, item) == ()
        assert self.write(tmp_path, item, content=DumpContent.SHEET) == ("saliency_map/photo_sheet.png",)

    def test_target_without_label(self, tmp_path):
        with pytest.raises(LabelError, match="Class 1 was explained, and there are 1 labels"):
            written(tmp_path, explained(), labels=LABELS[:1])

    def test_threads(self, tmp_path):
        writers = writers_of(ExplainConfig(), tmp_path / "run", LABELS)
        files = {}

        def work(start):
            for i in range(start, 24, 4):
                (files[i],) = (writer.write(explained(f"d{i % 3}/photo{i}")) for writer in writers)

        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = {file.relative_to(tmp_path / "run").as_posix() for file in (tmp_path / "run").rglob("*.*")}
        assert written == {file for group in files.values() for file in group}
        assert len(written) == 24 * 4


class TestJournal:
    def test_round_trip(self, tmp_path):
        path = tmp_path / "run/predictions.jsonl"
        records = [{"name": "größe"}, {"name": "line\nbreak", "path": "\udcff"}, {}]
        with Journal(path) as journal:
            for entry in records:
                journal.append(entry)
                assert path.read_bytes().endswith(b"\n"), "every line is written at once"
        assert read_journal(path) == records
        assert "größe" in path.read_text(encoding="utf-8")
        assert path.read_bytes().count(b"\n") == 3

    def test_starts_anew_unless_resumed(self, tmp_path):
        path = tmp_path / "j.jsonl"
        for resume, expected in ((False, [0]), (True, [0, 1]), (False, [2])):
            with Journal(path, resume=resume) as journal:
                journal.append({"n": expected[-1]})
            assert [entry["n"] for entry in read_journal(path)] == expected

    @pytest.mark.parametrize("torn", [b'{"n": 1', b"{", b'{"n": 1}', b'{"n": \n', b"\0\0\0\0", b"\xff\n", b"7\n"])
    def test_a_torn_last_line_is_dropped(self, tmp_path, torn):
        path = tmp_path / "j.jsonl"
        path.write_bytes(b'{"n": 0}\n' + torn)
        assert read_journal(path) == [{"n": 0}]
        with Journal(path, resume=True) as journal:
            journal.append({"n": 2})
        assert path.read_bytes() == b'{"n": 0}\n{"n": 2}\n'

    def test_a_broken_line_in_the_middle_is_told(self, tmp_path):
        path = tmp_path / "j.jsonl"
        path.write_bytes(b'{"n": 0}\nbroken\n{"n": 1}\n')
        with pytest.raises(OutputError, match="Line 2 of the journal"):
            read_journal(path)
        with pytest.raises(OutputError, match="Line 2 of the journal"):
            Journal(path, resume=True)

    def test_no_file_holds_no_records(self, tmp_path):
        assert read_journal(tmp_path / "none.jsonl") == []
        Journal(tmp_path / "none.jsonl", resume=True).close()
        assert read_journal(tmp_path / "none.jsonl") == []

    def test_close_twice(self, tmp_path):
        journal = Journal(tmp_path / "j.jsonl")
        journal.close()
        journal.close()

    def test_what_cannot_be_opened(self, tmp_path):
        with pytest.raises(OutputError, match="cannot be written"):
            Journal(tmp_path)
        with pytest.raises(OutputError, match="cannot be read"):
            read_journal(tmp_path)

    def test_what_cannot_be_written(self, tmp_path, monkeypatch):
        with Journal(tmp_path / "j.jsonl") as journal, open(os.devnull, "wb") as null:

            class Full:
                write = flush = staticmethod(no_space)
                close = null.close

            journal._file.close()
            monkeypatch.setattr(journal, "_file", Full)
            with pytest.raises(OutputError, match="No space left"):
                journal.append({})


class TestGoingOn:
    IMAGES = tuple(ImageInfo(f"in/{n}.jpg", f"{n}.jpg", str(n)) for n in range(4))

    def journal(self, folder, numbers):
        for number in numbers:
            write_atomic(folder / f"{number}.png", b"picture")
        records = [{"name": f"{n}.jpg", "path": f"in/{n}.jpg", "files": [f"{n}.png"]} for n in numbers]
        with Journal(folder / "j.jsonl") as journal:
            for entry in records:
                journal.append(entry)
        return records

    def test_what_is_not_whole_is_done_again(self, tmp_path):
        records, shelf = self.journal(tmp_path, range(4)), PlainShelf(FolderDepot(tmp_path), tmp_path / "staging")
        assert take_up(tmp_path / "j.jsonl", self.IMAGES, shelf.has) == records
        (tmp_path / "1.png").unlink()
        (tmp_path / "2.png").write_bytes(b"")  # as a power failure leaves it
        assert take_up(tmp_path / "j.jsonl", self.IMAGES, shelf.has) == [records[0], records[3]]
        moved = replace(self.IMAGES[0], file="elsewhere/0.jpg")
        assert take_up(tmp_path / "j.jsonl", (moved, self.IMAGES[3]), shelf.has) == [records[3]]
        assert read_journal(tmp_path / "j.jsonl") == [records[3]]

    def test_order_is_that_of_the_images(self, tmp_path):
        first, second = self.journal(tmp_path, (2, 0))
        restore_order(tmp_path / "j.jsonl", self.IMAGES)
        assert read_journal(tmp_path / "j.jsonl") == [second, first]


def test_record(tmp_path):
    item = explained(targets=((0, np.float32(0.5)),))
    entry = record(item, ("saliency_map/a.png",), "reciprocam")
    assert entry == {
        "path": str(Path("in/photo.jpg")),
        "name": "photo.jpg",
        "size": [30, 40],
        "predictions": [{"target": 0, "label": "tabby cat", "score": 0.5}],
        "targets": [{"target": 0, "label": "tabby cat", "score": 0.5}],
        "files": ["saliency_map/a.png"],
        "method": "reciprocam",
        "seconds": 0.25,
    }
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(entry)
    assert read_journal(tmp_path / "j.jsonl") == [entry]


def test_drawings_are_exact_and_small(tmp_path: Path) -> None:
    drawing = np.full((400, 600, 3), 255, np.uint8)
    drawing[::40] = (31, 119, 180)
    write_drawing(tmp_path / "plot.png", drawing)
    write_picture(tmp_path / "picture.png", drawing)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "plot.png"))[..., ::-1], drawing)
    sizes = [(tmp_path / name).stat().st_size for name in ("plot.png", "picture.png")]
    assert sizes[0] < sizes[1] / 4
