"""What is looked at where somebody has time: each box and D-RISE of detectors, and one 8-bit model of each package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from explaining import Run, explain
from judging import result_of
from pictures import draw
from record import Stored, pictures_of
from table import Result

PICTURES = 8
"""That quantisation looks at."""

MASKS = 60
"""Of D-RISE."""


def boxes(model: Stored, root: Path, runs: Path) -> Result:
    """Explain each box of a detector by itself: every box that is listed has a map."""
    run = _explained(model, root / model.checkpoint, root, runs / f"{model.name}.boxes", "--targets", "boxes")
    without = [line["name"] for line in run.lines if len(line["targets"]) != len(line["predictions"])]
    found = result_of(
        replace(model, name=f"{model.name}, each box"), run, [f"boxes without a map: {without}"] * bool(without)
    )
    return found


def perturbed(model: Stored, root: Path, runs: Path) -> Result:
    """Explain a detector by D-RISE, with few masks: proposals are read, too."""
    options = ("--explain_method", "drise", "--num_masks", str(MASKS))
    run = _explained(model, root / model.checkpoint, root, runs / f"{model.name}.drise", *options)
    return result_of(replace(model, name=f"{model.name}, D-RISE"), run, [])


def first_of_packages(models: Sequence[Stored], root: Path) -> list[Stored]:
    """Return of each package and kind the first model whose file NNCF can read."""
    chosen: dict[tuple[str, str], Stored] = {}
    for model in models:
        if file_of(root / model.checkpoint) is not None:
            chosen.setdefault((model.package, model.kind), model)
    return list(chosen.values())


def in_8_bits(model: Stored, root: Path, runs: Path) -> Result | None:
    """Quantise a model, and explain it; ``None`` where NNCF is missing, or does not take it.

    What it answers is not compared: weights that were never trained do not survive it.
    """
    file = file_of(root / model.checkpoint)
    if find_spec("nncf") is None or file is None:
        return None
    import nncf

    graph = ov.Core().read_model(file)
    graph.reshape([1, 3, *_sides(graph)])
    images = nncf.Dataset(range(PICTURES), partial(_image, size=_sides(graph), options=model.options))
    try:
        quantised = nncf.quantize(graph, images, subset_size=PICTURES)
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        print(f"NNCF does not take {model.name}: {error}")
        return None
    target = root / f"{model.name}.int8" / file.with_suffix(".xml").name
    target.parent.mkdir(exist_ok=True)
    for beside in file.parent.glob("*.json"):  # what exporters say lies beside the 8-bit model as well
        (target.parent / beside.name).write_bytes(beside.read_bytes())
    for beside in file.parent.glob("*.yaml"):
        (target.parent / beside.name).write_bytes(beside.read_bytes())
    ov.save_model(quantised, target, compress_to_fp16=False)
    run = _explained(model, target, root, runs / f"{model.name}.int8")
    return result_of(replace(model, name=f"{model.name}, int8", how=f"{model.how}; quantised by NNCF"), run, [])


def file_of(checkpoint: Path) -> Path | None:
    """Return the graph of a checkpoint, which may be a folder; ``None`` where it is one of torch or TensorFlow."""
    files = [checkpoint] if checkpoint.is_file() else sorted(checkpoint.rglob("*"))
    return next((file for file in files if file.suffix in (".xml", ".onnx")), None)


def _explained(model: Stored, checkpoint: Path, root: Path, folder: Path, *options: str) -> Run:
    return explain(checkpoint, pictures_of(model.name, root), folder, *model.options, *options)


def _sides(graph: ov.Model) -> tuple[int, int]:
    """Height and width of an input, 256 where they are open."""
    height, width = list(graph.input().partial_shape)[-2:]
    return tuple(256 if side.is_dynamic else side.get_length() for side in (height, width))  # type: ignore[return-value]


def _image(number: int, size: tuple[int, int], options: Sequence[str]) -> Any:
    """Draw an image as the network wants it, where options tell; else it is about from 0 to 1."""
    told = dict(zip(options[::2], options[1::2], strict=True))
    mean, scale = (
        np.array(told.get(f"--input.{word}", usual).split(","), np.float32)
        for word, usual in (("mean", "0"), ("scale", "255"))
    )
    return ((draw(size, 200 + number) - mean) / scale).transpose(2, 0, 1)[None].astype(np.float32)
