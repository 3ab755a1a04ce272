from __future__ import annotations

import numpy as np
import pytest
from openvino import opset13 as ops

from otx_xai.errors import GraphError
from otx_xai.graph.constants import evaluate


def test_constants_alone():
    (value,) = evaluate([ops.add(ops.constant(np.float32([1, 2])), ops.constant(np.float32([3, 4]))).output(0)])
    np.testing.assert_array_equal(value, [4, 6])


@pytest.mark.parametrize("batch", [-1, 2])
def test_sizes_are_asked_of_the_image(batch: int):
    """As torch's exporter writes a reshape where the batch is open."""
    image = ops.parameter([batch, 3, 8, 8], np.float32)
    silence = ops.parameter([batch if batch > 0 else 1, 6], np.float32)
    rows = ops.gather(ops.shape_of(image, "i64"), ops.constant(np.array([0])), ops.constant(np.int64(0)))
    shape = ops.concat([rows, ops.constant(np.array([2, 3]))], 0)
    (value,) = evaluate(
        [ops.reshape(ops.add(silence, ops.constant(np.float32(5))), shape, special_zero=False).output(0)],
        {silence: np.zeros([max(batch, 1), 6], np.float32)},
    )
    np.testing.assert_array_equal(value, np.full((max(batch, 1), 2, 3), 5))


def test_an_image_without_pixels() -> None:
    image = ops.parameter([0, 3, 8, 8], np.float32)
    with pytest.raises(GraphError, match="cannot compute a part of the model: Can't set the input tensor"):
        evaluate([ops.relu(image).output(0)], {image: np.zeros((1, 3, 8, 8), np.float32)})
