"""Maps of instance segmenters against masks pasted one by one, and what of the model stays as it was."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import openvino as ov
import pytest
import reference
import torch
from openvino import opset13 as ops
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.models.detection.roi_heads import paste_masks_in_image

from otx_xai.errors import ConfigError, GraphError, TargetError
from otx_xai.methods import mask_maps
from otx_xai.methods.inst_seg_explain_algo import default_map_size, insert_instance_maps
from otx_xai.openvino_core import core

SIZE = (48, 70)
CLASSES = 3


@dataclass(frozen=True)
class Scene:
    """Instances of one image, and how a model gives them."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray
    size: tuple[int, int] = SIZE
    batch: bool = True
    columns: int = 5
    channel: bool = False
    open_input: bool = False
    open_masks: bool = False

    def literal(self, num_classes: int = CLASSES) -> np.ndarray:
        return reference.instance_maps(self.boxes, self.labels, self.scores, self.masks, num_classes, self.size)

    def shown(self, count: int) -> Scene:
        """The first ones."""
        return replace(self, **{name: getattr(self, name)[:count] for name in ("boxes", "labels", "scores", "masks")})

    def image(self, count: int | None = None) -> np.ndarray:
        image = np.zeros((1, 3, *self.size), np.float32)
        image[0, 0, 0, 0] = len(self.labels) if count is None else count
        return image

    def model(self) -> ov.Model:
        """A segmenter that finds as many of the instances as its first pixel says."""
        image = ops.parameter([1, 3, *((-1, -1) if self.open_input else self.size)], np.float32)
        image.output(0).get_tensor().set_names({"image"})
        weight = ops.constant(np.eye(3, dtype=np.float32)[:, :, None, None])
        seen = ops.convolution(image, weight, [1, 1], [0, 0], [0, 0], [1, 1])
        count = ops.convert(ops.slice(ops.reshape(seen, ints(-1), False), ints(0), ints(1), ints(1)), "i64")
        boxes = self.boxes if self.columns == 4 else np.concatenate([self.boxes, self.scores[:, None]], 1)
        values = {"boxes": boxes.astype(np.float32), "labels": self.labels}
        if self.columns == 4:
            values["scores"] = self.scores.astype(np.float32)
        values["masks"] = self.masks[:, None] if self.channel else self.masks
        results = []
        for name, value in values.items():
            output = ops.slice(ops.constant(value), ints(0), count, ints(1), ints(0))
            if name == "masks" and self.open_masks:
                # as an operation would whose result only the image decides
                sizes = ops.concat([count, *(ops.maximum(ints(side), count) for side in value.shape[1:])], axis=0)
                output = ops.reshape(output, sizes, False)
            output = ops.unsqueeze(output, ints(0)) if self.batch else output
            output.output(0).get_tensor().set_names({name})
            results.append(ops.result(output))
        model = ov.Model(results, [image], "segmenter")
        model.set_rt_info("MaskRCNN", ["model_info", "model_type"])
        return model


BOXES = (
    (0.10, 0.10, 0.60, 0.70),
    (0.30, 0.20, 0.90, 0.90),
    (-0.1, 0.50, 0.40, 1.20),
    (0.62, 0.55, 0.66, 0.60),
    (0.00, 0.00, 1.00, 1.00),
    (0.70, -0.1, 1.10, 0.30),
    (0.20, 0.60, 0.50, 0.65),
    (0.05, 0.80, 0.15, 0.98),
    (0.45, 0.10, 0.50, 0.90),
)
"""Parts of the image: boxes that overlap, exceed it, cover it, and are smaller than their masks."""


def scene(*, whole: bool = False, size: tuple[int, int] = SIZE) -> Scene:
    """Nine instances of three classes with masks inside their boxes, or over the whole image."""
    rng = np.random.default_rng(0)
    boxes = np.array(BOXES, np.float32) * np.tile(np.array(size[::-1], np.float32), 2)
    scores = rng.uniform(0.1, 1, 9).astype(np.float32)
    masks = rng.uniform(0, 1, (9, *(size if whole else (14, 10)))).astype(np.float32)
    return Scene(boxes, np.arange(9) % CLASSES, scores, masks, size)


