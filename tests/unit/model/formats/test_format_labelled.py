"""Boxes beside integer labels: told apart by rank, shape and type, and brought onto the image."""

from __future__ import annotations

import numpy as np
import pytest
from toy_boxes import BOXES, LABELS, MASKS, Output, described, labelled_arrays, model_of

from otx_xai.errors import ModelError
from otx_xai.model.formats.box_format import Found
from otx_xai.model.formats.box_reading import read_detections, read_proposals
from otx_xai.model.formats.choice import READ_BY_CALLER, find_format
from otx_xai.postprocess.geometry import fit
from otx_xai.records import InputGeometry, ResizeType, Task

PLAIN = InputGeometry((100, 200))


def found_in(*outputs: Output) -> Found | None:
    return find_format(described(model_of(*outputs), size=PLAIN.size))


WITH_MASKS = (BOXES, LABELS, MASKS)


@pytest.mark.parametrize(
    ("outputs", "order"),
    [
        (WITH_MASKS, (0, 1, None, 2)),
        ((BOXES, LABELS), (0, 1, None, None)),
        ((("a", "f32", [1, 9, 20, 20]), ("b", "i32", [1, 9]), ("c", "f32", [1, 9, 5])), (2, 1, None, 0)),
        ((("bboxes", "f32", [1, 300, 4]), ("labels", "i64", [1, 300]), ("scores", "f32", [1, 300])), (0, 1, 2, None)),
        ((("boxes", "f32", [-1, 4]), ("labels", "i64", [-1]), ("scores", "f32", [-1])), (0, 1, 2, None)),
        ((("a", "f32", [-1, 1, 48, 64]), ("b", "f32", [-1]), ("c", "i64", [-1]), ("d", "f32", [-1, 4])), (3, 2, 1, 0)),
        ((("boxes", "f16", [-1, 5]), ("labels", "i32", [-1]), ("masks", "boolean", [-1, 48, 64])), (0, 1, None, 2)),
        ((("boxes", "f32", [-1, -1, -1]), ("l", "i64", [-1, -1]), ("m", "f32", [-1, -1, -1, -1])), (0, 1, None, 2)),
        # four or five detections have as many boxes as columns
        ((("a", "f32", [1, 4]), ("b", "f32", [1, 4, 4]), ("c", "i64", [1, 4])), (1, 2, 0, None)),
        ((("a", "f32", [5]), ("b", "f32", [5, 5]), ("c", "i64", [5]), ("d", "f32", [5, 5, 5])), (1, 2, 0, 3)),
        ((*WITH_MASKS, ("saliency_map", "f32", [1, 3, 28, 28]), ("feature_vector", "f32", [1, -1])), (0, 1, None, 2)),
        # names decide between equals
        ((("masks", "f32", [1, -1, 28, 28]), BOXES, LABELS, ("coefficients", "f32", [1, -1, 6, 6])), (1, 2, None, 0)),
        ((*WITH_MASKS, ("indices", "i64", [1, -1])), (0, 1, None, 2)),
        ((BOXES, LABELS, ("scores", "f32", [1, -1]), ("quality", "f32", [1, -1])), (0, 1, 2, None)),
    ],
)
def test_outputs_by_rank_shape_and_type(outputs: tuple[Output, ...], order: tuple[int | None, ...]) -> None:
    found = found_in(*outputs)
    assert found is not None
    assert (found.format.name, found.match.sure) == ("labelled", True)
    roles = ("boxes", "labels", "scores", "masks")
    expected = {role: outputs[place][0] for role, place in zip(roles, order, strict=True) if place is not None}
    assert dict(found.match.roles) == expected
    assert found.match.task is (Task.INSTANCE_SEGMENTATION if "masks" in expected else Task.DETECTION)


