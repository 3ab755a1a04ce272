import itertools
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from otx_xai.data import find_images, naming
from otx_xai.data.sources import search_images
from otx_xai.errors import DataError
from otx_xai.records import ImageInfo
from otx_xai.report import slugs


def refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")


@pytest.fixture
def tree(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return make


def names(data_root):
    return [info.name for info in find_images(data_root)]


def stems(*image_names):
    return [info.stem for info in naming.name_images([(name, name) for name in image_names])]


class TestFolder:
    def test_is_searched_in_depth_and_sorted(self, tree):
        root = tree("b.PNG", "a/z.jpg", "a/b/c.webp", "a.txt", "c.Tiff", "d.bmp", "e.JPE", "notes.md")
        infos = find_images(str(root))
        assert [info.name for info in infos] == ["a/b/c.webp", "a/z.jpg", "b.PNG", "c.Tiff", "d.bmp", "e.JPE"]
        assert [info.path for info in infos] == [root / info.name for info in infos]
        assert infos[0].stem == "a/b/c"

    def test_hidden_entries_are_skipped(self, tree):
        assert names(tree("a.jpg", ".b.jpg", ".cache/c.jpg", "d/.e/f.jpg")) == ["a.jpg"]

    def test_a_folder_named_like_an_image_is_a_folder(self, tree):
        assert names(tree("a.jpg/b.jpg")) == ["a.jpg/b.jpg"]

    def test_relative_root_stays_relative(self, tree, monkeypatch):
        monkeypatch.chdir(tree("in/a.jpg"))
        assert find_images("in")[0].path == Path("in/a.jpg")
        assert find_images("./in/")[0].name == "a.jpg"

    def test_home_is_expanded(self, tree, monkeypatch):
        monkeypatch.setenv("HOME", str(tree("in/a.jpg")))
        monkeypatch.setenv("USERPROFILE", str(tree("in/a.jpg")))
        assert names("~/in") == ["a.jpg"]

    def test_links_are_followed_and_loops_are_not(self, tree):
        root = tree("in/a/x.jpg", "in/b/y.jpg", "else/z.jpg")
        (root / "in/a/up").symlink_to(root / "in")
        (root / "in/b/across").symlink_to(root / "in/a")
        (root / "in/a/across").symlink_to(root / "in/b")
        (root / "in/self").symlink_to("self")
        (root / "in/out").symlink_to(root / "else")
        (root / "in/same").symlink_to(root / "else")
        (root / "in/file.jpg").symlink_to(root / "else/z.jpg")
        (root / "in/broken.jpg").symlink_to("nowhere.jpg")
        assert names(root / "in") == ["a/x.jpg", "b/y.jpg", "broken.jpg", "file.jpg", "out/z.jpg"]

    def test_without_images_tells_what_is_there(self, tree):
        with pytest.raises(DataError, match=r"holds no image: .*\*\.webp.* 3 other files .*2 \.csv, 1 without suffix"):
            find_images(tree("a.csv", "b/b.CSV", "README"))

    def test_empty_tells_so(self, tmp_path):
        with pytest.raises(DataError, match="no file at all"):
            find_images(tmp_path)

    def test_unreadable_folder_tells_which(self, tree, monkeypatch):
        root = tree("a.jpg", "locked/b.jpg")
        scan = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: refuse() if "locked" in path else scan(path))
        with pytest.raises(DataError, match="locked' cannot be read: Permission denied"):
            find_images(root)


