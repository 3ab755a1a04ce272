"""Label files as people have them: what says which index a name has decides, and nothing is mixed up in silence."""

from __future__ import annotations

import json
import os
import random

import pytest
import yaml

from otx_xai.data.label_files import check_names, given_names, user_names
from otx_xai.errors import LabelError

NAMES = ("cat", "golden retriever", "cow", "sea hen")
INDEXED = [*enumerate(NAMES)]
SHUFFLED = random.Random(0).sample(INDEXED, 4)


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, name="labels.txt"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return given_names(str(tmp_path / name))[0]

    return write_and_read


class TestTables:
    @pytest.mark.parametrize("rows", [INDEXED, SHUFFLED], ids=["in order", "shuffled"])
    @pytest.mark.parametrize("separator", [",", ", ", ";", "; ", "\t", " ", "   ", ": "])
    @pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
    def test_index_and_name(self, read, rows, separator, end):
        assert read("\n".join(f"{index}{separator}{name}" for index, name in rows) + end) == NAMES

    @pytest.mark.parametrize("rows", [INDEXED, SHUFFLED], ids=["in order", "shuffled"])
    @pytest.mark.parametrize("separator", [",", ";", "\t", " "])
    def test_name_and_index(self, read, rows, separator):
        assert read("\n".join(f"{name}{separator}{index}" for index, name in rows)) == NAMES

    @pytest.mark.parametrize(
        "form", ["{}:{}", "{}. {}", "{}) {}", "{} - {}", "{} -> {}", "{}={}", "{}.0,{}", "{}.0\t{}"]
    )
    def test_marks_between_index_and_name(self, read, form):
        assert read("\n".join(form.format(index, name) for index, name in SHUFFLED)) == NAMES
        if form[-3] in "=>:":
            assert read("\n".join(form.format(name, index) for index, name in SHUFFLED)) == NAMES

    def test_marks_that_belong_to_names(self, read):
        for names in (("1:1 square", "4:3 wide"), ("3-ring", "4-ring"), ("0-day", "1-day"), ("0=x",), ("a=1", "b=1")):
            assert read("\n".join(names)) == names
        with pytest.raises(LabelError, match=r"indices from 1 to 2, and none with 0.* write a JSON list"):
            read("2. dog\n1. cat\n")

    @pytest.mark.parametrize("title", ["id,name", "class_id,class_name", "Index,Label", ",name", "idx,x", "a,b"])
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_titles(self, read, title, separator):
        index, name = title.split(",")
        body = "".join(f"{number}{separator}{label}\n" for number, label in SHUFFLED)
        assert read(f"{index}{separator}{name}\n{body}", "labels.csv") == NAMES
        body = "".join(f"{label}{separator}{number}\n" for number, label in SHUFFLED)
        assert read(f"{name}{separator}{index}\n{body}", "labels.csv") == NAMES

    def test_titles_among_several_columns(self, read):
        body = "".join(f"animal,{name},7,{index}\n" for index, name in SHUFFLED)
        assert read(f"kind,name,count,class id\n{body}") == NAMES
        body = "".join(f"{index},{name},animal\n" for index, name in SHUFFLED)
        assert read(f"id,name,supercategory\n{body}") == NAMES
        with pytest.raises(LabelError, match="has the columns id, english, german; expected one titled index"):
            read(f"id,english,german\n{body}")

    def test_names_that_hold_separators(self, read):
        expected = ("tench, Tinca tinca", "goldfish")
        assert read('1,goldfish\n0,"tench, Tinca tinca"\n') == expected
        assert read("1,goldfish\n0,tench, Tinca tinca\n") == expected
        assert read("goldfish,1\ntench, Tinca tinca,0\n") == expected
        assert read("1\tgoldfish\n0\ttench, Tinca tinca\n") == expected

    def test_names_that_are_numbers(self, read):
        assert read("7\n5\n") == ("7", "5")
        assert read("0,7\n1,5\n") == read("7,0\n5,1\n") == read("index,name\n0,7\n1,5\n") == ("7", "5")
        assert read("0,0\n1,1\n") == ("0", "1")
        assert read("name,index\n1,0\n0,1\n") == ("1", "0")
        with pytest.raises(LabelError, match=r"not known which are the indices. Add a first line: index,name"):
            read("0,1\n1,0\n")
        with pytest.raises(LabelError, match="not known which are the indices"):
            read("1,3\n2,4\n")

    @pytest.mark.parametrize("text", ["Boeing 707\nBoeing 727\n", "class 0\nclass 1\n", "5 a\nb\n", "a 1\nb\n"])
    def test_plain_names_with_numbers_stay_plain(self, read, text):
        assert read(text) == tuple(text.split("\n")[:-1])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("1,cat\n2,dog\n3,cow\n", r"indices from 1 to 3, and none with 0. Expected 0 to 2: count from 0"),
            ("1 cat\n2 dog\n", r"indices from 1 to 2, and none with 0"),
            ("0,cat\n2,dog\n3,cow\n", "and none with 1"),
            ("0,cat\n1,dog\n1,cow\n", r"gives index 1 to 'dog', 'cow'\. Expected each index once"),
            ("0,cat\n1,dog\ncow\n", r"line 3, 'cow', is no index and name"),
            ("0,cat\n\n1,dog\n", r"line 2, '', is no index and name"),
            ("id,name\n0,cat\n1,\n", r"line 3, '1,', is no index and name"),
            ("x\n0,cat\n1,dog\n", r"line 1, 'x', is no index and name"),
        ],
    )
    def test_what_would_mix_names_up_is_refused(self, read, text, words):
        with pytest.raises(LabelError, match=words):
            read(text)

    def test_how_a_file_lists_names_is_told(self, tmp_path):
        path = tmp_path / "labels.csv"
        path.write_text("1,b\n0,a\n")
        assert user_names(path, 2) == (("a", "b"), f"--labels {path} (by index)")


