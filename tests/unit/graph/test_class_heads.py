"""What is read off the graphs of detectors: levels, anchors, classes, objectness, background."""

from __future__ import annotations

import detectors
import numpy as np
import openvino as ov
import pytest
import torch
from torch import nn

from otx_xai.errors import GraphError
from otx_xai.graph.class_heads import ClassHeads
from otx_xai.graph.detector_heads import find_class_heads
from otx_xai.graph.view import View


@pytest.fixture(params=detectors.FAMILIES, scope="module")
def case(request: pytest.FixtureRequest) -> detectors.Case:
    return detectors.case(request.param)


def convert(module: nn.Module, *outputs: str, shape: tuple[int, ...] = ()) -> ov.Model:
    torch.manual_seed(0)
    return detectors.convert(module.eval(), detectors.images(1), outputs, shape)


def sizes(heads: ClassHeads) -> list[tuple[int, int]]:
    return [level.size for level in heads.levels]


def test_heads_of_every_family(case: detectors.Case) -> None:
    heads = find_class_heads(View(case.model))
    family = case.family
    assert heads.num_classes == detectors.CLASSES
    assert heads.background == family.background
    assert tuple(level.anchors for level in heads.levels) == family.anchors
    assert sizes(heads) == [(12, 16), (6, 8), (3, 4)][: len(family.anchors)]
    assert [level.objectness is not None for level in heads.levels] == [bool(family.objectness)] * len(family.anchors)


def test_channels_are_those_of_the_torch_module(case: detectors.Case) -> None:
    """Number the channels, arrange them as the module does, and compare."""
    for level in find_class_heads(View(case.model)).levels:
        count = level.output.get_shape()[level.order[1]]
        numbers = torch.arange(count).reshape(1, -1, 1, 1)
        np.testing.assert_array_equal(level.channels, case.family.arrange(numbers)[0, :, :, 0, 0].numpy())
        if level.objectness is not None:
            count = level.objectness.output.get_shape()[1]
            expected = case.family.factor(torch.arange(count).reshape(1, -1, 1, 1))[0, :, 0, 0]
            assert level.objectness.channels == tuple(expected.tolist())


def test_the_number_of_classes_may_be_known(case: detectors.Case) -> None:
    known = find_class_heads(View(case.model), num_classes=detectors.CLASSES)
    assert known.num_classes == detectors.CLASSES
    with pytest.raises(GraphError, match=r"(score \d+ classes where 77 are expected|which are classes is open)"):
        find_class_heads(View(case.model), num_classes=77)


@pytest.mark.parametrize("name", ["retinanet", "background_last"])
def test_a_single_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "CLASSES", 1)
    model = detectors.convert(detectors.build(name), detectors.images(1), detectors.FAMILIES[name].outputs)
    heads = find_class_heads(View(model))
    assert heads.num_classes == 1
    assert tuple(level.anchors for level in heads.levels) == detectors.FAMILIES[name].anchors


def test_open_sizes() -> None:
    model = convert(detectors.YOLOX(), shape=(-1, 3, -1, -1))
    view = View(model)
    heads = find_class_heads(view)
    assert sizes(heads) == [(40, 40), (20, 20), (10, 10)]
    names = {node.get_name() for node in view.nodes}
    assert all(level.output.get_node().get_name() in names for level in heads.levels)


class Joined(detectors.Dense):
    """Predictions of one convolution a level, in the order of its channels, without any decoding."""

    def __init__(self, channels: int) -> None:
        super().__init__(out=channels)
        self.channels = channels

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        levels = self.levels(batch, "out")
        return torch.cat([level.permute(0, 2, 3, 1).reshape(1, -1, self.channels) for level in levels], 1)


@pytest.mark.parametrize(("num_classes", "objectness"), [(None, True), (5, True), (6, False)])
def test_objectness_in_a_shared_convolution_unless_the_classes_fill_it(
    num_classes: int | None, objectness: bool
) -> None:
    heads = find_class_heads(View(convert(Joined(10))), num_classes=num_classes)
    assert heads.levels[0].channels.tolist() == [list(range(5 if objectness else 4, 10))]
    assert (heads.levels[0].objectness is not None) is objectness


@pytest.mark.parametrize("num_classes", [10, 9])
def test_scores_alone(num_classes: int) -> None:
    class Scores(Joined):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return super().forward(batch).softmax(-1)

    heads = find_class_heads(View(convert(Scores(10))), num_classes=num_classes)
    assert heads.num_classes == num_classes
    assert heads.background == (0 if num_classes == 9 else None)


def test_named_layers_choose_among_known_heads() -> None:
    case = detectors.case("yolox")
    view = View(case.model)
    names = [level.output.get_node().get_friendly_name() for level in find_class_heads(view).levels]
    heads = find_class_heads(view, target_layers=[names[2], names[0]])
    assert sizes(heads) == [(12, 16), (3, 4)]
    assert heads.levels[0].objectness is not None


class Obscure(detectors.Dense):
    """Scores mixed by a linear layer over places: no convolution gives them."""

    def __init__(self) -> None:
        super().__init__(cls=2 * detectors.CLASSES)
        self.mix = nn.Linear(12 * 16, 12)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.mix(self.levels(batch, "cls")[0].flatten(2))


def test_named_layers_of_a_graph_that_cannot_be_read() -> None:
    view = View(convert(Obscure()))
    with pytest.raises(GraphError, match=r"cannot be read off its graph.*--target_layer a,b,c.*\[1,10,12,16\]"):
        find_class_heads(view)
    convolution = next(
        node.get_friendly_name()
        for node in view.nodes
        if node.get_type_name() == "Convolution" and list(node.get_output_shape(0)) == [1, 10, 12, 16]
    )
    heads = find_class_heads(view, target_layers=[convolution], num_classes=5)
    assert heads.levels[0].channels.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert heads.levels[0].output.get_node().get_type_name() == "Add"  # the bias belongs to it


@pytest.mark.parametrize(
    ("name", "num_classes", "reason"),
    [
        ("nothing", None, "'nothing' is no layer or tensor of it"),
        ("convolution", 3, "has 10 channels, which are no multiple of 3 classes"),
        ("linear", None, "is no map of places"),
    ],
)
def test_named_layers_that_are_no_heads(name: str, num_classes: int | None, reason: str) -> None:
    view = View(convert(Obscure()))
    kinds = {"convolution": "Convolution", "linear": "MatMul"}
    for node in view.nodes:
        if node.get_type_name() == kinds.get(name):
            found = node.get_friendly_name()
            if list(node.get_output_shape(0))[1:2] == [10]:
                name = found
    with pytest.raises(GraphError, match=reason):
        find_class_heads(view, target_layers=[name], num_classes=num_classes)


def test_two_stages_have_no_class_heads() -> None:
    class TwoStage(detectors.Dense):
        def __init__(self) -> None:
            super().__init__(obj=1)
            self.score = nn.Linear(32, detectors.CLASSES)

        def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            best = self.levels(batch, "obj")[0].flatten().topk(20)[1]
            regions = self.features(batch)[0].flatten(2)[0].T[best]
            boxes = torch.cat([regions[:, :2], regions[:, :2] + 9], 1)
            return detectors._select(boxes, self.score(regions).softmax(1))

    with pytest.raises(GraphError, match=r"linear layer .* as in two-stage .* no class scores for places"):
        find_class_heads(View(convert(TwoStage(), "boxes", "labels")))
