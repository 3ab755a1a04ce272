from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_sets import write_multilabel_csv, write_voc

from otx_xai.data.annotations import (
    RunLengths,
    fill_outlines,
    fill_run_lengths,
    move_boxes,
    move_segment,
    parse_run_lengths,
)
from otx_xai.data.formats import Recognised, recognise
from otx_xai.data.formats.samples import split_of_file
from otx_xai.data.formats.voc import parse_xml
from otx_xai.data.shape_sets import run_lengths, write_coco, write_image_folder
from otx_xai.data.shapes import SHAPE_LABELS, draw_scene
from otx_xai.errors import ConfigError, DataError
from otx_xai.postprocess import fit, place
from otx_xai.records import InputGeometry, ResizeType, Task


def picture(path: Path, size: tuple[int, int] = (8, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    return path


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


def names(found: Recognised) -> dict[str, list[str]]:
    return {split: [sample.image.name for sample in samples] for split, samples in found.subsets.items()}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestImageFolder:
    def test_class_folders(self, tmp_path: Path) -> None:
        root = pictures(tmp_path, "dog/a.png", "cat/b.png", "cat/deep/c.png")
        found = recognise(root, val_fraction=0)
        assert (found.format, found.task, found.labels) == ("imagefolder", Task.MULTI_CLASS_CLS, ("cat", "dog"))
        assert names(found) == {"train": ["cat/b.png", "cat/deep/c.png", "dog/a.png"]}
        assert [sample.classes for sample in found.subsets["train"]] == [(0,), (0,), (1,)]
        assert found.summary() == "ImageFolder, multi_class_cls, 2 labels (cat, dog), train 3 images"

    def test_splits_above(self, tmp_path: Path) -> None:
        root = pictures(tmp_path, "train/a/1.png", "train/b/1.png", "valid/b/2.png", "test/3.png")
        found = recognise(root)
        assert found.labels == ("a", "b")
        assert names(found) == {
            "train": ["train/a/1.png", "train/b/1.png"],
            "val": ["valid/b/2.png"],
            "predict": ["test/3.png"],
        }
        assert found.subsets["val"][0].classes == (1,)

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        assert recognise(pictures(tmp_path, "bus/1.png", "train/1.png")).labels == ("bus", "train")

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            (["a/1.png", "b/1.png", "c.png"], "'c.png' lies outside of class folders"),
            (["a/1.png"], "one folder only"),
            (["train/1.png", "val/2.png"], "holds images without class folders"),
            (["train/a/1.png", "misc/2.png"], "'misc' lies beside 'train'"),
            (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "stand for one split"),
            (["train/a/1.png", "train/1.png"], "beside them, images without a class"),
        ],
    )
    def test_other_layouts_are_images_without_annotations(self, tmp_path: Path, files: list[str], reason: str) -> None:
        found = recognise(pictures(tmp_path, *files))
        assert (found.format, found.task, found.labels) == ("folder", None, ())
        assert names(found) == {"predict": sorted(files)}
        assert reason in found.summary()

    def test_one_class_if_the_task_says_so(self, tmp_path: Path) -> None:
        assert recognise(pictures(tmp_path, "a/1.png"), "classification").labels == ("a",)

    def test_validation_images_are_the_same_share_of_every_class(self, tmp_path: Path) -> None:
        root = pictures(tmp_path, *(f"{label}/{n}.png" for label, n in [("a", i) for i in range(10)]))
        pictures(root, *(f"b/{n}.png" for n in range(20)))
        first, again, other = (recognise(root, val_fraction=0.2, seed=seed) for seed in (0, 0, 1))
        assert [sample.classes[0] for sample in first.subsets["val"]] == [0] * 2 + [1] * 4
        assert names(first) == names(again) != names(other)
        assert set(names(first)["val"]).isdisjoint(names(first)["train"])

    def test_few_images_still_leave_something_to_train(self, tmp_path: Path) -> None:
        found = recognise(pictures(tmp_path, "a/1.png", "b/1.png"))
        assert {split: len(found.subsets[split]) for split in found.subsets} == {"train": 1, "val": 1}

    def test_fraction_is_checked(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="val_fraction is 1"):
            recognise(tmp_path, val_fraction=1)


