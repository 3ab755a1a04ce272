"""What an exporter wrote about a model, into its file or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from otx_xai.records import Interpolation, ResizeType, Size, Task


@dataclass(frozen=True)
class Hints:
    """What is said of a model outside of ``model_info``; what nobody says is ``None``.

    Args:
        task: what it does.
        labels: class names in order.
        mean: per channel, on the 0-255 scale.
        scale: per channel divisor, on the 0-255 scale.
        reverse_input_channels: whether it wants BGR.
        size: ``(height, width)`` of its input.
        resize_type: how images are fitted in.
        pad_value: grey level 0-255 of the padding.
        crop: share of the fitted image's sides that a central crop keeps, in (0, 1]; see
            :class:`~otx_xai.records.InputGeometry`.
        interpolation: how images are resized.
        said: whatever else tells about the outputs, by key: ``task``, ``model_type``, ``stride``, ``nms``, …, as text.
        source: where this comes from, in words for the log: ``metadata.yaml``, ``ONNX metadata (Ultralytics)``, ….
        files: files that were read beside the model, which decide about results, and so count in the fingerprint.
        assumed: fields that are a guess by the architecture's usual weights rather than said for this very model.
        sources: where single fields come from, where this is not ``source``, field → words for the log.
        told_by: who told what the conversion of a torch model wrote into its graph, words for the log by key of
            ``model_info``; and by ``size`` and ``normalisation``, which became part of the graph itself.
    """

    task: Task | None = None
    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    reverse_input_channels: bool | None = None
    size: Size | None = None
    resize_type: ResizeType | None = None
    pad_value: int | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    files: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    told_by: Mapping[str, str] = field(default_factory=dict)


_FACTS = tuple(told.name for told in fields(Hints) if told.default is None)
"""Fields that say something of the model."""


def source_of(hints: Hints, name: str) -> str:
    """Say where the field ``name`` comes from, in words for the log; an assumption is called one."""
    source = hints.sources.get(name, hints.source)
    return f"assumption: {source}" if name in hints.assumed else source


def told_by(hints: Hints, key: str) -> str:
    """Say who told what stands in ``model_info`` under ``key``: ``model_info`` itself, unless a conversion wrote it."""
    return hints.told_by.get(key, f"model_info/{key}")


def merged(first: Hints, second: Hints) -> Hints:
    """Join what two exporters say: field by field the first one counts, where it says anything.

    Args:
        first: of more weight.
        second: fills what the first leaves open.

    Returns:
        Both, with ``source`` and ``files`` joined; ``sources`` tells of each field whose it is.
    """
    counts = {name: first if getattr(first, name) is not None else second for name in _FACTS}
    told = {name: hints for name, hints in counts.items() if getattr(hints, name) is not None}
    return Hints(
        **{name: getattr(hints, name) for name, hints in told.items()},
        said={**second.said, **first.said},
        source=", ".join(dict.fromkeys(filter(None, (first.source, second.source)))),
        files=tuple(dict.fromkeys((*first.files, *second.files))),
        assumed=tuple(name for name, hints in told.items() if name in hints.assumed),
        sources={name: hints.sources.get(name, hints.source) for name, hints in told.items()},
        told_by={**second.told_by, **first.told_by},
    )


NO_HINTS = Hints()
"""Nobody says anything."""
