"""FastestDet: objectness, box and classes as channels of one map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from otx_xai.errors import ModelError
from otx_xai.graph.columns import pieces_of, within
from otx_xai.model.formats.box_format import Arrays, BoxFormat, Candidates, DetectorOutputs, Match, OutputPort
from otx_xai.model.formats.dense import NOT_RAW, Chosen, Dense, candidates_of, factor, proposals_of, require_shares
from otx_xai.postprocess.box_coding import corners
from otx_xai.postprocess.proposals import Proposals
from otx_xai.postprocess.scores import sigmoid
from otx_xai.records import FloatArray, IntArray, ScoreOrigin, Size

_AHEAD = 5
"""Channels in front of the classes: objectness, and a box."""

_POWERS = (0.6, 0.4)
"""Of objectness and class score in a score, by the authors' own post-processing."""

_SOFTMAX_SLACK = 0.15
"""How far the sum of a soft-max may lie from 1: 8-bit numbers lose many small scores."""


def _match(outputs: DetectorOutputs) -> Match | None:
    if len(outputs.ports) != 1 or (outputs.evidence is None and not outputs.declared):
        return None
    (port,) = outputs.ports
    if port.is_integer or len(port.shape) != 4 or port.shape[0] not in (None, 1):
        return None
    channels = port.shape[1]
    if channels is None or channels <= _AHEAD:
        return None
    told = _told(outputs, port)
    named = outputs.num_names == channels - _AHEAD
    if told is False or (told is None and not named and not (outputs.declared and outputs.num_names is None)):
        return None
    return Match(
        f"{port} holds for every place: objectness, box, {channels - _AHEAD} classes",
        {"predictions": port.name},
        num_classes=channels - _AHEAD,
        suppressed=False,
        sure=told is True or named,
    )


def _told(outputs: DetectorOutputs, port: OutputPort) -> bool | None:
    """Whether the graph says that channels are objectness, a box and classes; ``None``: it is silent."""
    pieces = pieces_of(outputs.view, outputs.output(port), 1)
    if len(pieces) <= 1:
        return None
    if not {1, _AHEAD} <= {piece.begin for piece in pieces}:
        return False
    activations = [piece.activation for piece in within(pieces, _AHEAD, pieces[-1].end)]
    return pieces[0].activation == "Sigmoid" and activations == ["Softmax"]


# --- reading ----------------------------------------------------------------------------------------------------------


def _decode(outputs: Arrays, match: Match, size: Size, threshold: float) -> Candidates:
    output = _single(outputs, match)
    require_shares(output[:1], "objectness")
    require_shares(output[_AHEAD:], "class scores")
    total = float(output[_AHEAD:].sum(axis=0).mean())
    if abs(total - 1) > _SOFTMAX_SLACK:
        raise ModelError(
            f"The output of the detector was read as FastestDet's [1,5+K,h,w], but its class scores add up to "
            f"{total:.3g}; expected 1, by a soft-max over the last {len(output) - _AHEAD} channels. {NOT_RAW}"
        )
    positive: FloatArray = np.maximum(output, np.float32(0))
    scores = positive[:1] ** _POWERS[0] * positive[_AHEAD:] ** _POWERS[1]
    flat = output.reshape(len(output), -1)

    def origins(places: Chosen, labels: IntArray) -> tuple[ScoreOrigin, ...]:
        name, number = match.roles["predictions"], flat.shape[1]
        channels = (np.zeros_like(labels), _AHEAD + labels)
        first, second = (
            factor(name, channel * number + places, flat[channel, places], power=power)
            for channel, power in zip(channels, _POWERS, strict=True)
        )
        return first, second

    dense = replace(_dense(output, size), origins=origins)
    return candidates_of(dense, threshold, scores.reshape(len(scores), -1).T)


def _proposals(outputs: Arrays, match: Match, size: Size, threshold: float) -> Proposals:
    return proposals_of(_dense(_single(outputs, match), size), threshold)


def _single(outputs: Arrays, match: Match) -> FloatArray:
    output: FloatArray = np.asarray(outputs[match.roles["predictions"]])[0].astype(np.float32, copy=False)
    return output


def _dense(output: FloatArray, size: Size) -> Dense:
    flat = output.reshape(len(output), -1)
    return Dense(flat[_AHEAD:].T, lambda chosen: _boxes(output, size, chosen), flat[0])


def _boxes(output: FloatArray, size: Size, places: Chosen) -> FloatArray:
    """Decode the boxes ``(M, 4)`` of some places, which are numbered row by row."""
    (rows, columns), (height, width) = output.shape[1:], size
    chosen = output[1:_AHEAD].reshape(4, -1)[:, places]
    centre_x = (np.tanh(chosen[0]) + (places % columns).astype(np.float32)) * (width / columns)
    centre_y = (np.tanh(chosen[1]) + (places // columns).astype(np.float32)) * (height / rows)
    sizes = sigmoid(chosen[2:]) * np.array([width, height], np.float32)[:, None]
    return corners(np.stack([centre_x, centre_y, sizes[0], sizes[1]], axis=-1))


FORMAT = BoxFormat(
    "fastestdet",
    "one output [1,5+K,h,w] with a place's objectness, box (offset and size) and K class scores after a soft-max",
    _match,
    _decode,
    _proposals,
)
