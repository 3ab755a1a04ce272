"""Classifiers: one score a class for the whole image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from otx_xai.models.base import Normalise, OTXModel
from otx_xai.records import Task


class _Classifier(OTXModel):
    """What classifiers with exclusive and with independent classes share."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: ``float32`` or ``uint8`` ``(N, 3, H, W)``, RGB on the 0-255 scale.

        Returns:
            ``float32`` ``(N, K)``, before soft-max or sigmoid.
        """
        return self.network(self.normalise(images))

    def export_module(self) -> nn.Module:
        """Return what is traced: images ``(N, 3, H, W)`` in, ``(logits,)`` out, ``float32`` ``(N, K)``.

        It shares the model's weights, and puts the network into evaluation mode.
        """
        return _ExportedClassifier(self.normalise, self.network).eval()

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        return self.loss_of(self(images), targets)

    def evaluate(self, images: Tensor, targets: Tensor, metric: nn.Module) -> Tensor:
        """Add a batch to the metric, and return its loss."""
        logits = self(images)
        metric.update(self.decide(logits), targets.long())
        return self.loss_of(logits, targets)

    def predict(self, images: Tensor) -> dict[str, Any]:
        """Return ``scores``: probabilities ``float32`` ``(N, K)`` in [0, 1]."""
        return {"scores": self.score(self(images))}

    def summarise(self, metric: nn.Module) -> dict[str, Tensor]:
        """Return ``accuracy`` and ``f1``."""
        scores: dict[str, Tensor] = metric.compute()
        return scores

    @abstractmethod
    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy between logits ``(N, K)`` and targets."""

    @abstractmethod
    def score(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities in [0, 1]."""

    @abstractmethod
    def decide(self, logits: Tensor) -> Tensor:
        """Turn logits into what the metric compares with the targets."""


class MulticlassClassifier(_Classifier):
    """A classifier of exclusive classes: soft-max, cross-entropy.

    Targets are ``int64`` ``(N,)``. Its scores are ``accuracy`` (the part of the images whose best class is right) and
    ``f1`` (mean over the classes).
    """

    task: ClassVar[Task] = Task.MULTI_CLASS_CLS

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy between logits ``(N, K)`` and targets ``int64`` ``(N,)``."""
        return functional.cross_entropy(logits, targets)

    def score(self, logits: Tensor) -> Tensor:
        """Return the soft-max over the classes."""
        return logits.softmax(dim=1)

    def decide(self, logits: Tensor) -> Tensor:
        """Return the best class, ``int64`` ``(N,)``."""
        return logits.argmax(dim=1)

    def make_metric(self) -> nn.Module:
        """Return accuracy and F1, empty."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        classes = max(len(self.labels), 2)  # torchmetrics knows no single class
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "f1": MulticlassF1Score(classes, average="macro"),
            }
        )


class MultilabelClassifier(_Classifier):
    """A classifier of independent classes: sigmoid, binary cross-entropy.

    Targets are ``float32`` ``(N, K)``, 0 or 1. A class is present from a score of 0.5. Its scores are ``accuracy``
    and ``f1``, means over the classes.
    """

    task: ClassVar[Task] = Task.MULTI_LABEL_CLS

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean binary cross-entropy between logits and targets, both ``(N, K)``."""
        return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def score(self, logits: Tensor) -> Tensor:
        """Return the sigmoid."""
        return logits.sigmoid()

    def decide(self, logits: Tensor) -> Tensor:
        """Return which classes are present, ``int64`` ``(N, K)``, 0 or 1."""
        return (logits >= 0).long()

    def make_metric(self) -> nn.Module:
        """Return accuracy and F1, empty."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, MultilabelAccuracy, MultilabelF1Score

        classes = len(self.labels)
        if classes == 1:
            return MetricCollection({"accuracy": BinaryAccuracy(), "f1": BinaryF1Score()})
        return MetricCollection(
            {
                "accuracy": MultilabelAccuracy(classes, average="macro"),
                "f1": MultilabelF1Score(classes, average="macro"),
            }
        )


class _ExportedClassifier(nn.Module):  # type: ignore[misc]
    """Normalisation and network."""

    def __init__(self, normalise: Normalise, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(self.normalise(images)),)
