"""Any model → :class:`~otx_xai.model.opened.Model`: the graph, its facts, and its structure as far as somebody asks.

In the order in which a run uses them::

    model = open_model("model.xml", ModelOptions(labels="labels.txt"))   # task, labels, input, class scores or boxes
    graph = embed_preprocessing(model.graph, model.facts)                # takes uint8 RGB (N, height, width, 3)

Every function leaves the graph it is given as it is; the ones that return a graph return a copy.
"""

from otx_xai.model.model_files import read_model
from otx_xai.model.model_options import ModelOptions
from otx_xai.model.opened import Model
from otx_xai.model.opening import open_for_insertion, open_model
from otx_xai.model.preprocessing import embed_preprocessing

__all__ = ["Model", "ModelOptions", "embed_preprocessing", "open_for_insertion", "open_model", "read_model"]
