"""ViT Recipro-CAM: the class scores when the last transformer block sees a 3×3 neighbourhood of places.

Byun & Lee, *ViT-ReciproCAM: Gradient and attention-free visual explanations for vision transformer*, 2023
(arXiv:2310.02588). The mask of a place (a 3×3 Gaussian, prefix tokens kept) multiplies the block's normed tokens and
its residual. Only the class token's output is read, so the exact result needs no ``h·w`` runs of the block:

* the class token is never masked, so its query and its residual are one constant row;
* keys and values are affine in the mask, ``k(m ⊙ x) = k(0) + m ⊙ (k(x) - k(0))``: the logits of all masks are one
  row times the masks, and the attention is one product ``(M × T) · (T × d)``;
* behind the attention every operation works on each token alone: the class tokens of all masks travel together along
  the token axis, in the places of the image tokens; that of no mask is among them, and gives the scores.

Where the block is not of this form (keys normed after the projection, several attentions) the general form of
``heads`` runs it on masked tokens, mask by mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from otx_xai.graph.constants import evaluate
from otx_xai.graph.cuts import Cut
from otx_xai.graph.features import Features, prefix_picks
from otx_xai.graph.surgery import batch_obstacle, cut, graft, reshape, size_of, transpose
from otx_xai.graph.view import dimensions, kind, port_of
from otx_xai.methods.attention import Attention, Block, attention_block, is_affine, is_row_wise
from otx_xai.methods.class_branch import ClassMaps, fit_of_classifier, insert_class_branch, reads_no_class_token
from otx_xai.methods.heads import Site, class_scores, fitting, masked_scores
from otx_xai.methods.places import GAUSSIAN, gaussian_masks
from otx_xai.methods.spec import CLASSIFIERS, Branch, Fit, MethodSpec, Order
from otx_xai.model.opened import Model

Picks = Sequence[tuple[ov.Node, Cut]]


def vit_recipro_cam(site: Site, picks: Picks, target: Features | None = None) -> ov.Output:
    """Return maps ``(N, K, M)`` of the wanted classes, unscaled.

    Args:
        site: the model under surgery; its features are the tokens that ``picks`` read.
        picks: the nodes that pick class (and distillation) tokens, with their cuts.
        target: tokens that enter the block to perturb; the last block's by default.
    """
    block = attention_block(site.anatomy, target)
    if block.attention is None or not _is_fast(site, block, block.attention, picks):
        return _general(site, block)
    features = site.anatomy.features
    masks = gaussian_masks(site.main, features)
    parts = _affine_parts(site, block, block.attention)
    rows = {}
    for node, where in picks:
        tokens = _class_tokens(site, block, block.attention, parts, masks, where.begin)
        if _holds_the_scores(site, block, picks, tokens):
            site.main.node(node).input(0).replace_source_output(tokens)
        tokens = transpose(tokens, (features.batch_axis, *features.places, features.channel_axis))
        after = dimensions(node.output(0)) or []
        rows[port_of(node.output(0))] = reshape(tokens, (-1, *(size or 1 for size in after[1:])))
    linear = site.linear([node.output(0) for node, _ in picks])
    end = linear.features if linear is not None else site.anatomy.logits.port
    (scored,) = graft(site.view, rows, [end], outside=site.main.output, prefix=site.prefix, free_batch=True)
    entering = site.main.output(block.residual.output)
    images, count = (size_of(entering, axis) for axis in (block.residual.batch_axis, block.residual.places[0]))
    scores = class_scores(site, linear, scored, images, count)
    return cut(scores, 2, features.prefix, None)


def _is_fast(site: Site, block: Block, attention: Attention, picks: Picks) -> bool:
    """Whether the exact fast form holds for the block and all that follows it."""
    features, view = site.anatomy.features, site.view
    normed = dimensions(block.normed.output) or [None]
    return (
        is_affine(view, block.normed.output, [attention.key, attention.value])
        and is_row_wise(site.anatomy, [attention.output, block.residual.output], features.output)
        and all(size is not None for axis, size in enumerate(normed) if axis != block.normed.batch_axis)
        and _batch_broadcasts(attention, normed)
        and all((dimensions(node.output(0)) or [0])[0] == features.dims[features.batch_axis] for node, _ in picks)
        and batch_obstacle(view, [node.output(0) for node, _ in picks], [site.anatomy.logits.port]) is None
    )


def _holds_the_scores(site: Site, block: Block, picks: Picks, tokens: ov.Output) -> bool:
    """Whether the rest of the last block need not run a second time for the model's own scores.

    The rows of prefix tokens mask nothing, so what the head picks is in ``tokens``, in its place: of the block's own
    tokens nobody reads another one. It differs by rounding alone, unless the block quantises what the copy does not.
    """
    view, end = site.view, site.anatomy.features.output
    starts = [block.normed.output, block.residual.output]
    readers = {node.get_name() for node, _ in view.consumers.get(port_of(end), ())}
    return (
        readers == {node.get_name() for node, _ in picks}
        and tokens.get_partial_shape() == end.get_partial_shape()
        and tokens.get_element_type() == end.get_element_type()
        and not any(kind(node) == "FakeQuantize" for node in view.ordered(view.between(starts, [end])))
    )


def _batch_broadcasts(attention: Attention, normed: list[int | None]) -> bool:
    """Whether constants computed for one image serve a dynamic batch: not where batch and heads are merged."""
    return None not in normed or len(dimensions(attention.key) or ()) == 4


def _general(site: Site, block: Block) -> ov.Output:
    masked = {port_of(features.output): features for features in (block.normed, block.residual)}
    return masked_scores(site, list(masked.values()), GAUSSIAN)


class _Parts:
    """Query, key and value of the block, taken apart into what a silent token gives and what a token adds.

    Args:
        query: of every token.
        key: what tokens add to ``key_of_silence``.
        value: what tokens add to ``value_of_silence``.
        key_of_silence: key of an all-zero token where it differs from token to token, else ``None`` (then it shifts
            all logits alike, which soft-max does not see).
        value_of_silence: value of an all-zero token, broadcast over tokens or ``(…, T, d)``.
    """

    def __init__(
        self,
        query: ov.Output,
        key: ov.Output,
        value: ov.Output,
        key_of_silence: ov.Output | None,
        value_of_silence: ov.Output,
    ) -> None:
        self.query = query
        self.key = key
        self.value = value
        self.key_of_silence = key_of_silence
        self.value_of_silence = value_of_silence


def _affine_parts(site: Site, block: Block, attention: Attention) -> _Parts:
    view, normed = site.view, block.normed.output
    ends = [attention.query, attention.key, attention.value]
    inner = view.ordered(view.between([normed], ends))
    if any(kind(node) == "FakeQuantize" for node in inner):
        start = {port_of(normed): site.main.output(normed)}
        query, key, value = graft(
            view, start, ends, outside=site.main.output, prefix=f"{site.prefix}/exact", free_batch=False
        )
    else:
        query, key, value = (site.main.output(end) for end in ends)
    silence = _of_silence(site, normed, ends[1:])
    token_axis = -1 if attention.key_is_transposed else -2
    silent_key = _once(silence[0], token_axis)
    silent_value = _once(silence[1], -2)
    added_key = ops.subtract(key, ops.constant(silent_key)).output(0)
    added_value = ops.subtract(value, ops.constant(silent_value)).output(0)
    differs = silent_key.shape[token_axis] != 1
    return _Parts(
        query,
        added_key,
        added_value,
        ops.constant(silent_key).output(0) if differs else None,
        ops.constant(silent_value).output(0),
    )


def _of_silence(site: Site, normed: ov.Output, ends: list[ov.Output]) -> list[NDArray[np.float32]]:
    """Return keys and values of all-zero tokens."""
    dims = [size or 1 for size in dimensions(normed) or ()]
    # a parameter, not a constant: the CPU plugin does not compile an 8-bit model that is constant all through
    silence = ops.parameter(dims, np.float32)
    starts = {port_of(normed): silence.output(0)}
    grafted = graft(site.view, starts, ends, outside=lambda output: output, prefix="silence", free_batch=False)
    return evaluate(grafted, {silence: np.zeros(dims, np.float32)})


def _once(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Keep one entry of an axis along which the values do not change."""
    first = np.take(values, [0], axis=axis)
    return first if np.array_equal(np.broadcast_to(first, values.shape), values) else values


