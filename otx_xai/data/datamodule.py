"""The data of a run, as OTX scripts name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otx_xai.data.sources import find_images
from otx_xai.records import ImageInfo


@dataclass(frozen=True)
class OTXDataModule:
    """Images to explain.

    Args:
        data_root: a folder (read recursively), one image, a list file, or a glob pattern; see
            :func:`otx_xai.data.find_images`.
    """

    data_root: str | Path = "data"

    def images(self) -> tuple[ImageInfo, ...]:
        """Return the images, in a fixed order.

        Raises:
            DataError: there are none.
        """
        return find_images(self.data_root)
