"""D-RISE: which parts of an image a detector needs for each of its boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from otx_xai.errors import ConfigError, ImageError
from otx_xai.methods.rise import Defaults, RiseOptions, explain
from otx_xai.methods.spec import BOX_FINDERS, BoxJob, MethodSpec, any_model
from otx_xai.perturb.passes import PerturbationMaps, Scorer, Watch
from otx_xai.perturb.subject import Subject
from otx_xai.postprocess.overlaps import overlaps
from otx_xai.postprocess.proposals import Proposals, one_hot
from otx_xai.records import FloatArray, IntArray
from otx_xai.runtime import Arrays, Session

ReadProposals = Callable[[Arrays], Proposals]

_SAME_BOX = 0.5
"""Overlap from which a proposal of the same class is taken for the one that a box came from."""

_BOXES = Defaults(most=127, published=16, lengths=(0.06, 0.1, 0.15))
"""Boxes are small and large."""


@dataclass(frozen=True)
class BoxTargets:
    """Boxes to be found again in masked images.

    Args:
        boxes: ``float32`` ``(T, 4)``, xyxy in pixels of the network's input.
        classes: ``float32`` ``(T, K)``: class scores, of length 1.
    """

    boxes: FloatArray
    classes: FloatArray


def box_targets(boxes: FloatArray, labels: IntArray, proposals: Proposals) -> BoxTargets:
    """Give boxes the class scores of the proposals that they came from.

    Args:
        boxes: ``float32`` ``(T, 4)``, xyxy in pixels of the network's input.
        labels: ``int64`` ``(T,)``.
        proposals: of the image as it is.

    Returns:
        The boxes, with the class scores of the proposal of the same best class that overlaps each most, by half at
        least. A box that comes from no proposal, because it was drawn by hand, has 1 for its label and 0 elsewhere.
    """
    classes = one_hot(labels, proposals.classes.shape[1])
    if len(proposals):
        same = proposals.classes.argmax(axis=1) == labels[:, None]
        shared = np.where(same, overlaps(boxes, proposals.boxes), 0)
        best = shared.argmax(axis=1)
        known = shared[np.arange(len(boxes)), best] >= _SAME_BOX
        classes[known] = proposals.classes[best[known]]
    return BoxTargets(np.asarray(boxes, np.float32), _unit(classes))


def similarity(targets: BoxTargets, proposals: Proposals) -> FloatArray:
    """Return how well each box is found again: arXiv 2006.03204, equations 3 and 7.

    Returns:
        ``float32`` ``(T,)`` in [0, 1]: the largest intersection over union × cosine of class scores × objectness of
        any proposal; 0 without proposals.
    """
    if not len(proposals):
        return np.zeros(len(targets.boxes), np.float32)
    alike = targets.classes @ _unit(proposals.classes).T
    found = overlaps(targets.boxes, proposals.boxes) * alike * proposals.objectness
    best: FloatArray = found.max(axis=1)
    return best


def box_scorer(session: Session, read: ReadProposals, boxes: FloatArray, labels: IntArray, subject: Subject) -> Scorer:
    """Return how a detector scores an image: by how well it finds the boxes of the whole image again."""
    plain = session.stream([subject.image], lambda image: (image, None), lambda _, outputs: read(outputs), whole=True)
    ((_, proposals),) = plain
    if isinstance(proposals, ImageError):
        raise proposals
    targets = box_targets(boxes, labels, proposals)
    return Scorer(session, lambda outputs: similarity(targets, read(outputs)), whole=True)


def drise(
    session: Session,
    read: ReadProposals,
    subject: Subject,
    boxes: FloatArray,
    labels: IntArray,
    options: RiseOptions | None = None,
    watch: Watch | None = None,
    *,
    priors: FloatArray | None = None,
) -> PerturbationMaps:
    """Explain all boxes of one image from the same forward passes.

    Args:
        session: the compiled detector, or instance segmenter, whose boxes are explained.
        read: makes proposals of its outputs (with the batch axis), such as
            :func:`~otx_xai.postprocess.proposals.read_proposals` with the rest of its arguments given.
        subject: the image.
        boxes: ``float32`` ``(T, 4)``, xyxy in pixels of the network's input.
        labels: ``int64`` ``(T,)``: class indices.
        options: see :class:`~otx_xai.methods.rise.RiseOptions`.
        watch: reports of progress, interruption.
        priors: for each box how much places may matter, ``float32`` ``(T, h, w)``, positive, over the whole of the
            network's input; see :class:`~otx_xai.perturb.guided_regression.GuidedRegression`.

    Returns:
        A map for each box, in their order; ``targets`` are their numbers.

    Raises:
        ConfigError: an option is out of range, or there is no box.
        ModelError: an inference failed, or the outputs are not understood.

    References:
        D-RISE: https://arxiv.org/abs/2006.03204.
    """
    if not len(boxes):
        raise ConfigError("There is no box to explain; expected at least one. Lower the confidence threshold.")
    scorer = box_scorer(session, read, boxes, labels, subject)
    return explain(scorer, subject, None, options or RiseOptions(), _BOXES, watch, priors)


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: FloatArray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return result


def _explain_boxes(job: BoxJob, options: RiseOptions, watch: Watch | None) -> PerturbationMaps:
    return drise(job.session, job.read, job.subject, job.boxes, job.labels, options, watch)


SPEC = MethodSpec(
    "drise",
    "D-RISE: how well boxes are found again in masked images; any detector",
    BOX_FINDERS,
    any_model,
    options=RiseOptions,
    explain_boxes=_explain_boxes,
)
