"""Instance segmentation: boxes with a label, a score and a mask."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from otx_xai.models import box_models as boxes
from otx_xai.models.detectors import BoxModel, mean_average_precision
from otx_xai.records import Task

_MASK_THRESHOLD = 0.5


class InstanceSegmenter(BoxModel):
    """Mask R-CNN of torchvision.

    Its scores are ``map`` and ``map_50`` (mean average precision of the boxes, as COCO has it), and ``map_mask`` (of
    the masks).
    """

    task: ClassVar[Task] = Task.INSTANCE_SEGMENTATION

    def forward(self, images: Tensor) -> Any:
        """Return instances; the model is in evaluation mode.

        Args:
            images: ``float32`` or ``uint8`` ``(N, 3, H, W)``, RGB on the 0-255 scale, of the input's size.

        Returns:
            For each image a dict: ``boxes`` ``float32`` ``(M, 4)`` xyxy in pixels of the input, ``labels`` ``int64``
            ``(M,)`` from 0 to K - 1, ``scores`` ``(M,)`` in [0, 1], ``masks`` ``float32`` ``(M, 1, H, W)`` in [0, 1].
        """
        size = (images.shape[-2], images.shape[-1])
        found = boxes.detect(self.network, self.normalise(images))
        return [{**one, "masks": boxes.paste(one["masks"], one["boxes"], size)} for one in found]

    def counted(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return boxes, labels and scores, and the masks as ``bool`` ``(M, H, W)``."""
        masks = found["masks"]
        is_prediction = "scores" in found
        return {**found, "masks": masks[:, 0] >= _MASK_THRESHOLD if is_prediction else masks.bool()}

    def make_metric(self) -> nn.Module:
        """Return mean average precision of boxes and masks, empty.

        Raises:
            ConfigError: pycocotools is missing.
        """
        return mean_average_precision("bbox", "segm")

    def summarise(self, metric: nn.Module) -> dict[str, Tensor]:
        """Return ``map``, ``map_50`` and ``map_mask``; 0 where there is nothing to find."""
        scores = metric.compute()
        names = {"map": "bbox_map", "map_50": "bbox_map_50", "map_mask": "segm_map"}
        return {name: scores[theirs].clamp(min=0) for name, theirs in names.items()}
