from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import openvino as ov
import pytest
import torch

from otx_xai.data import find_images, read_image
from otx_xai.data.shapes import SHAPE_LABELS
from otx_xai.demo import class_demo as demo
from otx_xai.errors import ConfigError, DataError, OutputError
from otx_xai.explain.run import ExplainRun
from otx_xai.openvino_core import core
from otx_xai.report import Journal, write_picture


@pytest.fixture(scope="module")
def network() -> Any:
    return demo.train_network(seed=1, images=32, epochs=1)


@pytest.fixture(scope="module")
def checkpoint(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.export_network(network, tmp_path_factory.mktemp("export") / "new" / "exported_model.xml")


def test_last_feature_map_is_fine(network: Any) -> None:
    features = network[:-3](torch.zeros(1, 3, 96, 96))
    assert features.shape == (1, 96, 12, 12)


def test_last_feature_map_is_aligned_with_the_input(network: Any) -> None:
    """Turning the input by 180° with turned kernels turns the map, which holds only where cells lie centrally."""
    features = network[:-3]
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    turned_network = demo._network()[:-3].eval()
    turned_network.load_state_dict(
        {
            name: weight.flip(2, 3) if name.endswith("weight") and weight.dim() == 4 else weight
            for name, weight in features.state_dict().items()
        }
    )
    with torch.no_grad():
        expected, turned = features(image), turned_network(image.flip(2, 3))
    torch.testing.assert_close(turned.flip(2, 3), expected, rtol=1e-3, atol=1e-4)


def test_training_repeats_and_leaves_the_random_state_alone(network: Any) -> None:
    state = torch.random.get_rng_state()
    again = demo.train_network(seed=1, images=32, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    for expected, found in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_exported_model_equals_the_network(network: Any, checkpoint: Path) -> None:
    compiled = core().compile_model(checkpoint, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(compiled(images.numpy())["logits"], expected, rtol=0, atol=2e-2 * np.ptp(expected))


def test_exported_model_describes_itself(checkpoint: Path) -> None:
    model = core().read_model(checkpoint)
    assert model.input("image").partial_shape == ov.PartialShape([-1, 3, 96, 96])
    info = {key: model.get_rt_info(["model_info", key]).value for key in demo._model_info(demo.SHAPE_LABELS)}
    assert info["task_type"] == "classification"
    assert info["labels"].split() == list(SHAPE_LABELS)
    assert json.loads(info["label_info"])["label_names"] == list(SHAPE_LABELS)
    assert [float(value) for value in info["mean_values"].split()] == [demo.MEAN] * 3
    assert [float(value) for value in info["scale_values"].split()] == [demo.SCALE] * 3


def test_export_to_an_unwritable_place_is_reported(network: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        demo.export_network(network, tmp_path / "file" / "model.xml")


class MaskEngine:
    """Stands in for the engine: a picture is what its folder says; its map is its mask, or the rest."""

    inverted = False
    failures: ClassVar[dict[str, str]] = {}
    interrupted = False

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir

    def explain(self, checkpoint: Path, data_root: Path, dump: bool) -> ExplainRun:
        assert checkpoint.is_file()
        assert dump
        with Journal(self.work_dir / "predictions.jsonl") as journal:
            for number, info in enumerate(find_images(data_root)):
                label = info.name.split("/")[0]
                mask = read_image(data_root.with_name("test_masks") / Path(info.name).with_suffix(".png"))[:, :, 0]
                file = f"saliency_map/{number}_saliency_map.png"
                write_picture(self.work_dir / file, 255 - mask if self.inverted else mask)
                best = {"target": SHAPE_LABELS.index(label), "label": label, "score": 0.9}
                journal.append({"name": info.name, "predictions": [best], "files": [file]})
        return ExplainRun(self.work_dir, 7, 7, 0, self.failures, 7, 1.0, self.interrupted)


class InvertedMaskEngine(MaskEngine):
    inverted = True


class FailingEngine(MaskEngine):
    failures: ClassVar[dict[str, str]] = {"circle/0000.jpg": "broken"}


class InterruptedEngine(MaskEngine):
    interrupted = True


@pytest.mark.parametrize(("engine", "hits"), [(MaskEngine, 7), (InvertedMaskEngine, 0)])
def test_maps_are_held_against_masks(
    engine: type[MaskEngine], hits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "Engine", engine)
    result = demo.demonstrate_classification(tmp_path, train_images=16, test_images=7, epochs=1)
    assert (result.objects, result.found, result.maps, result.hits) == (7, 7, 7, hits)
    masks = [read_image(path)[:, :, 0] > 0 for path in sorted((tmp_path / "test_masks").rglob("*.png"))]
    assert result.chance == pytest.approx(np.mean([mask.mean() for mask in masks]))
    assert read_image(result.contact_sheet).shape[2] == 3


def test_pictures_that_fail_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "Engine", FailingEngine)
    with pytest.raises(DataError, match=r"1 of the pictures .* cannot be explained"):
        demo.demonstrate_classification(tmp_path, train_images=16, test_images=1, epochs=1)


def test_ctrl_c_while_explaining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "Engine", InterruptedEngine)
    with pytest.raises(KeyboardInterrupt):
        demo.demonstrate_classification(tmp_path, train_images=16, test_images=1, epochs=1)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would exit with 1, and ignore Ctrl-C from then on."""
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(batches: Any) -> Iterator[Any]:
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(demo.Batches, "__iter__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.train_network(images=16, epochs=1)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("name", ["train_images", "test_images", "epochs"])
def test_numbers_below_one_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        demo.demonstrate_classification(tmp_path, **{name: 0})
    assert not any(tmp_path.iterdir())


@pytest.fixture(params=["torch", "lightning"])
def missing_package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, request.param, None)
    return str(request.param)


def test_missing_package_is_named_with_its_remedy(missing_package: str) -> None:
    with pytest.raises(ConfigError, match=rf"{missing_package} is not installed.*pip install otx-xai\[train\]"):
        demo.train_network(images=1, epochs=1)