SUFFIXES = (
    *("avif", "bmp", "gif", "heic", "heif", "ico", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm"),
    *("ppm", "tga", "tif", "tiff", "webp"),
)
PNG = b"\x89PNG\r\n\x1a\n"


class TestContent:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_suffixes_of_images_in_any_case(self, tree, suffix):
        assert names(tree(f"a.{suffix}", f"B.{suffix.upper()}")) == [f"B.{suffix.upper()}", f"a.{suffix}"]

    def test_decides_where_the_suffix_does_not(self, tree):
        root = tree("a.jpg", "README", "b.weird", "c.weird", "d", "e.2020")
        for name in ("b.weird", "d", "e.2020"):
            (root / name).write_bytes(PNG)
        assert names(root) == ["a.jpg", "b.weird", "d", "e.2020"]
        assert names(root / "*") == ["a.jpg", "b.weird", "d", "e.2020"]

    @pytest.mark.parametrize(
        ("shape", "dtype", "expected"),
        [
            ((4, 5), np.uint8, True),
            ((4, 5), np.uint16, True),
            ((4, 5), np.bool_, True),
            ((4, 5), np.float32, False),
            ((4, 5, 3), np.float32, True),
            ((6, 400, 500), ">u2", True),
            ((4, 5, 3), np.int64, True),
            ((4, 5), np.int64, False),
            ((4, 5, 3), np.complex64, False),
            ((9,), np.uint8, False),
            ((), np.uint8, False),
            ((2, 4, 5, 3), np.uint8, False),
        ],
    )
    def test_arrays_that_may_be_images(self, tree, shape, dtype, expected):
        root = tree("a.jpg")
        np.save(root / "b.npy", np.zeros(shape, dtype))
        assert names(root) == ["a.jpg", "b.npy"][: 1 + expected]

    def test_what_is_not_read_is_counted_and_named(self, tree, caplog):
        caplog.set_level("INFO")
        root = tree("a.jpg", "a.txt", "s/b.json", "c.weird", ".d.jpg", ".cache/e.jpg")
        (root / "gone").symlink_to("nowhere")
        os.mkfifo(root / "pipe")
        found = search_images(root)
        assert caplog.messages == [f"Not read: {'; '.join(found.not_read)}."]
        assert found.images == find_images(root)
        assert set(found.not_read) == {
            "1 × a link to 'nowhere', which leads nowhere (gone)",
            "1 × a named pipe (pipe)",
            "2 hidden files and folders (.cache, .d.jpg)",
            "3 files that are no images (a.txt, c.weird, s/b.json)",
        }

    def test_many_are_counted_and_a_few_named(self, tree):
        root = tree("a.jpg", *(f"{i}.xml" for i in range(7)))
        assert search_images(root).not_read == ("7 files that are no images (0.xml, 1.xml, 2.xml, 3.xml, 4.xml, …)",)
        assert search_images(root / "[0a]*").not_read == (f"1 file that is no image ({root}/0.xml)",)

    def test_nothing_is_told_where_all_is_read(self, tree, caplog):
        caplog.set_level("INFO")
        assert search_images(tree("a.jpg")).not_read == ()
        find_images(tree("a.jpg"))
        assert caplog.messages == []

    def test_names_that_are_no_text(self, tree):
        root = tree("a.jpg")
        Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).write_bytes(b"x")
        assert search_images(root).not_read == (r"1 file that is no image (\udcff.txt)",)

    def test_a_file_that_cannot_be_opened(self, tree, monkeypatch):
        root = tree("a.jpg", "locked")
        monkeypatch.setattr("builtins.open", refuse)
        assert search_images(root).not_read == ("1 × cannot be opened: Permission denied (locked)",)


class TestSpecialFiles:
    def test_what_is_called_like_an_image_is_found_so_that_it_is_reported(self, tree):
        root = tree("a.jpg", "full.jpg/b.jpg", "nested.tif/deep/c.jpg")
        for folder in ("empty.jpg", "s/texts.png"):
            (root / folder).mkdir(parents=True)
        (root / "s/texts.png/a.txt").write_bytes(b"x")
        os.mkfifo(root / "pipe.jpg")
        expected = ["a.jpg", "empty.jpg", "full.jpg/b.jpg", "nested.tif/deep/c.jpg", "pipe.jpg", "s/texts.png"]
        assert names(root) == expected

    @pytest.mark.parametrize("name", ["pipe", "list.txt", "a.jpg"])
    def test_a_pipe_is_no_data(self, tmp_path, name):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=r"is a named pipe. Expected a regular file or a folder"):
            find_images(tmp_path / name)

    def test_a_link_that_leads_nowhere_is_no_data(self, tmp_path):
        (tmp_path / "in").symlink_to("gone")
        with pytest.raises(DataError, match="is a link to 'gone', which leads nowhere"):
            find_images(tmp_path / "in")


class TestFile:
    def test_any_suffix_is_taken(self, tree):
        root = tree("a.jpg", "b.weird", "c")
        assert [names(root / name) for name in ("a.jpg", "b.weird", "c")] == [["a.jpg"], ["b.weird"], ["c"]]
        assert find_images(root / "a.jpg")[0].stem == "a"

    def test_missing_tells_what_exists(self, tree):
        root = tree("in/a.jpg")
        with pytest.raises(DataError, match=r"in/nowhere/b\.jpg' does not exist .*in' does"):
            find_images(root / "in/nowhere/b.jpg")


