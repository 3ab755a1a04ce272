"""What classifiers of all packages share: pictures, right scores, and the ways to export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pictures as drawn
import torch
from PIL import Image
from record import Answer
from torch import Tensor, nn
from torchvision.transforms import v2

CLASSES = 11
NAMES = {number: f"thing {number}" for number in range(CLASSES)}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPEN_BATCH = {name: {0: "batch"} for name in ("image", "pixel_values", "logits")}
"""Axes that an export leaves open."""
Transform = Callable[[Image.Image], Tensor]


class Logits(nn.Module):
    """A network whose output is the class scores alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output = self.network(image)
        return getattr(output, "logits", output)


def answers(network: nn.Module, transform: Transform, folder: Path, *sizes: tuple[int, int]) -> dict[str, Answer]:
    """Draw pictures, and let the network answer them."""
    return {
        name: Answer(scores=_scores(network, transform(picture)))
        for name, picture in drawn.write(folder, *sizes).items()
    }


def of_file(checkpoint: Path, transform: Transform, folder: Path) -> dict[str, Answer]:
    """Let plain OpenVINO answer drawn pictures by a file, or the one in a folder; nothing where that is of torch."""
    files = [checkpoint] if checkpoint.is_file() else sorted(checkpoint.iterdir())
    graph = next((file for file in files if file.suffix in (".xml", ".onnx")), None)
    if graph is None:
        return {}
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def network(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0])

    pictures = {file.name: Image.open(file) for file in sorted(folder.iterdir())}
    return {name: Answer(scores=_scores(network, transform(picture))) for name, picture in pictures.items()}


def stretched(side: int, normalisation: tuple[Any, Any] = IMAGENET) -> Transform:
    """Return what is done where nobody tells how to fit an image in: stretch, as OpenCV does it, and normalise."""

    def stretch(picture: Image.Image) -> Image.Image:
        return Image.fromarray(cv2.resize(np.asarray(picture), (side, side), interpolation=cv2.INTER_LINEAR))

    return _normalised(v2.Lambda(stretch), normalisation)


def cropped(side: int, before: int, normalisation: tuple[Any, Any] = IMAGENET) -> Transform:
    """Return the usual transform: resize the shorter side, crop the middle, normalise."""
    return _normalised(v2.Compose([v2.Resize(before, antialias=True), v2.CenterCrop(side)]), normalisation)


def options_of(normalisation: tuple[Any, Any] = IMAGENET) -> tuple[str, ...]:
    """Return what a user has to say of a file that does not tell how its images are normalised."""
    words = [",".join(f"{255 * value:g}" for value in values) for values in normalisation]
    return ("--input.mean", words[0], "--input.scale", words[1])


def to_onnx(
    network: nn.Module, image: Tensor, file: Path, axes: dict[str, dict[int, str]] | None = None, **names: Any
) -> Path:
    """Export to ONNX; ``axes`` are those that stay open, by the names of inputs and outputs."""
    names = {"input_names": ["image"], "output_names": ["logits"]} | names
    torch.onnx.export(network.eval(), (image,), str(file), dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    return file


def to_openvino(network: nn.Module, image: Tensor, file: Path, shape: tuple[int, ...] | None = None) -> Path:
    """Export to OpenVINO IR; without a shape all axes but the channels stay open."""
    model = ov.convert_model(network.eval(), example_input=image, input=None if shape is None else [shape])
    ov.save_model(model, file, compress_to_fp16=False)
    return file


def _scores(network: Callable[[Tensor], Tensor], image: Tensor) -> tuple[float, ...]:
    with torch.no_grad():
        return tuple(network(image[None]).softmax(1)[0].tolist())


def _normalised(fit: Any, normalisation: tuple[Any, Any]) -> Transform:
    as_float = v2.ToDtype(torch.float32, scale=True)
    return v2.Compose([fit, v2.ToImage(), as_float, v2.Normalize(*normalisation)])
