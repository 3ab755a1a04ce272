"""The only room that runs inference: a compiled model, and the bounded pipeline that streams images through it.

::

    read (threads) ──► batches ──► AsyncInferQueue (throughput) ──► finish (threads) ──► results in input order

Every stage is bounded by one window, so memory does not grow with the number of images. Reading and finishing share
one pool of threads; OpenVINO's streams do the rest.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, InvalidStateError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any, Generic, TypeVar

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from otx_xai.errors import ConfigError, ImageError, ModelError
from otx_xai.openvino_core import allowed_cores, core, precision_hint
from otx_xai.records import XAI_OUTPUTS, Precision

Arrays = dict[str, NDArray[Any]]
SourceT = TypeVar("SourceT")
ReadT = TypeVar("ReadT")
ResultT = TypeVar("ResultT")

_PATIENCE = 1.0
"""Seconds without a result after which the queue is asked whether an inference failed."""


@dataclass
class _Flight(Generic[SourceT, ReadT, ResultT]):
    """One image on its way: its reading, and its result once there is one."""

    source: SourceT
    reading: Future[tuple[NDArray[Any], ReadT]]
    result: Future[ResultT]


class Session:
    """A compiled model.

    Args:
        model: any model with one input; the first axis is the batch, and is static.
        device: OpenVINO device: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, …
        latency: one request at a time (for a single image) rather than throughput.
        precision: of its numbers, any but ``auto``.

    Attributes:
        precision: of its numbers.
        batch: number of images of one inference; 1 for a model whose batch is dynamic.
        guide: another model that takes the same input and is asked once an image; mostly none.

    Raises:
        ConfigError: OpenVINO cannot compile for the device, or not in this precision.
    """

    def __init__(
        self, model: ov.Model, device: str = "CPU", *, latency: bool = False, precision: Precision = Precision.F32
    ) -> None:
        self._names = [_name(output, i) for i, output in enumerate(model.outputs)]
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY" if latency else "THROUGHPUT"}
        options["INFERENCE_PRECISION_HINT"] = precision_hint(device, precision)
        try:
            self._compiled = core().compile_model(model, device, options)
        except RuntimeError as error:
            raise ConfigError(
                f"OpenVINO cannot compile the model for device {device!r}: {_reason(error)}. Devices of this machine: "
                f"{', '.join(core().available_devices)}, and AUTO. Pass one of them as --device."
            ) from error
        size = self._compiled.inputs[0].get_partial_shape()[0]
        self.batch = 1 if size.is_dynamic else int(size.get_length())
        self._requests = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._free: deque[ov.InferRequest] = deque()
        self.guide: Session | None = None
        self.precision = precision
        self._told: dict[str, Any] = {"device": device, "latency": latency, "precision": precision}
        self._beside: dict[int, tuple[ov.Model, Session]] = {}
        self._lock = Lock()

    def beside(self, model: ov.Model) -> Session:
        """Return another model that works with this one, compiled once and for the same device; safe in threads."""
        with self._lock:
            if id(model) not in self._beside:
                self._beside[id(model)] = model, Session(model, **self._told)
            return self._beside[id(model)][1]

    def ask(self, model: ov.Model, inputs: Sequence[NDArray[Any]]) -> Arrays:
        """Run another model that works with this one a single time, and let go of it."""
        return Session(model, **self._told).run(inputs)

    def run(self, tensor: NDArray[Any] | Sequence[NDArray[Any] | ov.Tensor]) -> Arrays:
        """Run one batch, or a model of several inputs, given in their order; safe in several threads at once.

        Returns:
            Copies of all outputs by name.
        """
        return self.by_name(self.raw(tensor))

    @contextmanager
    def lent(self, inputs: Sequence[NDArray[Any]]) -> Iterator[Mapping[str, ov.Tensor]]:
        """Run a model of several inputs, and lend its outputs by name for a while, without copies: to other models."""
        request = self._request()
        request.infer(inputs, share_outputs=True)
        yield {name: request.get_output_tensor(i) for i, name in enumerate(self._names)}
        self._free.append(request)

    def named(self, outputs: Mapping[str, NDArray[Any]]) -> NamedOutputs:
        """Return outputs by name so that they can be looked up as in an ``OVDict``."""
        return NamedOutputs(self._names, [set(port.get_names()) for port in self._compiled.outputs], outputs)

    def by_name(self, results: Any) -> Arrays:
        """Return copies of all outputs in an ``OVDict`` by name; an output without one is called by its index."""
        return {name: np.array(results[i]) for i, name in enumerate(self._names)}

    def _request(self) -> ov.InferRequest:
        """Return a request that nobody uses."""
        try:
            return self._free.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def raw(self, tensor: NDArray[Any] | Sequence[NDArray[Any] | ov.Tensor]) -> Any:
        """Run one batch and return OpenVINO's own result, an ``OVDict`` of copies; safe in several threads."""
        request = self._request()
        results = request.infer(tensor)
        self._free.append(request)
        return results

    def stream(
        self,
        sources: Iterable[SourceT],
        read: Callable[[SourceT], tuple[NDArray[Any], ReadT]],
        finish: Callable[[ReadT, Arrays], ResultT],
        *,
        outputs: Sequence[str] = (),
        whole: bool = False,
        light: bool = False,
        stop: Event | None = None,
    ) -> Generator[tuple[SourceT, ResultT | ImageError], None, None]:
        """Stream images through the model.

        As many images are on their way at once as keep all threads and requests busy, and no more. Whatever ends the
        stream, the last image, an error or a consumer that closes the generator, ends its threads and waits for its
        inferences.

        Args:
            sources: one an image.
            read: gives the input of one image (contiguous, of the type that the model takes, without the batch axis)
                and what ``finish`` needs; runs in a thread.
                An ImageError becomes the image's result, another error ends the stream.
            finish: makes the result out of that and the outputs of this image (without the batch axis; copies);
                runs in a thread, with errors treated alike.
            outputs: names of the outputs that ``finish`` is given; those the model does not have are left out. All of
                them by default.
            whole: give ``finish`` the outputs with their batch axis, of length 1, or as they are where they have none,
                as those of detectors may.
            light: ``read`` and ``finish`` take far less time than an inference, so that handing them to threads would
                cost more than it gains: ``read`` runs in the calling thread, ``finish`` in OpenVINO's.
            stop: once set, no further image is begun; those on their way are finished.

        Yields:
            ``(source, result)`` in the order of the sources.

        Raises:
            ModelError: an inference failed.
        """
        # Twice what keeps the device busy: the next input lies ready when an inference ends
        queue = ov.AsyncInferQueue(self._compiled, 2 * self._requests)
        places = self._places(outputs)
        workers = _cores()
        window = self._window(workers, len(queue))
        remaining = iter(sources)
        unread: deque[_Flight[SourceT, ReadT, ResultT]] = deque()
        flying: deque[_Flight[SourceT, ReadT, ResultT]] = deque()
        more = True
        pool = _AtOnce() if light else ThreadPoolExecutor(workers, "otx_xai")
        let_go = _hand_over(queue, lambda request, group: _land(request, group, places, pool, finish, whole=whole))
        try:
            while more or flying:
                while more and len(flying) < window:
                    if stop and stop.is_set():
                        more = False
                        break
                    try:
                        source = next(remaining)
                    except StopIteration:
                        more = False
                        break
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
            pool.shutdown(wait=False, cancel_futures=True)
            _settle(queue, let_go)
            pool.shutdown(wait=True)

    def _window(self, workers: int, requests: int) -> int:
        """Return how many images may be on their way: enough to keep every thread and every request busy."""
        return 4 * workers + (2 + requests) * self.batch

    def _places(self, outputs: Sequence[str]) -> dict[str, int]:
        """Return the index of each of these outputs, of all where none is named. An output may have several names."""
        if not outputs:
            return {name: i for i, name in enumerate(self._names)}
        known = {name: i for i, output in enumerate(self._compiled.outputs) for name in output.get_names()}
        return {name: known[name] for name in outputs if name in known}

    def _depart(self, queue: Any, unread: deque[_Flight[Any, Any, Any]]) -> None:
        """Start the inference of the next batch; images that cannot be read are left out of it."""
        passengers: list[_Passenger] = []
        tensors: list[NDArray[Any]] = []
        while unread and len(passengers) < self.batch:
            flight = unread.popleft()
            try:
                tensor, read = flight.reading.result()
            except ImageError as error:
                flight.result.set_result(error)
                continue
            passengers.append((flight.result, read))
            tensors.append(tensor)
        if not passengers:
            return
        tensors += [tensors[-1]] * (self.batch - len(tensors))
        batch = np.require(tensors[0][None], requirements="W") if self.batch == 1 else np.stack(tensors)
        try:
            # Shared rather than copied by this thread, which holds the interpreter meanwhile
            queue.start_async(ov.Tensor(batch, shared_memory=True), _Group(passengers, batch))
        except RuntimeError as error:
            raise _inference_error(error) from error


