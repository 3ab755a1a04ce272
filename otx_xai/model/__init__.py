"""Any model file → ``ov.Model`` and what is known of it → a model that takes plain images.

In the order in which a run uses them::

    model = read_model("model.xml")                  # .xml, .onnx, .tflite, or an ov.Model, which is copied
    info = describe(model, labels="labels.txt")      # task, labels, input geometry, normalisation
    logits = find_logits(model)                      # the class scores in the graph, before soft-max
    model = fix_shapes(model, info, batch=8)         # static shapes where the file leaves them open
    model = embed_preprocessing(model, info)         # takes uint8 RGB (N, height, width, 3)

Every function leaves the model it is given as it is; the ones that return a model return a copy.
"""

from otx_xai.graph.logits import Logits
from otx_xai.model.class_scores import find_logits
from otx_xai.model.description import describe, find_task, log_line
from otx_xai.model.image_layout import input_layout
from otx_xai.model.model_files import read_model
from otx_xai.model.preprocessing import effective_batch, embed_preprocessing, fix_shapes

__all__ = [
    "Logits",
    "describe",
    "effective_batch",
    "embed_preprocessing",
    "find_logits",
    "find_task",
    "fix_shapes",
    "input_layout",
    "log_line",
    "read_model",
]
