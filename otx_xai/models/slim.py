"""Detectors that learn quickly from scratch on small pictures: torchvision's own classes, few channels, few proposals.

They are made for inputs of 128 to 192 pixels: the first three stages of ResNet-18, or the body of
:mod:`otx_xai.models.slim_classifier`, levels of stride 8, 16 and 32, small anchors, and batch normalisation that
learns, which torchvision freezes in its pyramids. Weights lie in memory as the processor's convolutions want them. All
say ``num_classes`` as torchvision does; those of SSD and the R-CNNs include the background.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

from otx_xai.models.slim_classifier import BODY_WIDTHS, slim_body

_CHANNELS = 64
_STRIDES = (8, 16, 32)
_ROI_LEVELS = ("0", "1")
_RATIOS = (0.5, 1.0, 2.0)
_SIDES = ((20, 28), (40, 56), (80, 112))
"""Of anchors, in pixels: two a level."""


def fcos_resnet18(num_classes: int, **options: Any) -> FCOS:
    """Build a small FCOS (Tian et al., FCOS: A simple and strong anchor-free object detector, TPAMI 2022).

    Args:
        num_classes: number of classes, no background.
        options: keyword arguments of :class:`torchvision.models.detection.FCOS`.
    """
    return _fcos(_backbone(), num_classes, options)


def fcos_slim(num_classes: int, **options: Any) -> FCOS:
    """Build :func:`fcos_resnet18` on the body of :func:`otx_xai.models.slim_classifier.resnet_slim`.

    Args:
        num_classes: number of classes, no background.
        options: keyword arguments of :class:`torchvision.models.detection.FCOS`.
    """
    return _fcos(_slim_backbone(), num_classes, options)


def _fcos(backbone: BackboneWithFPN, num_classes: int, options: dict[str, Any]) -> FCOS:
    return FCOS(
        backbone,
        num_classes,
        # Levels take objects whose farthest side is at most 8 of these away, and the last one the rest: 32, 64 pixels
        anchor_generator=_anchors(((4,), (8,), (16,)), (1.0,)),
        head=FCOSHead(backbone.out_channels, 1, num_classes, num_convs=2),
        **{"detections_per_img": 50, "topk_candidates": 200, **options},
    )


def retinanet_resnet18(num_classes: int, **options: Any) -> RetinaNet:
    """Build a small RetinaNet (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017).

    Args:
        num_classes: number of classes, no background.
        options: keyword arguments of :class:`torchvision.models.detection.RetinaNet`.
    """
    backbone = _backbone()
    anchors = _anchors(_SIDES, _RATIOS)
    head = RetinaNetHead(
        backbone.out_channels,
        anchors.num_anchors_per_location()[0],
        num_classes,
        norm_layer=partial(nn.GroupNorm, 8),
    )
    return RetinaNet(
        backbone,
        num_classes,
        anchor_generator=anchors,
        head=head,
        **{"detections_per_img": 50, "topk_candidates": 200, **options},
    )


def ssdlite_slim(num_classes: int, **options: Any) -> SSD:
    """Build a small SSD with the depth-wise heads of SSDLite (Sandler et al., MobileNetV2, CVPR 2018).

    Args:
        num_classes: number of classes, the background included.
        options: keyword arguments of :class:`torchvision.models.detection.ssd.SSD`.
    """
    backbone = _backbone()
    boxes = DefaultBoxGenerator([[2]] * len(_STRIDES), scales=[0.15, 0.3, 0.6, 0.95])
    channels = [backbone.out_channels] * len(_STRIDES)
    head = SSDLiteHead(channels, boxes.num_anchors_per_location(), num_classes, nn.BatchNorm2d)
    return SSD(
        backbone,
        boxes,
        (128, 128),
        num_classes,
        head=head,
        **{"score_thresh": 0.02, "nms_thresh": 0.5, "detections_per_img": 50, "topk_candidates": 100, **options},
    )


def fasterrcnn_resnet18(num_classes: int, **options: Any) -> FasterRCNN:
    """Build a small Faster R-CNN (Ren et al., Faster R-CNN, NIPS 2015).

    Args:
        num_classes: number of classes, the background included.
        options: keyword arguments of :class:`torchvision.models.detection.FasterRCNN`.
    """
    return FasterRCNN(_backbone(), **_rcnn_parts(num_classes), **{**_FEW_PROPOSALS, **options})


def maskrcnn_resnet18(num_classes: int, **options: Any) -> MaskRCNN:
    """Build a small Mask R-CNN (He et al., Mask R-CNN, ICCV 2017); masks are 28 × 28 inside their boxes.

    Args:
        num_classes: number of classes, the background included.
        options: keyword arguments of :class:`torchvision.models.detection.MaskRCNN`.
    """
    return _mask_rcnn(_backbone(), num_classes, options)


def maskrcnn_slim(num_classes: int, **options: Any) -> MaskRCNN:
    """Build :func:`maskrcnn_resnet18` on the body of :func:`otx_xai.models.slim_classifier.resnet_slim`.

    Args:
        num_classes: number of classes, the background included.
        options: keyword arguments of :class:`torchvision.models.detection.MaskRCNN`.
    """
    return _mask_rcnn(_slim_backbone(), num_classes, options)


def _mask_rcnn(backbone: BackboneWithFPN, num_classes: int, options: dict[str, Any]) -> MaskRCNN:
    return MaskRCNN(
        backbone,
        **_rcnn_parts(num_classes),
        mask_roi_pool=_roi_align(14),
        mask_head=MaskRCNNHeads(_CHANNELS, (_CHANNELS, _CHANNELS), 1),
        mask_predictor=MaskRCNNPredictor(_CHANNELS, _CHANNELS, num_classes),
        **{**_FEW_PROPOSALS, **options},
    )


_FEW_PROPOSALS = {
    "rpn_pre_nms_top_n_train": 200,
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_train": 100,
    "rpn_post_nms_top_n_test": 50,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 64,
    "box_detections_per_img": 20,
}


def _rcnn_parts(num_classes: int) -> dict[str, Any]:
    pooled = 7
    width = 256
    return {
        "rpn_anchor_generator": _anchors(_SIDES, _RATIOS),
        "box_roi_pool": _roi_align(pooled),
        "box_head": _box_head(_CHANNELS * pooled**2, width),
        "box_predictor": FastRCNNPredictor(width, num_classes),
    }


def _box_head(channels: int, width: int) -> nn.Sequential:
    """Return torchvision's two layers for the pixels of a pooled box, normalised: they bear higher learning rates."""
    layers: list[nn.Module] = [nn.Flatten()]
    for incoming in (channels, width):
        layers += [nn.Linear(incoming, width, bias=False), nn.LayerNorm(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _anchors(sides: tuple[tuple[int, ...], ...], ratios: tuple[float, ...]) -> AnchorGenerator:
    """Return anchors around the middle of each place's cell.

    Torchvision lays them around its upper left corner: every class score then stands half a cell too far to the right
    and too far down, and so does each map that is made of them.
    """
    anchors = AnchorGenerator(sides, (ratios,) * len(sides))
    anchors.cell_anchors = [cell + stride / 2 for cell, stride in zip(anchors.cell_anchors, _STRIDES, strict=True)]
    return anchors


def _roi_align(output_size: int) -> MultiScaleRoIAlign:
    """Pool boxes below 64 pixels from stride 8, and larger ones from stride 16; a bin is hardly larger than a pixel."""
    return MultiScaleRoIAlign(list(_ROI_LEVELS), output_size, sampling_ratio=1, canonical_scale=64, canonical_level=4)


def _backbone() -> BackboneWithFPN:
    """Return ResNet-18 without its last stage under a pyramid."""
    return _pyramid(resnet18(weights=None), [128, 256])


def _slim_backbone() -> BackboneWithFPN:
    """Return the body of the slim classifier, and a stage more, under a pyramid."""
    return _pyramid(slim_body(), list(BODY_WIDTHS[2:]))


def _pyramid(body: nn.Module, channels: list[int]) -> BackboneWithFPN:
    """Return a body with a narrow feature pyramid: strides 8, 16, and 32 by pooling."""
    return BackboneWithFPN(
        body,
        return_layers={"layer2": "0", "layer3": "1"},
        in_channels_list=channels,
        out_channels=_CHANNELS,
        norm_layer=nn.BatchNorm2d,
    ).to(memory_format=torch.channels_last)
