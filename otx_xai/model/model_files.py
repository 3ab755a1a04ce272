"""A checkpoint on disk, or a model in memory → an ``ov.Model`` that is ours to change."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import openvino as ov

from otx_xai.errors import ModelError
from otx_xai.graph.compiler_faults import split_before_gathers
from otx_xai.graph.rt_info import read_through, write, written
from otx_xai.graph.single_precision import compute_in_single
from otx_xai.model.onnx_nodes import unreadable_operation
from otx_xai.model.tflite_detections import read_detections_of_tflite
from otx_xai.model.tflite_operations import unreadable_tflite
from otx_xai.neighbours import how_to_convert
from otx_xai.openvino_core import core, first_line
from otx_xai.options import meant

_SUFFIXES = (".xml", ".onnx", ".tflite")
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
"""Checkpoints that are converted before they are explained."""
_LFS_POINTER = b"version https://git-lfs"
_ONNX_METADATA = "framework"  # where OpenVINO's ONNX front end keeps metadata_props
_ONNX_PREFIX = "model_info "
_LOCATION = b"\x0a\x08location\x12"  # of the weights of a tensor outside of an ONNX file


def read_model(checkpoint: str | Path | ov.Model) -> ov.Model:
    """Read an OpenVINO IR (``.xml`` with its ``.bin``), an ONNX or a TensorFlow Lite model.

    ONNX ``metadata_props`` named ``model_info <key>`` become ``rt_info`` ``model_info/<key>``, where an IR has them.

    Args:
        checkpoint: a file, or a model in memory, which is cloned, so that the caller's own is never changed.

    Returns:
        A model that belongs to the caller of this function.

    Raises:
        ModelError: the file is missing, empty, broken, or of another kind.
    """
    model = checkpoint.clone() if isinstance(checkpoint, ov.Model) else _read_file(Path(checkpoint).expanduser())
    split_before_gathers(model)
    compute_in_single(model)
    return model


def _read_file(path: Path) -> ov.Model:
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".tflite":
        read_detections_of_tflite()
    check = {".onnx": unreadable_operation, ".tflite": unreadable_tflite}.get(suffix)
    if check is not None and (fault := check(path)):
        raise ModelError(f"The checkpoint {path} is broken: {fault}. Copy or export the model again.")
    try:
        model = core().read_model(path)
        _read_names(model)
        _adopt_onnx_metadata(model)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise ModelError(_why_unreadable(path, error)) from error
    return model


def model_files(path: Path) -> tuple[Path, ...]:
    """Return all files that a model is read from: the model itself, and the weights beside it."""
    suffix = path.suffix.lower()
    if suffix == ".xml":
        weights = [path.with_suffix(".bin")]
    elif suffix == ".onnx":
        weights = external_weights(path)
    else:
        weights = []
    return path, *(file for file in weights if file.is_file())


def external_weights(path: Path) -> list[Path]:
    """Return the files that hold tensors of an ONNX model, as it names them, whether they are there or not.

    A tensor outside of the file has an entry ``location``; its bytes are looked for, as the file may be large.
    """
    found = set()
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            at = content.find(_LOCATION)
            while at >= 0:
                name = _text_at(content, at + len(_LOCATION))
                found.add(name)
                at = content.find(_LOCATION, at + len(_LOCATION))
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be opened: {error.strerror}.") from error
    return [path.parent / name for name in sorted(found) if name]


def _text_at(content: mmap, at: int) -> str:
    """Return the text of a protobuf field, whose length comes first, seven bits a byte."""
    length, shift = 0, 0
    for byte in content[at : at + 3]:
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return content[at : at + length].decode("utf-8", errors="replace").replace("\0", "")


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the content of files, in their order; those that are gone do not count.

    Raises:
        ModelError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(2**22):
                    digest.update(block)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelError(
                f"The file {path} of the model cannot be read: {error.strerror}. Check its mode."
            ) from error
    return digest.hexdigest()


def hash_graph(model: ov.Model) -> str:
    """Return the SHA-256 of the operations and the weights of a model in memory."""
    digest = hashlib.sha256()
    for node in model.get_ordered_ops():
        digest.update(node.get_type_name().encode())
        if node.get_type_name() == "Constant":
            digest.update(np.ascontiguousarray(node.data).tobytes())
    return digest.hexdigest()


def _check_file(path: Path) -> None:
    """Raise ``ModelError`` unless the file exists and begins as its suffix promises."""
    if path.is_dir():
        raise ModelError(
            f"The checkpoint {path} is a folder; expected a model file ({_wanted()}). Name the file in it."
        )
    if not path.is_file():
        beside = [one.name for one in path.parent.glob("*") if one.suffix.lower() in _SUFFIXES]
        close = meant(path.name, beside, "" if path.parent == Path() else f"{path.parent}/")
        raise ModelError(f"The checkpoint {path} does not exist; expected a model file ({_wanted()}).{close}")
    suffix = path.suffix.lower()
    if suffix in TORCH_SUFFIXES:
        raise ModelError(
            f"The checkpoint {path} is a torch checkpoint ({suffix}), which OpenVINO does not read. Export it "
            "to OpenVINO IR first (`otx export`); `otx explain` and Engine.explain do so themselves."
        )
    if suffix not in _SUFFIXES:
        hint = f" Pass {path.with_suffix('.xml')} instead." if suffix == ".bin" else how_to_convert(path)
        raise ModelError(f"The checkpoint {path} has the suffix '{suffix}'; expected {_wanted()}.{hint}")
    _check_beginning(path, suffix)


def _check_beginning(path: Path, suffix: str) -> None:
    """Refuse files whose first bytes show that they are no model: OpenVINO's own message would not say so."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be opened: {error.strerror}.") from error
    if not head:
        raise ModelError(f"The checkpoint {path} is empty; expected a model. Copy or export it again.")
    if head.startswith(_LFS_POINTER):
        raise ModelError(f"The checkpoint {path} is a Git LFS pointer, not the model. Run `git lfs pull` to fetch it.")
    if suffix == ".xml" and b"<net" not in head:
        raise ModelError(f"The checkpoint {path} is no OpenVINO IR: it has no <net> element. Export the model again.")
    if suffix == ".onnx" and head.decode("latin-1").replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        raise ModelError(f"The checkpoint {path} is no ONNX model: it is a text. Copy or export the model again.")
    if suffix == ".tflite" and head[4:8] != b"TFL3":
        raise ModelError(f"The checkpoint {path} is no TensorFlow Lite model: its TFL3 mark is missing.")