class _AtOnce(Executor):
    """Runs what it is given in the thread that gives it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            future.set_exception(error)
        return future


class NamedOutputs(Mapping[Any, NDArray[Any]]):
    """The outputs of one inference, looked up as in OpenVINO's ``OVDict``: by name, number or port.

    Args:
        names: what each output is called here.
        aliases: all tensor names of each output.
        arrays: the outputs by name.
    """

    def __init__(self, names: Sequence[str], aliases: Sequence[set[str]], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._names, self._aliases, self._arrays = names, aliases, arrays

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, int):
            return self._arrays[self._names[key]]
        wanted = {key} if isinstance(key, str) else set(key.get_names())
        for name, aliases in zip(self._names, self._aliases, strict=True):
            if wanted & (aliases | {name}):
                return self._arrays[name]
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def to_tuple(self) -> tuple[NDArray[Any], ...]:
        """Return all outputs in their order."""
        return tuple(self.values())


_Passenger = tuple["Future[Any]", Any]
"""The result that is awaited of one image of a batch, and what ``finish`` needs for it."""


@dataclass(frozen=True)
class _Group:
    """The images of one inference, and its input, which must live as long as the inference reads it."""

    passengers: list[_Passenger]
    batch: NDArray[Any]


def _land(
    request: Any,
    group: _Group,
    places: dict[str, int],
    pool: Executor,
    finish: Callable[..., Any],
    *,
    whole: bool,
) -> None:
    """Copy the outputs of a finished batch and hand each image to a thread; raises nothing, as no one would hear it."""
    try:
        outputs = {name: request.get_output_tensor(place).data for name, place in places.items()}
        for i, (result, read) in enumerate(group.passengers):
            part: Any = i if not whole else slice(None) if len(group.batch) == 1 else slice(i, i + 1)
            pool.submit(_finish, result, finish, read, {name: values[part].copy() for name, values in outputs.items()})
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the results
        for result, _ in group.passengers:
            with suppress(InvalidStateError):
                result.set_exception(error)


def _finish(result: Future[Any], finish: Callable[..., Any], read: Any, outputs: Arrays) -> None:
    try:
        result.set_result(finish(read, outputs))
    except ImageError as error:
        result.set_result(error)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the result
        result.set_exception(error)


def _await(result: Future[ResultT], queue: Any) -> ResultT:
    """Wait for a result, and look now and then whether its inference has failed: nothing else would tell."""
    while True:
        try:
            return result.result(timeout=_PATIENCE)
        except FutureTimeout:
            if result.done():  # in the nick of time, or by an error of this very type
                return result.result()
        try:
            for request in queue:
                request.wait_for(0)
        except RuntimeError as error:
            raise _inference_error(error) from error


def _hand_over(queue: Any, callback: Callable[[Any, Any], None]) -> Event:
    """Give OpenVINO the only reference to a callback, and an event that tells when it has let it go."""
    let_go = Event()
    weakref.finalize(callback, let_go.set).atexit = False
    queue.set_callback(callback)
    return let_go


def _settle(queue: Any, let_go: Event) -> None:
    """Wait for all inferences; what fails now belongs to results that nobody waits for any more.

    A thread of OpenVINO may hold the callback a moment longer than its inference takes. If it lets go only while the
    compiled model is being destroyed, it waits for the interpreter, and the interpreter for it.
    """
    for request in queue:  # each alone: wait_all ends with the first that has failed
        with suppress(RuntimeError):
            request.wait()
    queue.set_callback(_nothing)
    let_go.wait(_PATIENCE)


def _nothing(_request: Any, _group: Any) -> None:
    """Stand in for a callback that is done."""


def _name(output: Any, index: int) -> str:
    """Return the name of an output, of several the one that says what it is of ours; its index where it has none."""
    names = output.get_names()
    return min(names & XAI_OUTPUTS or names, default=str(index))


def _cores() -> int:
    """Return how many cores this process may use, and at least 2: one to read while another writes."""
    return max(2, allowed_cores())


def _inference_error(error: RuntimeError) -> ModelError:
    return ModelError(
        f"The model failed on an image: {_reason(error)}. Expected a model that takes any image of its input size; try "
        f"another --device, or a smaller --batch_size."
    )


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
