"""What an explanation looks like in a notebook."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser

import cv2
import numpy as np

from otx_xai.explain.explanation import Explanation
from otx_xai.records import Prediction
from otx_xai.report.notebook_view import MOST, pictures_html
from otx_xai.report.pictures import colormap

HOSTILE = '"><script>alert(1)</script>&'


def pictures_in(html: str) -> list[np.ndarray]:
    coded = re.findall(r"base64,([\w+/=]+)", html)
    return [cv2.imdecode(np.frombuffer(b64decode(one), np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for one in coded]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_overlays_with_labels_and_scores() -> None:
    rng = np.random.default_rng(0)
    overlays = {2: rng.integers(0, 256, (200, 300, 3), np.uint8), 0: rng.integers(0, 256, (200, 300, 3), np.uint8)}
    found = [Prediction(2, HOSTILE, 0.93), Prediction(1, "b", 0.4)]
    explanation = Explanation(overlays, ["a", "b", HOSTILE], found, "dog.jpg")
    html = explanation._repr_html_()
    for shown, own in zip(pictures_in(html), overlays.values(), strict=True):
        np.testing.assert_array_equal(shown, own)
    parsed = Tags(html)
    assert "script" not in parsed.tags
    assert parsed.text == ["dog.jpg", f"{HOSTILE} 0.93", "a"]


def test_maps_are_coloured_and_enlarged() -> None:
    for grey in (0, 102, 255):
        (shown,) = pictures_in(pictures_html([np.full((7, 7), grey, np.uint8)], ["x"]))
        assert shown.shape == (160, 160, 3)
        np.testing.assert_array_equal(shown[0, 0], colormap(np.full((1, 1), grey / 255, np.float32))[0, 0])


def test_boxes_and_single_maps_have_names() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    boxes = [Prediction(0, "cat", 0.8, (0.0, 0.0, 9.0, 9.0), 0), Prediction(0, "cat", 0.7, (5.0, 0.0, 9.0, 9.0), 1)]
    html = Explanation({"box_1": picture, "per_image_map": picture}, ["cat"], boxes)._repr_html_()
    assert Tags(html).text == ["cat 0.70", "per_image_map"]


def test_of_many_pictures_some_are_shown() -> None:
    html = pictures_html([np.zeros((9, 9, 3), np.uint8)] * (MOST + 3), ["x"] * (MOST + 3))
    assert len(pictures_in(html)) == MOST
    assert Tags(html).text[-1] == "and 3 more"
    assert Explanation({})._repr_html_().count("<img") == 0


def test_large_pictures_become_small() -> None:
    (shown,) = pictures_in(pictures_html([np.zeros((1000, 2000, 3), np.uint8)], ["x"]))
    assert shown.shape == (160, 320, 3)
