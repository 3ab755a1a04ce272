"""The pipeline: order, bounds, batches, and every way in which a stream can end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from otx_xai.errors import ConfigError, ImageError, ModelError
from otx_xai.runtime import Session

SIDE = 4


def sum_model(batch: int = 1) -> ov.Model:
    """Outputs: ``total`` (N,), the sum of an image, and ``image``, alias ``an_image``, the image itself."""
    image = ops.parameter([batch, SIDE, SIDE, 3], np.uint8, name="image")
    values = ops.convert(image, np.float32)
    total = ops.reduce_sum(values, ops.constant([1, 2, 3]), False)
    model = ov.Model([ops.result(total), ops.result(values)], [image], "sum")
    model.outputs[0].get_tensor().set_names({"total"})
    model.outputs[1].get_tensor().set_names({"image", "an_image"})
    return model


def failing_model() -> ov.Model:
    """Inference fails for every image but those that sum up to their number of pixels."""
    image = ops.parameter([1, SIDE, SIDE, 3], np.uint8, name="image")
    values = ops.convert(image, np.float32)
    count = ops.convert(ops.reduce_sum(values, ops.constant([0, 1, 2, 3]), False), np.int64)
    steps = ops.range(ops.constant(np.int64(0)), count, ops.constant(np.int64(1)), "f32")
    flat = ops.reshape(values, ops.constant([-1]), False)
    model = ov.Model([ops.result(ops.unsqueeze(ops.add(flat, steps), ops.constant(0)))], [image], "failing")
    model.outputs[0].get_tensor().set_names({"flat"})
    return model


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(sum_model())


def picture(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value % 256, np.uint8)


def read(value: int) -> tuple[np.ndarray, int]:
    return picture(value), value


def finish(value: int, outputs: dict[str, np.ndarray]) -> tuple[int, float]:
    return value, float(outputs["total"])


def right(value: int) -> tuple[int, float]:
    return value, float(picture(value).astype(int).sum())


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("otx_xai")]


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    yield
    assert not our_threads()


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 41])
def test_results_come_in_order_and_the_last_batch_is_padded(batch: int, count: int) -> None:
    session = Session(sum_model(batch))
    for light in (False, True):
        results = list(session.stream(range(count), read, finish, light=light))
        assert results == [(value, right(value)) for value in range(count)]


def test_images_may_be_read_only(session: Session) -> None:
    """As Pillow, memory maps and jax hand them over."""

    def locked(value: int) -> tuple[np.ndarray, int]:
        image = picture(value)
        image.flags.writeable = False
        return image, value

    results = list(session.stream(range(5), locked, finish))
    assert results == [(value, right(value)) for value in range(5)]
    assert session.run(locked(3)[0][None])["total"] == right(3)[1]


def test_a_light_stream_has_no_threads_of_its_own(session: Session) -> None:
    readers = set()

    def noted(value: int) -> tuple[np.ndarray, int]:
        readers.add(threading.current_thread())
        assert not our_threads()
        return read(value)

    for _ in session.stream(range(100), noted, finish, light=True):
        assert not our_threads()
    assert readers == {threading.current_thread()}


def test_order_is_kept_whatever_is_slow(session: Session) -> None:
    pauses = np.random.default_rng(0).uniform(0, 0.004, (2, 120))

    def slow_read(value: int) -> tuple[np.ndarray, int]:
        time.sleep(pauses[0, value])
        return read(value)

    def slow_finish(value: int, outputs: dict[str, np.ndarray]) -> tuple[int, float]:
        time.sleep(pauses[1, value])
        return finish(value, outputs)

    assert list(session.stream(range(120), slow_read, slow_finish)) == [(value, right(value)) for value in range(120)]


@pytest.mark.parametrize("batch", [1, 4])
def test_few_images_are_on_their_way_at_once(batch: int) -> None:
    session = Session(sum_model(batch))
    begun, taken, most = 0, 0, 0

    def sources() -> Iterator[int]:
        nonlocal begun, most
        for value in range(400):
            begun += 1
            most = max(most, begun - taken)
            yield value

    for _ in session.stream(sources(), read, finish):
        taken += 1
    assert taken == 400
    assert most <= session._window(16, 16)
    assert most < 200


def test_a_slow_consumer_is_not_run_over(session: Session) -> None:
    begun: list[int] = []

    def counted(value: int) -> tuple[np.ndarray, int]:
        begun.append(value)
        return read(value)

    stream = session.stream(range(1000), counted, finish)
    next(stream)
    time.sleep(0.2)
    assert len(begun) < 300
    stream.close()


def test_memory_does_not_grow_with_the_number_of_images(session: Session) -> None:
    big = np.zeros((100, 1000), np.uint8)

    def heavy(value: int) -> tuple[np.ndarray, np.ndarray]:
        return picture(value), big.copy()

    def peak(count: int) -> int:
        tracemalloc.reset_peak()
        for _ in session.stream(range(count), heavy, lambda image, _: image[:1]):
            pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(100)
        before, after = peak(300), peak(3000)
    finally:
        tracemalloc.stop()
    assert after <= 1.05 * before + 2 * big.nbytes  # two images more or less at the peak are chance


def test_only_named_outputs_are_copied_under_any_of_their_names(session: Session) -> None:
    def names(_: int, outputs: dict[str, np.ndarray]) -> list[str]:
        return sorted(outputs)

    wanted = ("an_image", "total", "absent")
    assert list(session.stream([0], read, names, outputs=wanted)) == [(0, ["an_image", "total"])]
    assert list(session.stream([0], read, names, outputs=("image",))) == [(0, ["image"])]
    assert len(next(iter(session.stream([0], read, names)))[1]) == 2


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_image_error_is_the_result_of_its_image(batch: int, light: bool) -> None:
    def picky_read(value: int) -> tuple[np.ndarray, int]:
        if value % 5 == 0:
            raise ImageError(f"read {value}")
        return read(value)

    def picky_finish(value: int, outputs: dict[str, np.ndarray]) -> tuple[int, float]:
        if value % 7 == 1:
            raise ImageError(f"finish {value}")
        return finish(value, outputs)

    results = dict(Session(sum_model(batch)).stream(range(50), picky_read, picky_finish, light=light))
    assert list(results) == list(range(50))
    for value, result in results.items():
        if value % 5 == 0:
            assert str(result) == f"read {value}"
        elif value % 7 == 1:
            assert str(result) == f"finish {value}"
        else:
            assert result == right(value)


def test_images_that_all_fail(session: Session) -> None:
    def broken(value: int) -> tuple[np.ndarray, int]:
        raise ImageError("no")

    assert [str(result) for _, result in session.stream(range(100), broken, finish)] == ["no"] * 100


@pytest.mark.parametrize("error", [KeyError, TimeoutError, OSError, SystemError])
@pytest.mark.parametrize("stage", ["read", "finish", "sources"])
@pytest.mark.parametrize("light", [False, True])
def test_another_error_ends_the_stream(session: Session, light: bool, stage: str, error: type[Exception]) -> None:
    def failing(at: str, value: int) -> None:
        if at == stage and value == 20:
            raise error("broken")

    def sources() -> Iterator[int]:
        for value in range(10_000):
            failing("sources", value)
            yield value

    def failing_read(value: int) -> tuple[np.ndarray, int]:
        failing("read", value)
        return read(value)

    def failing_finish(value: int, outputs: dict[str, np.ndarray]) -> tuple[int, float]:
        failing("finish", value)
        return finish(value, outputs)

    taken = []
    with pytest.raises(error, match="broken"):
        taken.extend(value for value, _ in session.stream(sources(), failing_read, failing_finish, light=light))
    assert len(taken) <= 20


def test_a_tensor_of_the_wrong_shape_ends_the_stream(session: Session) -> None:
    with pytest.raises(ModelError, match="failed on an image"):
        list(session.stream(range(9), lambda value: (np.zeros((SIDE, SIDE + 1, 3), np.uint8), value), finish))


@pytest.mark.parametrize("bad", [range(1), range(1, 2), range(29, 30), range(30), range(5, 30)], ids=str)
def test_a_failed_inference_ends_the_stream_and_does_not_hang(bad: range) -> None:
    def image(value: int) -> tuple[np.ndarray, int]:
        return picture(2 if value in bad else 1), value

    start = time.monotonic()
    with pytest.raises(ModelError, match="failed on an image"):
        list(Session(failing_model()).stream(range(30), image, lambda value, _: value))
    assert time.monotonic() - start < 20


def test_a_closed_stream_ends_its_threads(session: Session) -> None:
    stream = session.stream(range(1000), read, finish)
    assert next(stream) == (0, right(0))
    assert our_threads()
    stream.close()
    assert not our_threads()


def test_a_consumer_that_raises_ends_the_threads(session: Session) -> None:
    def consume() -> None:
        for value, _ in session.stream(range(1000), read, finish):
            if value == 3:
                raise LookupError

    with pytest.raises(LookupError):
        consume()


def test_after_stop_no_image_is_begun_and_those_on_their_way_are_finished(session: Session) -> None:
    stop = threading.Event()
    results = []
    for value, result in session.stream(range(10_000), read, finish, stop=stop):
        results.append((value, result))
        if value == 10:
            stop.set()
    assert 10 < len(results) < 300
    assert results == [(value, right(value)) for value in range(len(results))]


def test_an_unknown_device_is_an_error_of_the_options() -> None:
    with pytest.raises(ConfigError, match=r"Devices of this machine: .*AUTO"):
        Session(sum_model(), "nonsense")


def test_infer_returns_copies_by_name(session: Session) -> None:
    outputs = session.run(picture(3)[None])
    assert outputs["total"].tolist() == [3 * SIDE * SIDE * 3]
    assert outputs["total"].flags.owndata


AFTER_SESSIONS = """
import gc, signal, sys
sys.path[:0] = sys.argv[1:]
from test_runtime import sum_model
from otx_xai.runtime import Session

signal.signal(signal.SIGINT, signal.default_int_handler)
first, second = Session(sum_model()), Session(sum_model())
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("alive")
"""


def test_ctrl_c_after_sessions_that_ended_in_the_order_they_began():
    """Each with a Core of its own, OpenVINO would leave the signal a stack that is gone."""
    command = [sys.executable, "-c", AFTER_SESSIONS, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", (done.returncode, done.stderr)
