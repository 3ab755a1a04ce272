"""How good the maps of several methods are, side by side on the same images, for classes and for boxes.

::

    images ──► the class or box that the model is surest of ──► maps of every method and control
           ──► metrics (insertion, deletion, ADCC, localisation) ──► tables, judge.json, judge.png
    a few of them ──► sanity: maps with random layers, and of other classes, against the maps as they are
"""

from otx_xai.judging.judgement import Counts, JudgedMethod, Judgement
from otx_xai.judging.sanity import Alike, MethodSanity, Sanity

__all__ = ["Alike", "Counts", "JudgedMethod", "Judgement", "MethodSanity", "Sanity"]
