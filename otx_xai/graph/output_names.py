"""What to call the outputs of a model in messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import openvino as ov


def describe_outputs(outputs: Iterable[ov.Output], *, with_types: bool = False) -> str:
    """Return outputs as words: ``boxes [1,?,5], labels [1,?]``.

    Args:
        outputs: of a model. Of those without a name only the shape is told: their nodes have no lasting names either.
        with_types: say element types, too: ``labels [1,?] i64``.
    """
    return ", ".join(" ".join(_words(output, with_types=with_types)) for output in outputs)


def _words(output: ov.Output, *, with_types: bool) -> Iterator[str]:
    if output.get_names():
        yield "/".join(sorted(output.get_names()))
    yield str(output.get_partial_shape())
    if with_types:
        yield str(output.get_element_type().get_type_name())
