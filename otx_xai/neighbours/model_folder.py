"""A folder as a checkpoint: the one model file in it."""

from __future__ import annotations

from pathlib import Path

from otx_xai.errors import ModelError

_USUAL = ("openvino_model.xml", "model.onnx", "openvino/openvino_model.xml", "onnx/model.onnx")
"""What Optimum calls them; and where they lie beside the weights of another framework."""
_READABLE = (".xml", ".onnx", ".tflite")
_TORCH = (".safetensors", ".ckpt", ".pth", ".pt")
_SHOWN = 8


def find_model_file(folder: Path) -> Path:
    """Return the model in a folder: one that OpenVINO reads, else a torch checkpoint.

    Args:
        folder: a folder that exists. ``openvino_model.xml`` and ``model.onnx`` count before others; an ``.xml`` counts
            where its ``.bin`` lies beside it.

    Raises:
        ModelError: the folder holds no model, several, or cannot be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        usual = [path for path in (folder / name for name in _USUAL) if path.is_file() and _is_readable(path)]
    except OSError as error:
        raise ModelError(f"The checkpoint {folder} cannot be read: {error.strerror}. Name a model file.") from error
    if usual:
        return usual[0]
    found = [path for path in files if _is_readable(path)] or [path for path in files if _has(path, _TORCH)]
    if len(found) == 1:
        return found[0]
    wanted = "expected a folder with one " + ", ".join((*_READABLE, *_TORCH))
    if not found:
        raise ModelError(f"The checkpoint {folder} is a folder without a model{_alone(files)}; {wanted}.")
    names = ", ".join(path.name for path in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
    raise ModelError(f"The checkpoint {folder} is a folder with {len(found)} models: {names}; {wanted}. Name the file.")


def _is_readable(path: Path) -> bool:
    return _has(path, _READABLE) and (not _has(path, (".xml",)) or path.with_suffix(".bin").is_file())


def _has(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes


def _alone(files: list[Path]) -> str:
    alone = next((path.name for path in files if _has(path, (".xml",))), None)
    return f" ({alone} has no .bin beside it)" if alone else ""
