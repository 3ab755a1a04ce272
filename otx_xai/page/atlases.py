"""Thumbnails of many images in few JPEG files."""

from __future__ import annotations

import cv2
import numpy as np

from otx_xai.records import Size, UInt8Array

CELL = 160
"""Side of the cell of a thumbnail, in pixels."""
COLUMNS = 8
CELLS = COLUMNS * COLUMNS
"""Of one atlas. A browser decodes it as a whole: to 6.5 MB, in some 15 ms."""

_BLOCK = 16
_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 84)


class AtlasWriter:
    """Lays thumbnails into an atlas until it is full; the memory is that of one."""

    def __init__(self) -> None:
        self._sheet: UInt8Array = np.zeros((COLUMNS * CELL, COLUMNS * CELL, 3), np.uint8)
        self._used = 0
        self.count = 0

    @property
    def is_full(self) -> bool:
        """No cell is free."""
        return self._used == CELLS

    @property
    def is_empty(self) -> bool:
        """Every cell is free."""
        return self._used == 0

    def add(self, jpeg: bytes) -> tuple[int, Size] | None:
        """Lay a thumbnail into the next cell.

        Args:
            jpeg: the file; larger than a cell, it is made smaller.

        Returns:
            The cell, counted over all atlases, and ``(height, width)`` there; ``None`` where it is no picture.
        """
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        if picture is None:
            return None
        height, width = picture.shape[:2]
        scale = CELL / max(height, width)
        if scale < 1:
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        row, column = divmod(self._used, COLUMNS)
        # Its edge goes on as far as JPEG's blocks, or what is beside it would bleed in.
        margins = [min(-side % _BLOCK, CELL - side) for side in (height, width)]
        picture = cv2.copyMakeBorder(picture, 0, margins[0], 0, margins[1], cv2.BORDER_REPLICATE)
        self._sheet[row * CELL :, column * CELL :][: picture.shape[0], : picture.shape[1]] = picture
        self._used += 1
        self.count += 1
        return self.count - 1, (height, width)

    def take(self) -> bytes:
        """Return the atlas as a JPEG file, as high as its rows, and begin the next one."""
        rows = -(-self._used // COLUMNS)
        data = cv2.imencode(".jpg", self._sheet[: rows * CELL], _QUALITY)[1]
        self._sheet[:] = 0
        self._used = 0
        return data.tobytes()