class TestImagesAlone:
    def test_folder_file_list_and_pattern(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.png", "b.png")
        write(tmp_path / "list.txt", "b.png\na.png\n")
        cases = {"": "folder", "a.png": "file", "list.txt": "list", "*.png": "pattern"}
        for name, kind in cases.items():
            found = recognise(tmp_path / name, "detection")
            assert (found.format, found.task, found.labels) == (kind, Task.DETECTION, ())
            assert found.images == tuple(sample.image for sample in found.subsets["predict"])
        assert [info.name for info in recognise(tmp_path / "list.txt").images] == ["b.png", "a.png"]

    def test_other_files_beside_are_no_annotations(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.png")
        write(tmp_path / "run.json", '{"images": 3}')
        write(tmp_path / "broken.json", "{")
        write(tmp_path / "metrics.csv", "epoch,loss\n1,0.5\n")
        found = recognise(tmp_path)
        assert found.format == "folder"
        assert "no COCO file: 'run.json'" in found.summary()
        assert "no multi-label CSV: 'metrics.csv'" in found.summary()

    def test_a_summary_stays_short(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.png")
        for number in range(30):
            write(tmp_path / f"{number:02d}.json", "{}")
        summary = recognise(tmp_path).summary()
        assert summary.endswith("; and 27 more")
        assert len(summary.splitlines()) == 1

    def test_annotations_that_do_not_serve_the_task_are_named(self, tmp_path: Path) -> None:
        write_coco(tmp_path, 2, size=32)
        found = recognise(tmp_path, "multi_class_cls")
        assert (found.format, found.labels) == ("folder", ())
        assert "COCO is there, which does not serve task multi_class_cls" in found.summary()

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="does not exist"):
            recognise(tmp_path / "missing")
        with pytest.raises(DataError, match="holds no image"):
            recognise(tmp_path)


BY_HAND: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 8, "width": 10},
        {"id": 9, "file_name": "b.png", "height": 8, "width": 10},
        {"id": 11, "file_name": "gone.png", "height": 8, "width": 10},
    ],
    "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]]},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [8.5, 0, 5, 2], "segmentation": [[8.5, 0, 10, 0, 10, 2]]},
        {"id": 3, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1, "segmentation": {}},
        {"id": 4, "image_id": 7, "category_id": 3, "bbox": [2, 2, 0, 4]},
        {"id": 5, "image_id": 999, "category_id": 3, "bbox": [2, 2, 1, 4]},
    ],
}


def coco(root: Path, name: str = "annotations/instances_default.json", **changes: Any) -> Path:
    pictures(root, "images/a.png", "images/b.png")
    write(root / name, json.dumps(BY_HAND | changes))
    return root


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [BY_HAND["annotations"][0] | changes]


