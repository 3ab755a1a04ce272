"""The notebooks of the docs were executed as they stand, show what they speak of, and run."""

from __future__ import annotations

import ast
import json
import re
import socket
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import otx_xai
from otx_xai import Comparison, Explanation
from otx_xai.records import Task

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_CELLS, MOST_BYTES = 10, 400_000
SETTINGS = "images, epochs, few = "
"""Begins the line of a notebook that says how much is drawn, trained and judged."""

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path, kind: str = "code") -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def code(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def shown(notebook: Path) -> Iterator[dict[str, Any]]:
    """Yield the outputs of a notebook."""
    for cell in cells(notebook):
        yield from cell["outputs"]


def test_there_is_one_of_each_task() -> None:
    wanted = (Task.CLASSIFICATION, Task.DETECTION, Task.INSTANCE_SEGMENTATION)
    assert [path.stem for path in NOTEBOOKS] == sorted(task.value for task in wanted)
    for page in ("README.md", "docs/index.md"):
        text = (FOLDER.parents[1] / page).read_text(encoding="utf-8")
        assert all(f"notebooks/{path.name}" in text for path in NOTEBOOKS), page


@every_notebook
def test_it_is_short(notebook: Path) -> None:
    assert len(cells(notebook)) + len(cells(notebook, "markdown")) <= MOST_CELLS
    assert notebook.stat().st_size <= MOST_BYTES


@every_notebook
def test_it_was_executed_from_top_to_bottom(notebook: Path) -> None:
    assert [cell["execution_count"] for cell in cells(notebook)] == list(range(1, len(cells(notebook)) + 1))
    assert all(cell["outputs"] for cell in cells(notebook))
    for output in shown(notebook):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output


@every_notebook
def test_it_shows_an_explanation_a_comparison_a_judgement_and_an_audit(notebook: Path) -> None:
    plain = ["".join(output.get("data", {}).get("text/plain", "")) for output in shown(notebook)]
    for kind in (Explanation, Comparison):
        assert any(text.startswith(f"{kind.__name__}(") for text in plain)
    pictures = ["".join(output.get("data", {}).get("text/html", "")).count("<img") for output in shown(notebook)]
    assert sum(count > 0 for count in pictures) >= 2
    printed = "".join("".join(output.get("text", "")) for output in shown(notebook))
    assert "Judged " in printed
    assert re.search(r"^(PASS|ATTENTION|FAIL)", printed, re.MULTILINE)


@every_notebook
def test_it_tells_nothing_of_the_machine(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    said = json.dumps([*shown(notebook)])
    said = re.sub(r"base64,[A-Za-z0-9+/=]+", "", said)  # of pictures
    assert not re.findall(r"(?<![\w.<])/(?:home|root|tmp|usr|var|opt|Users|work)/", said)
    assert socket.gethostname() not in said


@every_notebook
def test_its_names_are_those_of_the_package(notebook: Path) -> None:
    assert cells(notebook)
    for cell in cells(notebook):
        for node in ast.walk(ast.parse(code(cell))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xai":
                assert node.attr in otx_xai.__all__
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("otx_xai"):
                assert all(hasattr(import_module(node.module or ""), name.name) for name in node.names)


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does, and return the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def test_one_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With next to no pictures, so that it says little of value, but says it."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    values = []
    first, *others = map(code, cells(FOLDER / "classification.ipynb"))
    small, count = re.subn(f"^{SETTINGS}.*$", f"{SETTINGS}24, 1, 2", first, flags=re.MULTILINE)
    assert count == 1
    for source in (small, *others):
        values.append(run_cell(source, names))
    assert [type(value) for value in values] == [str, Explanation, str, Comparison, type(None)]
    assert "Judged 2 of 2 images" in capsys.readouterr().out
