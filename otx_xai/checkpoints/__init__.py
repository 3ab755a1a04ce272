"""A torch checkpoint on disk → a model that is ready to be exported, explained or trained on.

Our own checkpoints describe themselves. Of a plain state dict the architecture is named by the user, or recognised from
the names and shapes of its tensors; or its class is named, ``package.module:Class``. Nothing in a checkpoint is ever
executed, and no code is imported but what the user names.
"""

from otx_xai.checkpoints.contents import SUFFIXES, Contents, read_checkpoint
from otx_xai.checkpoints.fitting import Fit, recognise
from otx_xai.checkpoints.load import load_checkpoint
from otx_xai.checkpoints.torch_opening import TorchOpened, TorchOptions, open_torch

__all__ = [
    "SUFFIXES",
    "Contents",
    "Fit",
    "TorchOpened",
    "TorchOptions",
    "load_checkpoint",
    "open_torch",
    "read_checkpoint",
    "recognise",
]