class TestSynsets:
    def test_names_stand_behind_them(self, read):
        assert read("n01440764 tench, Tinca tinca\nn01443537\tgoldfish\n") == ("tench, Tinca tinca", "goldfish")

    def test_beside_an_index(self, read):
        expected = ("tench, Tinca tinca", "goldfish")
        for text in (
            "0,n01440764,tench, Tinca tinca\n1,n01443537,goldfish\n",
            "1: n01443537 goldfish\n0: n01440764 tench, Tinca tinca\n",
            "n01443537 1 goldfish\nn01440764 0 tench, Tinca tinca\n",
        ):
            assert read(text) == expected
        with pytest.raises(LabelError, match="indices from 1 to 2, and none with 0"):
            read("n02119789 1 kit_fox\nn02100735 2 English_setter\n")

    def test_lines_stay_whole_unless_every_line_begins_with_one(self, read):
        for text in ("n01440764 tench\ngoldfish\n", "n01440764\nn01443537\n", "n014 a\nn015 b\n"):
            assert read(text) == tuple(text.split("\n")[:-1])


class TestStructures:
    @pytest.mark.parametrize(
        "value",
        [
            list(NAMES),
            {str(index): name for index, name in SHUFFLED},
            {name: index for index, name in SHUFFLED},
            {"id2label": {str(index): name for index, name in SHUFFLED}, "architectures": ["x"]},
            {"class_to_idx": {name: index for index, name in SHUFFLED}},
            {"idx_to_class": {str(index): name for index, name in SHUFFLED}},
            {"label2id": {name: index for index, name in SHUFFLED}},
            {"id2label": dict(map(list, SHUFFLED)), "label2id": {name: index for index, name in SHUFFLED}},
            {"names": {str(index): name for index, name in SHUFFLED}, "nc": 4, "train": "images"},
            {"names": list(NAMES)},
            {"labels": list(NAMES)},
            {"categories": [{"id": 10 * index + 1, "name": name} for index, name in SHUFFLED], "images": []},
            [{"id": index, "name": name} for index, name in SHUFFLED],
            {str(index): [f"n0144076{index}", name] for index, name in SHUFFLED},
        ],
    )
    def test_json_and_yaml(self, read, value):
        assert read(json.dumps(value), "labels.json") == NAMES
        assert read(yaml.safe_dump(value), "labels.yaml") == NAMES
        assert read(json.dumps(value), "labels.txt") == NAMES

    def test_a_mapping_as_python_writes_it(self, read):
        assert read("{0: 'tench, Tinca tinca',\n 1: \"jack-o'-lantern\"}\n") == (
            "tench, Tinca tinca",
            "jack-o'-lantern",
        )

    def test_names_that_yaml_would_turn_into_something_else(self, read):
        assert read("names: [no, null, 1e3, 007, on]\n", "data.yaml") == ("no", "null", "1e3", "007", "on")
        assert read("0: yes\n1: ~\n", "data.yml") == ("yes", "~")

    def test_how_categories_become_classes_is_told(self, tmp_path):
        path = tmp_path / "coco.json"
        path.write_text(json.dumps({"categories": [{"id": 3, "name": "b"}, {"id": 1, "name": "a"}]}))
        words = f"--labels {path} (categories, classes in the order of ids, which are 1 to 3, with gaps)"
        assert given_names(path) == (("a", "b"), words)
        path.write_text(json.dumps([{"id": 2, "name": "b"}, {"id": 1, "name": "a"}]))
        assert given_names(path)[1].endswith("which are 1 to 2)")

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"1": "cat", "2": "dog"}, "indices from 1 to 2, and none with 0"),
            ({"id2label": {"0": "cat", "2": "dog"}}, "and none with 1"),
            ({"cat": 0, "dog": 0}, "gives index 0 to 'cat', 'dog'"),
            ({"0": "1", "1": "0"}, "maps numbers to numbers"),
            (
                {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}},
                "gives 'a' index 0 in id2label and 1 in",
            ),
            ({"0": {"name": "cat"}}, "is no JSON list of names, nor a mapping"),
            ({"path": "images", "nc": "x"}, r"nor a mapping of index to name \(keys: path, nc\)"),
            ([{"id": 1}, {"id": 2, "name": "a"}], "entries without an id or a name"),
            ([{"id": 1, "name": "b"}, {"id": 1, "name": "a"}], "entries of the same id"),
            (["a", ["b"]], "is no JSON list of names"),
            ("cat", "is no JSON list of names"),
        ],
    )
    def test_what_would_mix_names_up_is_refused(self, read, value, words):
        for name in ("labels.json", "labels.yaml"):
            with pytest.raises(LabelError, match=words):
                read(json.dumps(value), name)

    @pytest.mark.parametrize(("text", "name"), [('{"0": "a", "0": "b"}', "a.json"), ("0: a\n0: b\n", "a.yaml")])
    def test_keys_that_stand_twice(self, read, text, name):
        with pytest.raises(LabelError, match="has the key '0' twice"):
            read(text, name)

    def test_no_yaml(self, read):
        with pytest.raises(LabelError, match=r"data\.yaml is not YAML \(while parsing"):
            read("names: [a, b\n", "data.yaml")

    @pytest.mark.parametrize("name", ["a.json", "a.yaml"])
    def test_nested_hundreds_deep(self, read, name):
        with pytest.raises(LabelError, match=r"nests lists or mappings hundreds deep"):
            read(f"{'[' * 5000}{']' * 5000}", name)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "labels")
    with pytest.raises(LabelError, match="is a named pipe; expected a regular file"):
        given_names(str(tmp_path / "labels"))


def test_a_title_over_plain_names_is_pointed_out():
    with pytest.raises(LabelError, match="the first line, 'Name', seems to be a title"):
        check_names(("Name", "a", "b"), "--labels x.csv", 2)
