"""The only room that runs inference: a compiled model, and the bounded pipeline that streams images through it.

::

    read (threads) ──► batches ──► AsyncInferQueue (throughput) ──► finish (threads) ──► results in input order

Every stage is bounded by one window, so memory does not grow with the number of images. Reading and finishing share
one pool of threads; OpenVINO's streams do the rest.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from threading import Event
from typing import Any, Generic, TypeVar

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import ConfigError, ImageError

Arrays = dict[str, NDArray[Any]]
SourceT = TypeVar("SourceT")
ReadT = TypeVar("ReadT")
ResultT = TypeVar("ResultT")

_PATIENCE = 5.0
"""Seconds without a result after which the queue is asked whether an inference failed."""


@dataclass
class _Flight(Generic[SourceT, ReadT, ResultT]):
    """One image on its way: its reading, and its result once there is one."""

    source: SourceT
    reading: Future[tuple[NDArray[np.uint8], ReadT]]
    result: Future[ResultT]


class Session:
    """A compiled model.

    Args:
        model: any model with one input; the first axis is the batch, and is static.
        device: OpenVINO device: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, …
        latency: one request at a time (for a single image) rather than throughput.

    Raises:
        ConfigError: OpenVINO cannot compile for the device.
    """

    def __init__(self, model: ov.Model, device: str = "CPU", *, latency: bool = False) -> None:
        self._names = [min(output.get_names(), default=str(i)) for i, output in enumerate(model.outputs)]
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY" if latency else "THROUGHPUT"}
        # Maps are differences of nearly equal scores: half precision rounds them away
        options["INFERENCE_PRECISION_HINT"] = "f32"
        core = ov.Core()
        try:
            self._compiled = core.compile_model(model, device, options)
        except RuntimeError as error:
            raise ConfigError(
                f"OpenVINO cannot compile the model for device {device!r}: {_reason(error)}. Devices of this machine: "
                f"{', '.join(core.available_devices)}, and AUTO. Pass one of them as --device."
            ) from error

    @property
    def batch(self) -> int:
        """Number of images of one inference; 1 for a model whose batch is dynamic."""
        size = self._compiled.inputs[0].get_partial_shape()[0]
        return 1 if size.is_dynamic else int(size.get_length())

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs; the index where an output has none."""
        return list(self._names)

    def infer(self, tensor: NDArray[Any]) -> Arrays:
        """Run one batch.

        Args:
            tensor: the model's input.

        Returns:
            Copies of all outputs by name.
        """
        results = self._compiled(tensor)
        return {name: np.array(results[i]) for i, name in enumerate(self._names)}

    def raw(self, tensor: NDArray[Any]) -> Any:
        """Run one batch and return OpenVINO's own result, an ``OVDict``."""
        return self._compiled(tensor)

    def stream(
        self,
        sources: Iterable[SourceT],
        read: Callable[[SourceT], tuple[NDArray[np.uint8], ReadT]],
        finish: Callable[[ReadT, Arrays], ResultT],
        *,
        stop: Event | None = None,
    ) -> Iterator[tuple[SourceT, ResultT | ImageError]]:
        """Stream images through the model.

        Args:
            sources: one an image.
            read: gives the input of one image (without the batch axis) and what ``finish`` needs; runs in a thread.
                An ImageError becomes the image's result.
            finish: makes the result out of that and the outputs of this image (without the batch axis; copies);
                runs in a thread. An ImageError becomes the image's result, other errors end the stream.
            stop: once set, no further image is begun; those on their way are finished.

        Yields:
            ``(source, result)`` in the order of the sources.
        """
        queue = ov.AsyncInferQueue(self._compiled, 0)
        workers = max(2, os.cpu_count() or 1)
        window = 4 * workers + (2 + len(queue)) * self.batch
        remaining = iter(sources)
        unread: deque[_Flight[SourceT, ReadT, ResultT]] = deque()
        flying: deque[_Flight[SourceT, ReadT, ResultT]] = deque()
        more = True
        with ThreadPoolExecutor(workers, "otx_xai") as pool:
            queue.set_callback(lambda request, group: _land(request, group, self._names, pool, finish))
            try:
                while more or flying:
                    while more and len(flying) < window:
                        source = None if stop and stop.is_set() else next(remaining, None)
                        more = source is not None
                        if source is not None:
                            unread.append(_Flight(source, pool.submit(read, source), Future()))
                            flying.append(unread[-1])
                    departs = len(unread) >= self.batch or (bool(unread) and not more)
                    if departs:
                        self._depart(queue, unread)
                    while flying and (flying[0].result.done() or not departs):
                        departs = True  # wait for one result at most, then see what can begin
                        flight = flying.popleft()
                        yield flight.source, _await(flight.result, queue)
            finally:
                for flight in unread:
                    flight.reading.cancel()
                queue.wait_all()

    def _depart(self, queue: Any, unread: deque[Any]) -> None:
        """Start the inference of the next batch; images that cannot be read are left out of it."""
        group: list[tuple[Any, Any]] = []
        tensors: list[NDArray[np.uint8]] = []
        while unread and len(group) < self.batch:
            flight = unread.popleft()
            try:
                tensor, read = flight.reading.result()
            except ImageError as error:
                flight.result.set_result(error)
                continue
            group.append((flight, read))
            tensors.append(tensor)
        if not group:
            return
        tensors += [tensors[-1]] * (self.batch - len(tensors))
        batch = tensors[0][None] if self.batch == 1 else np.stack(tensors)
        queue.start_async(batch, group)


def _land(
    request: Any, group: list[Any], names: list[str], pool: ThreadPoolExecutor, finish: Callable[..., Any]
) -> None:
    """Copy the outputs of a finished batch and hand each image to a thread."""
    for i, (flight, read) in enumerate(group):
        outputs = {name: np.array(request.get_output_tensor(j).data[i]) for j, name in enumerate(names)}
        pool.submit(_finish, flight.result, finish, read, outputs)


def _finish(result: Future[Any], finish: Callable[..., Any], read: Any, outputs: Arrays) -> None:
    try:
        result.set_result(finish(read, outputs))
    except ImageError as error:
        result.set_result(error)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the result
        result.set_exception(error)


def _await(result: Future[ResultT], queue: Any) -> ResultT:
    while True:
        try:
            return result.result(timeout=_PATIENCE)
        except FutureTimeout:
            if queue.is_ready():
                queue.wait_all()  # raises what an inference failed with


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
