"""Detectors with further numbers beside boxes and classes: their format tells which are classes, and maps are right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import detectors
import numpy as np
import openvino as ov
import pytest
import reference
import torch
from doors import prepare
from torch import Tensor, nn

from otx_xai.errors import GraphError
from otx_xai.graph.class_heads import ScoreColumns
from otx_xai.graph.detector_heads import find_class_heads
from otx_xai.graph.view import View
from otx_xai.model import ModelOptions, open_model
from otx_xai.openvino_core import core

LABELS = [f"kind {i}" for i in range(detectors.CLASSES)]


class WithMore(detectors.YOLOv8):
    """YOLO version 8 with further numbers behind the classes: (N, 4 + K + more, P)."""

    more = 1

    def __init__(self) -> None:
        super().__init__()
        self.add_module("more_of", nn.ModuleList(nn.Conv2d(32, self.more, 1) for _ in range(3)))

    def raw(self, batch: Tensor) -> Tensor:
        return torch.cat([level.flatten(2) for level in self.levels(batch, "more_of")], 2)

    def behind(self, raw: Tensor) -> Tensor:
        return (raw.sigmoid() - 0.25) * np.pi

    def forward(self, batch: Tensor) -> Tensor | tuple[Tensor, ...]:
        return torch.cat([self.predictions(batch), self.behind(self.raw(batch))], 1)

    def predictions(self, batch: Tensor) -> Tensor:
        return detectors.YOLOv8.forward(self, batch)


class Points(WithMore):
    """Two key points, each with the score of being seen."""

    more = 6

    def behind(self, raw: Tensor) -> Tensor:
        x, y, seen = (raw[:, number::3] for number in range(3))
        return torch.stack([x * 2 + 8, y * 2 + 8, seen.sigmoid()], 2).flatten(1, 2)


class Masks(WithMore):
    """Coefficients of masks, whose prototypes are another output."""

    more = 8

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Conv2d(32, 8, 1)

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        prototypes = self.prototypes(self.features(batch)[0])
        return torch.cat([self.predictions(batch), self.raw(batch)], 1), prototypes


class Chosen(Points):
    """The best predictions, chosen in the graph as versions 10 and 26 do: rows of box, score, class and key points."""

    def forward(self, batch: Tensor) -> Tensor:
        rows = torch.cat([self.predictions(batch), self.behind(self.raw(batch))], 1).permute(0, 2, 1)
        boxes, scores, more = rows.split([4, detectors.CLASSES, self.more], -1)
        best = scores.amax(-1).topk(20)[1].unsqueeze(-1)
        scores, numbers = scores.gather(1, best.repeat(1, 1, detectors.CLASSES)).flatten(1).topk(20)
        place = best.gather(1, (numbers // detectors.CLASSES).unsqueeze(-1))
        boxes, more = boxes.gather(1, place.repeat(1, 1, 4)), more.gather(1, place.repeat(1, 1, self.more))
        labels = (numbers % detectors.CLASSES).unsqueeze(-1).float()
        return torch.cat([boxes, scores.unsqueeze(-1), labels, more], -1)


class Padded(Chosen):
    """The same, with empty rows up to a number, as exporters put behind a suppression: rows become one flat axis."""

    def forward(self, batch: Tensor) -> Tensor:
        flat = super().forward(batch).flatten()
        width = 6 + self.more
        return nn.functional.pad(flat, (0, 10 * width)).reshape(1, 30, width)


class ClassesAhead(detectors.Dense):
    """NanoDet: classes stand in front of distributions over distances."""

    def __init__(self) -> None:
        super().__init__(reg=32, cls=detectors.CLASSES)

    def forward(self, batch: Tensor) -> Tensor:
        reg, cls = (self.levels(batch, purpose) for purpose in ("reg", "cls"))
        joined = [torch.cat([c.sigmoid(), r], 1).flatten(2) for c, r in zip(cls, reg, strict=True)]
        return torch.cat(joined, 2).permute(0, 2, 1)


MODULES: dict[str, type[nn.Module]] = {
    "yolo_oriented": WithMore,
    "yolo": Points,
    "masks": Masks,
    "end_to_end": Chosen,
    "padded": Padded,
    "nanodet": ClassesAhead,
}


@dataclass(frozen=True)
class Made:
    """A detector, and the maps that its classes must have."""

    model: ov.Model
    literal: np.ndarray


@cache
def made(name: str) -> Made:
    family = detectors.Family(MODULES[name], tuple(f"cls.{level}" for level in range(3)))
    torch.manual_seed(3)
    module = MODULES[name]().eval()
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.normal_(0, 1.6 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5)
    image = detectors.images(1)
    return Made(detectors.convert(module, image), detectors.literal(family, module, image))


@pytest.mark.parametrize("name", MODULES)
def test_maps_equal_the_literal_definition(name: str) -> None:
    one = made(name)
    plan = prepare(one.model, labels=LABELS, targets=-1)
    assert plan.boxes is not None
    assert plan.boxes.format.name == {"masks": "yolo", "padded": "end_to_end"}.get(name, name)
    assert plan.method == "detclassprobabilitymap"
    compiled = core().compile_model(plan.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    maps = np.array(compiled(detectors.images(1).numpy())["saliency_map"])
    np.testing.assert_allclose(maps, reference.scaled(one.literal), atol=1e-4 * 255, rtol=0)


@pytest.mark.parametrize("name", ["yolo_oriented", "yolo", "masks", "end_to_end", "padded"])
def test_the_graph_alone_does_not_tell(name: str) -> None:
    with pytest.raises(GraphError, match="cannot be read off its graph"):
        find_class_heads(View(made(name).model), num_classes=detectors.CLASSES)


@pytest.mark.parametrize("name", ["yolov5", "yolov8", "yolox"])
def test_what_the_format_tells_is_what_the_graph_tells(name: str) -> None:
    model = detectors.case(name).model
    opened = open_model(model, ModelOptions(labels=LABELS))
    assert opened.boxes is not None
    assert isinstance(opened.boxes.match.scores, ScoreColumns)
    told, untold = opened.structure.class_heads(), find_class_heads(View(model))
    assert told.num_classes == untold.num_classes == detectors.CLASSES
    for one, other in zip(told.levels, untold.levels, strict=True):
        assert one.output.get_node().get_friendly_name() == other.output.get_node().get_friendly_name()
        np.testing.assert_array_equal(one.channels, other.channels)
        assert (one.objectness is None) == (other.objectness is None)
        if one.objectness is not None and other.objectness is not None:
            assert one.objectness.channels == other.objectness.channels


def test_columns_that_hold_no_moved_elements_are_not_believed() -> None:
    """Boxes are computed from several elements: a wrong word leads back to what the graph says."""
    view = View(detectors.case("yolov8").model)
    wrong = ScoreColumns(result=0, axis=1, begin=0, end=4)
    assert find_class_heads(view, told=wrong).num_classes == detectors.CLASSES
