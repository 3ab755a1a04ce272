"""A torch model → OpenVINO IR or ONNX that says all about itself, proved against torch before it is put in place.

Normalisation is part of the exported graph: what was trained is what is exported.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.conversion import (
    IMAGE,
    checked_batch,
    dynamic_shapes,
    model_info_of,
    output_names,
    quietly,
    ready,
    to_openvino,
)
from otx_xai.data.shapes import SHAPE_LABELS, draw_shape
from otx_xai.errors import ConfigError, ModelError, OutputError
from otx_xai.explain.insertion import insert_xai
from otx_xai.model import read_model
from otx_xai.postprocess.scores import sigmoid, softmax
from otx_xai.records import Size, Task, UInt8Array
from otx_xai.runtime import Session

if TYPE_CHECKING:
    from otx_xai.models.base import OTXModel

logger = logging.getLogger("otx_xai")

ExportFormat = Literal["openvino", "onnx"]
Precision = Literal["fp32", "fp16"]

EXPORTED_NAME = "exported_model"
TOLERANCE = 1e-2
"""Largest difference of a score in [0, 1] that rounding explains."""

_SUFFIXES: dict[ExportFormat, str] = {"openvino": ".xml", "onnx": ".onnx"}
_SMALLEST_DRAWING = 24
_COMPARED_BOXES = 10
_SMALLEST_HALVED = 16
"""Weights of fewer numbers stay as they are in an ONNX model of half precision, as do those that it cannot hold."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how close it comes to torch.

    Args:
        path: the ``.xml`` (its weights are in the ``.bin`` beside it) or the ``.onnx``.
        export_format: ``openvino`` or ``onnx``.
        precision: of the weights, ``fp32`` or ``fp16``.
        outputs: names of the outputs.
        max_difference: the largest difference of a score in [0, 1] between torch and the file that was read back.
        box_difference: of detectors, in pixels of the input: how far the ten best boxes are from the nearest one of
            the same class in the file's results; ``None`` where there is no box.
    """

    path: Path
    export_format: ExportFormat
    precision: Precision
    outputs: tuple[str, ...]
    max_difference: float
    box_difference: float | None = None

    def summary(self) -> str:
        """Return one line of plain text."""
        boxes = "" if self.box_difference is None else f", of a box {self.box_difference:.2g} pixels"
        if "boxes" in self.outputs and self.box_difference is None:
            boxes = " (it finds no object in generated images)"
        return (
            f"{self.path} ({self.export_format}, {self.precision}; outputs {', '.join(self.outputs)}). "
            f"Read back and compared with torch: largest difference of a score {self.max_difference:.2g}{boxes}."
        )


# --------------------------------------------------------------------------------------------------------------------
# To a file
# --------------------------------------------------------------------------------------------------------------------


def export_model(
    model: OTXModel,
    path: str | Path,
    *,
    export_format: ExportFormat = "openvino",
    precision: Precision = "fp32",
    batch: int | None = None,
    explain: bool = False,
) -> ExportReport:
    """Write a model as a file that needs nothing else, and prove it.

    The file is written under a temporary name, read back and run on generated images; only if it agrees with torch it
    gets its name. The weights come first, so that an ``.xml`` never lacks its ``.bin``.

    Args:
        model: it is not changed.
        path: the ``.xml`` or ``.onnx``, or a folder, in which it is called ``exported_model``; folders are created.
        export_format: ``openvino``, or ``onnx`` with ``model_info`` as ``metadata_props``.
        precision: of the stored weights; computations stay in ``float32``.
        batch: static number of images; ``None``: any number for a classifier, one for a detector.
        explain: put the branch in that makes the output ``saliency_map`` (and ``feature_vector`` of a classifier).

    Returns:
        The file and its largest difference from torch.

    Raises:
        ConfigError: an option has a wrong value, two contradict each other, or ONNX is not installed.
        GraphError: the network gives no place for the explain branch.
        ModelError: in full precision the exported model differs from torch by more than :data:`TOLERANCE`.
        OutputError: the file cannot be written.
    """
    target = _target(path, export_format)
    _check_options(model, export_format, precision, explain=explain)
    batch = checked_batch(model, batch)
    with _folder_beside(target) as folder:
        draft = folder / target.name
        if export_format == "onnx":
            _write_onnx(model, draft, precision, batch)
        else:
            _write_openvino(model, draft, precision, batch, explain=explain)
        report = _compared(model, draft, target, export_format, precision)
        _check_difference(report)
        _put_in_place(draft, target)
    logger.info("%s", report.summary())
    return report


def _target(path: str | Path, export_format: ExportFormat) -> Path:
    """Return the file to write."""
    if export_format not in _SUFFIXES:
        raise ConfigError(f"export_format is {export_format!r}; expected one of {', '.join(_SUFFIXES)}.")
    path, suffix = Path(path), _SUFFIXES[export_format]
    if path.suffix.lower() == suffix:
        return path
    if path.suffix.lower() in _SUFFIXES.values():
        raise ConfigError(f"The path {path} ends in {path.suffix}, but export_format {export_format} writes {suffix}.")
    return path / f"{EXPORTED_NAME}{suffix}"


def _check_options(model: OTXModel, export_format: ExportFormat, precision: Precision, *, explain: bool) -> None:
    if precision not in ("fp32", "fp16"):
        raise ConfigError(f"precision is {precision!r}; expected fp32 or fp16.")
    if explain and export_format == "onnx":
        raise ConfigError(
            "explain is on, and export_format is onnx; the explain branch is made of OpenVINO operations. Choose "
            "export_format openvino, or explain the ONNX model with insert_xai."
        )
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if export_format == "onnx" and missing:
        raise ConfigError(
            f"Export to ONNX needs {missing[0]}, which is not installed. Run: pip install onnx onnxscript"
        )


def _write_openvino(model: OTXModel, path: Path, precision: Precision, batch: int | None, *, explain: bool) -> None:
    converted = to_openvino(model, batch=batch)
    if explain:
        converted = insert_xai(converted, model.task, feature_vector=model.task.is_classification)
    try:
        ov.save_model(converted, path, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:  # no room on the device, most often
        raise OutputError(_unwritable_text(path.parent.parent / path.name, "OpenVINO could not write it")) from error


def _write_onnx(model: OTXModel, path: Path, precision: Precision, batch: int | None) -> None:
    import onnx
    import torch

    example = torch.zeros(batch or 2, 3, *model.geometry.size)
    names = {"input_names": [IMAGE], "output_names": list(output_names(model.task))}
    with ready(model) as module, quietly():
        if model.task.is_classification:
            shapes = dynamic_shapes(batch)
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
                **names,
            )
        else:  # the number of boxes depends on the image, which only tracing takes
            torch.onnx.export(module, (example,), path, dynamo=False, verbose=False, **names)
    proto = onnx.load(path)
    if precision == "fp16":
        _halve_weights(proto)
    onnx.helper.set_model_props(proto, {f"model_info {key}": value for key, value in model_info_of(model).items()})
    path.write_bytes(proto.SerializeToString())


def _halve_weights(proto: Any) -> None:
    """Store weights in half precision, each with a cast back to ``float32`` behind it."""
    import onnx

    graph = proto.graph
    limit = np.finfo(np.float16).max
    casts = []
    for weights in graph.initializer:
        if weights.data_type != onnx.TensorProto.FLOAT or np.prod(weights.dims, dtype=np.int64) < _SMALLEST_HALVED:
            continue
        name, values = weights.name, onnx.numpy_helper.to_array(weights)
        if np.abs(values).max() > limit:
            continue
        halved = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}/fp16")
        weights.CopyFrom(halved)
        casts.append(onnx.helper.make_node("Cast", [halved.name], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Yield an empty folder on the target's own device, and remove it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=target.parent))
    except OSError as error:
        raise OutputError(_unwritable_text(target, error.strerror or str(error))) from error
    try:
        yield folder
    except OSError as error:
        raise OutputError(_unwritable_text(target, error.strerror or str(error))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(draft: Path, target: Path) -> None:
    if draft.suffix.lower() == ".xml":
        os.replace(draft.with_suffix(".bin"), target.with_suffix(".bin"))
    os.replace(draft, target)


def _unwritable_text(path: Path, reason: str) -> str:
    return (
        f"The exported model {str(path)!r} cannot be written: {reason}. Expected a folder with write permission and "
        "free space; free it, or choose another path."
    )


# --------------------------------------------------------------------------------------------------------------------
# Proof
# --------------------------------------------------------------------------------------------------------------------


def _compared(
    model: OTXModel, draft: Path, target: Path, export_format: ExportFormat, precision: Precision
) -> ExportReport:
    """Read the file back and compare its results with torch's."""
    exported = read_model(draft)
    batch = exported.inputs[0].get_partial_shape()[0]
    images = _images(model.geometry.size, int(batch.get_length()) if batch.is_static else 2)
    results = Session(exported).raw(images.astype(np.float32))
    found = {name: np.array(results[name]) for name in output_names(model.task)}
    wanted = _torch_results(model, images)
    boxes = None
    if model.task.is_classification:
        difference = float(np.abs(_scores(model, found["logits"]) - _scores(model, wanted["logits"])).max())
    else:
        difference = _score_difference(found["boxes"][0, :, 4], wanted["boxes"][0, :, 4])
        boxes = _box_difference(found, wanted)
    names = tuple(min(output.get_names()) for output in exported.outputs)
    return ExportReport(target, export_format, precision, names, difference, boxes)


