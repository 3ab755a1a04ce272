"""What the loader of an audit tells of its images, while they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from otx_xai.data.loader_labels import LoadedLabels, NotedLoader
from otx_xai.engine.explaining import Images
from otx_xai.judging.cases import Known
from otx_xai.records import ModelFacts


@dataclass(frozen=True, eq=False)
class GivenNow(Mapping[str, tuple[int, ...]]):
    """Name of an image → its classes, as far as they are known by now.

    Args:
        known: fills while images are read.
    """

    known: Mapping[str, Known]

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self.known[name].all_classes()

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def note_labels(images: Images, facts: ModelFacts, known: dict[str, Known]) -> Images:
    """Return images whose loader adds to what is known what its batches tell.

    Args:
        images: of a loader.
        facts: of the model: labels that it does not have are left out.
        known: is added to; what it holds of an image already stays.
    """

    def note(name: str, told: LoadedLabels) -> None:
        known.setdefault(name, _known(told, facts))

    return replace(images, loader=NotedLoader(images.loader, images.images, note))


def _known(told: LoadedLabels, facts: ModelFacts) -> Known:
    count = len(facts.labels)
    numbers = [label - facts.first_label for label in told.box_labels]
    kept = [row for row, number in enumerate(numbers) if 0 <= number < count]
    return Known(
        tuple(number for number in told.classes if 0 <= number < count),
        None if told.boxes is None else told.boxes[kept],
        tuple(numbers[row] for row in kept),
    )
