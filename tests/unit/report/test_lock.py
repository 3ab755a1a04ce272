"""One run at a time in a folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from filelock import FileLock

from otx_xai.errors import OutputError
from otx_xai.report import locked

HOLD = (
    "import sys, pathlib, otx_xai.report as r\nwith r.locked(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"
)


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(OutputError, match=r"Another run is writing into .* another --work_dir"), locked(tmp_path):
            pytest.fail("two runs hold one folder")
        assert os.listdir(tmp_path) == [".lock"]
        holder.kill()
    assert os.listdir(tmp_path) == [".lock"], "nobody is left to remove it"
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_run_that_fails_lets_go(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), locked(tmp_path):
        with pytest.raises(OutputError, match="Another run"), locked(tmp_path):
            pytest.fail("two runs of one process hold one folder")
        raise ZeroDivisionError
    with locked(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


@pytest.mark.parametrize(
    ("error", "refused"),
    [(OSError(errno.ENOLCK, "No locks available"), False), (OSError(errno.EIO, "Input/output error"), True)],
    ids=str,
)
def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, refused: bool
) -> None:
    def acquire(_: FileLock) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    outcome = pytest.raises(OutputError, match="Input/output error") if refused else nullcontext()
    with outcome, locked(tmp_path):
        (tmp_path / "written").touch()
    assert (tmp_path / "written").exists() is not refused


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OutputError, match=r"\.lock' cannot be written"), locked(tmp_path):
        pytest.fail("a folder has been locked")
