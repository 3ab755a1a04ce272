"""What ``auto`` decides by, and what a device that lacks a precision says."""

from __future__ import annotations

import classifiers
import numpy as np
import pytest

from otx_xai import Explainer
from otx_xai.errors import ConfigError, ImageError
from otx_xai.explain import precision
from otx_xai.explain.precision import PrecisionComparison, PrecisionTrial, correlation
from otx_xai.explain.targets import Choice, Wanted
from otx_xai.openvino_core import core, precision_hint, precisions
from otx_xai.records import FloatArray, Precision, Prediction

RNG = np.random.default_rng(0)
MAPS: FloatArray = RNG.random((2, 7, 5), np.float32)
CAT, DOG = Prediction(0, "cat", 0.6), Prediction(1, "dog", 0.4)


def choice(maps: FloatArray = MAPS, targets: tuple[Prediction, ...] = (CAT, DOG)) -> Choice:
    return Choice(targets, targets, maps)


def box(label: int, left: float) -> Prediction:
    return Prediction(label, "thing", 0.9, (left, 0, left + 10, 10), 0)


DEVICES = {"CPU": ["FP32", "INT8"], "GPU.1": ["FP16", "FP32"], "NEW": ["WINOGRAD", "FP16", "BF16", "FP32"]}


class Capabilities:
    """Stands in for a Core whose devices say what they can."""

    def get_property(self, device: str, name: str) -> list[str]:
        assert name == "OPTIMIZATION_CAPABILITIES"
        if device not in DEVICES:
            raise RuntimeError(f"Device with {device} name is not registered")
        return DEVICES[device]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("CPU", "f32"),
        ("GPU.1", "f32 f16"),
        ("NEW", "f32 bf16 f16"),
        ("HETERO:GPU.1,CPU", "f32"),
        ("AUTO:NEW,GPU.1,-CPU", "f32 f16"),
        ("BATCH:NEW(4)", "f32 bf16 f16"),
        ("NPU", ""),
    ],
)
def test_what_devices_compute_with(monkeypatch: pytest.MonkeyPatch, device: str, expected: str) -> None:
    monkeypatch.setattr("otx_xai.openvino_core.core", Capabilities)
    assert " ".join(precisions(device)) == expected
    assert precision_hint(device, Precision.F32) == "f32"


def test_a_device_that_lacks_a_precision_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otx_xai.openvino_core.core", Capabilities)
    with pytest.raises(ConfigError, match=r"--precision is bf16, .* 'GPU\.1' .* It can do f32, f16, or auto\."):
        precision_hint("GPU.1", Precision.BF16)
    assert precision_hint("NEW", Precision.F16) == "f16"
    assert precision_hint("NPU", Precision.F16) == "f16", "compiling says what is wrong with an unknown device"


def test_correlation_is_that_of_numpy() -> None:
    first, second = MAPS
    assert correlation(first, second) == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    assert correlation(first, 3 * first + 1) == pytest.approx(1)
    assert correlation(first, -first) == pytest.approx(-1)
    flat = np.zeros_like(first)
    assert correlation(flat, flat) == 1
    assert correlation(flat, first) == 0


def concluded(*pairs: tuple[Choice, Choice | None], speed_up: float = 2.0) -> precision.Measured:
    comparison = PrecisionComparison(Precision.BF16)
    for exact, fast in pairs:
        comparison.add(exact, fast)
    comparison.took(speed_up, 1.0)
    return comparison.concluded()


def test_rounded_maps_of_a_faster_device_are_taken() -> None:
    rounded = (MAPS + RNG.normal(0, 0.003, MAPS.shape)).astype(np.float32)
    found = concluded((choice(), choice(rounded)), (choice(), choice()))
    assert (found.precision, found.images, found.maps, found.same_best) == (Precision.BF16, 2, 4, 2)
    assert 0.99 < found.least_correlation < 1
    assert found.entry()["taken"] == "bf16"


@pytest.mark.parametrize(
    ("fast", "speed_up"),
    [
        (choice(np.stack([MAPS[0], MAPS[1] + RNG.normal(0, 0.1, MAPS[1].shape).astype(np.float32)])), 2.0),
        (choice(MAPS[::-1], (DOG, CAT)), 2.0),
        (choice(), 1.0),
        (None, 2.0),
    ],
    ids=["another map", "another best class", "no faster", "fails"],
)
def test_float32_stays_where_anything_speaks_against_fewer_bits(fast: Choice | None, speed_up: float) -> None:
    found = concluded((choice(), choice()), (choice(), fast), speed_up=speed_up)
    assert found.precision is Precision.F32
    assert found.sentence().startswith("f32. With bf16, ")


