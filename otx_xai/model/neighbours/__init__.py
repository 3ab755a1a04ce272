"""What exporters write about a model, into its file or beside it: one file an exporter.

::

    file = find_model_file(folder)          # a folder is a checkpoint
    hints = read_hints(file, model)         # what Ultralytics, Hugging Face, timm, TensorFlow Lite say of it
"""

from otx_xai.model.neighbours.all_hints import read_hints
from otx_xai.model.neighbours.hints import Hints, merged, source_of
from otx_xai.model.neighbours.model_folder import find_model_file

__all__ = ["Hints", "find_model_file", "merged", "read_hints", "source_of"]
