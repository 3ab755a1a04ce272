"""An S3 server on this machine (moto), in front of which a part of all requests is refused, or nothing is answered."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from serving import serving
from werkzeug.serving import make_server

_REFUSAL = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>Reduce your rate.</Message></Error>"


@dataclass
class S3Server:
    """The server, and how it misbehaves.

    Args:
        address: its URL.
        refused_part: of all requests in [0, 1] that get 503.
        is_deaf: nothing is answered.
    """

    address: str = ""
    refused_part: float = 0.0
    is_deaf: bool = False
    requests: int = 0
    refused: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    awake: threading.Event = field(default_factory=threading.Event)

    def wrapped(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Return the application behind the faults."""

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            self.requests += 1
            if self.is_deaf:
                self.awake.wait(60)
            if self.dice.random() < self.refused_part:
                self.refused += 1
                start("503 Service Unavailable", [("Content-Type", "application/xml"), ("Connection", "close")])
                return [_REFUSAL]
            return application(environ, start)

        return answer


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve until the end of this context."""
    server = S3Server()
    application = server.wrapped(DomainDispatcherApplication(create_backend_app))
    listener = make_server("127.0.0.1", 0, application, threaded=True)
    with serving(listener) as server.address:
        yield server
        server.awake.set()
