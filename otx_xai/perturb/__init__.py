"""Black-box methods: parts of an image are hidden, and what that does to the scores is made into maps."""

from otx_xai.perturb.passes import PerturbationMaps, Progress, Scorer, Watch
from otx_xai.perturb.subject import Subject, image_subject

__all__ = [
    "PerturbationMaps",
    "Progress",
    "Scorer",
    "Subject",
    "Watch",
    "image_subject",
]
