"""Marks that are the same to the pixel are found without annotations; objects that are alike are not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from planted_audit import CELLS, SIDE, Audited, planted_audit, without_boxes

from otx_xai.audit.repeated_pixels import repeated_pixels
from otx_xai.data.planted import Fault


def test_the_mark_of_a_class_wherever_it_is() -> None:
    audit = planted_audit(Fault.ROAMING)
    (found,) = repeated_pixels(without_boxes(audit.evidence), audit.fetch)
    assert (found.target, found.is_copy, found.is_place) == (0, True, False)
    assert audit.data.faulty[list(found.images)].all()
    assert len(found.images) > 0.7 * audit.data.faulty.sum()
    assert found.elsewhere.value == 0
    assert len(set(found.windows)) > 10
    for image, (row, column) in zip(found.images, found.windows, strict=True):
        patch = audit.fetch(image)[4 * row : 4 * row + 16, 4 * column : 4 * column + 16]
        assert (np.abs(patch.astype(int) - (255, 235, 40)).max(axis=2) < 3).any()


@pytest.mark.parametrize("fault", [Fault.CLEAN, Fault.BACKGROUND])
def test_shapes_of_a_class_differ(fault: Fault) -> None:
    audit = planted_audit(fault, Fault.CLEAN)
    assert repeated_pixels(without_boxes(audit.evidence), audit.fetch) == []


def test_equal_places_without_a_corner_are_no_mark() -> None:
    """Half of each image is white and half is black, as of things on white paper: equal pixels, and a mere border."""
    audit = planted_audit(Fault.CLEAN)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, SIDE // 2 :] = 255
    assert repeated_pixels(without_boxes(audit.evidence), lambda _: image) == []


def test_a_plain_square_may_be_an_object() -> None:
    """The same square of one colour in place of the mark: things that are drawn look like that."""
    audit = planted_audit(Fault.ROAMING)

    def fetch(image: int) -> np.ndarray:
        pixels = audit.fetch(image).copy()
        pixels[(pixels == (40, 0, 90)).all(axis=2)] = (255, 235, 40)
        return pixels

    assert repeated_pixels(without_boxes(audit.evidence), fetch) == []


def test_a_mark_that_was_compressed_is_the_same() -> None:
    audit = planted_audit(Fault.ROAMING)

    def fetch(image: int) -> np.ndarray:
        _, code = cv2.imencode(".jpg", audit.fetch(image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        return cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].copy()

    (found,) = repeated_pixels(without_boxes(audit.evidence), fetch)
    assert found.target == 0


def _few(audit: Audited) -> Audited:
    rows = audit.evidence.best[:, 0].copy()
    return replace(audit, evidence=replace(audit.evidence, best=np.zeros_like(rows)[:, None]))


def test_nothing_to_compare_with() -> None:
    audit = planted_audit(Fault.ROAMING)
    flat = replace(audit.evidence.maps, grids=np.zeros((len(audit.evidence.maps.grids), CELLS, CELLS), np.uint8))
    assert repeated_pixels(_few(audit).evidence, audit.fetch) == []
    assert repeated_pixels(replace(audit.evidence, maps=flat), audit.fetch) == []