@pytest.mark.parametrize(
    "outputs",
    [
        (("logits", "f32", [1, 1000]),),
        (("boxes", "f32", [1, -1, 4]), LABELS),
        (("boxes", "f32", [1, 7, 5]), ("labels", "i64", [1, 8])),
        (("boxes", "f32", [2, -1, 5]), ("labels", "i64", [2, -1])),
        (BOXES, ("first", "i64", [1, -1]), ("second", "i64", [1, -1])),
        # boxes without scores, or the scores of four classes and the best class
        (("", "f32", [-1, 4]), ("", "i64", [-1])),
        (("", "f32", [-1, 5]), ("", "i64", [-1])),
        (("", "f32", [1, 4]), ("", "i64", [1]), ("", "f32", [1, 512])),
        (("", "f32", [-1, 9]), ("", "i64", [-1]), ("", "f32", [-1, 512, 7, 7])),
        (("", "f32", [1, 9]), ("saliency_map", "f32", [1, 9, 4])),
    ],
)
def test_others_are_none(outputs: tuple[Output, ...]) -> None:
    assert found_in(*outputs) is None


# --- reading ----------------------------------------------------------------------------------------------------------

FOUND = found_in(*WITH_MASKS)
DETECTOR = found_in(BOXES, LABELS)
SCORED = found_in(("boxes", "f32", [-1, 4]), ("labels", "i32", [-1]), ("scores", "f32", [-1]))


@pytest.mark.parametrize("resize_type", ResizeType)
@pytest.mark.parametrize("image_size", [(120, 300), (310, 140)])
def test_boxes_land_where_the_network_saw_them(resize_type: ResizeType, image_size: tuple[int, int]) -> None:
    """A white rectangle is fitted into the input, found there by its pixels, and mapped back."""
    assert DETECTOR is not None
    geometry = InputGeometry((160, 224), resize_type)
    height, width = image_size
    box = np.array([0.4 * width, 0.45 * height, 0.62 * width, 0.58 * height]).round()
    image = np.zeros((height, width, 3), np.uint8)
    image[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 255
    rows, columns = np.nonzero(fit(image, geometry)[:, :, 0] > 127)
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.8]], np.float32)
    found = read_detections({"boxes": seen[None], "labels": np.array([[4]])}, DETECTOR, image_size, geometry)
    np.testing.assert_allclose(found.boxes[0], box, atol=1.01 * max(height / 160, width / 224, 1))
    assert found.labels.tolist() == [4]


def test_best_first_and_their_types() -> None:
    assert DETECTOR is not None
    found = read_detections(labelled_arrays(), DETECTOR, (200, 400), PLAIN, threshold=0.5)
    np.testing.assert_allclose(found.boxes, [[100, 120, 140, 160], [20, 40, 60, 80]])
    assert found.labels.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.6])
    assert (found.boxes.dtype, found.labels.dtype, found.scores.dtype) == (np.float32, np.int64, np.float32)
    assert found.masks is None


def test_no_batch_and_scores_of_their_own() -> None:
    assert SCORED is not None
    boxes = labelled_arrays()["boxes"][0]
    given = {"boxes": boxes[:, :4], "scores": boxes[:, 4], "labels": np.array([2, 0, 1], np.int32)}
    for known in (SCORED, READ_BY_CALLER):
        found = read_detections(given, known, (100, 200), PLAIN, threshold=0.1)
        np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.2])
        assert found.labels.tolist() == [0, 2, 1]


def test_nothing_is_found() -> None:
    assert DETECTOR is not None
    found = read_detections(labelled_arrays(), DETECTOR, (100, 200), PLAIN, threshold=0.95)
    assert found.boxes.shape == (0, 4)
    empty = {"boxes": np.zeros((1, 0, 5), np.float32), "labels": np.zeros((1, 0), np.int64)}
    assert len(read_detections(empty, DETECTOR, (100, 200), PLAIN)) == 0


def test_the_first_label_means_nothing() -> None:
    assert DETECTOR is not None
    found = read_detections(labelled_arrays(), DETECTOR, (100, 200), PLAIN, threshold=0.1, first_label=1)
    assert found.labels.tolist() == [1, 0]
    proposals = read_proposals(labelled_arrays(), DETECTOR, PLAIN.size, 2, threshold=0.1, first_label=1)
    np.testing.assert_array_equal(proposals.classes, [[0, 1], [1, 0]])
    np.testing.assert_allclose(proposals.objectness, [0.6, 0.2])


