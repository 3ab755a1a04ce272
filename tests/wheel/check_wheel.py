"""A user's first minute: build the wheel, install it where nothing else is, and explain a first model without torch.

    python tests/wheel/check_wheel.py      (make wheel; about half a minute)

Everything happens in a temporary folder, in environments of their own. Without an index of packages nothing can be
built or installed; this is said, loudly, and is no failure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST_MODEL = Path(__file__).with_name("first_model.py")

NO_INDEX = """
********************************************************************************
* THE WHEEL WAS NOT CHECKED: pip finds no index of packages (no network?).     *
* Run `make wheel` where there is one.                                         *
********************************************************************************
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder that is not the source tree, and return what it said."""
    return subprocess.run(
        [str(word) for word in command], cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False
    )


def must(*command: str | Path) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = run(*command)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def environment(folder: Path) -> Path:
    """Make an empty environment, and return its folder of programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def build(folder: Path) -> Path | None:
    """Build the wheel; None where pip has no index."""
    programs = environment(folder / "builder")
    pip = (programs / "python", "-m", "pip", "--quiet")
    tried = run(*pip, "install", "--retries", "1", "hatchling")
    if tried.returncode:
        print(tried.stderr, NO_INDEX, file=sys.stderr, sep="\n")
        return None
    must(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheel", ROOT)
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        wheel = build(Path(name))
        if wheel is None:
            return
        names = zipfile.ZipFile(wheel).namelist()
        recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml")}
        missing = {f"otx_xai/{path}" for path in recipes} - set(names)
        assert not missing, f"The wheel lacks recipes: {missing}"
        assert not [path for path in names if path.startswith(("tests/", "docs/"))], names
        programs = environment(Path(name) / "user")
        must(programs / "python", "-m", "pip", "--quiet", "install", wheel)
        installed = {line.split("==")[0].lower() for line in must(programs / "python", "-m", "pip", "freeze").split()}
        heavy = installed & {"torch", "torchvision", "lightning", "tensorflow", "matplotlib", "scikit-learn"}
        assert not heavy, f"The wheel brings {heavy}"
        print(must(programs / "python", "-I", FIRST_MODEL, programs / "otx", Path(name) / "first").strip())
        megabytes = sum(file.stat().st_size for file in (Path(name) / "user").rglob("*") if file.is_file()) / 1e6
        print(f"{wheel.name} installs {len(installed)} packages, {megabytes:.0f} MB, none of them heavy.")


if __name__ == "__main__":
    main()
