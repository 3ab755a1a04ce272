"""Thousands of broken files for every kind that is read: each is read well, or refused by an error of ours.

Files are tried in processes of their own, since a crash of foreign code ends one. Run it with
``python tests/torture/fuzzing.py --count 10000``, or in a short form as a part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from torture.children import Child, prepare
from torture.mutations import mutated
from torture.subjects import SUBJECTS, Subject, of_file

NEEDED = ("torch", "otx_xai.checkpoints.contents", "otx_xai.data.shape_sets", "otx_xai.data.formats.recognise")
"""Modules that take long to load, beside those of runs."""
LIMIT = 10.0
"""Seconds of processor time that one file may take."""
WAITED = 300.0
"""Seconds after which a process that writes nothing waits for something: a busy machine lets others wait long, too."""
MEMORY = 4 * 2**30
"""Bytes of address space that a process may take beyond those that it begins with."""

HEAD = f"| kind | files | refused | accepted | escaped | crashed | hung | slowest | memory |\n{'|---' * 9}|"


class Hangs(BaseException):
    """A file takes too long."""


@dataclass
class Fuzzed:
    """What came of the files of a kind.

    Args:
        kind: of the files.
        came_out: number of files by what came out.
        slowest: processor time of the slowest, in seconds.
        memory: by how much the peak of the memory of a process grew, in bytes.
        found: what should not have come out: number of the file, and what.
    """

    kind: str
    came_out: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    memory: int = 0
    found: list[str] = field(default_factory=list)

    def count(self, what: str) -> int:
        return self.came_out.get(what, 0)

    def add(self, what: str) -> None:
        self.came_out[what] = self.count(what) + 1

    def line(self) -> str:
        counts = [self.count(what) for what in ("refused", "accepted", "escaped", "crashed", "hung")]
        cells = [self.kind, sum(self.came_out.values()), *counts, f"{self.slowest:.2f} s", f"{self.memory >> 20} MiB"]
        return f"| {' | '.join(map(str, cells))} |"


def fuzz(kind: str, numbers: Sequence[int], place: Path, file: str = "") -> Fuzzed:
    """Try the files with these numbers.

    Args:
        kind: a key of ``SUBJECTS``.
        numbers: of the files.
        place: an empty folder.
        file: a model file of this kind, where it is none of these.
    """
    result = Fuzzed(kind)
    todo = list(numbers)
    for turn in range(len(numbers) + 1):
        if not todo:
            break
        record = place / f"record{turn}"
        child = Child(_try_all, (kind, todo, str(place / "work"), str(record), file), place / "log")
        hangs = _watch(child, record)
        code = child.end(1 if hangs else 60).code
        done = _read(record, result)
        if not done:
            raise RuntimeError(f"{kind}: no file was tried: {(place / 'log').read_text(errors='replace')[-2000:]}")
        number, ended = done[-1]
        if not ended:
            result.add("hung" if hangs else "crashed")
            result.found.append(f"{kind} {number}: {'hung' if hangs else f'the process ended with {code}'}")
        todo = todo[todo.index(number) + 1 :]
    return result


def _watch(child: Child, record: Path) -> bool:
    """Wait until a process ends; return whether it has not written anything for too long."""
    size, since = -1, time.monotonic()
    while child.lives:
        now = record.stat().st_size if record.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > WAITED:
            os.kill(child.pid, signal.SIGKILL)
            return True
        time.sleep(0.02)
    return False


def _read(record: Path, result: Fuzzed) -> list[tuple[int, bool]]:
    """Take the record of a process into the result; return the numbers that it has begun, and whether it ended them."""
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    begun = {line["number"]: False for line in lines}
    for line in lines:
        if "what" not in line:
            continue
        begun[line["number"]] = True
        result.add(line["what"])
        result.slowest = max(result.slowest, line["seconds"])
        result.memory = max(result.memory, line["memory"])
        if line["what"] not in ("refused", "accepted"):
            result.found.append(f"{result.kind} {line['number']}: {line['why']}")
    return list(begun.items())


def _try_all(kind: str, numbers: Sequence[int], folder: str, record: str, file: str) -> int:
    """Try files one after the other, in a process that may not survive it."""
    import logging

    logging.disable(logging.CRITICAL)
    subject = of_file(Path(file)) if file else SUBJECTS[kind]
    work = Path(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    samples = subject.make(work)
    base = work / "base"
    base.mkdir()
    subject.base(base)
    strays = _watch_strays(work, record)
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for warm_up in (0, 1):  # what is loaded at first counts for no file
        _try(subject, base, samples[0], warm_up)
    strays.clear()
    _limit_memory()
    start = _peak()

    def note(**line: Any) -> None:
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    for number in numbers:
        note(number=number)
        began = time.process_time()
        data = mutated(samples, number, header=subject.header, text=subject.text)
        what, why = _try(subject, base, data, number)
        if strays:
            what, why = "escaped", f"outside of the folder: {strays.pop()}"
        note(number=number, what=what, why=why, seconds=time.process_time() - began, memory=_peak() - start)
    return 0


def _try(subject: Subject, base: Path, data: bytes, number: int) -> tuple[str, str]:
    """Hand one file to the product."""
    from otx_xai.errors import OtxXaiError

    path = base / subject.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

    def hangs(*_: object) -> None:
        raise Hangs

    signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)  # the machine may be busy: what counts is processor time
    began = time.process_time()
    try:
        subject.use(path, number)
        what, why = "accepted", ""
    except OtxXaiError as error:
        what, why = "refused", str(error)
    except Hangs:
        what, why = "hung", "it took too long"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        what, why = "escaped", f"{type(error).__name__}: {error}"[:300] + _where(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if time.process_time() - began > LIMIT:
        return "hung", f"it took {time.process_time() - began:.0f} s"
    return what, why


def _where(error: BaseException) -> str:
    """Say in which line of the product an error came up."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "otx_xai" in file:
            place = f" ({'/'.join(Path(file).parts[-2:])}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _watch_strays(work: Path, record: str) -> list[str]:
    """Gather what is written outside of a folder from now on."""
    strays: list[str] = []
    inside = (str(work), record, "/dev/", "/proc/")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.truncate"):
            path, writes = arguments[0], True
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
            path, writes = f"/{event}", True
        else:
            return
        if writes and isinstance(path, str | bytes) and not os.fsdecode(path).startswith(inside):
            strays.append(f"{event} {path!r}")

    sys.addaudithook(hook)
    return strays


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--model", type=Path, action="append", default=[], help="a model file to be fuzzed as well")
    options = parser.parse_args()
    prepare(*NEEDED)
    numbers = range(options.first, options.first + options.count)
    found = []
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(options.jobs) as pool:
        kinds = options.kinds or ([] if options.model else list(SUBJECTS))
        cases = [(kind, "") for kind in kinds] + [(file.name, str(file.resolve())) for file in options.model]

        def one(case: tuple[str, str]) -> Fuzzed:
            folder = Path(place, case[0].replace(", ", "_"))
            folder.mkdir()
            return fuzz(case[0], numbers, folder, case[1])

        for result in pool.map(one, cases):
            print(result.line(), flush=True)
            found += result.found
    print("\n".join(["", *found]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
