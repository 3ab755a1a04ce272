"""How much `--decode fast` changes what the network is fed, by filter, and how long decoding takes.

    python benchmarks/decoding.py [--images 4] [--photographs FOLDER]

Pictures of 12 megapixels, JPEGs of quality 90: drawn shapes, and photographs of a folder, enlarged, with the grain of
a sensor. Each is decoded whole and in parts, and brought to the network's input from both. Printed are the mean
difference, its 99.9th percentile and its largest value in grey levels, and how many pixels of the smaller picture
became one of the input; milliseconds are processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from otx_xai.data import read_image
from otx_xai.data.shapes import draw_shape
from otx_xai.postprocess import fit
from otx_xai.records import InputGeometry, Interpolation

SIZE = (3000, 4000)
FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def pictures(count: int, photographs: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what each is, and its JPEG."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in photographs.iterdir() if path.is_file())[:count] if photographs else []
    sources = [("photograph", read_image(path)) for path in files]
    sources += [("drawn", draw_shape(rng, (SIZE[0] // 2, SIZE[1] // 2), i % 6).image) for i in range(count)]
    for kind, small in sources:
        image = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
        grain = cv2.GaussianBlur(rng.normal(0, 1, image.shape).astype(np.float32), (0, 0), 0.8)
        grainy = np.clip(image + 8 * grain, 0, 255).astype(np.uint8)
        yield kind, cv2.imencode(".jpg", grainy[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))[1]


def decoded(data: np.ndarray, factor: int) -> tuple[np.ndarray, float]:
    """Return a picture in RGB, and the milliseconds of the processor that decoding takes."""
    began = time.thread_time()
    image = cv2.imdecode(data, FLAGS[factor])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (time.thread_time() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="of each kind")
    parser.add_argument("--photographs", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print("picture     input    part  pixels  ms     " + "  ".join(f"{word.value:<14}" for word in Interpolation))
    for kind, data in pictures(arguments.images, arguments.photographs):
        whole, took = decoded(data, 1)
        print(f"{kind:<10}  whole                  {took:.0f}")
        for factor in (2, 4, 8):
            part, took = decoded(data, factor)
            for size in ((224, 224), (384, 512)):
                cells = []
                for word in Interpolation:
                    geometry = InputGeometry(size, interpolation=word)
                    averages = word is not Interpolation.LINEAR
                    fed = fit(part, geometry, factor if averages else 1)
                    change = np.abs(fed.astype(int) - fit(whole, geometry))
                    cells.append(f"{change.mean():.2f}/{np.percentile(change, 99.9):.0f}/{change.max():<4}".ljust(14))
                left = min(part.shape[0] / size[0], part.shape[1] / size[1])
                print(f"{kind:<10}  {size[0]}x{size[1]}  1/{factor}   {left:<6.1f}  {took:<5.0f}  {'  '.join(cells)}")


if __name__ == "__main__":
    main()
