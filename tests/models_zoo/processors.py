"""Compare how images are fitted in with what the image processors of transformers do.

    python tests/models_zoo/processors.py

Every processor of transformers is tried with its own defaults written out, and with one entry of them taken away at a
time. What is fed must be equal, or be warned of. Exits 1 where a processor differs in silence.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import transformers
from openvino import opset13 as ops
from PIL import Image
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from otx_xai.errors import OtxXaiError
from otx_xai.model.image_input import describe_input
from otx_xai.neighbours import read_hints
from otx_xai.postprocess import fit
from otx_xai.records import InputOptions

KEYS = ("do_center_crop", "crop_size", "crop_pct", "do_resize", "do_rescale", "do_normalize", "image_mean", "image_std")
KEYS += ("rescale_factor", "resample", "size", "do_pad")
ENOUGH = 0.015
"""Mean difference of what is fed, in parts of its range, that other ways of rounding explain."""


def main() -> int:
    counts: Counter[str] = Counter()
    for name in _names():
        for left_out, config in _variants(name):
            outcome = _compared(getattr(transformers, name), config)
            counts[outcome] += 1
            if outcome == "differs in silence":
                print(f"{name} without {left_out or 'any change'}: {outcome}")
    print(dict(counts))
    return int(counts["differs in silence"] > 0 or counts["equal"] < 300)


def _names() -> list[str]:
    values = IMAGE_PROCESSOR_MAPPING_NAMES.values()
    names = {str(name) for value in values for name in (value.values() if isinstance(value, dict) else [value]) if name}
    return sorted(name for name in names if not name.endswith(("Fast", "Pil")) and hasattr(transformers, name))


def _variants(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        whole = {k: v for k, v in json.loads(getattr(transformers, name)().to_json_string()).items() if v is not None}
    except (TypeError, ValueError, ImportError, AttributeError):  # made with arguments, or of packages that are absent
        return
    if not {"image_mean", "size"} & whole.keys():
        return
    yield "", whole
    for left_out in (key for key in KEYS if key in whole):
        yield left_out, {key: value for key, value in whole.items() if key != left_out}


def _compared(processor: Any, config: dict[str, Any]) -> str:
    y, x = np.mgrid[:300, :400]
    image = np.stack([x / 400 * 255, y / 300 * 255, (x + y) % 256], -1).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(config))
        try:
            wanted = processor.from_pretrained(folder)(images=Image.fromarray(image), return_tensors="np")
            pixels = np.asarray(wanted["pixel_values"][0])
        except Exception:  # noqa: BLE001 - whatever stops transformers itself
            return "transformers cannot"
        if pixels.ndim != 3 or pixels.shape[0] != 3:
            return "no image"
        model = _network(pixels.shape[1:])
        try:
            told = describe_input(model, {}, InputOptions(), read_hints(Path(folder) / "model.onnx", model))
        except OtxXaiError:
            return "refused"
    fed = fit(image, told.geometry).astype(np.float32)
    fed = fed[..., ::-1] if told.reverse_channels else fed
    fed = (fed - np.array(told.mean or 0)) / np.array(told.scale or 1)
    if np.abs(fed.transpose(2, 0, 1) - pixels).mean() < ENOUGH * np.ptp(pixels):
        return "equal"
    return "warned of" if told.warning or not told.normalisation_known else "differs in silence"


def _network(size: tuple[int, ...]) -> ov.Model:
    image = ops.parameter([1, 3, *size])
    weights = np.ones((4, 3, 3, 3), np.float32)
    pooled = ops.reduce_mean(ops.convolution(image, weights, [2, 2], [1, 1], [1, 1], [1, 1]), np.array([2, 3]), False)
    return ov.Model([ops.result(pooled)], [image], "net")


if __name__ == "__main__":
    sys.exit(main())
