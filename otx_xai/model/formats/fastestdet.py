"""FastestDet: one map of objectness, offsets and sizes of boxes, and a soft-max over classes."""

from __future__ import annotations

import numpy as np

from otx_xai.errors import ModelError
from otx_xai.graph.columns import bounds_of, pieces_of
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match
from otx_xai.model.formats.dense import NOT_RAW, Dense, candidates_of, proposals_of, require_shares
from otx_xai.postprocess.box_coding import corners
from otx_xai.postprocess.proposals import Proposals
from otx_xai.postprocess.scores import sigmoid
from otx_xai.records import FloatArray, IntArray, Size

_AHEAD = 5
"""Channels in front of the classes: objectness and four of the box."""

_SOFTMAX_SLACK = 0.15
"""How far the sum of a soft-max may lie from 1: 8-bit numbers lose many small scores."""


def _matches(outputs: DetectorOutputs) -> Match | None:
    """Match one map whose channels are put together of 1, 4 and more, or one of as many more as there are names."""
    if len(outputs.ports) != 1 or outputs.ports[0].is_integer or len(outputs.ports[0].shape) != 4:
        return None
    port = outputs.ports[0]
    batch, width = port.shape[:2]
    if batch not in (None, 1) or width is None or width <= _AHEAD:
        return None
    joined = {1, _AHEAD} <= bounds_of(pieces_of(outputs.view, outputs.output(port), 1))
    if not joined and not (outputs.declared and outputs.num_names == width - _AHEAD):
        return None
    return Match(
        f"{port} holds objectness, a box and {width - _AHEAD} classes for every place",
        {"map": port.name},
        num_classes=width - _AHEAD,
        suppressed=False,
        sure=joined,
    )


def _decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
    single = _single(outputs, match)
    # weights of the authors' own post-processing
    positive: FloatArray = np.maximum(single, np.float32(0))
    scores = positive[:1] ** 0.6 * positive[_AHEAD:] ** 0.4
    return candidates_of(_dense(single, size), threshold, scores.reshape(len(scores), -1).T)


def _proposals(outputs: Arrays, match: Match, size: Size, threshold: float) -> Proposals:
    return proposals_of(_dense(_single(outputs, match), size), threshold)


def _single(outputs: Arrays, match: Match) -> FloatArray:
    """Return the map of one image, ``(5 + K, h, w)``, which must hold scores where they belong."""
    single: FloatArray = np.asarray(outputs[match.roles["map"]])[0].astype(np.float32, copy=False)
    require_shares(single[:1], "objectness")
    require_shares(single[_AHEAD:], "class scores")
    total = float(single[_AHEAD:].sum(axis=0).mean())
    if abs(total - 1) > _SOFTMAX_SLACK:
        raise ModelError(
            f"The output of the detector was read as FastestDet's [1,5+K,h,w], but its class scores add up to "
            f"{total:.3g}; expected 1, by a soft-max over the last {len(single) - _AHEAD} channels. {NOT_RAW}"
        )
    return single


def _dense(single: FloatArray, size: Size) -> Dense:
    classes = single[_AHEAD:].reshape(len(single) - _AHEAD, -1).T
    return Dense(classes, lambda places: _boxes(single, size, places), single[0].reshape(-1))


def _boxes(single: FloatArray, size: Size, places: IntArray) -> FloatArray:
    """Decode the boxes ``(P, 4)`` of some places, which are numbered row by row, on the input of ``size``."""
    (rows, columns), (height, width) = single.shape[1:], size
    chosen = single[1:_AHEAD].reshape(4, -1)[:, places]
    centre_x = (np.tanh(chosen[0]) + (places % columns).astype(np.float32)) * (width / columns)
    centre_y = (np.tanh(chosen[1]) + (places // columns).astype(np.float32)) * (height / rows)
    sizes = sigmoid(chosen[2:]) * np.array([width, height], np.float32)[:, None]
    return corners(np.stack([centre_x, centre_y, sizes[0], sizes[1]], axis=-1))


FORMAT = BoxFormat(
    "fastestdet",
    "one output [1,5+K,h,w] of FastestDet: objectness, the box relative to its place, K classes by a soft-max",
    _matches,
    _decode,
    _proposals,
)
