"""What a reshape makes of the meaning of axes: neighbours are merged and split, and places stay known.

Rows and columns of places may be cut into blocks, and the parts be moved about (windows, unrolled tokens). Each part
is a :class:`~otx_xai.graph.labels.Digit` of the row or the column, as tens and ones are digits of a number; where the
parts come together again in their old order, or only the leading ones are left, the axis is one of places again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from otx_xai.graph.labels import Blocks, Digit, Label, Labels, Rows, Tokens
from otx_xai.graph.view import Port


def reshaped(own: Labels, before: Sequence[int | None], after: Sequence[int | None], source: Port) -> Labels | None:
    """Return the labels behind a reshape.

    Args:
        own: labels of its input.
        before: dimensions of its input, ``None`` where dynamic.
        after: dimensions of its output.
        source: its input, to ask for dynamic sizes.
    """
    groups = group_axes(before, after)
    if groups is None:
        return None
    result: list[Label] = [None] * len(after)
    for ins, outs in groups:
        for axis, label in zip(outs, _regroup(own, before, after, ins, outs, source), strict=True):
            result[axis] = label
    return tuple(result)


def group_axes(before: Sequence[int | None], after: Sequence[int | None]) -> list[tuple[list[int], list[int]]] | None:
    """Pair the axes of a reshape: groups of axes before and after that hold the same elements in the same order.

    Args:
        before: dimensions of the input, ``None`` where dynamic.
        after: dimensions of the output.

    Returns:
        ``[(axes before, axes after), …]`` in order, or ``None`` where dynamic dimensions leave it open.

    >>> group_axes([1, 768, 14, 14], [1, 768, 196])
    [([0], [0]), ([1], [1]), ([2, 3], [2])]
    >>> group_axes([None, 197, 192], [None, 197, 3, 64])
    [([0], [0]), ([1], [1]), ([2], [2, 3])]
    """
    if _batch_takes_part(before, after):
        return _match_with_batch(before, after)
    left = 0
    while left < min(len(before), len(after)) and before[left] == after[left]:
        left += 1
    right = 0
    while right < min(len(before), len(after)) - left and before[-1 - right] == after[-1 - right]:
        right += 1
    inner_before, inner_after = (list(range(left, len(dims) - right)) for dims in (before, after))
    if left and bool(inner_before) != bool(inner_after):
        rest = before[left : len(before) - right] + after[left : len(after) - right]  # type: ignore[operator]
        if any(dim != 1 for dim in rest):  # a dynamic axis was merged or split: it is no longer the same axis
            left -= 1
            inner_before.insert(0, left)
            inner_after.insert(0, left)
    groups = [([i], [i]) for i in range(left)]
    inner = _match_products(before, after, inner_before, inner_after)
    if inner is None:
        return None
    groups += inner
    groups += [([len(before) - i], [len(after) - i]) for i in range(right, 0, -1)]
    return groups


def _match_products(
    before: Sequence[int | None], after: Sequence[int | None], axes_before: list[int], axes_after: list[int]
) -> list[tuple[list[int], list[int]]] | None:
    if not axes_before or not axes_after:
        return [(axes_before, axes_after)] if axes_before or axes_after else []
    if any(before[i] is None for i in axes_before) or any(after[i] is None for i in axes_after):
        return [(axes_before, axes_after)]
    groups: list[tuple[list[int], list[int]]] = []
    ins, outs = list(axes_before), list(axes_after)
    while ins or outs:
        group: tuple[list[int], list[int]] = ([], [])
        for axes, side in ((ins, group[0]), (outs, group[1])):
            if axes:
                side.append(axes.pop(0))
        while True:
            size_in, size_out = _product(before[i] for i in group[0]), _product(after[i] for i in group[1])
            if size_in == size_out:
                break
            if size_in < size_out and ins:
                group[0].append(ins.pop(0))
            elif size_out < size_in and outs:
                group[1].append(outs.pop(0))
            else:
                return None
        groups.append(group)
    return groups


def _product(sizes: Iterable[int | None]) -> int:
    return prod(size or 0 for size in sizes)


def _batch_takes_part(before: Sequence[int | None], after: Sequence[int | None]) -> bool:
    """Whether a dynamic batch, the only dynamic axis, was merged with others or split."""
    if before[:1] != [None] or after[:1] != [None] or None in [*before[1:], *after[1:]]:
        return False
    return _product(before[1:]) != _product(after[1:])


def _match_with_batch(before: Sequence[int | None], after: Sequence[int | None]) -> list[tuple[list[int], list[int]]]:
    """Pair axes of which the leading ones were merged into a dynamic batch, or split off it."""
    right = 0
    while right < min(len(before), len(after)) - 1 and before[-1 - right] == after[-1 - right]:
        right += 1
    ins, outs = (list(range(1, len(dims) - right)) for dims in (before, after))
    size_in, size_out = _product(before[i] for i in ins), _product(after[i] for i in outs)
    merged = _leading(before, ins, size_in // size_out) if size_in % size_out == 0 else 0
    split = _leading(after, outs, size_out // size_in) if size_out % size_in == 0 else 0
    rest = _match_products(before, after, ins[merged:], outs[split:]) if merged or split else None
    inner = [([0, *ins], [0, *outs])] if rest is None else [([0, *ins[:merged]], [0, *outs[:split]]), *rest]
    return inner + [([len(before) - i], [len(after) - i]) for i in range(right, 0, -1)]


def _leading(sizes: Sequence[int | None], axes: list[int], wanted: int) -> int:
    """Return how many leading axes hold ``wanted`` elements; 0 for none."""
    return next((i for i in range(1, len(axes)) if _product(sizes[axis] for axis in axes[:i]) == wanted > 1), 0)


def _regroup(
    own: Labels,
    before: Sequence[int | None],
    after: Sequence[int | None],
    ins: list[int],
    outs: list[int],
    source: Port,
) -> list[Label]:
    """Labels of the axes ``outs`` that hold what the axes ``ins`` held."""
    unknown: list[Label] = [None] * len(outs)
    if not ins or not outs:
        return unknown
    real = [i for i in ins if before[i] != 1] or ins[:1]
    targets = [i for i, axis in enumerate(outs) if after[axis] != 1] or [0]
    sizes = [after[outs[i]] for i in targets]
    kinds = [own[i] for i in real]
    if len(real) == len(targets) == 1:
        found: Sequence[Label] = kinds
    else:
        found = _divided(own, [(own[i], before[i]) for i in real], sizes) or _plainly(
            kinds, real, before, sizes, source
        )
    for place, label in zip(targets, found, strict=True):
        unknown[place] = label
    return unknown


def _plainly(
    kinds: list[Label], axes: list[int], before: Sequence[int | None], sizes: list[int | None], source: Port
) -> list[Label]:
    """Labels of axes that are merged into one or come from one, where nothing is cut into blocks."""
    if len(sizes) == 1:
        return [_merge(kinds, axes, before, source)]
    return _divide(kinds[0], sizes) if len(kinds) == 1 else [None] * len(sizes)


def _merge(kinds: list[Label], axes: list[int], before: Sequence[int | None], source: Port) -> Label:
    match kinds:
        case [label]:
            return label
        case ["H", "W"]:
            return Tokens(before[axes[0]], before[axes[1]], source, (axes[0], axes[1]))
        case ["N", Tokens() as tokens]:
            return Rows(tokens)
        case ["N", "H", "W"]:
            return Rows(Tokens(before[axes[1]], before[axes[2]], source, (axes[1], axes[2])))
        case [*inner, "C"] if all(label is None or (isinstance(label, Blocks) and not label.batch) for label in inner):
            return "C"
    return None


def _divide(label: Label, sizes: list[int | None]) -> list[Label]:
    match label:
        case Rows(tokens) if len(sizes) == 2:
            return ["N", tokens]
        case "H" | "W":
            return [label, *[None] * (len(sizes) - 1)]
    return [None] * len(sizes)


# --- digits -----------------------------------------------------------------------------------------------------------


def _divided(own: Labels, parts: list[tuple[Label, int | None]], sizes: list[int | None]) -> list[Label] | None:
    """Return labels of axes of these sizes that hold places, cut into blocks or not; ``None`` where that is not known.

    Args:
        own: all labels of the tensor.
        parts: labels and sizes of the axes that go in.
        sizes: of those that come out.
    """
    digits: list[Digit] = []
    for label, size in parts:
        found = _digits(own, label, size)
        if found is None:
            return None
        digits += found
    axes: list[list[Digit]] = []
    for size in reversed(sizes[1:]):
        taken = None if size is None else _taken(digits, size)
        if taken is None:
            return None
        axes.insert(0, taken)
    if sizes[0] is not None and sizes[0] != prod(digit.size or 0 for digit in digits):
        return None
    return [_named(_joined(digits)), *(_named(_joined(axis)) for axis in axes)]


def _digits(own: Labels, label: Label, size: int | None) -> list[Digit] | None:
    """Return what an axis is made of, the most significant digit first."""
    match label:
        case Blocks(digits):
            return list(digits)
        case "N":
            return [Digit("N", 1, size, size)]
        case "H" | "W":
            top = _leading_digit(own, label, size)
            return None if top is None else [top]
        case Tokens(height, width, prefix=0):
            rows, columns = _leading_digit(own, "H", height), _leading_digit(own, "W", width)
            return None if rows is None or columns is None else [rows, columns]
        case Rows(tokens) if not tokens.prefix and size is None:
            inner = _digits(own, tokens, None)
            return None if inner is None else [Digit("N", 1, None, None), *inner]
    return None


def _leading_digit(own: Labels, axis: str, size: int | None) -> Digit | None:
    """Return the most significant digit of rows or columns, given the others that the tensor has."""
    others = [digit for label in own if isinstance(label, Blocks) for digit in label.digits if digit.axis == axis]
    step = max((digit.step * (digit.size or 0) for digit in others), default=1)
    if size is None or any(digit.total != step * size for digit in others):
        return None
    return Digit(axis, step, size, step * size)


def _taken(digits: list[Digit], size: int) -> list[Digit] | None:
    """Take the least significant digits that hold ``size`` places off the end; split one where needed."""
    taken: list[Digit] = []
    while size > 1:
        if not digits:
            return None
        last = digits.pop()
        if last.size is not None and size % last.size == 0:
            taken.insert(0, last)
            size //= last.size
        elif last.axis != "N" and last.size is not None and last.size % size == 0:
            digits.append(Digit(last.axis, last.step * size, last.size // size, last.total))
            taken.insert(0, Digit(last.axis, last.step, size, last.total))
            size = 1
        else:
            return None
    return taken


def _joined(digits: Iterable[Digit]) -> list[Digit]:
    """Put neighbours together that are neighbours in the number, too."""
    result: list[Digit] = []
    for digit in digits:
        last = result[-1] if result else None
        if last is not None and digit.axis == last.axis != "N" and last.step == digit.step * (digit.size or 0):
            result[-1] = Digit(digit.axis, digit.step, (last.size or 0) * (digit.size or 0), digit.total)
        else:
            result.append(digit)
    return result


def _named(digits: list[Digit]) -> Label:
    """Return the label of an axis with these digits."""
    if not digits:
        return None
    batch = digits[0].axis == "N"
    places = digits[1:] if batch else digits
    if not places:
        return "N"
    letters = [digit.axis for digit in places]
    if all(digit.is_leading for digit in places):
        if letters in (["H"], ["W"]) and not batch:
            return letters[0]
        if letters == ["H", "W"]:
            tokens = Tokens(places[0].size, places[1].size)
            return Rows(tokens) if batch else tokens
    return Blocks(tuple(digits))