def _check_difference(report: ExportReport) -> None:
    if report.max_difference <= TOLERANCE:
        return
    text = (
        f"The exported model {report.path} differs from torch: a score by {report.max_difference:.3g}, where "
        f"{TOLERANCE:g} would be rounding"
    )
    if report.precision == "fp32":
        raise ModelError(
            f"{text}. Nothing was written. Expected equal results: weights with values that are no numbers, or an "
            "operation that is converted wrongly, can be why. Try the other export_format."
        )
    logger.warning("%s. Half precision may be too coarse for its weights; fp32 is exact.", text)


def _images(size: Size, count: int) -> UInt8Array:
    """Draw ``uint8`` ``(N, 3, H, W)``: drawn shapes and noise in turn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *size, 3), np.uint8)
    if min(size) >= _SMALLEST_DRAWING:
        for i in range(0, count, 2):
            images[i] = draw_shape(rng, size, i % len(SHAPE_LABELS)).image
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _torch_results(model: OTXModel, images: UInt8Array) -> dict[str, NDArray[Any]]:
    import torch

    with ready(model) as module:
        results = module(torch.from_numpy(images).float())
    return {name: result.numpy() for name, result in zip(output_names(model.task), results, strict=True)}


def _scores(model: OTXModel, logits: NDArray[Any]) -> NDArray[Any]:
    return sigmoid(logits) if model.task is Task.MULTI_LABEL_CLS else softmax(logits)


def _score_difference(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Compare the scores of detections, best first.

    The lists end where a threshold or a limit cuts them, so that the last ones may be on one side only. A list that
    ends early counts as if it went on with the lowest score of the other; an empty one as if it had zeros.
    """
    short, long = sorted((np.sort(found)[::-1], np.sort(wanted)[::-1]), key=len)
    if not len(long):
        return 0.0
    rest = np.full(len(long) - len(short), long[-1] if len(short) else 0.0)
    return float(np.abs(np.concatenate([short, rest]) - long).max())


def _box_difference(found: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]) -> float | None:
    """Return how far torch's best boxes are from the nearest one of their class, in pixels."""
    boxes, labels = found["boxes"][0, :, :4], found["labels"][0]
    best = np.argsort(-wanted["boxes"][0, :, 4], kind="stable")[:_COMPARED_BOXES]
    distances = [
        np.abs(same - wanted["boxes"][0, i, :4]).max(axis=1).min()
        for i in best
        if len(same := boxes[labels == wanted["labels"][0, i]])
    ]
    return float(max(distances)) if distances else None
