"""As much of the Hugging Face Hub as its file system asks for: repositories of files, read, listed and committed to."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from serving import serving

_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit)/[^/]+(?:/(.*))?)?"
)
_FILE = re.compile(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)")


@dataclass
class HubServer:
    """The server.

    Args:
        address: its URL.
        files: repository → path in it → content.
        commits: how many were made.
        asked: for what.
    """

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: int = 0
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def entries(self, repository: str, below: str, *, deep: bool) -> list[dict[str, Any]]:
        """List files, and folders, as the Hub does; nothing stands for a folder that is not there."""
        found: dict[str, dict[str, Any]] = {}
        start = f"{below}/" if below else ""
        for path, data in sorted(self.files[repository].items()):
            inner = path.removeprefix(start)
            if not path.startswith(start):
                continue
            folders = [start + inner[: at.start()] for at in re.finditer("/", inner)]
            for folder in folders if deep else folders[:1]:
                found[folder] = {"type": "directory", "path": folder, "oid": _oid(folder.encode()), "size": 0}
            if deep or not folders:
                found[path] = self.entry(path, data)
        return list(found.values())

    @staticmethod
    def entry(path: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "oid": _oid(data), "size": len(data)}

    def commit(self, repository: str, lines: bytes) -> bool:
        """Make all changes of a commit, or none, where it removes what is not there."""
        changes = [(line["key"], line["value"]) for line in map(json.loads, lines.splitlines())]
        with self.lock:
            kept = self.files[repository]
            if any(key == "deletedFile" and value["path"] not in kept for key, value in changes):
                return False
            self.commits += 1
            for key, value in changes:
                if key == "file":
                    kept[value["path"]] = base64.b64decode(value["content"])
                elif key == "deletedFile":
                    del kept[value["path"]]
        return True


def _oid(data: bytes) -> str:
    return sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _handler(server: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def answer(self, content: Any, code: int = 200, **headers: str) -> None:
            server.asked.append(self.path)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def absent(self, what: str) -> None:
            self.answer({"error": f"{what} not found"}, 404, X_Error_Code=f"{what}NotFound")

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            path = unquote(address.path)
            if api := _API.fullmatch(path):
                _, repository, verb, inner = api.groups()
                if repository not in server.files:
                    self.absent("Repo")
                elif verb == "tree":
                    found = server.entries(repository, inner or "", deep="recursive=true" in address.query.lower())
                    self.answer(found) if found else self.absent("Entry")
                else:
                    self.answer({"id": repository, "sha": "0" * 40, "siblings": [], "private": False, "tags": []})
            elif file := _FILE.fullmatch(path):
                self.send_file(server.files.get(file[1], {}).get(file[2]))
            else:
                self.absent("Entry")

        do_HEAD = do_GET

        def send_file(self, data: bytes | None) -> None:
            if data is None:
                self.absent("Entry")
                return
            told = {"ETag": f'"{_oid(data)}"', "X_Repo_Commit": "0" * 40, "Accept_Ranges": "bytes"}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                self.answer(data, **told)
                return
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            told["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
            self.answer(data[first : last + 1], 206, **told)

        def do_POST(self) -> None:
            body = self.body()
            api = _API.fullmatch(unquote(urlsplit(self.path).path))
            if api is None or api[2] not in server.files:
                self.absent("Repo")
                return
            kind, repository, verb, _ = api.groups()
            if verb == "paths-info":
                asked = parse_qs(body.decode())["paths"]
                kept = server.files[repository]
                folders = {entry["path"]: entry for entry in server.entries(repository, "", deep=True)}
                self.answer(
                    [
                        folders[path] if path not in kept else server.entry(path, kept[path])
                        for path in asked
                        if path in folders
                    ]
                )
            elif verb == "preupload":
                names = [file["path"] for file in json.loads(body)["files"]]
                self.answer(
                    {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
                )
            elif not server.commit(repository, body):
                self.absent("Entry")
            else:
                place = f"{server.address}/{'datasets/' if kind == 'datasets' else ''}{repository}"
                self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"{place}/commit/{'0' * 40}"})

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

    return Handler


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Serve until the end of this context."""
    server = HubServer()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    with serving(listener) as server.address:
        yield server
