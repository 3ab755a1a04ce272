"""What a run has left, as bytes, without what differs from one time to the next."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import classifiers
import cv2

NOT_RESULTS = ("plan.jsonl", "parts")
"""What only a run in shards leaves, and what stays when it is merged."""

LABELS = "red,green,blue,mixture"


def write_photos(folder: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
    """Write small images of three colours into two folders, some of them broken."""
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in broken:
            path.write_bytes(b"\x89PNG\r\n\x1a\n of another kind")
            continue
        colour = ("red", "green", "blue")[i % 3]
        picture = classifiers.coloured_image((40, 52), colour, (0.2 + i % 7 / 10, 0.2 + i % 5 / 7))
        assert cv2.imwrite(str(path), picture[..., ::-1])
    return folder


def waiting(marker: Path, seconds: float) -> int:
    """Return the number of the process that has written it into a file, and waits to be killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if marker.exists() and marker.read_text().endswith("\n"):
            return int(marker.read_text())
        time.sleep(0.05)
    raise AssertionError("nobody came to the point")


def left_by(work_dir: Path) -> dict[str, bytes]:
    """Return all files of a run, by their place in its folder; links, plan and parts are left out.

    Of files that are no text there are the digests, so that a comparison that fails can be read.
    """
    found = {}
    for path in sorted(work_dir.rglob("*")):
        place = path.relative_to(work_dir)
        if path.is_file() and place.parts[0] not in (*NOT_RESULTS, ".latest"):
            found[place.as_posix()] = _comparable(path.read_bytes(), work_dir)
    return found


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Name the files that only one of two runs has left, or that differ, and how."""
    places = sorted(one.keys() | other.keys())
    return [
        f"{place}: {_shown(one, place)} / {_shown(other, place)}"
        for place in places
        if one.get(place) != other.get(place)
    ]


def _shown(left: dict[str, bytes], place: str) -> str:
    return left[place].decode(errors="replace")[:3000] if place in left else "absent"


def _comparable(content: bytes, work_dir: Path) -> bytes:
    if b"\0" in content:
        return hashlib.sha256(content).hexdigest().encode()
    content = content.replace(str(work_dir).encode(), b"WORK_DIR")
    content = re.sub(rb'"seconds": ?[\d.e-]+', b'"seconds": 0', content)
    content = re.sub(rb'"started": ?"[^"]+"', b'"started": ""', content)
    return re.sub(rb'"created": ?"[^"]+"', b'"created": ""', content)
