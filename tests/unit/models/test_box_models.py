from __future__ import annotations

import warnings
from typing import Any

import cv2
import lightning
import numpy as np
import openvino as ov
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from otx_xai.data.shapes import draw_shape
from otx_xai.errors import ConfigError, DataError
from otx_xai.models import Detector, InstanceSegmenter, build_model
from otx_xai.models import box_models as boxes
from otx_xai.models.detectors import BoxModel
from otx_xai.openvino_core import core

SIZE = (96, 128)
LABELS = ("circle", "cross", "heart")
SLIM = {
    "fcos_resnet18": Detector,
    "retinanet_resnet18": Detector,
    "ssdlite_slim": Detector,
    "fasterrcnn_resnet18": Detector,
    "maskrcnn_resnet18": InstanceSegmenter,
    "fcos_slim": Detector,
    "maskrcnn_slim": InstanceSegmenter,
}
STOCK = (("fasterrcnn_mobilenet_v3_large_320_fpn", (128, 160)), ("retinanet_resnet50_fpn_v2", (64, 96)))
"""Those without a recipe: every recipe is trained elsewhere."""

Target = dict[str, torch.Tensor]


def _model(architecture: str, **options: Any) -> BoxModel:
    torch.manual_seed(0)
    model_class = InstanceSegmenter if architecture.startswith("maskrcnn") else Detector
    return model_class(architecture, LABELS, **{"input_size": SIZE, **options})


def _eager(model: BoxModel, threshold: float = 0.0) -> BoxModel:
    """Random networks are sure of nothing; let them find something, and differ from place to place."""
    network = model.network
    getattr(network, "roi_heads", network).score_thresh = threshold
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if (parameter.ndim == 4 and "body" not in name) or name.endswith("cls_score.weight"):
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def _batch(count: int, size: tuple[int, int] = SIZE) -> tuple[list[torch.Tensor], list[Target]]:
    rng = np.random.default_rng(0)
    images, targets = [], []
    for index in range(count):
        shape = draw_shape(rng, size, index % len(LABELS))
        x, y, width, height = cv2.boundingRect(shape.mask.astype(np.uint8))
        images.append(torch.from_numpy(shape.image).permute(2, 0, 1))
        targets.append(
            {
                "boxes": torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32),
                "labels": torch.tensor([shape.target]),
                "masks": torch.from_numpy(shape.mask[None].astype(np.uint8)),
            }
        )
    return images, targets


def _found(model: BoxModel, images: list[torch.Tensor]) -> list[Target]:
    with torch.inference_mode():
        found: list[Target] = model(torch.stack(images))
    return found


@pytest.mark.parametrize("architecture", SLIM)
def test_detections_have_the_promised_form(architecture: str) -> None:
    found = _found(_eager(_model(architecture)), _batch(2)[0])
    assert len(found) == 2
    for one in found:
        count = len(one["scores"])
        assert count > 0
        assert one["boxes"].shape == (count, 4)
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([128, 96, 128, 96])).all()
        assert one["labels"].dtype == torch.int64
        assert set(one["labels"].tolist()) <= {0, 1, 2}
        assert (one["scores"].diff() <= 0).all()
        assert ("masks" in one) == (SLIM[architecture] is InstanceSegmenter)
        if "masks" in one:
            assert one["masks"].shape == (count, 1, *SIZE)
            assert one["masks"].min() >= 0
            assert one["masks"].max() <= 1


@pytest.mark.parametrize("architecture", SLIM)
def test_only_our_normalisation_is_applied(architecture: str) -> None:
    """The network, given images normalised by hand, finds what the model finds; with torchvision's labels."""
    model = _eager(_model(architecture, mean=(10, 20, 30), scale=(40, 50, 60)))
    images = _batch(1)[0]
    channels = (np.array(values, np.float32).reshape(3, 1, 1) for values in ((10, 20, 30), (40, 50, 60)))
    mean, scale = channels
    seen = []
    model.network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    found = _found(model, images)[0]
    np.testing.assert_allclose(seen[0][0], (images[0].numpy() - mean) / scale, atol=1e-5)
    with torch.inference_mode():
        theirs = model.network([seen[0][0]])[0]
    first = 0 if isinstance(model.network, (detection.FCOS, detection.RetinaNet)) else 1
    torch.testing.assert_close(found["labels"], theirs["labels"] - first)
    torch.testing.assert_close(found["boxes"], theirs["boxes"])


