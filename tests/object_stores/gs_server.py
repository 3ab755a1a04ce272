"""A server on this machine that follows the protocol of Google's store (gcp-storage-emulator), and keeps conditions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.server import POST, RequestHandler, Router
from gcp_storage_emulator.storage import Storage
from serving import serving

_ONE = threading.Lock()
"""The emulator answers one request at a time."""


class _Handler(RequestHandler):
    def do_GET(self) -> None:
        with _ONE:
            super().do_GET()

    def do_DELETE(self) -> None:
        with _ONE:
            super().do_DELETE()

    def do_POST(self) -> None:
        """Refuse what must be new and is not, as Google does and the emulator does not."""
        address = urlsplit(self.path)
        asked = parse_qs(address.query)
        with _ONE:
            if asked.get("ifGenerationMatch") == ["0"] and self._is_there(address.path.split("/")[-2], asked):
                self._refuse()
            else:
                Router(self).handle(POST)

    def _is_there(self, bucket: str, asked: dict[str, list[str]]) -> bool:
        size = int(self.headers["Content-Length"])
        head = self.rfile.peek(size)
        name = (
            asked["name"][0] if "name" in asked else json.loads(head[head.index(b"{") : head.index(b"}") + 1])["name"]
        )
        try:
            self.storage.get_file_obj(bucket, name)
        except NotFound:
            return False
        self.rfile.read(size)
        return True

    def _refuse(self) -> None:
        self.send_response(412)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def gs_server(bucket: str) -> Iterator[str]:
    """Serve a bucket until the end of this context; yields the address."""
    storage = Storage(use_memory_fs=True)
    storage.create_bucket(bucket, {"name": bucket, "kind": "storage#bucket", "id": bucket})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, storage))
    with serving(listener) as address:
        yield address
