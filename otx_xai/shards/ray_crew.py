"""Processes of a Ray cluster that explain shards. This module, and nothing else, imports Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from otx_xai.counting import counted
from otx_xai.errors import ConfigError
from otx_xai.explain.run import ExplainRun
from otx_xai.records import RayOptions
from otx_xai.shards.foreman import News, Order

# Read when Ray is imported: it would report its use, and hide GPUs from processes that reserve none.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

try:
    import ray
    from ray.exceptions import RayActorError, RayTaskError
except ImportError as missing:
    raise ConfigError(
        f"--ray needs a package that is missing ({missing}). Install it with: pip install 'otx-xai[ray]'"
    ) from missing

logger = logging.getLogger("otx_xai")

Explain = Callable[[Order], ExplainRun]
"""What a process does, once it is ready."""

_LEAST = (2, 55)
_OBJECTS = 100 * 2**20
"""Bytes for objects of a cluster of this process's own, of which there are none but numbers."""

_ANSWER = 10.0
"""Seconds that a head node may take to answer."""

_NOTICE = 15.0
"""Seconds without a process that is ready after which the log tells what is waited for."""


class Worker:
    """One process of the cluster: an actor that holds one session.

    Args:
        open: makes it ready; runs there.
        folder: current folder of the process that spreads the run, which relative paths start from.
        cores: that it may use.
    """

    def __init__(self, open: Callable[[int], Explain], folder: str, cores: int) -> None:
        self._open, self._folder, self._cores = open, folder, cores
        self._explain: Explain

    def ready(self) -> bool:
        """Open and compile the model, and read the plan, or make it."""
        _die_at_once()
        os.chdir(self._folder)
        self._explain = self._open(self._cores)
        return True

    def explain(self, order: Order) -> tuple[bool, int]:
        """Carry out an order; return whether it was stopped, and the number of images that failed."""
        done = self._explain(order)
        return done.interrupted and order.only is None, len(done.failures)


def _die_at_once() -> None:
    """Let a fault of native code, as a poison image may provoke it, end this process.

    Ray's handler prints the stack first, and can fault in that again and again, without end, while memory grows.
    """
    for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connect with a cluster, or start one, for as long as this context lasts; one that is connected already stays.

    Args:
        address: ``auto``, ``local``, or ``HOST:PORT``.

    Raises:
        ConfigError: there is no such cluster, or Ray is too old.
    """
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < _LEAST:
        raise ConfigError(
            f"Ray is {ray.__version__}; expected {_LEAST[0]}.{_LEAST[1]} or later: pip install 'otx-xai[ray]'"
        )
    if ray.is_initialized():
        yield
        return
    try:
        if address not in ("auto", "local"):
            _knock(address)
        own = {"include_dashboard": False, "object_store_memory": _OBJECTS} if address == "local" else {}
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(
            f"There is no cluster of Ray at {address!r}: {' '.join(str(error).split())} Start one with `ray start "
            "--head`, and join other machines with `ray start --address HOST:PORT`; or give --ray local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens at an address, for which Ray would wait a minute."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), _ANSWER):
        return


def shared_out(options: RayOptions, nodes: list[float]) -> tuple[int, float]:
    """Return how many processes there are, and the cores of each.

    Args:
        options: what the user wants.
        nodes: cores of each machine of the cluster.

    Raises:
        ConfigError: there are not as many cores.
    """
    least = min(nodes, default=0.0)
    if options.cpus is not None:
        places = sum(int(cores / options.cpus + 1e-9) for cores in nodes)
        if places < (options.actors or 1):
            raise ConfigError(
                f"--ray.actors {options.actors or 1} of --ray.cpus {options.cpus:g} do not fit into the cluster, whose "
                f"machines have {', '.join(f'{cores:g}' for cores in nodes) or 'no'} cores. Expected less of either."
            )
        return options.actors or places, options.cpus
    if not nodes:
        raise ConfigError("The cluster has no machine with a core that may be used. Expected at least one.")
    actors = options.actors or len(nodes)
    share = least / ceil(actors / len(nodes))
    return actors, float(int(share)) if share >= 1 else share


class RayCrew:
    """Actors on the machines of a cluster; one that dies is replaced.

    Args:
        open: makes a process ready for a number of cores; runs in that process.
        options: how many, and of which size.
    """

    def __init__(self, open: Callable[[int], Explain], options: RayOptions) -> None:
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        actors, cpus = shared_out(options, [cores for cores in nodes if cores])
        self._arguments = open, os.getcwd(), max(1, int(cpus))
        self._actor = ray.remote(num_cpus=cpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")(
            Worker
        )
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, Order]] = {}
        self._since = time.monotonic()
        cores = f"{cpus:g} core{'' if cpus == 1 else 's'} each"
        logger.info(
            "Ray: %s of %s on %s.", counted(actors, "process", "processes"), cores, counted(len(nodes), "machine")
        )
        for _ in range(actors):
            self._start()

    def idle(self) -> int:
        """Return how many processes wait for an order."""
        return len(self._idle)

    def busy(self) -> int:
        """Return how many orders are being carried out."""
        return len(self._working)

    def hand(self, order: Order) -> None:
        """Give an order to one that waits."""
        actor = self._idle.pop()
        self._working[actor.explain.remote(order)] = actor, order

    def news(self, seconds: float) -> list[News]:
        """Wait for news, so long at most."""
        waiting = [*self._working, *self._starting]
        self._tell_of_waiting()
        if not waiting:  # all that is left is at work elsewhere
            time.sleep(seconds)
            return []
        first, _ = ray.wait(waiting, num_returns=1, timeout=seconds)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0) if first else ([], [])
        return [self._heard(reference) for reference in ready]

    def close(self) -> None:
        """End all processes."""
        for actor in [*self._idle, *self._starting.values(), *(actor for actor, _ in self._working.values())]:
            ray.kill(actor)

    def _start(self) -> None:
        actor = self._actor.remote(*self._arguments)
        self._starting[actor.ready.remote()] = actor

    def _heard(self, reference: Any) -> News:
        actor, order = self._working.pop(reference, None) or (self._starting.pop(reference), None)
        try:
            answer = ray.get(reference)
        except RayActorError as error:
            self._start()
            return News(order, died=_last_words(error))
        except RayTaskError as error:
            if order is not None:
                self._idle.append(actor)
            return News(order, error=error.cause if isinstance(error.cause, Exception) else error)
        self._idle.append(actor)
        self._since = time.monotonic()
        return News(order) if order is None else News(order, stopped=answer[0], failed=answer[1])

    def _tell_of_waiting(self) -> None:
        if not self._working and not self._idle and time.monotonic() - self._since > _NOTICE:
            self._since = time.monotonic()
            logger.info("Waiting for a process: the cluster may be busy with another run.")


def _last_words(error: RayActorError) -> str:
    """Say in a line how a process died, without what differs from time to time."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = next((line for line in lines if "died" in line), lines[0] if lines else "it is gone")
    return f"{told.partition(' Worker exit detail')[0].rstrip('.')}."
