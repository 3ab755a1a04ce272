"""What a demo has measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otx_xai.records import Task

_WORDS = {
    Task.CLASSIFICATION: ("names", "new pictures correctly", "", "on the drawn shape"),
    Task.DETECTION: ("finds", "shapes in new pictures", "maps of classes", "in the box of a shape of that class"),
    Task.INSTANCE_SEGMENTATION: ("outlines", "shapes in new pictures", "maps of classes", "on a shape of that class"),
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo of one task measured, and where its results are.

    Args:
        task: the task.
        network: what was trained, in words.
        work_dir: the folder of everything that was written.
        checkpoint: the exported network.
        contact_sheet: some test pictures under their maps, the peak marked.
        objects: number of shapes in the test pictures.
        found: number of shapes that the network named correctly, and for boxes and masks also placed correctly.
        maps: number of maps that were held against the pictures: those of classes that the network found and that are
            there.
        hits: number of these maps that peak on a shape of their class, those of a detector in its box.
        chance: the hit rate of a random point, which is the mean part of a picture that these shapes cover, in [0, 1].
        train_seconds: time that training took, drawing the pictures included.
    """

    task: Task
    network: str
    work_dir: Path
    checkpoint: Path
    contact_sheet: Path
    objects: int
    found: int
    maps: int
    hits: int
    chance: float
    train_seconds: float

    @property
    def accuracy(self) -> float:
        """The part of the shapes that was found, in [0, 1]."""
        return self.found / self.objects

    @property
    def hit_rate(self) -> float:
        """The part of the maps that peak on a shape of their class, in [0, 1]."""
        return self.hits / self.maps if self.maps else 0.0

    def summary(self) -> str:
        """Return a few lines of plain text."""
        verb, what, maps, where = _WORDS[self.task]
        maps = f"these {self.maps}" if self.task is Task.CLASSIFICATION else f"{self.maps} {maps}"
        return "\n".join(
            (
                f"Trained {self.network} on drawn shapes in {self.train_seconds:.0f} s: "
                f"it {verb} {self.found} of {self.objects} {what} ({self.accuracy:.0%}).",
                f"The peak of the saliency map lies {where} in {self.hits} of {maps} "
                f"({self.hit_rate:.0%}; a random point would hit {self.chance:.0%}).",
                f"Model          {self.checkpoint}",
                f"Maps, overlays {self.work_dir / 'saliency_map'}",
                f"Contact sheet  {self.contact_sheet}",
            )
        )
