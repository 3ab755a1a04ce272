"""Execute the notebooks beside this file, in a folder that is gone afterwards, and write what they show into them.

    python docs/notebooks/execute.py [NOTEBOOK …]

It needs nbclient, nbformat, ipykernel and ipywidgets, and some minutes; `make notebooks` brings them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 1800
"""That a cell may take."""


def execute(path: Path) -> None:
    """Execute one notebook, and write its outputs; where a cell fails, that is raised and the file stays as it was."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, record_timing=False, resources=resources).execute()
    notebook.metadata.language_info = {"name": "python"}  # the rest tells who ran it last
    notebook.metadata.pop("widgets", None)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main() -> None:
    """Execute the notebooks that are named, or all."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HERE.glob("*.ipynb")):
        execute(path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
