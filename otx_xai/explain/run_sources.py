"""The images of a run, one after the other: read, fitted into the network's input, cut into tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from otx_xai.data.arrays import as_channels
from otx_xai.data.loaders import LoadedImage, loaded_images, recover_image
from otx_xai.data.reduced import read_for_network
from otx_xai.data.slow_reads import SlowReads
from otx_xai.errors import ImageError, OtxXaiError
from otx_xai.explain.look import as_picture
from otx_xai.explain.plan import Plan
from otx_xai.explain.tiled import TiledImage, read_ahead
from otx_xai.perturb import Subject, image_subject
from otx_xai.postprocess import fit
from otx_xai.records import Decode, ImageInfo, ModelFacts, Size, UInt8Array
from otx_xai.report.pictures import limited, limited_size

Source = ImageInfo | LoadedImage


@dataclass(frozen=True)
class ReadImage:
    """An image that has been read, and which tile of it this is about, where it is tiled.

    Args:
        info: the image.
        image: the image itself where it is tiled; else a picture of it, RGB ``uint8`` ``(H, W, 3)``.
        image_size: ``(height, width)`` of the image.
        began: when its reading began.
        tiled: gathers its tiles.
        number: of the tile.
    """

    info: ImageInfo
    image: UInt8Array
    image_size: Size
    began: float
    tiled: TiledImage | None = None
    number: int = 0


@dataclass(frozen=True)
class Tile:
    """A tile of the image of this name, which is being read, or has been."""

    name: str
    reading: Future[tuple[NDArray[Any], ReadImage]]
    number: int


class Sources:
    """Where the images of a run come from, and what the network is fed of each.

    Args:
        plan: what explains.
        loader: gives the pixels of the images, in their order; they are read from their files where it is ``None``.
        has_failed: whether an image of this name has failed, so that no more of it is wanted.
        longest: pixels that the longer side of pictures has at most, so that large images need not be kept; 0: as many
            as the image; ``None``: no picture is drawn, and a single pixel stands for it.
        decode: how files are decoded.
        least: pixels that the longer side of pictures has at least where they may be decoded smaller; ``longest`` by
            default.
    """

    def __init__(
        self,
        plan: Plan,
        loader: Any,
        has_failed: Callable[[str], bool],
        longest: int | None = 0,
        decode: Decode = Decode.EXACT,
        least: int | None = None,
    ) -> None:
        self._plan = plan
        self._loader = loader
        self._has_failed = has_failed
        self._longest = longest
        self._decode = decode
        self._least = longest if least is None else least
        self._slow_reads = SlowReads()

    def watched(self) -> AbstractContextManager[None]:
        """Let the log name files that take long to be read, for as long as this context lasts."""
        return self._slow_reads.watched()

    def of(self, todo: Sequence[ImageInfo]) -> Generator[Source | Tile, None, None]:
        """Yield the images; the tiles of each where the model wants tiles, until one fails."""
        sources: Iterable[Source] = todo if self._loader is None else loaded_images(self._loader, todo)
        if self._plan.facts.tiling is None:
            yield from sources
            return
        for source, reading in read_ahead(sources, self._open):
            tiled = None if reading.exception() else reading.result()[1].tiled
            for number in range(1 if tiled is None else len(tiled.grid)):
                if not self._has_failed(source.name):
                    yield Tile(source.name, reading, number)

    def _open(self, source: Source) -> tuple[NDArray[Any], ReadImage]:
        """Read one image that is to be tiled, unless a loader has made the network's input of it (in a thread)."""
        tensor, read = self.read(source)
        tiling = self._plan.facts.tiling
        if tiling is None or (isinstance(source, LoadedImage) and source.pixels.dtype != np.uint8):
            return tensor, read
        return tensor, replace(read, tiled=TiledImage(self._plan, tiling, read.image_size))

    def read(self, source: Source | Tile) -> tuple[NDArray[Any], ReadImage]:
        """Read one image, or cut a tile out of it (in a thread)."""
        if isinstance(source, Tile):
            tensor, read = source.reading.result()
            with image_errors(read.info):
                if read.tiled is not None:
                    tensor = read.tiled.tensor(read.image, source.number)
            return tensor, replace(read, number=source.number)
        began = time.monotonic()
        info = source if isinstance(source, ImageInfo) else source.info
        with image_errors(info):
            reduced = 1
            if isinstance(source, LoadedImage):
                tensor, image = self._fed(source)
            else:
                with self._slow_reads.reading(info.file):
                    image, reduced = read_for_network(info.file, self._plan.facts, self._decode, self._least)
                tensor = fit(image, self._plan.facts.geometry, reduced)
            size = image.shape[0] * reduced, image.shape[1] * reduced
            return tensor, ReadImage(info, self._kept(image, size), size, began)

    def _kept(self, image: UInt8Array, size: Size) -> UInt8Array:
        """Return what is kept of an image until its pictures are drawn: all of it where it is yet to be tiled."""
        if self._plan.facts.tiling is not None:
            return image
        picture = as_picture(image, self._plan.facts.channels)
        if self._longest is None:
            return picture[:1, :1].copy()
        return limited(picture, limited_size(size, self._longest))

    def _fed(self, source: LoadedImage) -> tuple[NDArray[Any], UInt8Array]:
        """Return what the network is fed of an image that a loader gave, and the image to lay maps over."""
        facts, pixels = self._plan.facts, source.pixels
        if pixels.dtype == np.uint8:
            image = as_channels(pixels.transpose(1, 2, 0), facts.channels, f"Image {source.name} of the loader")
            return fit(image, facts.geometry), image
        wanted = (facts.channels, *facts.geometry.size)
        if pixels.shape != wanted:
            raise ImageError(
                f"Image {source.name} of the loader is {pixels.shape}; the network takes (channels, height, width) "
                f"{wanted}. Expected tensors of that shape: resize in the loader's transforms."
            )
        order = ["CHW".index(axis) for axis in facts.input_layout if axis != "N"]
        picture = recover_image(pixels, facts.mean, facts.scale)
        return np.ascontiguousarray(pixels.transpose(order)), picture


def subject_of(tensor: NDArray[Any], facts: ModelFacts) -> Subject:
    """Return what is perturbed of what was read: an image, or a tensor that a loader has normalised."""
    if tensor.dtype == np.uint8:
        return image_subject(tensor, facts)
    return Subject(tensor, facts.input_layout.replace("N", ""), facts.zero or (0.0,))


@contextmanager
def image_errors(info: ImageInfo) -> Iterator[None]:
    """Turn what an image, or the model's answer to it, breaks in numpy and OpenCV into the failure of that image."""
    try:
        yield
    except ImageError as error:
        if info.file in str(error) or info.name in str(error):
            raise
        raise ImageError(f"The image {info.file!r} cannot be explained: {error}") from error
    except OtxXaiError:
        raise
    except cv2.error as error:
        raise ImageError(
            f"The image {info.file!r} cannot be processed: OpenCV says {error.err!r}. It may be too large; save "
            "it again smaller, or remove it."
        ) from error
    except (MemoryError, ValueError) as error:
        reason = str(error) or "there is not enough memory for it. Save it again smaller, or remove it."
        raise ImageError(f"The image {info.file!r} cannot be explained: {reason}") from error
