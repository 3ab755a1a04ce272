"""Detectors that learn quickly from scratch on small pictures: torchvision's own classes, few channels, few proposals.

They are made for inputs of about 160 pixels: ResNet-18, levels of stride 8, 16, 32 and 64, small anchors. All say
``num_classes`` as torchvision does; those of SSD and the R-CNNs include the background.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

_CHANNELS = 64
_ROI_LEVELS = ("0", "1", "2")


def fcos_resnet18(num_classes: int, **options: Any) -> FCOS:
    """Build a small FCOS (Tian et al., FCOS: A simple and strong anchor-free object detector, TPAMI 2022).

    Args:
        num_classes: number of classes, no background.
        options: keyword arguments of :class:`torchvision.models.detection.FCOS`.
    """
    backbone = _backbone()
    return FCOS(
        backbone,
        num_classes,
        anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4),
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
    anchors = AnchorGenerator(tuple((side, round(side * 1.4)) for side in (20, 40, 80, 160)), ((0.5, 1.0, 2.0),) * 4)
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
    boxes = DefaultBoxGenerator([[2]] * 4, scales=[0.12, 0.25, 0.45, 0.7, 0.95])
    channels = [backbone.out_channels] * 4
    head = SSDLiteHead(channels, boxes.num_anchors_per_location(), num_classes, nn.BatchNorm2d)
    return SSD(
        backbone,
        boxes,
        (160, 160),
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
    return MaskRCNN(
        _backbone(),
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
        "rpn_anchor_generator": AnchorGenerator(((16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 4),
        "box_roi_pool": _roi_align(pooled),
        "box_head": TwoMLPHead(_CHANNELS * pooled**2, width),
        "box_predictor": FastRCNNPredictor(width, num_classes),
    }


def _roi_align(output_size: int) -> MultiScaleRoIAlign:
    """Pool boxes below 64 pixels from stride 8, below 128 from stride 16, and larger ones from stride 32."""
    return MultiScaleRoIAlign(list(_ROI_LEVELS), output_size, sampling_ratio=2, canonical_scale=64, canonical_level=4)


def _backbone() -> BackboneWithFPN:
    """Return ResNet-18 with a narrow feature pyramid: strides 8, 16, 32, and 64 by pooling."""
    return BackboneWithFPN(
        resnet18(weights=None),
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[128, 256, 512],
        out_channels=_CHANNELS,
    )
