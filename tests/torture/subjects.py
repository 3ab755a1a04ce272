"""What is fuzzed: files of a kind, and what the product does with one of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Subject:
    """A kind of files.

    Args:
        make: makes the samples.
        name: what a file is called.
        use: what the product does with it, and the number of the try.
        text: it is text.
        base: fills the folder that the file lies in.
        header: half of the changes are made in so many bytes at the beginning.
    """

    make: Callable[[Path], Sequence[bytes]]
    name: str
    use: Callable[[Path, int], Any]
    text: bool = False
    base: Callable[[Path], object] = lambda folder: None
    header: int = 128


def _pictures(suffix: str, **options: Any) -> Callable[[Path], Sequence[bytes]]:
    def make(_: Path) -> Sequence[bytes]:
        from PIL import Image

        rng = np.random.default_rng(0)
        found = []
        for mode, shape in (("RGB", (12, 16, 3)), ("L", (9, 7)), ("RGBA", (5, 6, 4)), ("P", (8, 8))):
            picture = Image.fromarray(rng.integers(0, 256, shape, np.uint8), None if mode == "P" else mode)
            content = io.BytesIO()
            try:
                (picture.convert("P") if mode == "P" else picture).save(content, suffix, **options)
            except OSError:  # a kind without this mode
                continue
            found.append(content.getvalue())
        return found

    return make


def _tiffs(folder: Path) -> Sequence[bytes]:
    import tifffile

    found = list(_pictures("TIFF")(folder)) + list(_pictures("TIFF", compression="tiff_lzw")(folder))
    for array, more in (
        (np.arange(5 * 8 * 9, dtype=np.uint16).reshape(5, 8, 9), {"planarconfig": "separate", "photometric": "rgb"}),
        (np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8), {}),
        (np.zeros((32, 32, 3), np.uint8), {"tile": (16, 16), "photometric": "rgb"}),
    ):
        content = io.BytesIO()
        tifffile.imwrite(content, array[:3] if array.ndim == 3 and len(array) == 5 else array, **more)
        found.append(content.getvalue())
    return found


def _arrays(_: Path) -> Sequence[bytes]:
    found = []
    for array in (np.zeros((4, 5, 3), np.uint8), np.ones((3, 4, 5), np.float32), np.zeros((6, 7), np.uint16)):
        content = io.BytesIO()
        np.save(content, array)
        found.append(content.getvalue())
    return found


def _use_image(path: Path, number: int) -> None:
    from otx_xai.data.reading import read_image

    read_image(path, (3, 3, 4, 1)[number % 4])


_LABELS = {
    "txt": (
        b"cat\ndog\nhorse\n",
        b"0 cat\n1 dog\n2 horse\n",
        b"n01440764 tench, Tinca\nn01443537 goldfish\n",
        b"0: a\n1: b\n",
    ),
    "json": (b'["cat", "dog"]', b'{"0": "cat", "1": "dog"}', b'{"id2label": {"0": "cat"}}', b'{"cat": 0, "dog": 1}'),
    "yaml": (b"names:\n  0: cat\n  1: dog\n", b"names: [cat, dog]\nnc: 2\n", b"- cat\n- dog\n"),
    "csv": (b"index,name\n0,cat\n1,dog\n", b"id;label\n1;cat\n2;dog\n", b"cat\ndog\n"),
}


def _use_labels(path: Path, number: int) -> None:
    from otx_xai.data.label_files import given_names

    given_names(path)


def _data_set(kind: str) -> Callable[[Path], object]:
    def fill(folder: Path) -> None:
        from drawn_sets import write_multilabel_csv, write_voc

        from otx_xai.data.shape_sets import write_coco

        counts, labels = {"train": 2, "val": 1}, ("circle", "square")
        if kind == "coco":
            write_coco(folder, counts, labels=labels, size=32)
        elif kind == "voc":
            write_voc(folder, counts, labels=labels, size=32)
        else:
            write_multilabel_csv(folder, counts, labels=labels, size=32)

    return fill


def _annotations(kind: str, name: str) -> Callable[[Path], Sequence[bytes]]:
    def make(folder: Path) -> Sequence[bytes]:
        place = folder / f"samples_{kind}"
        _data_set(kind)(place)
        return [(place / name).read_bytes()]

    return make


def _use_annotations(path: Path, number: int) -> None:
    from otx_xai.data.formats.recognise import recognise

    root = path.parents[1] if path.parent.name in ("annotations", "Annotations") else path.parent
    task = (None, "detection", "instance_segmentation", "multi_label_cls")[number % 4]
    recognise(root, task)


def _ir(folder: Path) -> Sequence[bytes]:
    return [_saved_ir(folder / "samples_ir").read_bytes()]


def _saved_ir(folder: Path) -> Path:
    import classifiers

    folder.mkdir(parents=True, exist_ok=True)
    return classifiers.save_colour_classifier(folder / "model.xml", "red green blue purple")


def _onnx(_: Path) -> Sequence[bytes]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    linear = numpy_helper.from_array(np.ones((4, 5), np.float32), "l")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "l"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "net", [image], [logits], [weights, linear])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    entry = model.metadata_props.add()
    entry.key, entry.value = "model_info labels", "a b c d e"
    return [onnx.ModelProto.SerializeToString(model)]


def _tflite(folder: Path) -> Sequence[bytes]:
    import tflite_bytes

    rng, place = np.random.default_rng(0), folder / "sample.tflite"
    weights = rng.normal(size=(5, 16, 16, 3)).astype(np.float32)
    heads = {"boxes": weights[:4], "boxes_bias": np.zeros(4, np.float32), "anchors": np.full((16, 4), 0.5, np.float32)}
    heads |= {"classes": weights[:3], "classes_bias": np.zeros(3, np.float32)}
    return [
        tflite_bytes.write_classifier(place, weights, np.zeros(5, np.float32)).read_bytes(),
        tflite_bytes.write_detector(place, heads, {}).read_bytes(),
    ]


def _use_model(path: Path, number: int) -> None:
    from otx_xai.explain.plan import How, plan
    from otx_xai.model import open_model

    planned = plan(open_model(path), How())
    planned.compiled("CPU", latency=False)


def _recipes(_: Path) -> Sequence[bytes]:
    from otx_xai.recipe import list_recipes

    options = (
        b"checkpoint: a.xml\ndata_root: photos\ntargets: [1, 2]\nlabels: a,b\nexplain_config:\n  image_format: jpg\n"
    )
    options += b"  overlay_weight: 0.3\ninput:\n  mean: [1, 2, 3]\n  size: 224\nnum_masks: 100\ndump: true\n"
    return [*(recipe.path.read_bytes() for recipe in list_recipes()), options]


def _use_recipe(path: Path, number: int) -> None:
    from otx_xai.cli.explain import explain_parser
    from otx_xai.cli.parsing import engine_for
    from otx_xai.engine import Engine
    from otx_xai.settings import ExplainSettings

    Engine.from_config(path)
    engine_for(ExplainSettings, explain_parser(), "explain", ["--config", str(path)])


def _checkpoints(legacy: bool) -> Callable[[Path], Sequence[bytes]]:
    def make(_: Path) -> Sequence[bytes]:
        import torch

        state = {"module.conv.weight": torch.ones(2, 3, 1, 1), "module.conv.bias": torch.zeros(2)}
        found = []
        for content in (state, {"state_dict": state, "epoch": 3}, {"model": state, "model_ema": state}):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
            found.append(stream.getvalue())
        return found

    return make


def _safetensors(_: Path) -> Sequence[bytes]:
    import torch
    from safetensors.torch import save

    return [save({"conv.weight": torch.ones(2, 3, 1, 1), "conv.bias": torch.zeros(2)})]


def _use_checkpoint(path: Path, number: int) -> None:
    from otx_xai.checkpoints.contents import read_checkpoint

    read_checkpoint(path)


SUBJECTS: dict[str, Subject] = {
    "png": Subject(_pictures("PNG"), "a.png", _use_image),
    "jpeg": Subject(_pictures("JPEG"), "a.jpg", _use_image),
    "tiff": Subject(_tiffs, "a.tif", _use_image),
    "webp": Subject(_pictures("WEBP", lossless=True), "a.webp", _use_image),
    "bmp": Subject(_pictures("BMP"), "a.bmp", _use_image),
    "gif": Subject(_pictures("GIF"), "a.gif", _use_image),
    "npy": Subject(_arrays, "a.npy", _use_image),
    **{
        f"labels.{suffix}": Subject(lambda _, found=found: found, f"labels.{suffix}", _use_labels, text=True)
        for suffix, found in _LABELS.items()
    },
    "coco": Subject(
        _annotations("coco", "annotations/instances_train.json"),
        "annotations/instances_train.json",
        _use_annotations,
        text=True,
        base=_data_set("coco"),
    ),
    "voc": Subject(
        _annotations("voc", "Annotations/000001.xml"),
        "Annotations/000001.xml",
        _use_annotations,
        text=True,
        base=_data_set("voc"),
    ),
    "csv": Subject(_annotations("csv", "train.csv"), "train.csv", _use_annotations, text=True, base=_data_set("csv")),
    "xml": Subject(_ir, "model.xml", _use_model, text=True, base=_saved_ir),
    "onnx": Subject(_onnx, "model.onnx", _use_model),
    "tflite": Subject(_tflite, "model.tflite", _use_model, header=2048),
    "recipe": Subject(_recipes, "recipe.yaml", _use_recipe, text=True),
    "pth": Subject(_checkpoints(legacy=False), "a.pth", _use_checkpoint),
    "pth, legacy": Subject(_checkpoints(legacy=True), "a.pth", _use_checkpoint),
    "safetensors": Subject(_safetensors, "a.safetensors", _use_checkpoint),
}


def of_file(path: Path) -> Subject:
    """Return a subject of a model file."""
    return Subject(lambda _: [path.read_bytes()], f"model{path.suffix}", _use_model)
