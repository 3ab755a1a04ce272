from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.errors import ModelError
from otx_xai.graph.input_layout import layout_of
from otx_xai.graph.view import View
from otx_xai.model.image_layout import declared_layout, input_layout


def proven(model: ov.Model) -> str | None:
    return layout_of(View(model))


def _constant(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def _fake_quantize(x):
    return ops.fake_quantize(x, np.float32(0), np.float32(255), np.float32(0), np.float32(1), 256)


def _normalise(axis):
    def stem(x):
        shape = [1, 1, 1, 1]
        shape[axis] = 3
        mean = ops.constant(np.arange(3, dtype=np.float32).reshape(shape))
        return ops.divide(ops.subtract(x, mean), ops.constant(np.float32(58)))

    return stem


def _flip(axis):
    return lambda x: ops.gather(x, _constant(2, 1, 0), ops.constant(axis))


def _split_and_swap(axis):
    def stem(x):
        first, second, third = ops.split(x, ops.constant(axis), 3).outputs()
        return ops.concat([third, second, first], axis)

    return stem


def _select_and_stack(x):
    """As ``torch.cat([x[:, 2].unsqueeze(1), …], 1)`` in Inception."""
    channels = [ops.unsqueeze(ops.gather(x, ops.constant(c), ops.constant(1)), _constant(1)) for c in (2, 1, 0)]
    return ops.concat(channels, 1)


def _pad(x):
    return ops.pad(x, _constant(0, 1, 1, 0), _constant(0, 1, 1, 0), "constant", ops.constant(np.float32(0)))


@pytest.mark.parametrize(
    ("layout", "shape", "stem"),
    [
        ("NCHW", (1, 3, 8, 12), lambda x: x),
        ("NCHW", (-1, 3, -1, -1), lambda x: x),
        ("NHWC", (1, 8, 12, 3), lambda x: x),
        ("NHWC", (-1, -1, -1, 3), lambda x: x),
        ("CHWN", (3, 8, 12, -1), lambda x: x),
        ("NWHC", (1, 12, 8, 3), lambda x: x),
        ("NCHW", (3, 3, 3, 3), _fake_quantize),
        ("NHWC", (3, 3, 3, 3), _fake_quantize),
        ("NCHW", (1, 3, 8, 12), _normalise(1)),
        ("NHWC", (1, 8, 12, 3), _normalise(3)),
        ("NCHW", (1, 3, 8, 12), _flip(1)),
        ("NHWC", (-1, 8, 12, 3), _flip(3)),
        ("NCHW", (-1, 3, 8, 12), _split_and_swap(1)),
        ("NHWC", (1, 8, 12, 3), _split_and_swap(3)),
        ("NCHW", (-1, 3, -1, -1), _select_and_stack),
        ("NHWC", (1, 8, 12, 3), _pad),
    ],
)
def test_layout_follows_from_operations(build_classifier, layout, shape, stem):
    assert proven(build_classifier(shape, layout=layout, stem=stem)) == layout


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("squeeze", [True, False])
def test_grey_channel_moved_by_reshape(static, squeeze):
    image = ops.parameter([1 if static else -1, 8, 12, 1], np.float32)
    if squeeze:
        x = ops.unsqueeze(ops.squeeze(image, _constant(3)), _constant(1))
    else:
        x = ops.reshape(image, _constant(-1, 1, 8, 12), special_zero=False)
    kernel = ops.constant(np.ones((2, 1, 3, 3), np.float32))
    model = ov.Model([ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])], [image])
    assert input_layout(model) == "NHWC"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_focus_stem(layout):
    height = layout.index("H")
    image = ops.parameter([1, 3, 8, 12] if layout == "NCHW" else [1, 8, 12, 3], np.float32)
    ends = [np.iinfo(np.int32).max] * 2
    slices = [
        ops.slice(image, _constant(top, left), _constant(*ends), _constant(2, 2), _constant(height, height + 1))
        for left in (0, 1)
        for top in (0, 1)
    ]
    x = ops.concat(slices, layout.index("C"))
    if layout == "NHWC":
        x = ops.transpose(x, _constant(0, 3, 1, 2))
    kernel = ops.constant(np.ones((2, 12, 3, 3), np.float32))
    model = ov.Model([ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])], [image])
    assert input_layout(model) == layout