def test_a_class_at_the_threshold_may_be_explained_on_one_side_only() -> None:
    found = concluded((choice(), choice(MAPS[:1], (CAT,))))
    assert (found.precision, found.maps) == (Precision.BF16, 1)


def test_boxes_are_the_same_where_they_overlap() -> None:
    exact = choice(MAPS, (box(0, 0), box(0, 40)))
    assert concluded((exact, choice(MAPS[::-1], (box(0, 41), box(0, 1))))).least_correlation == pytest.approx(1)
    assert concluded((exact, choice(MAPS, (box(0, 20), box(0, 40))))).same_best == 0
    assert concluded((exact, choice(MAPS, (box(1, 0), box(0, 40))))).same_best == 0


def test_nothing_found_is_no_reason_for_fewer_bits() -> None:
    nothing = choice(MAPS[:0], ())
    found = concluded((nothing, nothing))
    assert (found.precision, found.same_best) == (Precision.F32, 1)
    assert found.entry()["least_correlation"] is None
    assert "no map" in found.sentence()


IMAGES = [
    classifiers.coloured_image((64, 96), colour, (0.2 + 0.03 * i, 0.5)) for i in range(7) for colour in ("red", "blue")
]
"""Fourteen images; the first calls of an explainer."""


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that says it can bfloat16, whatever it is; it emulates that or goes on in float32."""
    known = (Precision.F32, Precision.BF16)
    for place in ("otx_xai.openvino_core", "otx_xai.explain.precision"):
        monkeypatch.setattr(f"{place}.precisions", lambda device: known)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("least", "taken"), [(0.0, "bf16"), (1e9, "f32")])
def test_an_explainer_decides_once_sixteen_images_came(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, least: float, taken: str
) -> None:
    monkeypatch.setattr(precision, "_FASTER", least)
    caplog.set_level("INFO", "otx_xai")
    model = classifiers.colour_classifier()
    auto, exact = Explainer(model, precision="auto"), Explainer(model)
    for image in IMAGES:
        np.testing.assert_array_equal(auto(image).maps, exact(image).maps)
    assert "Precision" not in caplog.text
    auto(np.stack([np.moveaxis(image, -1, 0) for image in IMAGES[:2]]))
    assert f"Precision: {taken}. With bf16, 64 maps of 16 images" in caplog.text
    caplog.clear()
    later, expected = auto(IMAGES[0]), Explainer(model, precision=taken)(IMAGES[0])
    np.testing.assert_array_equal(later.maps, expected.maps)
    assert "Precision" not in caplog.text


@pytest.mark.usefixtures("both")
def test_maps_that_fewer_bits_make_nan_leave_float32(caplog: pytest.LogCaptureFixture) -> None:
    trial = PrecisionTrial(Precision.AUTO, "CPU")
    explainer = Explainer(classifiers.colour_classifier())
    plan = explainer._plan(explainer._how, Wanted(None, 0))

    def by(taken: Precision) -> list[Choice]:
        if taken is not Precision.F32:
            raise ImageError("The model's class scores are NaN")
        return [choice()] * precision.TRIED

    caplog.set_level("INFO", "otx_xai")
    for _ in range(2):
        assert len(list(trial.explained("key", plan, by, lambda one: one, compiled=by_nothing))) == precision.TRIED
    assert caplog.text.count("Precision: f32") == 1


def by_nothing(_: Precision) -> None:
    """Compile nothing."""


@pytest.mark.parametrize("told", ["bf16", "f32"])
@pytest.mark.usefixtures("both")
def test_openvino_is_asked_for_what_is_told(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    asked = []
    compile_model = core().compile_model

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(core(), name)

        def compile_model(self, model: object, device: str, options: dict[str, object]) -> object:
            asked.append(options["INFERENCE_PRECISION_HINT"])
            return compile_model(model, device, options)

    monkeypatch.setattr("otx_xai.runtime.core", Spy)
    Explainer(classifiers.colour_classifier(), precision=told)(IMAGES[0])
    assert asked == [told]
