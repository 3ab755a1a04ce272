"""What a caller's ``postprocess_fn`` makes of the raw outputs of a model, instead of what is found in its graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from otx_xai.errors import ConfigError
from otx_xai.explain.feeding import as_scores
from otx_xai.explain.plan import Plan
from otx_xai.records import SALIENCY_MAP, SALIENCY_TARGETS, SCORES, XAI_OUTPUTS
from otx_xai.runtime import Arrays, Session

logger = logging.getLogger("otx_xai")

Postprocess = Callable[[Any], Any]


def reader(own: Postprocess, session: Session, made: Plan) -> Callable[[Arrays], Any]:
    """Return what makes class scores, or boxes by name, of the outputs of one image by name.

    Args:
        own: the caller's ``postprocess_fn``.
        session: the compiled model.
        made: what it was compiled of.
    """
    if not made.facts.task.is_classification:
        return lambda outputs: located(own, session.named(outputs), session)
    independent = made.facts.multilabel
    return lambda outputs: as_scores(
        _postprocessed(own, session.named(outputs), session), outputs[SCORES].shape, independent=independent
    )


def scored(own: Postprocess | None, raw: Any, session: Session, made: Plan) -> Arrays:
    """Return scores and maps of a batch of classified images.

    Args:
        own: the caller's ``postprocess_fn``, which decides about the scores where there is one.
        raw: outputs of the session.
        session: the compiled model.
        made: what it was compiled of.

    Raises:
        ConfigError: what the caller makes of them are no scores.
    """
    names = {name for output in made.model.outputs for name in output.get_names()}
    outputs = {name: raw[name] for name in (SCORES, SALIENCY_MAP, SALIENCY_TARGETS) if name in names}
    if own is not None:
        given = _postprocessed(own, raw, session)
        outputs[SCORES] = as_scores(given, outputs[SCORES].shape, independent=made.facts.multilabel)
    return outputs


def located(own: Postprocess | None, raw: Any, session: Session) -> Arrays:
    """Return boxes and maps of a batch, by name.

    Args:
        own: the caller's ``postprocess_fn``, which decides about the boxes where there is one.
        raw: outputs of the session.
        session: the compiled model.

    Raises:
        ConfigError: what the caller makes of them are no boxes, scores and labels.
    """
    if own is None:
        return session.by_name(raw)
    given = _postprocessed(own, raw, session)
    if not isinstance(given, tuple) or len(given) != 3:
        raise ConfigError(
            f"postprocess_fn returned {type(given).__name__}; expected a tuple of boxes (M, 4) in pixels of the "
            "input, scores (M,), and labels (M,)."
        )
    boxes, scores, labels = (np.asarray(value) for value in given)
    outputs = {"boxes": boxes, "scores": scores, "labels": labels.astype(np.int64)}
    return outputs | ({SALIENCY_MAP: raw[SALIENCY_MAP]} if SALIENCY_MAP in raw else {})


def _postprocessed(function: Postprocess, outputs: Any, session: Session) -> Any:
    """Call the caller's ``postprocess_fn``; where it looks for what is not there, the log tells what there is."""
    try:
        return function(outputs)
    except LookupError:
        names = (f"{number} ({name!r})" for number, name in enumerate(session.named({})) if name not in XAI_OUTPUTS)
        logger.error("postprocess_fn was given these outputs of the model, by number and name: %s.", ", ".join(names))
        raise
