"""A folder as a checkpoint: the one model file in it."""

from __future__ import annotations

from pathlib import Path

from otx_xai.errors import ModelError

_USUAL = ("openvino_model.xml", "model.onnx", "openvino/openvino_model.xml", "onnx/model.onnx")
"""What Optimum calls them; and where they lie beside the weights of another framework."""
_READABLE = (".xml", ".onnx", ".tflite")
_TORCH = (".safetensors", ".ckpt", ".pth", ".pt")
_SHOWN = 8
_BY_OPENVINO = (".pb", ".pdmodel")
_BY_KERAS = (".keras", ".h5", ".hdf5")


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
        other = next((path for path in files if how_to_convert(path)), None)
        way_out = how_to_convert(other) if other is not None else ""
        raise ModelError(f"The checkpoint {folder} is a folder without a model{_alone(files)}; {wanted}.{way_out}")
    names = ", ".join(path.name for path in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
    raise ModelError(f"The checkpoint {folder} is a folder with {len(found)} models: {names}; {wanted}. Name the file.")


def _is_readable(path: Path) -> bool:
    return _has(path, _READABLE) and (not _has(path, (".xml",)) or path.with_suffix(".bin").is_file())


def _has(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes


def _alone(files: list[Path]) -> str:
    alone = next((path.name for path in files if _has(path, (".xml",))), None)
    return f" ({alone} has no .bin beside it)" if alone else ""


def how_to_convert(path: Path) -> str:
    """Say how a model of a kind that is not read becomes one that is, as a sentence to append; empty of any other."""
    suffix, source = path.suffix.lower(), path.parent if path.name == "saved_model.pb" else path
    if suffix in _BY_OPENVINO:
        return f" OpenVINO converts it: ovc {source} --output_model model.xml."
    if suffix in _BY_KERAS:
        return f" Keras exports it: keras.saving.load_model({str(path)!r}).export('model.onnx', format='onnx')."
    if suffix == ".pt2":
        program = f"openvino.convert_model(torch.export.load({str(path)!r}))"
        return f" OpenVINO converts it: openvino.save_model({program}, 'model.xml')."
    return ""
