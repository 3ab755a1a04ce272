"""What an explanation looks like to the caller: maps by class, to be looked at and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from otx_xai.errors import ConfigError, TargetError
from otx_xai.explainer.targets import resolve_targets
from otx_xai.records import ImageFormat, Prediction, UInt8Array
from otx_xai.report import slugs, write_picture

PER_IMAGE_MAP = "per_image_map"


class Explanation:
    """Saliency maps of one image.

    Args:
        saliency_map: class index → map, or ``"per_image_map"`` → the one map of the image. Maps are ``uint8``: grey
            ``(H, W)``, or RGB ``(H, W, 3)`` when coloured or overlaid.
        label_names: class names in order; empty when unknown.
        predictions: what the model predicts, best first.
        name: of the image, where it is known.
    """

    def __init__(
        self,
        saliency_map: Mapping[int | str, UInt8Array],
        label_names: Sequence[str] = (),
        predictions: Sequence[Prediction] = (),
        name: str | None = None,
    ) -> None:
        self.saliency_map: dict[int | str, UInt8Array] = dict(saliency_map)
        self.label_names = list(label_names)
        self.predictions = tuple(predictions)
        self.name = name

    @property
    def targets(self) -> list[int | str]:
        """Class indices in the order asked for, or ``["per_image_map"]``."""
        return list(self.saliency_map)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each map; ``()`` when there is none."""
        return next((saliency_map.shape for saliency_map in self.saliency_map.values()), ())

    def __repr__(self) -> str:
        return f"Explanation(targets={self.targets}, shape={self.shape})"

    def save(self, dir_path: str | Path, name: str | None = None) -> list[Path]:
        """Write ``target_<label>.jpg`` for each map, or ``<name>_target_<label>.jpg``.

        Args:
            dir_path: folder, created where it is missing.
            name: begins the file names.

        Returns:
            The files.

        Raises:
            OutputError: a file cannot be written.
        """
        folder = Path(dir_path)
        prefix = f"{slugs([name])[0]}_" if name else ""
        names = slugs(self.label_names)
        files = []
        for target, saliency_map in self.saliency_map.items():
            label = names[target] if isinstance(target, int) and target < len(names) else str(target)
            files.append(folder / f"{prefix}target_{label}.jpg")
            write_picture(files[-1], saliency_map, ImageFormat.JPG)
        return files

    def plot(
        self, targets: Any = None, backend: str = "matplotlib", *, max_num_plots: int = 24, num_columns: int = 4
    ) -> Any:
        """Show maps side by side.

        Args:
            targets: indices or names; all maps by default.
            backend: ``matplotlib``, which must be installed (``pip install otx-xai[plot]``).
            max_num_plots: no more maps than this.
            num_columns: maps in a row.

        Returns:
            The matplotlib figure.

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
        chosen = self._chosen(targets)[:max_num_plots]
        columns = max(1, min(num_columns, len(chosen)))
        rows = max(1, -(-len(chosen) // columns))
        figure, axes = pyplot.subplots(rows, columns, squeeze=False, figsize=(4 * columns, 4 * rows))
        for axis in axes.flat:
            axis.axis("off")
        for axis, target in zip(axes.flat, chosen, strict=False):
            axis.imshow(self.saliency_map[target], cmap="gray")
            axis.set_title(self._title(target))
        figure.tight_layout()
        return figure

    def _chosen(self, targets: Any) -> list[int | str]:
        if targets is None or PER_IMAGE_MAP in self.saliency_map:
            return self.targets
        names = self.label_names or [
            str(i) for i in range(1 + max((t for t in self.targets if isinstance(t, int)), default=0))
        ]
        wanted = resolve_targets(targets, names) or ()
        missing = [target for target in wanted if target not in self.saliency_map]
        if missing:
            raise TargetError(f"Targets {missing} were not explained; this explanation has {self.targets}.")
        return list(wanted)

    def _title(self, target: int | str) -> str:
        known = isinstance(target, int) and target < len(self.label_names)
        return self.label_names[int(target)] if known else str(target)