@pytest.mark.parametrize("architecture", ["fcos_resnet18", "fasterrcnn_resnet18", "ssdlite_slim"])
def test_boxes_equal_torchvisions_own_road(architecture: str) -> None:
    """At a size that torchvision leaves alone, its own normalisation and resizing give the same boxes."""
    model = _eager(_model(architecture))
    images = _batch(1)[0]
    found = _found(model, images)[0]
    model.network.transform = detection.transform.GeneralizedRCNNTransform(
        min(SIZE), max(SIZE), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    ).eval()
    with torch.inference_mode():
        theirs = model.network([images[0].float() / 255])[0]
    torch.testing.assert_close(found["boxes"], theirs["boxes"], atol=1e-2, rtol=0)
    torch.testing.assert_close(found["scores"], theirs["scores"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", SLIM)
def test_labels_reach_the_network_as_it_counts_them(architecture: str) -> None:
    model = _model(architecture)
    seen: list[list[int]] = []
    model.network.transform.register_forward_pre_hook(
        lambda _, inputs: seen.append([int(target["labels"]) for target in inputs[1]])
    )
    model.loss(*_batch(3))
    has_background = architecture not in ("fcos_resnet18", "fcos_slim", "retinanet_resnet18")
    assert seen == [[1, 2, 3] if has_background else [0, 1, 2]]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated", "ignore:.*num_workers")
@pytest.mark.parametrize("architecture", SLIM)
def test_training_lowers_the_loss(architecture: str) -> None:
    model = _model(architecture, learning_rate=1e-3)
    images, targets = _batch(4)
    loader = DataLoader(
        list(zip(images, targets, strict=True)), 4, collate_fn=lambda pairs: tuple(zip(*pairs, strict=True))
    )
    torch.manual_seed(0)
    before = float(model.loss(images, targets).detach())
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=4,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, loader, loader)
    torch.manual_seed(0)
    assert float(model.train().loss(images, targets).detach()) < before
    scores = {"val/loss", "val/map", "val/map_50"} | ({"val/map_mask"} if "mask" in architecture else set())
    assert scores | {"train/loss"} == set(trainer.callback_metrics)


@pytest.mark.parametrize("architecture", SLIM)
def test_pictures_without_boxes_have_a_loss(architecture: str) -> None:
    images, targets = _batch(2)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, *SIZE)}
    assert torch.isfinite(_model(architecture).loss(images, [empty, targets[1]]))
    assert torch.isfinite(_model(architecture).loss(images, [empty, empty]))


def test_boxes_without_area_are_left_out() -> None:
    model = _model("fcos_resnet18").eval()
    images, targets = _batch(1)
    flat = {name: torch.cat([value, value]) for name, value in targets[0].items()}
    flat["boxes"][1, 3] = flat["boxes"][1, 1]
    torch.testing.assert_close(model.loss(images, [flat]), model.loss(images, targets))


@pytest.mark.parametrize("architecture", ["fcos_resnet18", "maskrcnn_resnet18"])
def test_loss_of_validation_keeps_modes_and_statistics(architecture: str) -> None:
    model = _model(architecture).eval()
    statistics = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.loss(*_batch(2))
    assert not any(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, statistics[name])


@pytest.mark.parametrize("architecture", ["fcos_resnet18", "maskrcnn_resnet18"])
def test_perfect_predictions_score_one(architecture: str) -> None:
    model = _model(architecture)
    targets = _batch(3)[1]
    metric = model.make_metric()
    found = [{**target, "scores": torch.ones(1), "masks": target["masks"][:, None].float()} for target in targets]
    metric.update([model.counted(one) for one in found], [model.counted(one) for one in targets])
    scores = model.summarise(metric)
    assert set(scores) == {"map", "map_50"} | ({"map_mask"} if "mask" in architecture else set())
    assert all(float(score) == pytest.approx(1) for score in scores.values())