def test_boxes_are_clipped_and_padding_is_dropped() -> None:
    assert DETECTOR is not None
    geometry = InputGeometry((100, 200), ResizeType.FIT_TO_WINDOW)
    boxes = np.array([[[-10, -5, 30, 120, 0.9], [150, 10, 190, 40, 0.8]]], np.float32)
    found = read_detections({"boxes": boxes, "labels": np.array([[0, 1]])}, DETECTOR, (100, 100), geometry)
    np.testing.assert_allclose(found.boxes, [[0, 0, 30, 100]])


@pytest.mark.parametrize("whole", [False, True])
def test_masks_inside_boxes_or_over_the_input(whole: bool) -> None:
    assert FOUND is not None
    size = PLAIN.size if whole else (28, 28)
    masks = np.zeros((1, 3, *size), np.float32)
    masks[0, 1, :3] = 1
    found = read_detections({**labelled_arrays(), "masks": masks}, FOUND, (200, 400), PLAIN)
    assert found.masks is not None
    assert found.masks_fill_boxes is not whole
    np.testing.assert_array_equal(found.masks[0], masks[0, 1])
    assert not found.masks[1].any()


def test_arrays_that_do_not_belong_together() -> None:
    assert SCORED is not None
    boxes = labelled_arrays()["boxes"][0]
    given = {"boxes": boxes[:, :4], "scores": boxes[:2, 4], "labels": np.array([2, 0, 1])}
    with pytest.raises(ModelError, match=r"boxes \[3, 4\], labels \[3\], scores \[2\], which do not belong.*\[1,N,5\]"):
        read_detections(given, SCORED, (100, 200), PLAIN)


def test_numbers_that_are_none_pass() -> None:
    """Callers tell of them."""
    assert DETECTOR is not None
    given = labelled_arrays()
    given["boxes"][0, 0, 4] = np.nan
    assert read_detections(given, DETECTOR, (100, 200), PLAIN).labels.tolist() == [0]


def test_shares_are_read_where_the_user_says_so() -> None:
    outputs = described(model_of(("boxes", "f32", [1, -1, 4]), LABELS, ("scores", "f32", [1, -1])), size=PLAIN.size)
    assert find_format(outputs).format.name == "labelled"
    pixels = labelled_arrays()
    corners, scores = pixels["boxes"][..., :4], pixels["boxes"][..., 4]
    given = {"boxes": corners / np.float32([200, 100, 200, 100]), "scores": scores, "labels": pixels["labels"]}
    found = read_detections(given, find_format(outputs, "labelled_shares"), (100, 200), PLAIN, threshold=0.1)
    expected = read_detections(pixels, DETECTOR, (100, 200), PLAIN, threshold=0.1)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-5)
    assert (found.doubt, expected.doubt) == ("", "")
    doubt = read_detections(given, find_format(outputs), (100, 200), PLAIN, threshold=0.1).doubt
    assert doubt.startswith("all boxes lie in the first 2 pixels of the network's input: they seem to be shares of it")


def test_boxes_without_area_are_doubted() -> None:
    boxes = np.array([[150, 50, 20, 20, 0.9], [90, 60, 30, 10, 0.8], [10, 10, 40, 40, 0.7]], np.float32)
    arrays = {"boxes": boxes[None], "labels": np.array([[0, 1, 2]])}
    found = read_detections(arrays, DETECTOR, (100, 200), PLAIN)
    assert found.doubt == "most boxes have no area: they seem to be written otherwise than by corners x1, y1, x2, y2"
    assert len(found) == 1
    arrays["boxes"][0, 0, :4] = 1, 1, 5, 5
    assert read_detections(arrays, DETECTOR, (100, 200), PLAIN).doubt == ""
    assert read_detections(arrays, DETECTOR, (100, 200), PLAIN, threshold=0.95).doubt == ""