def _class_tokens(
    site: Site, block: Block, attention: Attention, parts: _Parts, masks: ov.Output, token: int
) -> ov.Output:
    """Return the features of prefix token ``token`` for every mask, laid out along the token axis."""
    query = cut(parts.query, len(dimensions(parts.query) or ()) - 2, token, token + 1)
    row = _row_logits(site, attention, query, parts.key)
    portions = [_attended(site, attention, query, parts, row, portion, token) for portion in _portions(masks, row)]
    mixed = ops.concat(portions, axis=-2).output(0) if len(portions) > 1 else portions[0]
    residual = site.main.output(block.residual.output)
    residual_row = cut(residual, block.residual.places[0], token, token + 1)
    residual_row = ops.broadcast(residual_row, ops.shape_of(residual, output_type="i64")).output(0)
    starts = {port_of(attention.output): mixed, port_of(block.residual.output): residual_row}
    end = site.anatomy.features.output
    (tokens,) = graft(site.view, starts, [end], outside=site.main.output, prefix=site.prefix, free_batch=False)
    return tokens


def _attended(
    site: Site, attention: Attention, query: ov.Output, parts: _Parts, row: ov.Output, masks: ov.Output, token: int
) -> ov.Output:
    """Return the attention's output for one query and every mask, ``(…, c, d)``.

    Args:
        site: the model under surgery.
        attention: of the block.
        query: ``(…, 1, d)``.
        parts: of the attention.
        row: logits of the query without masks, ``(…, 1, T)``.
        masks: ``(c, T)``.
        token: number of the query.
    """
    logits = ops.multiply(row, masks).output(0)  # (…, c, T)
    if parts.key_of_silence is not None:
        logits = ops.add(logits, _row_logits(site, attention, query, parts.key_of_silence)).output(0)
    if attention.bias is not None:
        logits = ops.add(logits, _bias_row(site, attention.bias, token)).output(0)
    weights = ops.softmax(logits, -1)
    mixed = ops.matmul(ops.multiply(weights, masks), parts.value, False, False)
    silent = parts.value_of_silence
    if (dimensions(silent) or [1, 1])[-2] != 1:
        silent = ops.matmul(weights, silent, False, False).output(0)
    return ops.add(mixed, silent).output(0)


