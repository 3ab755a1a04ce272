"""`otx explain --dump True` on a folder of JPEGs against the limit that inference and codec set on the same cores.

    python benchmarks/end_to_end.py [--images 400] [--rounds 3] [--many 10000] [--checkpoint model.xml …]

The limit is ``1 / (1 / inference + 1 / codec)``: inference is plain asynchronous images/s of the same network on uint8
input, codec is decoding the JPEGs and encoding one overlay each, images/s, with one thread a core and nothing else.
The run reads, infers, explains the best class with `--preset speed`, draws and writes one overlay an image. All three
take turns; the ratio is taken round by round. So is that of a run with `--preset balance`, the default, to one with
`speed`. Then: the peak memory of the command for many images against that for 100, and the
time from start to `--help` and to the first result.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import openvino as ov
from planning import planned

from otx_xai.data.shapes import draw_shape
from otx_xai.engine import Engine
from otx_xai.model import embed_preprocessing
from otx_xai.records import DumpContent, ExplainConfig, ImageFormat, InputOptions, Preset
from otx_xai.report.files import encode

SIZE = (375, 500)
OPTIONS = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
INPUT = InputOptions(mean=127.5, scale=127.5)
PEAK = (
    "import sys; from otx_xai.cli import main; code = main(sys.argv[1:]); "
    "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
)


def make_images(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of ImageNet's usual size; the pictures repeat, the files do not."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pictures = [draw_shape(rng, SIZE, i % 4).image for i in range(24)]
    encoded = [cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))[1] for picture in pictures]
    paths = [folder / f"{i:06d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded[i % len(encoded)].tobytes())
    return paths


def make_model(path: Path) -> None:
    """Convert MobileNetV2 with random weights."""
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(num_classes=1001).eval()
    converted = ov.convert_model(model, example_input=torch.randn(1, 3, 224, 224))
    converted.reshape([1, 3, 224, 224])
    ov.save_model(converted, path, compress_to_fp16=False)


class Inference:
    """Plain asynchronous inference of the network with its pre-processing in the graph."""

    def __init__(self, checkpoint: Path) -> None:
        prepared = planned(checkpoint, options=INPUT)
        model = embed_preprocessing(ov.Core().read_model(checkpoint), prepared.facts)
        self.queue = ov.AsyncInferQueue(ov.Core().compile_model(model, "CPU", OPTIONS), 0)
        self.image = np.random.default_rng(0).integers(0, 255, (1, 224, 224, 3), dtype=np.uint8)

    def rate(self, count: int) -> float:
        """Return images/s."""
        start = time.perf_counter()
        for _ in range(count):
            self.queue.start_async(self.image)
        self.queue.wait_all()
        return count / (time.perf_counter() - start)


def codec_rate(paths: list[Path], overlays: list[np.ndarray], image_format: ImageFormat) -> float:
    """Return images/s of decoding every file and encoding one overlay for each."""
    data = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]

    def work(i: int) -> None:
        cv2.imdecode(data[i], cv2.IMREAD_COLOR)
        encode(overlays[i % len(overlays)], image_format)

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(len(data))))
    rate = len(data) / (time.perf_counter() - start)
    cv2.setNumThreads(threads)
    return rate


def run_rate(checkpoint: Path, images: Path, work_dir: Path, image_format: ImageFormat, preset: Preset) -> float:
    """Return images/s of a run into a new folder, its model loaded and compiled."""
    config = ExplainConfig(content=DumpContent.OVERLAYS, image_format=image_format, predicted_maps_conf_thr=1.0)
    run = Engine(work_dir=work_dir).explain(
        checkpoint, data_root=images, dump=True, explain_config=config, input=INPUT, preset=preset
    )
    return run.explained / run.seconds


def peak_memory(checkpoint: Path, images: Path, work_dir: Path) -> float:
    """Return the peak resident memory of the command in MiB."""
    options = ["--checkpoint", checkpoint, "--data_root", images, "--work_dir", work_dir, "--dump", "True"]
    options += ["--explain_config.content", "overlays", "--explain_config.image_format", "jpg"]
    options += ["--input.mean", "127.5", "--input.scale", "127.5", "--preset", Preset.SPEED.value]
    command = [sys.executable, "-c", PEAK, "explain", *map(str, options)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1024


def start_up(arguments: list[str]) -> float:
    """Return the median seconds of a command."""
    command = [sys.executable, "-m", "otx_xai.cli", *arguments]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=10_000, help="images of the memory test; 0 leaves it out")
    parser.add_argument("--checkpoint", type=Path, help="network of 224 px instead of a random MobileNetV2")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = arguments.checkpoint or root / "model.xml"
        if arguments.checkpoint is None:
            make_model(checkpoint)
        paths = make_images(root / "images", arguments.images)
        inference = Inference(checkpoint)
        inference.rate(50)
        print("format  inference/s  codec/s  limit/s  explain/s  ratio (goal 0.80)  balance/speed")
        for image_format in ImageFormat:
            out = root / f"out_{image_format.value}"
            run_rate(checkpoint, root / "images", out, image_format, Preset.SPEED)
            overlays = [cv2.imread(str(path))[..., ::-1] for path in sorted(out.rglob("*_overlay.*"))[:24]]
            rows = []
            for i in range(arguments.rounds):
                plain, codec = inference.rate(arguments.images), codec_rate(paths, overlays, image_format)
                run, balance = (
                    run_rate(checkpoint, root / "images", out / f"{i}_{preset}", image_format, preset)
                    for preset in (Preset.SPEED, Preset.BALANCE)
                )
                spared = 1 / plain + 1 / codec
                rows.append((plain, codec, 1 / spared, run, run * spared, balance / run))
            plain, codec, limit, run, ratio, effort = (median(column) for column in zip(*rows, strict=True))
            print(f"{image_format.value:<7} {plain:<12.0f} {codec:<8.0f} {limit:<8.0f} {run:<10.0f}", end=" ")
            print(f"{ratio:<18.2f} {effort:.2f}")
        one = root / "one"
        one.mkdir()
        shutil.copy(paths[0], one)
        first = ["explain", "--checkpoint", str(checkpoint), "--data_root", str(one), "--work_dir", str(root / "first")]
        times = [start_up(command) for command in (["--help"], ["explain", "--help"], [*first, "--resume", "False"])]
        print("start-up: otx --help {:.2f} s, otx explain --help {:.2f} s, of one image {:.2f} s".format(*times))
        if arguments.many:
            make_images(root / "few", 100)
            make_images(root / "many", arguments.many)
            few, many = (peak_memory(checkpoint, root / name, root / f"{name}_out") for name in ("few", "many"))
            print(f"peak memory: {few:.0f} MiB for 100 images, {many:.0f} MiB for {arguments.many}:", end=" ")
            print(f"ratio {many / few:.3f} (goal 1.05)")


if __name__ == "__main__":
    main()