class TestCoco:
    def test_file_written_by_hand(self, tmp_path: Path) -> None:
        found = recognise(coco(tmp_path), val_fraction=0)
        assert (found.format, found.task, found.labels) == ("coco", Task.DETECTION, ("car", "zebra"))
        assert names(found) == {"train": ["images/a.png", "images/b.png"]}
        first, background = found.subsets["train"]
        np.testing.assert_array_equal(first.boxes, np.float32([[1, 2, 4, 6], [8.5, 0, 10, 2]]))
        assert (first.box_labels, first.classes, first.segments, first.size) == ((1, 0), (0, 1), None, (8, 10))
        assert (background.boxes.shape, background.box_labels) == ((0, 4), ())
        assert found.summary() == (
            "COCO, detection, 2 labels (car, zebra), train 2 images; left out: 1 annotations of images that are not "
            "listed; left out: 1 boxes without area; left out: 1 crowds; left out: 1 images whose file is missing"
        )

    def test_the_file_itself_can_be_given(self, tmp_path: Path) -> None:
        file = coco(tmp_path) / "annotations" / "instances_default.json"
        assert [info.name for info in recognise(file).images] == ["images/a.png", "images/b.png"]

    @pytest.mark.parametrize(
        ("json_name", "image"),
        [
            ("annotations/instances_train2017.json", "train2017/a.png"),
            ("annotations/instances_train2017.json", "images/train2017/a.png"),
            ("annotations/instances_train.json", "images/a.png"),
            ("train/_annotations.coco.json", "train/a.png"),
            ("train.json", "a.png"),
        ],
    )
    def test_where_files_lie(self, tmp_path: Path, json_name: str, image: str) -> None:
        picture(tmp_path / image)
        write(tmp_path / json_name, json.dumps(BY_HAND))
        found = recognise(tmp_path, val_fraction=0)
        assert names(found) == {"train": [image]}

    def test_splits_share_labels_by_name(self, tmp_path: Path) -> None:
        coco(tmp_path, "annotations/instances_train.json")
        swapped = [{"id": 1, "name": "zebra"}]
        coco(tmp_path, "annotations/instances_val.json", categories=swapped, annotations=annotation(category_id=1))
        found = recognise(tmp_path)
        assert found.subsets["val"][0].box_labels == (1,)
        assert len(found.images) == 2
        coco(tmp_path, "annotations/instances_test.json", categories=[{"id": 1, "name": "cow"}], annotations=[])
        with pytest.raises(DataError, match="category 'cow' that the training annotations lack: car, zebra"):
            recognise(tmp_path)

    def test_captions_and_key_points_beside_are_left_alone(self, tmp_path: Path) -> None:
        coco(tmp_path)
        coco(tmp_path, "annotations/person_keypoints_default.json")
        assert recognise(tmp_path).format == "coco"

    def test_masks_only_if_the_task_says_so(self, tmp_path: Path) -> None:
        found = recognise(coco(tmp_path), "instance_segmentation", val_fraction=0)
        segments = found.subsets["train"][0].segments
        assert segments is not None
        filled = fill_outlines(segments[0], (8, 10))  # type: ignore[arg-type]
        expected = np.zeros((8, 10), np.uint8)
        expected[2:6, 1:4] = 1
        np.testing.assert_array_equal(filled, expected)

    def test_boxes_can_be_read_as_labels_of_the_image(self, tmp_path: Path) -> None:
        found = recognise(coco(tmp_path), "multi_label_cls", val_fraction=0)
        assert (found.task, found.subsets["train"][0].classes) == (Task.MULTI_LABEL_CLS, (0, 1))

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"annotations": annotation(category_id=5)}, "category 5, which the file does not list: its ids are 90, 3"),
            ({"annotations": annotation(category_id=[])}, "category \\[\\], which the file does not list"),
            ({"annotations": annotation(bbox=[1, 2, 3])}, "bbox of annotation 1 .* is \\[1, 2, 3\\]"),
            ({"annotations": annotation(bbox=[1, 2, 3, float("nan")])}, "Expected four numbers"),
            ({"annotations": annotation(bbox=[1, 2, 3, "4"])}, "Expected four numbers"),
            ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "names 'a' more than once"),
            ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "category with id 1 and name 'b'"),
            ({"categories": []}, "names no class"),
            ({"images": [{"id": 1, "file_name": "gone.png"}]}, "None of the 1 images .*'gone.png' is the first"),
            ({"images": [{"id": 1, "file_name": 5}]}, "with file_name 5"),
            ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "that no other image has"),
            ({"images": {}}, "they lack a list of images"),
        ],
    )
    def test_malformed_files(self, tmp_path: Path, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(DataError, match=text):
            recognise(coco(tmp_path, **changes))

    @pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"images": 1' + "0" * 5000 + "}", "\xff"])
    def test_broken_json(self, tmp_path: Path, content: str) -> None:
        (coco(tmp_path) / "annotations" / "instances_default.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(DataError, match="are no JSON"):
            recognise(tmp_path)

    @pytest.mark.parametrize(
        ("segmentation", "text"),
        [
            ([], "has no mask"),
            ([[1, 2, 3, 4]], "has no mask"),
            ([[1, 2, 3, 4, 5]], "has no mask"),
            ([["a"] * 6], "has no mask"),
            (None, "has no mask"),
            ({"size": [8, 10], "counts": [3, 4]}, "is damaged"),
            ({"size": [8, 10], "counts": [-1, 81]}, "is damaged"),
            ({"size": [8, 10], "counts": "\x00"}, "is damaged"),
            ({"size": [8, 10], "counts": "o" * 400}, "is damaged"),
            ({"size": [4, 20], "counts": [80]}, "is 4x20 pixels .*, its image 8x10"),
            ({"size": [10**9, 10**9], "counts": [10**18]}, "is damaged"),
        ],
    )
    def test_malformed_masks(self, tmp_path: Path, segmentation: Any, text: str) -> None:
        root = coco(tmp_path, annotations=annotation(segmentation=segmentation))
        assert recognise(root).task is Task.DETECTION
        with pytest.raises(DataError, match=text):
            recognise(root, "instance_segmentation")

    @pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "images/../../x.png", "..\\..\\x.png"])
    def test_paths_must_not_leave_the_root(self, tmp_path: Path, name: str) -> None:
        picture(tmp_path / "secret.png")
        root = coco(tmp_path / "data" / "set", images=[{"id": 7, "file_name": name}])
        with pytest.raises(DataError, match="leads out of the data root"):
            recognise(root)

    def test_absolute_paths_inside_the_root_are_fine(self, tmp_path: Path) -> None:
        root = coco(tmp_path, images=[{"id": 7, "file_name": str(tmp_path / "images" / "a.png")}])
        assert [info.name for info in recognise(root).images] == ["images/a.png"]

    def test_paths_may_be_relative_to_the_annotation_file(self, tmp_path: Path) -> None:
        root = coco(tmp_path, images=[{"id": 7, "file_name": "../images/a.png"}])
        assert [info.name for info in recognise(root).images] == ["images/a.png"]

    def test_two_files_without_a_split_are_ambiguous(self, tmp_path: Path) -> None:
        coco(tmp_path, "one.json")
        coco(tmp_path, "two.json")
        with pytest.raises(DataError, match=r"Several COCO files .*one\.json.*two\.json"):
            recognise(tmp_path)

    def test_two_formats_are_ambiguous_unless_the_task_decides(self, tmp_path: Path) -> None:
        coco(tmp_path)
        write(tmp_path / "labels.csv", "file,labels\nimages/a.png,x\n")
        with pytest.raises(DataError, match="several formats: COCO, multi-label CSV"):
            recognise(tmp_path)
        assert recognise(tmp_path, "detection").format == "coco"
        assert recognise(tmp_path / "labels.csv").format == "multilabel_csv"


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("instances_train2017", "train"),
        ("val", "val"),
        ("my-valid-set", "val"),
        ("instances_trainval", None),
        ("train_test", None),
        ("contest", None),
    ],
)
def test_split_of_file(stem: str, split: str | None) -> None:
    assert split_of_file(stem) == split