def test_pasted_masks_lie_in_their_boxes() -> None:
    box = torch.tensor([[10.0, 20.0, 40.0, 60.0], [0.0, 0.0, 128.0, 96.0]])
    pasted = boxes.paste(torch.ones(2, 1, 28, 28), box, SIZE)
    expected = np.zeros(SIZE, bool)
    expected[20:60, 10:40] = True
    inner = cv2.erode(expected.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    outer = cv2.dilate(expected.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    found = pasted[0, 0].numpy() >= 0.5
    assert found[inner].all()
    assert not found[~outer].any()
    assert boxes.paste(torch.ones(0, 1, 28, 28), torch.zeros(0, 4), SIZE).shape == (0, 1, *SIZE)


@pytest.mark.parametrize("architecture", SLIM)
def test_exported_module_equals_forward(architecture: str) -> None:
    model = _eager(_model(architecture))
    images = torch.stack(_batch(1)[0])
    found = _found(model, list(images))[0]
    with torch.inference_mode():
        outputs = model.export_module()(images)
    count = len(found["scores"])
    assert [tuple(output.shape) for output in outputs[:2]] == [(1, count, 5), (1, count)]
    torch.testing.assert_close(outputs[0][0, :, :4], found["boxes"])
    torch.testing.assert_close(outputs[0][0, :, 4], found["scores"])
    torch.testing.assert_close(outputs[1][0], found["labels"])
    assert len(outputs) == (3 if "masks" in found else 2)
    if "masks" in found:
        assert outputs[2].shape == (1, count, 28, 28)
        torch.testing.assert_close(boxes.paste(outputs[2][0][:, None], found["boxes"], SIZE), found["masks"])


def test_converted_module_equals_torch() -> None:
    """Of a detector without proposals; instance segmentation is compared where models are exported."""
    model = _eager(_model("fcos_resnet18"))
    example, images = (image[None].float() for image in _batch(2)[0])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch announces the end of tracing, and warns of constants, which they are
        traced = torch.jit.trace(model.export_module(), example, check_trace=False)
        converted = ov.convert_model(traced, example_input=example, input=[tuple(example.shape)])
    with torch.inference_mode():
        expected = model.export_module()(images)
    compiled = core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(images.numpy())
    assert expected[1].shape[1] > 0
    for index, output in enumerate(expected):
        np.testing.assert_allclose(found[index], output, atol=1e-3)


@pytest.mark.parametrize("architecture", ["fcos_resnet18", "retinanet_resnet18", "fasterrcnn_resnet18"])
def test_anchors_lie_around_the_middle_of_their_cells(architecture: str) -> None:
    """Else each class score, and each map made of them, stands half a cell beside its place."""
    network = _model(architecture).network
    generator = network.rpn.anchor_generator if architecture.startswith("fasterrcnn") else network.anchor_generator
    grids = [(SIZE[0] // stride, SIZE[1] // stride) for stride in (8, 16, 32)]
    batch = torch.zeros(1, 3, *SIZE)
    anchors = generator(ImageList(batch, [SIZE]), [torch.zeros(1, 1, *grid) for grid in grids])[0]
    found = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [
        (8 * 2**level * (x + 0.5), 8 * 2**level * (y + 0.5))
        for level, (height, width) in enumerate(grids)
        for y in range(height)
        for x in range(width)
        for _ in range(generator.num_anchors_per_location()[level])
    ]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("architecture", "size"), STOCK)
def test_stock_architectures_train_and_detect(architecture: str, size: tuple[int, int]) -> None:
    model = _model(architecture, input_size=size)
    assert torch.isfinite(model.eval().loss(*_batch(1, size)).detach())
    assert len(_found(model, _batch(1, size)[0])) == 1


@pytest.mark.parametrize("architecture", SLIM)
def test_description_builds_the_same_model(architecture: str) -> None:
    model = _eager(_model(architecture), threshold=0.05)
    again = build_model(model.description())
    again.load_state_dict(model.state_dict(), strict=True)
    assert type(again) is SLIM[architecture]
    assert again.description() == model.description()


def test_options_reach_the_network() -> None:
    model = _model("fcos_resnet18", network_options={"score_thresh": 0.7, "detections_per_img": 3})
    assert (model.network.score_thresh, model.network.detections_per_img) == (0.7, 3)


def test_images_of_another_size_are_refused() -> None:
    images, targets = _batch(1, (64, 64))
    with pytest.raises(DataError, match=r"is \(64, 64\), and the network's input is \(96, 128\)"):
        _model("fcos_resnet18").loss(images, targets)


def test_missing_pycocotools_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'pycocotools'")

    monkeypatch.setattr("torchmetrics.detection.MeanAveragePrecision", missing)
    with pytest.raises(ConfigError, match="needs pycocotools"):
        _model("fcos_resnet18").make_metric()