@pytest.mark.parametrize("reverse", [True, False])
def test_strided_slice_keeps_axes(build_classifier, reverse):
    def stem(x):
        begin, end, step = (2, -4, -1) if reverse else (0, 3, 1)
        bounds = _constant(0, begin, 0, 0), _constant(0, end, 0, 0), _constant(1, step, 1, 1)
        return ops.strided_slice(x, *bounds, [1, 0, 1, 1], [1, 0, 1, 1])

    assert input_layout(build_classifier((-1, 3, 8, 12), stem=stem)) == "NCHW"


@pytest.mark.parametrize("stem", ["max_pool", "space_to_depth", "interpolate"])
def test_other_first_operations(stem):
    image = ops.parameter([2, 3, 8, 12], np.float32)
    if stem == "max_pool":
        x = ops.max_pool(image, [1, 1], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    elif stem == "space_to_depth":
        x = ops.space_to_depth(image, "blocks_first", 2)
    else:
        resized = ops.interpolate(image, _constant(4, 4), "nearest", "sizes", axes=_constant(2, 3))
        x = ops.avg_pool(resized, [1, 1], [0, 0], [0, 0], [2, 2], True)
    assert input_layout(ov.Model([x], [image])) == "NCHW"


def _without_convolution(layout: str = "") -> ov.Model:
    image = ops.parameter([1, 3, 3, 3], np.float32, name="image")
    if layout:
        image.layout = ov.Layout(layout)
    x = ops.reshape(image, _constant(1, 27), special_zero=False)
    return ov.Model([ops.matmul(x, ops.constant(np.ones((27, 4), np.float32)), False, False)], [image])


def test_unknown_without_an_operation_that_tells():
    assert input_layout(_without_convolution()) is None


def test_declared_layouts():
    assert input_layout(_without_convolution("NHWC")) == "NHWC"
    assert input_layout(_without_convolution("N...")) is None
    for text in ("NHWC", "image:nhwc"):
        model = _without_convolution()
        model.set_rt_info(text, ["model_info", "layout"])
        assert input_layout(model) == declared_layout(model) == "NHWC"


def test_operations_outrank_a_declaration(build_classifier):
    assert input_layout(build_classifier(model_info={"layout": "NHWC"})) == "NCHW"


def test_mixed_axes_are_not_guessed(build_classifier):
    def stem(x):
        blocks = ops.reshape(x, _constant(1, 3, 2, 4, 3, 4), special_zero=False)
        return ops.reshape(
            ops.transpose(blocks, _constant(0, 3, 5, 1, 2, 4)), _constant(1, 3, 8, 12), special_zero=False
        )

    assert proven(build_classifier(stem=stem)) is None


def test_adding_a_transposed_image_is_not_guessed(build_classifier):
    def stem(x):
        return ops.add(x, ops.transpose(x, _constant(0, 1, 3, 2)))

    assert proven(build_classifier((1, 3, 8, 8), stem=stem)) is None


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3, 64, 64), "NCHW"),
        ((-1, 1, -1, -1), "NCHW"),
        ((1, 64, 48, 3), "NHWC"),
        ((1, 64, 64, 1), "NHWC"),
        ((1, 3, 64, 3), None),
        ((1, 1, 64, 3), None),
        ((1, 8, 64, 64), None),
        ((3, 64, 64, 8), None),
    ],
)
def test_the_number_of_channels_decides_last(shape, layout):
    image = ops.parameter(list(shape), np.float32)
    model = ov.Model([ops.abs(image)], [image])
    assert input_layout(model) == layout
    image.layout = ov.Layout("NHWC")
    assert input_layout(model) == "NHWC"


def test_several_inputs():
    first, second = (ops.parameter([1, 3, 8, 8], np.float32, name=name) for name in ("image", "mask"))
    model = ov.Model([ops.add(first, second)], [first, second])
    with pytest.raises(ModelError, match=r"2 inputs \(image \[1,3,8,8\], mask \[1,3,8,8\]\); expected one"):
        input_layout(model)


@pytest.mark.parametrize("shape", [[1, 3], [1, 3, 4, 8, 8], ov.PartialShape.dynamic()])
def test_no_image_input(shape):
    image = ops.parameter(shape, np.float32, name="image")
    with pytest.raises(ModelError, match="expected four axes"):
        input_layout(ov.Model([ops.relu(image)], [image]))


@pytest.mark.filterwarnings("ignore")
def test_patch_embedding_of_a_torch_model():
    import torch

    class Patches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Conv2d(3, 8, 4, 4)
            self.head = torch.nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.project(x).flatten(2).transpose(1, 2).mean(1))

    model = ov.convert_model(Patches().eval(), example_input=torch.zeros(1, 3, 8, 8))
    assert input_layout(model) == "NCHW"