class TestList:
    def make(self, folder, text, name="list.txt", encoding="utf-8"):
        (folder / name).write_text(text, encoding=encoding)
        return folder / name

    def test_keeps_order_and_missing_files(self, tree):
        root = tree("b.jpg", "sub/a.jpg")
        listing = self.make(root, "# two images\n\nsub/a.jpg\n  b.jpg \nmissing.jpg\r\nb.jpg\n./sub/../b.jpg\nc#d.png")
        assert names(listing) == ["sub/a.jpg", "b.jpg", "missing.jpg", "c#d.png"]
        assert find_images(listing)[0].path == root / "sub/a.jpg"

    @pytest.mark.parametrize("name", ["list.lst", "LIST.TXT"])
    def test_suffixes_and_byte_order_mark(self, tree, name):
        assert names(self.make(tree(), "größe.jpg", name, "utf-8-sig")) == ["größe.jpg"]

    def test_paths_outside_lead_to_the_common_folder(self, tree):
        root = tree("in/list/x", "in/a.jpg")
        listing = self.make(root / "in/list", f"../a.jpg\nb.jpg\n{root}/other/c.jpg\n")
        assert names(listing) == ["in/a.jpg", "in/list/b.jpg", "other/c.jpg"]
        listing = self.make(root / "in/list", "../../../../../../../../../../../../etc/a.jpg\n")
        assert names(listing) == ["a.jpg"]

    def test_relative_list(self, tree, monkeypatch):
        monkeypatch.chdir(tree("a.jpg"))
        self.make(Path(), "a.jpg")
        assert find_images("list.txt")[0] == ImageInfo("a.jpg", "a.jpg", "a")

    def test_of_nothing(self, tree):
        with pytest.raises(DataError, match="names no image: it has 2 lines"):
            find_images(self.make(tree(), "# nothing\n\n"))

    def test_that_is_no_text(self, tree):
        (tree() / "list.txt").write_bytes(b"a.jpg\n\xff\xfe")
        with pytest.raises(DataError, match=r"no UTF-8 text \(byte 6 is 0xff\)"):
            find_images(tree() / "list.txt")

    def test_that_is_unreadable(self, tree, monkeypatch):
        listing = self.make(tree(), "a.jpg")
        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(DataError, match=r"list\.txt' cannot be read: Permission denied"):
            find_images(listing)

    def test_on_several_drives(self, tree, monkeypatch):
        def fail(paths):
            raise ValueError("Paths don't have the same drive")

        monkeypatch.setattr(os.path, "commonpath", fail)
        with pytest.raises(DataError, match="several drives"):
            find_images(self.make(tree("a.jpg"), "../b.jpg"))


class TestPattern:
    @pytest.fixture
    def root(self, tree):
        return tree("a.jpg", "b.png", "x/c.jpg", "x/y/d.jpg", "x/y/z/e.JPG", "x/y/n.txt", ".h/f.jpg", "x/.g.jpg")

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.jpg", ["a.jpg"]),
            ("*", ["a.jpg", "b.png"]),
            ("?.[jp]*g", ["a.jpg", "b.png"]),
            ("**/*.jpg", ["a.jpg", "x/c.jpg", "x/y/d.jpg"]),
            ("**", ["a.jpg", "b.png", "x/c.jpg", "x/y/d.jpg", "x/y/z/e.JPG"]),
            ("*/**/*", ["x/c.jpg", "x/y/d.jpg", "x/y/z/e.JPG"]),
            ("**/y/**/*.jpg", ["x/y/d.jpg"]),
            ("**/z/*", ["x/y/z/e.JPG"]),
            ("x/*/*", ["y/d.jpg"]),
            ("x/**/d.jpg", ["y/d.jpg"]),
            ("*/c.jpg", ["x/c.jpg"]),
            (".*/*.jpg", [".h/f.jpg"]),
            ("x/.*", [".g.jpg"]),
            ("*/../a.jpg", ["a.jpg"]),
        ],
    )
    def test_names_are_relative_to_the_fixed_part(self, root, monkeypatch, pattern, expected):
        assert names(root / pattern) == expected
        monkeypatch.chdir(root)
        assert names(pattern) == expected

    def test_outside_of_the_fixed_part(self, root):
        assert names(root / "x/*/../../*.png") == ["b.png"]

    def test_an_existing_file_is_no_pattern(self, tree):
        assert names(tree("img[1].jpg", "img1.jpg") / "img[1].jpg") == ["img[1].jpg"]

    def test_loops_end(self, root):
        (root / "x/loop").symlink_to(root)
        assert names(root / "**/*.png") == ["b.png"]

    def test_matches_nothing(self, root):
        with pytest.raises(DataError, match=r"matches no image: .*1 other files were found \(1 \.txt"):
            find_images(root / "**/*.txt")
        with pytest.raises(DataError, match="no file at all was found"):
            find_images(root / "*.gif")
        with pytest.raises(DataError, match="nowhere' does not exist"):
            find_images(root / "nowhere/*.jpg")

    def test_unreadable(self, root, monkeypatch):
        monkeypatch.setattr(os, "listdir", refuse)
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            find_images(root / "x/*.jpg")


