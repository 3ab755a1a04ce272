"""How good saliency maps are: faithfulness to the model, localisation, and controls to hold every score against.

::

    cases (image, class, boxes) ──► maps of every method, of random and centred controls
                                ──► insertion, deletion, average drop: one stream of perturbed images
                                ──► coherency, complexity, ADCC; pointing game, energy in box
                                ──► Scores of every method, one row an image ──► table of means and standard errors

:func:`judge` does all of it. The formulas are pure functions on arrays, each in the module of its name.
"""

from otx_xai.metrics.adcc import adcc, average_drop, coherency, complexity, mask_image
from otx_xai.metrics.controls import centre_maps, random_maps
from otx_xai.metrics.judge import judge
from otx_xai.metrics.localisation import energy_in_box, pointing_game
from otx_xai.metrics.methods import Case, MapsOf, centre_control, random_control, white_box
from otx_xai.metrics.perturbation import auc, blurred, rank_pixels, zero_colour
from otx_xai.metrics.similarity import rank_correlation, structural_similarity
from otx_xai.metrics.stream import (
    Curves,
    Forward,
    Score,
    Stopped,
    function_scores,
    session_scores,
    session_values,
    trace,
)
from otx_xai.metrics.summaries import Estimate, Scores, differences, estimates, table

__all__ = [
    "Case",
    "Curves",
    "Estimate",
    "Forward",
    "MapsOf",
    "Score",
    "Scores",
    "Stopped",
    "adcc",
    "auc",
    "average_drop",
    "blurred",
    "centre_control",
    "centre_maps",
    "coherency",
    "complexity",
    "differences",
    "energy_in_box",
    "estimates",
    "function_scores",
    "judge",
    "mask_image",
    "pointing_game",
    "random_control",
    "random_maps",
    "rank_correlation",
    "rank_pixels",
    "session_scores",
    "session_values",
    "structural_similarity",
    "table",
    "trace",
    "white_box",
    "zero_colour",
]