def ints(*values: int) -> ov.op.Constant:
    return ops.constant(np.array(values, np.int64))


def run(model: ov.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    results = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)
    return {name: results[output] for output in results for name in output.get_names()}


def maps_of(given: Scene, count: int | None = None, **options: object) -> np.ndarray:
    options = {"num_classes": CLASSES, "map_size": given.size, "embed_scaling": False, **options}
    maps = run(insert_instance_maps(given.model(), **options), given.image(count))["saliency_map"]
    assert maps.dtype == np.float32
    assert maps.shape[0] == 1
    return maps[0]


def averaged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return adaptive_avg_pool2d(torch.from_numpy(maps), size).numpy()


VARIANTS = {
    "as OTX exports it": scene(),
    "without a batch": replace(scene(), batch=False, columns=4, labels=scene().labels.astype(np.int32)),
    "with scores of their own": replace(scene(), columns=4),
    "masks with a channel": replace(scene(), batch=False, channel=True),
    "whole masks": scene(whole=True),
    "whole masks without a batch": replace(scene(whole=True), batch=False),
    "whole masks with a channel": replace(scene(whole=True), batch=False, channel=True),
    "whole masks as truth values": replace(scene(), masks=scene(whole=True).masks > 0.6),
    "open size": replace(scene(), open_input=True),
    "open size, whole masks": replace(scene(whole=True), open_input=True),
    "open size of masks": replace(scene(), open_masks=True),
    "open size of masks, whole": replace(scene(whole=True), open_masks=True, open_input=True),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_maps_are_those_of_masks_pasted_one_by_one(name: str) -> None:
    given = VARIANTS[name]
    np.testing.assert_allclose(maps_of(given), given.literal(), atol=1e-5)
    np.testing.assert_allclose(maps_of(given, map_size=(13, 70)), averaged(given.literal(), (13, 70)), atol=1e-5)


@pytest.mark.parametrize("map_size", [(1, 1), (16, 35), (47, 11)])
@pytest.mark.parametrize("whole", [False, True])
def test_small_maps_are_averages_of_large_ones(whole: bool, map_size: tuple[int, int]) -> None:
    given = scene(whole=whole)
    np.testing.assert_allclose(maps_of(given, map_size=map_size), averaged(given.literal(), map_size), atol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("map_size", [SIZE, (24, 31)])
def test_chunks_of_rows_change_nothing(whole: bool, map_size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    given = scene(whole=whole)
    expected = averaged(given.literal(), map_size)
    for limit in (1, 9 * 70 * 4 * 7):
        monkeypatch.setattr(mask_maps, "MEMORY_LIMIT", limit)
        model = insert_instance_maps(given.model(), num_classes=CLASSES, map_size=map_size, embed_scaling=False)
        assert any(node.get_type_name() == "TensorIterator" for node in model.get_ops())
        np.testing.assert_allclose(run(model, given.image())["saliency_map"][0], expected, atol=1e-5)


def test_torchvisions_pasting_differs_by_its_rounding_of_boxes() -> None:
    """It moves edges of boxes by up to a pixel."""
    given = scene(size=(160, 224))
    smooth = np.hanning(30)[1:-1]
    given = replace(given, masks=np.tile((smooth[:, None] * smooth).astype(np.float32), (9, 1, 1)))
    masks, boxes = torch.from_numpy(given.masks)[:, None], torch.from_numpy(given.boxes)
    theirs = replace(given, masks=paste_masks_in_image(masks, boxes, given.size)[:, 0].numpy()).literal()
    ours = maps_of(given)
    assert np.abs(ours - theirs).mean() < 0.002
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("name", ["as OTX exports it", "whole masks", "open size of masks"])
@pytest.mark.parametrize("embed_scaling", [False, True])
def test_nothing_found_makes_maps_of_zeros(name: str, embed_scaling: bool) -> None:
    """Also when memory still holds the maps of the image before."""
    given = VARIANTS[name]
    model = insert_instance_maps(given.model(), num_classes=CLASSES, embed_scaling=embed_scaling)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (9, 0, 2, 0):
        maps = compiled(given.image(count))[len(model.outputs) - 1]
        assert maps.shape == (1, CLASSES, *SIZE)
        assert [bool(one.any()) for one in maps[0]] == [label < count for label in range(CLASSES)]


def test_scaled_maps_fill_their_range_and_classes_without_instances_are_zeros() -> None:
    given = scene()
    maps = maps_of(given, embed_scaling=True, num_classes=5)
    np.testing.assert_allclose(maps, reference.scaled(given.literal(5)), atol=1e-2)
    np.testing.assert_allclose(maps.max((1, 2)), [255, 255, 255, 0, 0], atol=1e-3)


def test_chosen_classes_in_their_order() -> None:
    given = scene()
    np.testing.assert_allclose(maps_of(given, classes=[2, 0]), given.literal()[[2, 0]], atol=1e-5)


def test_labels_that_start_with_one_for_nothing() -> None:
    given = scene()
    shifted = replace(given, labels=(given.labels + 1) * (np.arange(9) != 4))  # one instance is nothing
    kept = np.arange(9) != 4
    names = ("boxes", "labels", "scores", "masks")
    expected = replace(given, **{name: getattr(given, name)[kept] for name in names}).literal()
    np.testing.assert_allclose(maps_of(shifted, first_label=1), expected, atol=1e-5)


def test_instances_below_the_threshold_do_not_count() -> None:
    given = scene()
    given = replace(given, scores=np.array([0.9, 0.5, 0.2, 0.4, 0.8, 0.3, 0.7, 0.49, 0.1], np.float32))
    kept = given.scores >= 0.5
    names = ("boxes", "labels", "scores", "masks")
    expected = replace(given, **{name: getattr(given, name)[kept] for name in names}).literal()
    maps = maps_of(given, threshold=0.5)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert not maps[2].any()


def test_the_model_stays_as_it_was() -> None:
    model = scene().model()
    before = run(model, scene().image())
    new = insert_instance_maps(model, num_classes=CLASSES)
    assert len(model.outputs) == 3
    assert [output.get_names() for output in new.outputs] == [{"boxes"}, {"labels"}, {"masks"}, {"saliency_map"}]
    assert new.get_rt_info(["model_info", "model_type"]).value == "MaskRCNN"
    after = run(new, scene().image())
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    known = {node.get_friendly_name() for node in model.get_ops()}
    results = {node.get_friendly_name() for node in new.get_results()}
    added = {node.get_friendly_name() for node in new.get_ops()} - known - results
    assert added
    assert all(name.startswith("xai/instsegexplainalgo/") for name in added)


@pytest.mark.parametrize(
    ("size", "map_size"), [((800, 1333), (115, 191)), ((160, 160), (160, 160)), ((640, 480), (214, 160))]
)
def test_maps_are_small_by_default(size: tuple[int, int], map_size: tuple[int, int]) -> None:
    assert default_map_size(size) == map_size


def test_default_maps_of_an_open_input() -> None:
    """Their size is worked out from that of the image."""
    for size in ((301, 450), (48, 70)):
        given = replace(scene(size=size), open_input=True)
        model = insert_instance_maps(replace(given, size=SIZE).model(), num_classes=CLASSES, embed_scaling=False)
        assert str(model.outputs[-1].get_partial_shape()) == "[1,3,?,?]"
        maps = run(model, given.image())["saliency_map"][0]
        np.testing.assert_allclose(maps, averaged(given.literal(), default_map_size(size)), atol=1e-5)
        known = maps_of(given, input_size=size, map_size=None)
        np.testing.assert_allclose(known, maps, atol=1e-5)


def test_a_box_without_area_stays_on_its_line() -> None:
    """Here through the centres of the pixels of column 20."""
    given = scene()
    flat = np.where(np.arange(9)[:, None] == 1, [20.5, 5, 20.5, 40], given.boxes).astype(np.float32)
    masks = given.masks * (np.arange(9) != 1)[:, None, None]
    found, expected = maps_of(replace(given, boxes=flat)), replace(given, masks=masks).literal()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.delete(found, 20, axis=2), np.delete(expected, 20, axis=2), atol=1e-5)


MEASURE = """
import numpy as np, openvino as ov
from openvino import opset13 as ops
from otx_xai.methods.inst_seg_explain_algo import insert_instance_maps
from otx_xai.openvino_core import core

rng, size, count = np.random.default_rng(0), (800, 1333), 100
ints = lambda *values: ops.constant(np.array(values, np.int64))

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

def infer(model):
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    request = core().compile_model(model, "CPU", config).create_infer_request()
    request.start_async([image], share_inputs=True)
    request.wait()
    return request

image = np.full((1, 3, *size), count, np.float32)
corner, extent = rng.uniform(0, 0.5, (count, 2)), rng.uniform(0.02, 0.5, (count, 2))
boxes = np.concatenate([corner, corner + extent], 1) * np.tile(size[::-1], 2)
pixels = ops.parameter([1, 3, *size], np.float32)
found = ops.convert(ops.slice(ops.reshape(pixels, ints(-1), False), ints(0), ints(1), ints(1)), "i64")
values = (
    np.concatenate([boxes, rng.uniform(0, 1, (count, 1))], 1).astype(np.float32)[None],
    np.arange(count)[None] % 3,
    rng.uniform(0, 1, (1, count, 28, 28)).astype(np.float32),
)
outputs = [ops.slice(ops.constant(value), ints(0), found, ints(1), ints(1)) for value in values]
model = ov.Model([ops.result(output) for output in outputs], [pixels])
kept = [infer(model)]
for map_size in (None, size):
    explained = insert_instance_maps(model, num_classes=3, input_size=size, map_size=map_size)
    before = peak()
    kept.append(infer(explained))
    print(peak() - before, int(kept[-1].get_output_tensor(3).data.any(axis=(2, 3)).sum()))
"""


def test_memory_of_a_hundred_large_instances() -> None:
    """In MiB, as Linux counts it. At full size (800 × 1333) the result and two copies of it come to the 64."""
    script = f"import sys; sys.path[:0] = {sys.path}\n{MEASURE}"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    default, default_maps, full, full_maps = (float(value) for value in found)
    assert default_maps == full_maps == 3
    assert default < 64
    assert full < 64 + 3 * (3 * 800 * 1333 * 4 / 2**20)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"map_size": (49, 70)}, ConfigError, r"map_size is \(49, 70\); expected .* the input, \(48, 70\)"),
        ({"map_size": (0, 5)}, ConfigError, r"map_size is \(0, 5\)"),
        ({"input_size": (70, 48)}, ConfigError, r"input_size is \(70, 48\), but .* \[1,3,48,70\]"),
        ({"threshold": 1.5}, ConfigError, r"threshold is 1.5; expected a score"),
        ({"classes": [0, 3]}, TargetError, r"Classes \[3\] are none .* from 0 to 2"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        insert_instance_maps(scene().model(), **{"num_classes": CLASSES, **options})


def test_models_that_have_no_masks_or_maps_already() -> None:
    model = scene().model()
    image, results = model.get_parameters(), model.get_results()
    with pytest.raises(
        GraphError, match=r"needs the masks .*; the outputs of the model are boxes \[1,.*5\] f32, labels"
    ):
        insert_instance_maps(ov.Model(results[:2], image), num_classes=CLASSES)
    explained = insert_instance_maps(scene().model(), num_classes=CLASSES)
    with pytest.raises(GraphError, match="already has an output saliency_map"):
        insert_instance_maps(explained, num_classes=CLASSES)


def test_an_input_without_known_axes() -> None:
    """A model that takes its image apart before any operation says what is height, with any number of channels."""
    given = scene()
    image = ops.parameter([1, -1, *SIZE], np.float32)
    found = [ops.constant(value[None]) for value in (given.boxes, given.scores, given.labels, given.masks)]
    zero = ops.multiply(ops.reduce_sum(image, ints(0, 1, 2, 3)), ops.constant(np.float32(0)))
    found[0] = ops.add(found[0], zero)
    model = ov.Model([ops.result(value) for value in found], [image])
    with pytest.raises(GraphError, match=r"axes of the input \[1,\?,48,70\] are height and width.*pass input_size"):
        insert_instance_maps(model, num_classes=CLASSES)
    explained = insert_instance_maps(model, num_classes=CLASSES, input_size=SIZE, embed_scaling=False)
    np.testing.assert_allclose(run(explained, given.image())["saliency_map"][0], given.literal(), atol=1e-5)
