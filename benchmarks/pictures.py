"""Runs that write overlays of small and of large JPEGs, against inference and codec alone, in time and processor time.

    python benchmarks/pictures.py [--images 200] [--large 16] [--rounds 3]

As `end_to_end.py`, for pictures of 500 x 375 and of 12 megapixels, decoded whole and by `--decode fast` (with a
bilinear resize, since OpenCV's linear one needs all pixels). The last column is what inference, decoding and encoding
take alone as a share of what a run takes, in processor time, which a busy machine changes less than images/s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import cv2
import numpy as np
from end_to_end import INPUT, SIZE, Inference, make_model

from otx_xai.data.shapes import draw_shape
from otx_xai.engine import Engine
from otx_xai.records import Decode, DumpContent, ExplainConfig, ImageFormat, Interpolation
from otx_xai.report.files import encode

LARGE = (3000, 4000)
KINDS = 8


class Rate(NamedTuple):
    """Images a second, and seconds of processors an image."""

    images: float
    processor: float


def make_images(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write JPEGs of drawn shapes with the grain of a sensor; the pictures repeat, the files do not."""
    folder.mkdir()
    rng, encoded = np.random.default_rng(0), []
    for i in range(min(count, KINDS)):
        drawn = cv2.resize(draw_shape(rng, SIZE, i % 4).image, size[::-1], interpolation=cv2.INTER_CUBIC)
        grainy = np.clip(drawn + rng.normal(0, 5, drawn.shape), 0, 255).astype(np.uint8)
        encoded.append(cv2.imencode(".jpg", grainy[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))[1].tobytes())
    paths = [folder / f"{i:06d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded[i % len(encoded)])
    return paths


def inference_rate(inference: Inference, count: int) -> Rate:
    """Return the rate of plain asynchronous inference."""
    used = time.process_time()
    rate = inference.rate(count)
    return Rate(rate, (time.process_time() - used) / count)


def codec_rate(paths: list[Path], overlays: list[np.ndarray], image_format: ImageFormat, decode: Decode) -> Rate:
    """Return the rate of decoding every file and encoding one overlay for each, with a thread a core."""
    flag = cv2.IMREAD_REDUCED_COLOR_2 if decode is Decode.FAST else cv2.IMREAD_COLOR
    data = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]

    def work(i: int) -> None:
        cv2.imdecode(data[i], flag)
        encode(overlays[i % len(overlays)], image_format)

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    start, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(len(data))))
    rate = Rate(len(data) / (time.perf_counter() - start), (time.process_time() - used) / len(data))
    cv2.setNumThreads(threads)
    return rate


def run_rate(checkpoint: Path, images: Path, work_dir: Path, image_format: ImageFormat, decode: Decode) -> Rate:
    """Return the rate of a run into a new folder; its processor time without what opening the model takes."""
    config = ExplainConfig(content=DumpContent.OVERLAYS, image_format=image_format, predicted_maps_conf_thr=1.0)
    told = replace(INPUT, interpolation=Interpolation.BILINEAR) if decode is Decode.FAST else INPUT
    used = []
    for name, root in (("one", next(iter(sorted(images.iterdir())))), ("all", images)):
        began = time.process_time()
        run = Engine(work_dir=work_dir / name).explain(
            checkpoint, data_root=root, dump=True, explain_config=config, input=told, decode=decode, preset="speed"
        )
        used.append(time.process_time() - began)
    return Rate(run.explained / run.seconds, (used[1] - used[0]) / (run.explained - 1))


def compare(checkpoint: Path, paths: list[Path], inference: Inference, out: Path, rounds: int) -> None:
    """Print a row for each format, and of large pictures for each way to decode."""
    images = paths[0].parent
    decodes = list(Decode) if images.name == "large" else [Decode.EXACT]
    for image_format, decode in ((one, other) for one in ImageFormat for other in decodes):
        folder = out / f"{images.name}_{image_format.value}_{decode.value}"
        run_rate(checkpoint, images, folder, image_format, decode)
        files = sorted((folder / "all").rglob("*_overlay.*"))[:KINDS]
        overlays = [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in files]
        rows = []
        for i in range(rounds):
            plain = inference_rate(inference, max(len(paths), 50))
            codec = codec_rate(paths, overlays, image_format, decode)
            run = run_rate(checkpoint, images, folder / f"round_{i}", image_format, decode)
            limit = 1 / (1 / plain.images + 1 / codec.images)
            share = (plain.processor + codec.processor) / run.processor
            rows.append((plain.images, codec.images, limit, run.images, run.images / limit, share))
        columns = [median(column) for column in zip(*rows, strict=True)]
        megabytes = mean(file.stat().st_size for file in files) / 1e6
        told = f"{images.name:<6}  {image_format.value:<6}  {decode.value:<6}  {megabytes:<5.2f}"
        print(told + "  {:<11.0f}  {:<7.1f}  {:<7.1f}  {:<9.1f}  {:<5.2f}  {:.2f}".format(*columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--large", type=int, default=16, help="images of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_model(root / "model.xml")
        inference = Inference(root / "model.xml")
        inference.rate(50)
        print("images  format  decode  MB     inference/s  codec/s  limit/s  explain/s  ratio  ratio of processor time")
        for folder, count, size in (("large", arguments.large, LARGE), ("small", arguments.images, SIZE)):
            compare(root / "model.xml", make_images(root / folder, count, size), inference, root, arguments.rounds)


if __name__ == "__main__":
    main()
