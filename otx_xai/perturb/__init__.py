"""Black-box methods: parts of an image are hidden, and what that does to the scores is made into maps."""

from otx_xai.perturb.aise import AiseOptions, aise, aise_boxes
from otx_xai.perturb.drise import drise
from otx_xai.perturb.engine import PerturbationMaps, Progress, Scorer, Watch
from otx_xai.perturb.rise import RiseOptions, rise
from otx_xai.perturb.subject import Subject, image_subject

__all__ = [
    "AiseOptions",
    "PerturbationMaps",
    "Progress",
    "RiseOptions",
    "Scorer",
    "Subject",
    "Watch",
    "aise",
    "aise_boxes",
    "drise",
    "image_subject",
    "rise",
]
