from __future__ import annotations

import json

import pytest

from otx_xai.errors import LabelError, ModelError
from otx_xai.model.label_names import class_names

NAMES = ("cat", "golden retriever", "sewing machine, sewer")


@pytest.mark.parametrize(
    "content",
    [
        "cat\ngolden retriever\nsewing machine, sewer",
        "cat\n golden retriever\t\nsewing machine, sewer\n\n \n",
        "cat\r\ngolden retriever\r\nsewing machine, sewer\r\n",
        "\ufeffcat\ngolden retriever\nsewing machine, sewer\n",
    ],
)
def test_text_file(tmp_path, content):
    path = tmp_path / "labels.txt"
    path.write_text(content, encoding="utf-8", newline="")
    for labels in (path, str(path)):
        assert class_names(labels, {}, 3) == (NAMES, f"--labels {path}")


def test_json_file(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(NAMES))
    assert class_names(path, {}, 3)[0] == NAMES
    for content, words in (('["a", 1]', "no JSON list of names"), ('{"a": "b"}', "no JSON list"), ("[", "is not JSON")):
        path.write_text(content)
        with pytest.raises(LabelError, match=words):
            class_names(path, {}, 3)


def test_names_given_directly():
    assert class_names("cat, dog,cat", {}, 3)[0] == ("cat", "dog", "cat")
    assert class_names(NAMES, {}, 3) == (NAMES, "--labels")
    assert class_names("cat", {}, 1)[0] == ("cat",)
    many = ",".join(f"class number {index}" for index in range(5000))
    assert len(class_names(many, {}, 5000)[0]) == 5000


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(LabelError, match=r"missing\.txt cannot be read: No such file"):
        class_names(str(tmp_path / "missing.txt"), {}, 3)
    with pytest.raises(LabelError, match="cannot be read"):
        class_names(tmp_path, {}, 3)
    (tmp_path / "latin.txt").write_bytes("Dänemark".encode("latin-1"))
    with pytest.raises(LabelError, match=r"latin\.txt is not UTF-8"):
        class_names(tmp_path / "latin.txt", {}, 3)


def test_empty_file_and_empty_name(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\n\n")
    with pytest.raises(LabelError, match="has 0 names, but the model has 3 classes"):
        class_names(path, {}, 3)
    path.write_text("a\n\nc\n")
    with pytest.raises(LabelError, match="empty name at position 2"):
        class_names(path, {}, 3)


@pytest.mark.parametrize(
    ("count", "hint"), [(2, "background class that the list lacks"), (4, "names? a background class"), (7, "one name")]
)
def test_wrong_number(count, hint):
    names = [f"n{index}" for index in range(count)]
    with pytest.raises(LabelError, match=f"has {count} names \\('n0' to 'n{count - 1}'\\), .* 3 classes.*{hint}"):
        class_names(names, {}, 3)
    with pytest.raises(LabelError, match=f"model_info/labels has {count} names.*Pass --labels"):
        class_names(None, {"labels": " ".join(names)}, 3)


def test_model_info_prefers_label_info():
    info = {"labels": "a_b c d", "label_info": json.dumps({"label_names": ["a b", "c", "d_e"], "label_ids": []})}
    assert class_names(None, info, 3) == (("a b", "c", "d_e"), "model_info/label_info")
    del info["label_info"]
    assert class_names(None, info, 3) == (("a b", "c", "d"), "model_info/labels")
    assert class_names("x,y,z", info, 3)[0] == ("x", "y", "z")


@pytest.mark.parametrize("text", ["{", "[]", '{"label_names": "a b"}', "{}"])
def test_malformed_label_info(text):
    with pytest.raises(ModelError, match=r"model_info/label_info .*expected JSON.*"):
        class_names(None, {"label_info": text}, 3)


def test_hierarchical_labels_are_in_the_order_of_logits():
    config = {"cls_heads_info": {"all_groups": [["d", "b"], ["a", "e"], ["c"]], "num_multiclass_heads": 2}}
    label_info = json.dumps({"label_names": ["a", "b", "c", "d", "e"]})
    info = {"hierarchical": "True", "hierarchical_config": json.dumps(config), "label_info": label_info}
    assert class_names(None, info, 5) == (("d", "b", "a", "e", "c"), "model_info/hierarchical_config")
    info["hierarchical"] = "False"
    assert class_names(None, info, 5)[1] == "model_info/label_info"
    info |= {"hierarchical": "True", "hierarchical_config": "{}"}
    with pytest.raises(ModelError, match="hierarchical_config"):
        class_names(None, info, 5)


def test_no_labels_anywhere():
    assert class_names(None, {}, 3) == (("0", "1", "2"), "none given: classes are called by their index")
