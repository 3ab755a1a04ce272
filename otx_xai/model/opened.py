"""A model with all that is known of it: what every later stage is handed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from otx_xai.graph.logits import Activation
from otx_xai.model.formats.box_format import Found
from otx_xai.model.model_files import hash_files, hash_graph
from otx_xai.model.structure import Structure
from otx_xai.records import SALIENCY_MAP, ModelFacts


@dataclass(frozen=True)
class Model:
    """A model that is open.

    Args:
        graph: the model; nobody changes it.
        facts: what is known of it, each with its source.
        structure: its graph, analysed as far as somebody asks.
        batch: how many images it takes at once; ``None``: any number.
        files: all files that it was read from, neighbours included; their content decides about results.
        is_torch: it was converted from torch.
        read_by_caller: a function of the caller reads its boxes, not its format.
    """

    graph: ov.Model
    facts: ModelFacts
    structure: Structure
    batch: int | None = None
    files: tuple[Path, ...] = ()
    is_torch: bool = False
    read_by_caller: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of all that results depend on: of the files, or of the graph where it comes from none."""
        return hash_files(self.files) if self.files else hash_graph(self.graph)

    @property
    def activation(self) -> Activation:
        """What turns the class scores of a classifier into probabilities."""
        return "sigmoid" if self.facts.multilabel else "softmax"

    @property
    def boxes(self) -> Found | None:
        """How the outputs of a model that finds boxes are read."""
        return self.structure.boxes

    @property
    def own_map(self) -> ov.Output | None:
        """The ``saliency_map`` that the model came with."""
        return next((output for output in self.graph.outputs if SALIENCY_MAP in output.get_names()), None)
