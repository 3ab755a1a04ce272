"""How an explanation shows itself in a notebook: pictures side by side, as HTML without scripts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from otx_xai.records import UInt8Array
from otx_xai.report.files import encode
from otx_xai.report.pictures import colormap

MOST = 12
"""Pictures that are shown; of more, only the number."""

_SIDE = 320
"""Pixels of the longer side of a picture at most."""


def pictures_html(pictures: Sequence[UInt8Array], captions: Sequence[str], title: str = "") -> str:
    """Lay pictures out side by side.

    Args:
        pictures: RGB ``uint8`` ``(H, W, 3)``, or maps in grey ``(H, W)``, which are coloured.
        captions: what stands below each; text, whatever it holds.
        title: what stands above.

    Returns:
        HTML that Jupyter, VS Code and Colab show as it is.
    """
    figures = "".join(map(_figure, pictures[:MOST], captions))
    more = len(pictures) - MOST
    rest = f"<div>and {more} more</div>" if more > 0 else ""
    head = f"<div><strong>{escape(title)}</strong></div>" if title else ""
    return f'{head}<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>{rest}'


def _figure(picture: UInt8Array, caption: str) -> str:
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    elif max(picture.shape[:2]) < _SIDE // 2:  # a map at the network's resolution
        times = _SIDE // 2 / max(picture.shape[:2])
        size = (round(picture.shape[1] * times), round(picture.shape[0] * times))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    grey = np.asarray(picture, np.float32) / np.float32(255)
    shown = colormap(grey.astype(np.float32, copy=False)) if picture.ndim == 2 else picture
    data = b64encode(encode(shown)).decode()
    text = escape(caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{text}" style="display:block;max-width:100%">'
    return f'<figure style="margin:0">{image}<figcaption style="font:12px sans-serif">{text}</figcaption></figure>'
