"""Whether the answers of a model look as if it were fed what it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otx_xai.model.first_layer import HOW_TO_NORMALISE
from otx_xai.records import ModelFacts

WATCHED = 16
"""Images that are looked at, the first ones of a run."""

_FEWEST = 4
"""Images from which a run that has no more is judged: fewer may well look alike."""

_SATURATED = 0.999

Predictions = Sequence[Mapping[str, Any]]
"""Of one image, best first, as the journal has them: ``label`` and ``score`` of each."""


class Suspicion:
    """Looks at the first answers of a model of which nobody says how its input is normalised.

    Args:
        facts: of the model. One that is known to be fed right is not suspected.
    """

    def __init__(self, facts: ModelFacts) -> None:
        self._watches = not facts.normalisation_known
        self._one_class = len(facts.labels) < 2
        self._seen: list[Predictions] = []

    def see(self, predictions: Predictions) -> str | None:
        """Look at what was predicted for one more image; return a warning as soon as enough are seen."""
        if not self._watches:
            return None
        self._seen.append(predictions)
        return self.conclude() if len(self._seen) == WATCHED else None

    def conclude(self) -> str | None:
        """Return a warning where the images so far look suspicious; nothing is said twice."""
        seen, self._seen = self._seen, []
        if not self._watches or len(seen) < _FEWEST:
            return None
        self._watches = False
        sign = _sign(seen, one_class=self._one_class)
        return sign and (
            f"{sign}, and nobody says how the input of the model is normalised: it is fed pixels of 0 to 255. If it "
            f"was trained on normalised images, these results mean nothing. {HOW_TO_NORMALISE}"
        )


def _sign(seen: Sequence[Predictions], *, one_class: bool) -> str | None:
    """Say what is suspicious about answers, in words to begin a sentence; ``None``: nothing."""
    scores = [float(found["score"]) for predictions in seen for found in predictions]
    if scores and all(score >= _SATURATED or score <= 1 - _SATURATED for score in scores):
        return f"All scores of the first {len(seen)} images are {_SATURATED} or more, or {1 - _SATURATED:.3f} or less"
    labels = {found["label"] for predictions in seen for found in predictions}
    if len(labels) == 1 and all(seen) and not one_class:
        return f"The first {len(seen)} images all show {labels.pop()!r}, as the model has it"
    return None
