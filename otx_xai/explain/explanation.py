"""What an explanation looks like to the caller: maps by class, to be computed with, looked at and saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from otx_xai.errors import ConfigError, TargetError
from otx_xai.explain.targets import resolve_targets
from otx_xai.records import (
    PER_IMAGE_TARGET,
    FloatArray,
    ImageFormat,
    InputGeometry,
    MapGrid,
    Prediction,
    Targets,
    UInt8Array,
)
from otx_xai.report import PlacedMaps, slug, slugs, write_picture
from otx_xai.report.notebook_view import pictures_html

logger = logging.getLogger("otx_xai")

PER_IMAGE_MAP = "per_image_map"
"""Key of the one map of an image."""


def map_keys(targets: Sequence[Prediction]) -> list[int | str]:
    """Return what the maps of some targets are called.

    Args:
        targets: what is explained of an image.

    Returns:
        For each target its class index, ``"per_image_map"``, or ``"box_<n>"``, ``n`` being its place among the
        predictions.
    """
    return [_map_key(target) for target in targets]


def _map_key(target: Prediction) -> int | str:
    if target.target == PER_IMAGE_TARGET:
        return PER_IMAGE_MAP
    return target.target if target.number is None else f"box_{target.number}"


class Explanation:
    """Saliency maps of one image.

    Args:
        saliency_map: class index → map, or ``"per_image_map"`` → the one map of the image, or ``"box_<n>"`` → the map
            of ``predictions[n]``. A view of :attr:`maps` to look at, ``uint8``: grey ``(H, W)``, or RGB ``(H, W, 3)``
            when coloured or overlaid. Those of an ``Explainer`` are drawn when they are asked for.
        label_names: class names in order; empty when unknown.
        predictions: what the model predicts, best first.
        name: of the image, where it is known.
        method: what explained it, and why, where it is known.
        warnings: what speaks against single maps, in words.
        placed: the maps as numbers, in the order of ``saliency_map``, and where they lie on the image.
    """

    def __init__(
        self,
        saliency_map: Mapping[int | str, UInt8Array],
        label_names: Sequence[str] = (),
        predictions: Sequence[Prediction] = (),
        name: str | None = None,
        *,
        method: str = "",
        warnings: Sequence[str] = (),
        placed: PlacedMaps | None = None,
    ) -> None:
        self.saliency_map = saliency_map
        self.label_names = list(label_names)
        self.predictions = tuple(predictions)
        self.name = name
        self.method = method
        self.warnings = tuple(warnings)
        self._placed = placed

    @property
    def targets(self) -> list[int | str]:
        """Class indices in the order asked for, or ``["per_image_map"]``."""
        return list(self.saliency_map)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each map; ``()`` when there is none."""
        return next((saliency_map.shape for saliency_map in self.saliency_map.values()), ())

    @property
    def maps(self) -> FloatArray:
        """``float32`` ``(M, h, w)`` in [0, 1], one for each of :attr:`targets`, over the whole of the network's input.

        At the network's resolution. :meth:`on_image` lays one over the image.
        """
        return self._numbers.maps

    @property
    def geometry(self) -> InputGeometry:
        """How the image lies in what the maps cover."""
        return self._numbers.geometry

    @property
    def grid(self) -> MapGrid | None:
        """Where the places of the maps lie in the network's input; ``None``: they divide it evenly."""
        return self._numbers.grid

    def on_image(self, target: int | str) -> FloatArray:
        """Lay the map of a target over the image.

        Args:
            target: one of :attr:`targets`, or a class name.

        Returns:
            ``float32`` ``(H, W)`` in [0, 1]: a value for each pixel of the original image; 0 where the network saw
            nothing of it.

        Raises:
            TargetError: the target was not explained.
        """
        key = target if target in self.saliency_map else self._index(target)
        return self._numbers.on_image(self.targets.index(key))

    def __repr__(self) -> str:
        return f"Explanation(targets={self.targets}, shape={self.shape})"

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the pictures of :attr:`saliency_map`, with labels and scores."""
        scores = dict(zip(map_keys(self.predictions), self.predictions, strict=True))
        captions = []
        for target in self.targets:
            found = scores.get(target)
            name = found.label if found is not None else _name(target, self.label_names)
            captions.append(name if found is None else f"{name} {found.score:.2f}")
        return pictures_html(list(self.saliency_map.values()), captions, self.name or "")

    def save(self, dir_path: str | Path, name: str | None = None) -> list[Path]:
        """Write ``target_<label>.jpg`` for each map, or ``<name>_target_<label>.jpg``.

        Characters that not every file system takes become ``_``. Labels that would give the same file get their class
        index appended. Without label names files are called by it.

        Args:
            dir_path: folder, created where it is missing.
            name: begins the file names.

        Returns:
            The files, in the order of maps.

        Raises:
            OutputError: a file cannot be written.
        """
        folder = Path(dir_path)
        prefix = f"{slug(name)}_" if name else ""
        names = slugs(self.label_names)
        files = []
        for target, saliency_map in self.saliency_map.items():
            files.append(folder / f"{prefix}target_{_name(target, names)}.jpg")
            write_picture(files[-1], saliency_map, ImageFormat.JPG)
        return files

    def plot(
        self, targets: Targets = None, backend: str = "matplotlib", max_num_plots: int = 24, num_columns: int = 4
    ) -> Any:
        """Show maps side by side.

        Args:
            targets: indices, names, or ``"predicted"``; all maps by default.
            backend: ``matplotlib``, which must be installed (``pip install otx-xai[plot]``).
            max_num_plots: no more maps than this.
            num_columns: maps in a row.

        Returns:
            The matplotlib figure, which notebooks show by themselves and scripts with ``pyplot.show()``.

        Raises:
            ConfigError: another backend, or matplotlib is missing.
            TargetError: a target was not explained.
        """
        if backend != "matplotlib":
            raise ConfigError(f"backend is {backend!r}; expected 'matplotlib'. Use save() to write files.")
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ConfigError("Plotting needs matplotlib: pip install otx-xai[plot].") from error
        wanted = self._chosen(targets)
        chosen = wanted[: max(1, max_num_plots)]
        if len(chosen) < len(wanted):
            logger.warning("Plotting %d of %d maps; max_num_plots is %d.", len(chosen), len(wanted), max_num_plots)
        columns = max(1, min(num_columns, len(chosen)))
        rows = max(1, -(-len(chosen) // columns))
        figure, axes = pyplot.subplots(rows, columns, squeeze=False, figsize=(4 * columns, 4 * rows))
        for axis in axes.flat:
            axis.axis("off")
        for axis, target in zip(axes.flat, chosen, strict=False):
            axis.imshow(self.saliency_map[target], cmap="gray", vmin=0, vmax=255)
            axis.set_title(_name(target, self.label_names))
        figure.tight_layout()
        return figure

    @property
    def _numbers(self) -> PlacedMaps:
        if self._placed is None:
            raise ConfigError(
                "This explanation was made of pictures only, and has no maps as numbers. Expected one that an "
                "Explainer or Engine.explain returns."
            )
        return self._placed

    def _index(self, name: int | str) -> int:
        """Return the class of this name that was explained."""
        found = resolve_targets([name], self.label_names) if self.label_names else None
        if found is None or len(found) != 1 or found[0] not in self.saliency_map:
            raise TargetError(f"Target {name!r} was not explained; this explanation has {self.targets}.")
        return found[0]

    def _chosen(self, targets: Targets) -> list[int | str]:
        if targets is None or PER_IMAGE_MAP in self.saliency_map:
            return self.targets
        count = 1 + max((target for target in self.targets if isinstance(target, int)), default=-1)
        names = self.label_names or [str(i) for i in range(count)]
        wanted = resolve_targets(targets, names)
        if wanted is None:
            wanted = tuple(prediction.target for prediction in self.predictions)
        elif len(wanted) == len(names):
            return self.targets
        missing = [target for target in wanted if target not in self.saliency_map]
        if missing:
            raise TargetError(f"Targets {missing} were not explained; this explanation has {self.targets}.")
        return list(wanted)


def _name(target: int | str, names: Sequence[str]) -> str:
    return names[target] if isinstance(target, int) and target < len(names) else str(target)