VOC = """<annotation><filename>{filename}</filename><size><width>10</width><height>8</height></size>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>4</xmax><ymax>8.0</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
<object><name>ant</name><bndbox><xmin>6</xmin><ymin>6</ymin><xmax>99</xmax><ymax>6</ymax></bndbox></object>
<object><name>ant</name><bndbox><xmin>9</xmin><ymin>6</ymin><xmax>2</xmax><ymax>6</ymax></bndbox></object>
</annotation>"""

LAUGHS = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>"""
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


def voc(root: Path, text: str = VOC, filename: str = "a.png") -> Path:
    pictures(root, "JPEGImages/a.png")
    write(root / "Annotations" / "a.xml", text.replace("{filename}", filename))
    return root


class TestVoc:
    def test_file_written_by_hand(self, tmp_path: Path) -> None:
        found = recognise(voc(tmp_path), val_fraction=0)
        assert (found.format, found.task, found.labels) == ("voc", Task.DETECTION, ("ant", "cat"))
        sample = found.subsets["train"][0]
        np.testing.assert_array_equal(sample.boxes, np.float32([[0, 2, 4, 8], [5, 5, 10, 6]]))
        assert (sample.box_labels, sample.classes, sample.size) == ((1, 0), (0, 1), (8, 10))
        assert "left out: 1 boxes without area" in found.summary()

    def test_kit_above_and_lists(self, tmp_path: Path) -> None:
        root = tmp_path / "VOCdevkit" / "VOC2007"
        for stem in ("a", "b", "c"):
            picture(root / "JPEGImages" / f"{stem}.png")
            write(root / "Annotations" / f"{stem}.xml", VOC.replace("{filename}", f"{stem}.png"))
        write(root / "ImageSets/Main/train.txt", "a\nb  1\n")
        write(root / "ImageSets/Main/val.txt", "c\nmissing\n")
        write(root / "ImageSets/Main/cat_train.txt", "a -1\n")
        found = recognise(tmp_path)
        assert {split: [Path(name).stem for name in part] for split, part in names(found).items()} == {
            "train": ["a", "b"],
            "val": ["c"],
        }
        assert found.images[0].name == "VOCdevkit/VOC2007/JPEGImages/a.png"
        voc(tmp_path / "VOCdevkit" / "VOC2012")
        with pytest.raises(DataError, match="several Pascal VOC data sets"):
            recognise(tmp_path)

    @pytest.mark.parametrize("text", [LAUGHS, OUTSIDE, "<!DOCTYPE annotation><annotation/>"])
    def test_entities_are_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(DataError, match="declares a DOCTYPE or entities"):
            recognise(voc(tmp_path, text))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("<annotation>", "is no XML"),
            ("", "is no XML"),
            ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "is no XML"),
            (VOC.replace(">8.0<", ">nan<"), "Expected four finite numbers"),
            (VOC.replace(">8.0<", ">low<"), "has the box 1, 3, 4, low"),
            (VOC.replace("<xmin>1</xmin><ymin>3", "<ymin>3"), "<bndbox> without <xmin>"),
            (VOC.replace("<name>cat</name>", ""), "<object> without <name>"),
            (VOC.replace("bndbox", "box"), "without <bndbox>"),
        ],
    )
    def test_malformed_files(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            recognise(voc(tmp_path, text))

    def test_paths_must_not_leave_the_root(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="leads out of the data root"):
            recognise(voc(tmp_path / "data", filename="../../secret.png"))

    def test_xml_is_read_as_elements(self, tmp_path: Path) -> None:
        tree = parse_xml(str(write(tmp_path / "a.xml", "<a><b>1 &lt; 2</b><b/></a>")))
        assert (tree.tag, [child.text for child in tree]) == ("a", ["1 < 2", None])


class TestMultilabelCsv:
    def test_columns_and_words_say_the_same(self, tmp_path: Path) -> None:
        pictures(tmp_path, "images/a.png", "b.png")
        texts = [
            "file,cat,dog\na.png,1,0\nb.png,1,1\ngone.png,0,0\n",
            "cat,image,dog\n1,a.png,0\n1,b.png,1\n",
            "path,labels\na.png,cat\nb.png,dog;cat\n",
            "path,labels\na.png,cat\nb.png,dog|cat\n",
            '\ufeffpath,labels\r\n"a.png",cat\r\nb.png,dog cat\r\n',
        ]
        for text in texts:
            file = tmp_path / "labels.csv"
            file.write_bytes(text.encode())
            for root in (tmp_path, file):
                found = recognise(root, val_fraction=0)
                assert (found.format, found.task, found.labels) == (
                    "multilabel_csv",
                    Task.MULTI_LABEL_CLS,
                    ("cat", "dog"),
                )
                assert [sample.classes for sample in found.subsets["train"]] == [(0,), (0, 1)]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has 0 rows"),
            ("a,b\n1,2\n", "no column of files"),
            ("file,cat\na.png,2\n", "Row 2 .* holds '2' for 'cat'"),
            ("file,cat\na.png\n", "Row 2 .* has 1 cells"),
            ("file,cat,cat\na.png,1,1\n", "names 'cat' more than once"),
            ("file,labels\na.png,\n", "names no class"),
            ("file,cat\ngone.png,1\n", "None of the 1 images"),
            ("file,cat\n../../x.png,1\n", "leads out of the data root"),
            ("file,cat\n/etc/passwd,1\n", "leads out of the data root"),
        ],
    )
    def test_malformed_tables(self, tmp_path: Path, text: str, message: str) -> None:
        pictures(tmp_path, "a.png")
        with pytest.raises(DataError, match=message):
            recognise(write(tmp_path / "labels.csv", text))

    def test_wrong_task(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.png")
        with pytest.raises(DataError, match="serves task multi_label_cls, not detection"):
            recognise(write(tmp_path / "labels.csv", "file,cat\na.png,1\n"), "detection")

    def test_splits(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.png", "b.png")
        write(tmp_path / "train.csv", "file,labels\na.png,cat;dog\n")
        write(tmp_path / "val.csv", "file,labels\nb.png,dog\n")
        assert recognise(tmp_path).subsets["val"][0].classes == (1,)
        write(tmp_path / "more.csv", "file,labels\nb.png,dog\n")
        with pytest.raises(DataError, match="Several tables"):
            recognise(tmp_path)


class TestMasks:
    def test_outlines_against_the_distance_of_every_centre(self) -> None:
        rng = np.random.default_rng(0)
        for target in range(len(SHAPE_LABELS)):
            outline = draw_scene(rng, (40, 56), [target], radius=(0.2, 0.45)).outlines[0]
            distances = np.array(
                [[cv2.pointPolygonTest(outline, (x + 0.5, y + 0.5), True) for x in range(56)] for y in range(40)]
            )
            clear = np.abs(distances) > 1e-3
            filled = fill_outlines([outline], (40, 56))
            np.testing.assert_array_equal(filled[clear], distances[clear] > 0)

    def test_outlines_beyond_the_picture_are_cut(self) -> None:
        filled = fill_outlines([np.float32([[-5, -5], [3, -5], [3, 99], [-5, 99]])], (4, 6))
        np.testing.assert_array_equal(filled, [[1, 1, 1, 0, 0, 0]] * 4)

    def test_several_outlines_are_joined(self) -> None:
        square = np.float32([[0, 0], [2, 0], [2, 2], [0, 2]])
        np.testing.assert_array_equal(fill_outlines([square, square + 1], (3, 3)), [[1, 1, 0], [1, 1, 1], [0, 1, 1]])

    def test_run_lengths_and_outline_give_the_same_mask(self) -> None:
        outline = np.float32([[2, 1], [7, 1], [7, 5], [2, 5]])
        mask = fill_outlines([outline], (6, 9))
        counts = run_lengths(mask.astype(bool))
        assert sum(counts) == 54
        np.testing.assert_array_equal(fill_run_lengths(parse_run_lengths([6, 9], counts, "")), mask)
        for kind in ResizeType:
            placement = place((6, 9), InputGeometry((24, 36), kind))
            runs = RunLengths((6, 9), np.array(counts))
            differing = move_segment(runs, placement) != move_segment((outline,), placement)
            assert differing.sum() <= 4  # resizing rounds the four corners off

    def test_compressed_run_lengths(self) -> None:
        """Against a literal encoder of COCO's text form."""
        for counts in ([54], [0, 54], [10, 1, 12, 3, 5, 20, 3], [100_000, 7, 3, 90_000, 1, 5, 100_000]):
            parsed = parse_run_lengths([1, sum(counts)], compress(counts), "")
            assert parsed.counts.tolist() == counts

    @pytest.mark.parametrize("kind", list(ResizeType))
    def test_boxes_and_masks_lie_where_the_picture_does(self, kind: ResizeType) -> None:
        """Draw a white rectangle, fit the picture, and find it again."""
        for size in ((60, 100), (100, 60), (77, 80)):
            box = np.float32([[size[1] * 0.3, size[0] * 0.35, size[1] * 0.6, size[0] * 0.7]]).round()
            x1, y1, x2, y2 = box[0].astype(int)
            image = np.zeros((*size, 3), np.uint8)
            image[y1:y2, x1:x2] = 255
            geometry = InputGeometry((64, 96), kind, 114)
            fitted, placement = fit(image, geometry), place(size, geometry)
            rows, columns = (np.flatnonzero((fitted[..., 0] > 127).any(axis=axis)) for axis in (1, 0))
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            moved, kept = move_boxes(box, placement)
            assert kept.all()
            np.testing.assert_allclose(moved[0], found, atol=1.0)
            outline = box[0][[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
            runs = parse_run_lengths(size, run_lengths(image[..., 0] > 0), "")
            for mask in (move_segment((outline,), placement), move_segment(runs, placement)):
                differing = mask != (fitted[..., 0] > 127)
                assert differing.sum() <= 0.5 * (found[2] - found[0] + found[3] - found[1] + 4)

    def test_boxes_equal_those_drawn_at_that_size(self) -> None:
        placement = place((40, 50), InputGeometry((80, 150)))
        moved, _ = move_boxes(np.float32([[1, 2, 30, 40]]), placement)
        np.testing.assert_allclose(moved, [[3, 4, 90, 80]], rtol=1e-6)

    def test_what_is_cropped_off_is_gone(self) -> None:
        placement = place((100, 200), InputGeometry((50, 50), ResizeType.CROP))  # sees columns 50 to 150
        boxes, kept = move_boxes(np.float32([[0, 0, 40, 100], [40, 10, 60, 30], [60, 0, 300, 90]]), placement)
        assert kept.tolist() == [False, True, True]
        np.testing.assert_allclose(boxes[1:], [[0, 5, 5, 15], [5, 0, 50, 45]])


def compress(counts: list[int]) -> str:
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


class TestWrittenSets:
    def test_coco(self, tmp_path: Path) -> None:
        for masks in ("polygon", "rle"):
            files = write_coco(tmp_path / masks, {"train": 3, "val": 2}, masks=masks, size=64, labels=SHAPE_LABELS[:3])
            found = recognise(tmp_path / masks, "instance_segmentation")
            assert found.labels == SHAPE_LABELS[:3]
            assert {split: len(part) for split, part in found.subsets.items()} == {"train": 3, "val": 2}
            by_path = {file.path: file.scene for file in files}
            for sample in (*found.subsets["train"], *found.subsets["val"]):
                scene = by_path[sample.image.path]
                np.testing.assert_array_equal(sample.boxes, scene.boxes)
                assert sample.box_labels == scene.targets
                assert sample.segments is not None
                placement = place(scene.image.shape[:2], InputGeometry(scene.image.shape[:2]))
                for segment, mask in zip(sample.segments, scene.masks, strict=True):
                    assert (move_segment(segment, placement) != mask).mean() <= (0.01 if masks == "polygon" else 0)

    def test_voc(self, tmp_path: Path) -> None:
        files = write_voc(tmp_path, {"train": 4, "test": 2}, size=48, labels=("circle", "square"))
        found = recognise(tmp_path, val_fraction=0)
        scenes = {file.path: file.scene for file in files}
        for sample in (*found.subsets["train"], *found.subsets["test"]):
            np.testing.assert_array_equal(sample.boxes, scenes[sample.image.path].boxes)
            assert sample.box_labels == scenes[sample.image.path].targets

    @pytest.mark.parametrize("columns", [True, False])
    def test_csv(self, tmp_path: Path, columns: bool) -> None:
        files = write_multilabel_csv(tmp_path, 6, size=48, labels=("heart", "star"), columns=columns)
        found = recognise(tmp_path, val_fraction=0)
        assert found.labels == ("heart", "star")
        shown = {file.path: tuple(sorted(set(file.scene.targets))) for file in files}
        assert {sample.image.path: sample.classes for sample in found.subsets["train"]} == shown

    def test_image_folder(self, tmp_path: Path) -> None:
        files = write_image_folder(tmp_path, {"train": 6, "val": 3}, size=32, labels=("cross", "heart", "star"))
        found = recognise(tmp_path)
        classes = {file.path: file.scene.targets for file in files}
        samples = (*found.subsets["train"], *found.subsets["val"])
        assert {sample.image.path: sample.classes for sample in samples} == classes

    def test_same_seed_same_files(self, tmp_path: Path) -> None:
        first, again = (write_coco(tmp_path / name, 2, size=32, seed=5) for name in "ab")
        assert [file.path.read_bytes() for file in first] == [file.path.read_bytes() for file in again]

    def test_wrong_arguments(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="expected one or more of circle"):
            write_voc(tmp_path, 2, labels=("dog",))
        with pytest.raises(ConfigError, match="expected at least 1"):
            write_image_folder(tmp_path, {})
        with pytest.raises(ConfigError, match="expected polygon, rle or none"):
            write_coco(tmp_path, 2, masks="png")

    def test_shapes_of_a_scene_do_not_touch(self) -> None:
        scene = draw_scene(np.random.default_rng(0), (120, 160), [0, 1, 2, 3, 4])
        assert len(scene.masks) == len(scene.targets) == len(scene.boxes) == len(scene.outlines) >= 2
        assert scene.masks.sum(axis=0).max() == 1