def _portions(masks: ov.Output, row: ov.Output) -> list[ov.Output]:
    """Divide the masks so that the logits of a portion, held in two versions at a time, fit into memory.

    Args:
        masks: ``(T, T)``.
        row: logits of one mask, ``(…, 1, T)``.

    Returns:
        Portions ``(c, T)``.
    """
    dims = [size or 1 for size in dimensions(row) or [1]]
    count, step = dims[-1], fitting(2 * prod(dims[1:]))
    if step >= count:
        return [masks]
    step = ceil(count / ceil(count / step))
    return [cut(masks, 0, begin, begin + step) for begin in range(0, count, step)]


def _row_logits(site: Site, attention: Attention, query: ov.Output, key: ov.Output) -> ov.Output:
    """Return the scaled logits ``(…, 1, T)`` of one query."""
    logits = ops.matmul(query, key, False, not attention.key_is_transposed)
    for scale in (ops.multiply, ops.divide):
        for factor in attention.factors if scale is ops.multiply else attention.divisors:
            number = ops.constant(np.float32(factor)) if isinstance(factor, float) else site.main.output(factor)
            logits = scale(logits, number)
    return logits.output(0)


def _bias_row(site: Site, bias: ov.Output, token: int) -> ov.Output:
    value = site.main.output(bias)
    dims = dimensions(value) or []
    return cut(value, len(dims) - 2, token, token + 1) if len(dims) > 1 and dims[-2] != 1 else value


def _draw(site: Site, target: Features | None) -> ov.Output:
    return vit_recipro_cam(site, prefix_picks(site.anatomy) or (), target)


# It perturbs in front of a block, and still needs the tokens that the head reads
_MAPS = ClassMaps(
    "vitreciprocam",
    _draw,
    lambda anatomy, _: anatomy.features,
    head_at_target=False,
    refusal=reads_no_class_token,
)


def _fits(model: Model, target_layers: Sequence[str]) -> Fit:
    return fit_of_classifier(model, target_layers, _MAPS)


def _insert(model: Model, order: Order) -> Branch:
    return insert_class_branch(model, order, _MAPS)


SPEC = MethodSpec(
    "vitreciprocam",
    "ViT Recipro-CAM: class scores when the last attention sees places alone; transformers with a class token",
    CLASSIFIERS,
    _fits,
    insert=_insert,
)