class TestStems:
    @pytest.mark.parametrize(
        ("image_names", "expected"),
        [
            (["a.jpg", "b.png", "c"], ["a", "b", "c"]),
            (["a.jpg", "a.png", "b.jpg"], ["a.jpg", "a.png", "b"]),
            (["a.jpg", "A.png"], ["a.jpg", "A.png"]),
            (["a.jpg", "A.jpg", "a.JPG"], ["a.jpg", "A.jpg.2", "a.JPG.3"]),
            (["s/a.jpg", "t/a.jpg"], ["s/a", "t/a"]),
            (["x.jpg.png", "x.jpg", "x.png"], ["x.jpg.png", "x.jpg", "x.png"]),
            (["x.jpg.png", "x.jpg"], ["x.jpg.png", "x"]),
            (["x", "x.jpg"], ["x", "x.jpg"]),
            (["x.jpg", "x_class_a.jpg"], ["x", "x_class_a.jpg"]),
            (["x.jpg", "x_CLASS.jpg"], ["x", "x_CLASS.jpg"]),
            (["x.jpg", "x_classic.jpg", "y_class_a.jpg"], ["x", "x_classic", "y_class_a"]),
            (["x.jpg", "s/x_class_a.jpg"], ["x", "s/x_class_a"]),
            (["x", "x_class_a"], ["x", "x_class_a.2"]),
            (["x.jpg", "x_class_a.b_class_c"], ["x", "x_class_a.b_class_c"]),
            (["größe.jpg", "gro\u0308ße.png", "GRÖSSE.bmp"], ["größe.jpg", "gro\u0308ße.png", "GRÖSSE.bmp"]),
        ],
    )
    def test_rules(self, image_names, expected):
        assert stems(*image_names) == expected

    def test_long_names_are_cut_and_stay_unique(self):
        found = stems(*(f"d/{'é' * 120}{i}.jpg" for i in range(100)))
        assert len(set(found)) == 100
        assert all(len(os.path.basename(stem).encode()) <= 125 for stem in found)

    def test_what_some_file_system_refuses_is_replaced(self):
        infos = naming.name_images(
            [
                ("1", 'a:b*c?"<>|.jpg'),
                ("2", "x\\y\n.jpg"),
                ("3", "con/aux.jpg"),
                ("4", "dir. /f.jpg"),
                ("5", "\udcff.jpg"),
            ]
        )
        assert [info.name for info in infos] == ["a_b_c_____.jpg", "x_y_.jpg", "_con/_aux.jpg", "dir_/f.jpg", "_.jpg"]

    def test_replacing_keeps_names_unique(self):
        infos = naming.name_images([("1", "a:b.jpg"), ("2", "a_b.jpg"), ("3", "a*b.jpg"), ("4", "a_b.jpg.2")])
        assert len({info.name for info in infos}) == 4
        assert len({info.stem for info in infos}) == 4

    def test_a_name_that_is_safe_stays_whatever_comes_before_it(self):
        relatives = ["A_b.jpg", "a?b.jpg", "a_b.jpg", "a*b.jpg"]
        infos = naming.name_images([(f"in/{relative}", relative) for relative in relatives])
        assert [info.name for info in infos] == ["A_b.jpg", "a_b.jpg.2", "a_b.jpg", "a_b.jpg.3"]
        assert [info.file for info in infos] == [f"in/{relative}" for relative in relatives]

    def test_nothing_leads_out_of_the_folder(self):
        for info in naming.name_images([("1", "../x.jpg"), ("2", "a/../../y.jpg"), ("3", "./z.jpg")]):
            assert not {"..", ".", ""} & set(info.name.split("/"))
            assert not {"..", ".", ""} & set(info.stem.split("/"))

    @pytest.mark.parametrize("seed", range(300))
    def test_no_two_images_ever_claim_the_same_file(self, seed):
        """All files that a run could write, per class and per image, are distinct, even without regard to case."""
        rng = random.Random(seed)
        pieces = ["x", "X", "_class", "_class_", "_overlay", ".2", ".jpg", ".png", "a", "class", "_", "é", "e\u0301"]
        chosen = {"".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(40)}
        folders = ["", "s/"]
        image_names = sorted(rng.choice(folders) + name for name in chosen if not name.startswith("."))
        labels = ["".join(rng.choices([*pieces, " ", "A", "x_class_a"], k=rng.randint(1, 5))) for _ in range(20)]
        parts = [""] + [f"_class_{label}" for label in slugs(labels)]
        endings = ["_saliency_map", "_overlay", "_sheet"]
        infos = naming.name_images([(name, name) for name in image_names])
        files = [info.stem + part + end for info, part, end in itertools.product(infos, parts, endings)]
        assert len({naming._fold(file) for file in files}) == len(files)
        assert len({info.name for info in infos}) == len(infos)

    def test_names_of_many_images_take_linear_time(self):
        def seconds(count):
            found = [(f"{i}.jpg", f"n{i // 1000:05d}/image_class_{i}.jpg") for i in range(count)]
            start = time.process_time()
            naming.name_images(found)
            return time.process_time() - start

        assert seconds(40_000) < 40 * max(seconds(4_000), 0.005)
