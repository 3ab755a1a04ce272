"""Methods, or models, side by side on one image."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from otx_xai.data import read_image
from otx_xai.data.arrays import AnyImage, as_image_array
from otx_xai.errors import ConfigError
from otx_xai.explain.explainer import Explainer
from otx_xai.explain.explanation import PER_IMAGE_MAP, Explanation
from otx_xai.explain.look import as_picture
from otx_xai.records import ImageFormat, Method, UInt8Array
from otx_xai.report import sheet, write_picture
from otx_xai.report.notebook_view import pictures_html

OWN_CHOICE = "auto"
"""Word for the method that the product chooses by itself."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of one image, side by side: a row a class, a column a method or model.

    It shows itself in notebooks.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        rows: name of each class.
        columns: name of each method, model, or both.
        explanations: one a column, overlaid.
        targets: of each column what its maps are called, in the order of ``rows``.
    """

    image: UInt8Array
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    targets: tuple[tuple[int | str, ...], ...]

    @property
    def correlations(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Pearson's correlation of each two maps over the image, ``float64`` ``(rows, columns, columns)``.

        NaN where a map is flat. Maps that disagree say that methods explain other things, or that models look
        elsewhere; which of them is right, :meth:`otx_xai.Engine.judge` measures.
        """
        found = np.empty((len(self.rows), len(self.columns), len(self.columns)))
        for row in range(len(self.rows)):
            maps = [one.on_image(keys[row]).ravel() for one, keys in zip(self.explanations, self.targets, strict=True)]
            with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
                found[row] = np.corrcoef(np.stack(maps))
        return found

    @property
    def picture(self) -> UInt8Array:
        """All on one page with captions, RGB ``uint8``; the image itself comes first in each row."""
        tiles = [tile for row in range(len(self.rows)) for tile in self._tiles(row)]
        return sheet(tiles, columns=1 + len(self.columns))

    def save(self, path: str | Path) -> Path:
        """Write :attr:`picture`.

        Args:
            path: a PNG, or a JPEG where the suffix is ``.jpg`` or ``.jpeg``; folders are created.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        write_picture(path, self.picture, ImageFormat.JPG if is_jpeg else ImageFormat.PNG)
        return path

    def __repr__(self) -> str:
        return f"Comparison(rows={list(self.rows)}, columns={list(self.columns)})"

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        rows = []
        for row, name in enumerate(self.rows):
            pictures, captions = zip(*self._tiles(row), strict=True)
            rows.append(pictures_html(pictures, [caption.replace("\n", ": ") for caption in captions], name))
        return "".join(rows)

    def _tiles(self, row: int) -> Iterator[tuple[UInt8Array, str]]:
        yield self.image, f"image\n{self.rows[row]}"
        for column, one, keys in zip(self.columns, self.explanations, self.targets, strict=True):
            score = _score(one, keys[row], self.rows[row])
            yield one.saliency_map[keys[row]], column if score is None else f"{column}\n{self.rows[row]} {score:.2f}"


def compare(
    image: AnyImage | str | Path,
    models: Any,
    methods: Sequence[Method | str | None] = (None,),
    *,
    targets: Sequence[int | str] | None = None,
    **options: Any,
) -> Comparison:
    """Explain an image by several methods, with several models, or both, and put the maps side by side.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``, or a file.
        models: one model, as :class:`Explainer` takes it, an explainer, or a mapping from names to such.
        methods: names of methods; ``None`` and ``"auto"``: the one that each model would be explained with.
        targets: classes, by name or index; the best class of the first model by default. Models find them by name
            where both know names.
        options: what else the explainers are told, such as ``task``, ``labels`` and ``input``.

    Returns:
        What a notebook shows by itself; :meth:`Comparison.save` writes it.

    Raises:
        OtxXaiError: there are not at least two columns, a model cannot be opened, or a method does not fit it.
    """
    named = dict(models) if isinstance(models, Mapping) else {"": models}
    names = [None if method == OWN_CHOICE else method for method in methods]
    if len(named) * len(names) < 2:
        raise ConfigError(
            f"There are {len(named)} models and {len(names)} methods to compare; expected at least two columns. Name "
            'several methods, methods=["reciprocam", "activationmap"], or models, {"old": …, "new": …}.'
        )
    given = as_image_array(read_image(image) if isinstance(image, str | Path) else image)
    wanted = None if targets is None else list(targets)
    columns: list[str] = []
    explained: list[tuple[Explanation, tuple[int | str, ...]]] = []
    for title, model in named.items():
        explainer = model if isinstance(model, Explainer) else Explainer(model, **options)
        for method in names:
            explained.append(_explain(explainer, given, wanted, method))
            if wanted is None:  # the classes of the first column hold for all
                wanted = [_name(explained[0][0], key) for key in explained[0][1]]
            said = str(method or OWN_CHOICE)
            columns.append(f"{title}, {said}" if title and len(names) > 1 else title or said)
    first, keys = explained[0]
    rows = tuple(str(_name(first, key)) for key in keys)
    explanations, targets_of = zip(*explained, strict=True)
    return Comparison(as_picture(given), rows, tuple(columns), explanations, targets_of)


def _explain(
    explainer: Explainer, image: Any, wanted: list[int | str] | None, method: Method | str | None
) -> tuple[Explanation, tuple[int | str, ...]]:
    """Return an explanation of some classes, or of the best one, and what their maps are called."""
    found = explainer(image, "predicted" if wanted is None else wanted, overlay=True, explain_method=method)
    if isinstance(found, list):
        raise ConfigError("The image is a batch; expected one image. Compare its images one by one.")
    if PER_IMAGE_MAP in found.saliency_map:
        return found, (PER_IMAGE_MAP,) * len(wanted or [PER_IMAGE_MAP])
    return found, tuple(found.targets if wanted is not None else found.targets[:1])


def _name(one: Explanation, key: int | str) -> int | str:
    """Return the class of a map by its name, which other models know too, or by its index."""
    return one.label_names[key] if isinstance(key, int) and key < len(one.label_names) else key


def _score(one: Explanation, key: int | str, row: str) -> float | None:
    """Return the best score that a model gives a class."""
    return max((found.score for found in one.predictions if found.target == key or found.label == row), default=None)
