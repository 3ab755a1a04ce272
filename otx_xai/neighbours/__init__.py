"""What exporters write about a model, into its file or beside it: one file an exporter.

::

    file = find_model_file(folder)          # a folder is a checkpoint
    hints = read_hints(file, model)         # what Ultralytics, Hugging Face, timm, TensorFlow Lite say of it
    hints = from_config_files(folder)       # of these, Hugging Face and timm alone: what lies beside weights of torch
    hints = assumed_hints("resnet50")       # what torchvision's own weights of it want
"""

from otx_xai.neighbours.all_hints import read_hints
from otx_xai.neighbours.hints import Hints, merged, source_of
from otx_xai.neighbours.hugging_face import from_config_files
from otx_xai.neighbours.model_folder import find_model_file, how_to_convert
from otx_xai.neighbours.torchvision_weights import assumed_hints

__all__ = [
    "Hints",
    "assumed_hints",
    "find_model_file",
    "from_config_files",
    "how_to_convert",
    "merged",
    "read_hints",
    "source_of",
]
