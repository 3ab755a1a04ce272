"""Detectors: boxes with a label and a score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from otx_xai.errors import ConfigError
from otx_xai.models import box_models as boxes
from otx_xai.models.base import OTXModel
from otx_xai.records import Task


class BoxModel(OTXModel):
    """What models share that find boxes: Lightning's steps on top of torchvision's detectors.

    A batch is ``(images, targets)``: a list of ``uint8`` ``(3, H, W)`` of the input's size, and for each image a dict
    of ``boxes`` ``float32`` ``(M, 4)`` xyxy in pixels of the input, ``labels`` ``int64`` ``(M,)`` from 0 to K - 1, and
    for instance segmentation ``masks`` ``uint8`` ``(M, H, W)``.
    """

    def export_module(self) -> nn.Module:
        """Return what is traced: one image ``(1, 3, H, W)`` in; ``boxes`` ``(1, M, 5)``, ``labels`` ``(1, M)`` out.

        The fifth column of ``boxes`` is the score; ``labels`` are ``int64`` from 0. From instance segmentation come
        also ``masks`` ``(1, M, h, w)`` in [0, 1] inside each box. It shares the model's weights, and puts the network
        into evaluation mode.
        """
        return boxes.ExportedDetector(self.normalise, self.network).eval()

    def loss(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]) -> Tensor:
        """Return the sum of the detector's losses."""
        batch = self.normalise(boxes.stack(images, self.geometry.size))
        return sum(boxes.losses(self.network, batch, targets).values(), batch.new_zeros(()))

    def evaluate(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], metric: nn.Module) -> Tensor:
        """Add a batch to the metric, and return its loss."""
        found = self(boxes.stack(images, self.geometry.size))
        metric.update([self.counted(one) for one in found], [self.counted(one) for one in targets])
        return self.loss(images, targets)

    def predict(self, images: Sequence[Tensor]) -> dict[str, Any]:
        """Return ``detections``: what :meth:`forward` returns."""
        return {"detections": self(boxes.stack(images, self.geometry.size))}

    @abstractmethod
    def counted(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the metric looks at, of a prediction or a target."""


class Detector(BoxModel):
    """A detector: SSD, SSDLite, RetinaNet, FCOS or Faster R-CNN of torchvision.

    Its scores are ``map`` (mean average precision over IoU 0.5 to 0.95, as COCO has it) and ``map_50``.
    """

    task: ClassVar[Task] = Task.DETECTION

    def forward(self, images: Tensor) -> Any:
        """Return detections; the model is in evaluation mode.

        Args:
            images: ``float32`` or ``uint8`` ``(N, 3, H, W)``, RGB on the 0-255 scale, of the input's size.

        Returns:
            For each image a dict: ``boxes`` ``float32`` ``(M, 4)`` xyxy in pixels of the input, ``labels`` ``int64``
            ``(M,)`` from 0 to K - 1, ``scores`` ``(M,)`` in [0, 1].
        """
        return boxes.detect(self.network, self.normalise(images))

    def counted(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return boxes, labels and scores."""
        return found

    def make_metric(self) -> nn.Module:
        """Return mean average precision, empty.

        Raises:
            ConfigError: pycocotools is missing.
        """
        return mean_average_precision("bbox")

    def summarise(self, metric: nn.Module) -> dict[str, Tensor]:
        """Return ``map`` and ``map_50``; 0 where there is nothing to find."""
        scores = metric.compute()
        return {name: scores[name].clamp(min=0) for name in ("map", "map_50")}


def mean_average_precision(*iou_types: Literal["bbox", "segm"]) -> nn.Module:
    """Return COCO's mean average precision of ``bbox``, ``segm`` or both.

    Raises:
        ConfigError: pycocotools is missing.
    """
    from torchmetrics.detection import MeanAveragePrecision

    try:
        metric = MeanAveragePrecision(iou_type=iou_types)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Mean average precision needs pycocotools, which is not installed. Run: pip install otx-xai[train]"
        ) from error
    metric.warn_on_many_detections = False
    return metric