def _why_unreadable(path: Path, error: RuntimeError | UnicodeDecodeError) -> str:
    """One paragraph on a file that OpenVINO refused, in words that quote it and may be no text."""
    if path.suffix.lower() == ".xml":
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            return f"The weights of {path} are missing: {weights} does not exist. Put the .bin next to the .xml."
        found, needed = weights.stat().st_size, _weight_bytes(path)
        if found < needed:
            return (
                f"The weights of {path} are incomplete: {weights} has {found} bytes, the .xml refers to {needed}. "
                "Copy or export the pair again."
            )
    refused = re.search(rf"^{ModelError.__name__}: (.*)$", str(error), re.MULTILINE)
    if refused is not None:  # by what converts an operation of ours
        return f"The checkpoint {path} cannot be read: {refused[1]}"
    reason = first_line(error) if isinstance(error, RuntimeError) else "it holds names that are no UTF-8 text"
    return (
        f"The checkpoint {path} cannot be read: {reason}. "
        "The file is broken, incomplete or of a kind that OpenVINO does not support; copy or export it again."
    )


def _weight_bytes(xml: Path) -> int:
    """Size that the ``.bin`` of an IR must have at least, in bytes."""
    ranges = re.findall(rb'offset="(\d+)"\s+size="(\d+)"', xml.read_bytes())
    return max((int(offset) + int(size) for offset, size in ranges), default=0)


def _read_names(model: ov.Model) -> None:
    """Read all names of a graph and what is written into it once: in a broken file these are no text."""
    read_through(model)
    for node in model.get_ops():
        node.get_friendly_name()
        for output in node.outputs():
            output.get_names()


def _adopt_onnx_metadata(model: ov.Model) -> None:
    """Copy ONNX metadata ``model_info <key>`` to ``rt_info`` ``model_info/<key>``."""
    metadata = written(model, _ONNX_METADATA)
    if not isinstance(metadata, dict):
        return
    for name, value in metadata.items():
        if name.startswith(_ONNX_PREFIX):
            write(model, value, ["model_info", name.removeprefix(_ONNX_PREFIX)])


def _wanted() -> str:
    own, torch = ", ".join(_SUFFIXES), ", ".join(TORCH_SUFFIXES)
    return f"{own}; `otx explain` and Engine.explain also take {torch}"
