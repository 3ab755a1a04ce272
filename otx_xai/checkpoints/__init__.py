"""A torch checkpoint on disk → a model that is ready to be exported, explained or trained on.

Our own checkpoints describe themselves. Of a plain state dict the architecture is named by the user, or recognised from
the names and shapes of its tensors. Nothing in a checkpoint is ever executed.
"""

from otx_xai.checkpoints.contents import SUFFIXES, Contents, read_checkpoint
from otx_xai.checkpoints.fitting import Fit, recognise
from otx_xai.checkpoints.load import load_checkpoint

__all__ = ["SUFFIXES", "Contents", "Fit", "load_checkpoint", "read_checkpoint", "recognise"]
