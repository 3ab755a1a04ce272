"""One set of weights among those that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from otx_xai.records import Weights

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Kept:
    """One set of weights of a checkpoint.

    Args:
        kind: averaged, or of the last step.
        where: the key or the prefix that it lies under.
        state: tensors by parameter name, prefixes such as ``module.`` taken off.
        stored: the same tensors by their names in the file, with what else lies beside them.
    """

    kind: Weights
    where: str
    state: State
    stored: State
