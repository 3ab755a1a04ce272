"""The house rules that a machine can check: which way imports point, what start-up loads, names, and file contents."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "otx_xai"

# A room is a module or sub-package right under otx_xai. A room may import from lower floors and, as long as that closes
# no circle, from its own. A new room needs a floor: think about where it belongs, and add it.
FLOORS = (
    ("counting", "errors"),
    ("options", "storage"),
    ("records",),
    ("settings",),
    ("openvino_core", "process", "recipe"),
    ("graph", "postprocess", "models", "neighbours"),
    ("runtime", "conversion", "data", "gradients"),
    ("checkpoints",),
    ("model",),
    ("perturb", "metrics", "report"),
    ("methods", "audit", "page"),
    ("explain", "export", "judging", "shards"),
    ("engine", "callbacks", "explainer"),
    ("demo",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc", "types"}
HEAVY = (
    "torch",
    "torchvision",
    "lightning",
    "lightning_fabric",
    "pytorch_lightning",
    "matplotlib",
    "timm",
    "nncf",
    "fsspec",
    "ray",
    "scipy",
)
INFERENCE = {"compile_model", "infer", "infer_new_request", "start_async", "create_infer_request", "AsyncInferQueue"}

# In two parts, so that this file does not contain what it forbids.
FORBIDDEN_TEXTS = tuple(
    "".join(parts)
    for parts in (
        ("pypi.", "org"),
        ("python", "hosted.org"),
        ("download.", "pytorch.org"),
        ("anaconda.", "org"),
        ("npmjs.", "org"),
        ("ghcr.", "io"),
        ("quay.", "io"),
        ("docker.", "io"),
        ("jfrog.", "io"),
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.>})*-])/(?:work|tmp|root|home/\w+)/")


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the room of each import from this package, also inside functions and type checks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{_absolute(path, node)}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE.name and parts[-1] != "__version__":
                yield node.lineno, parts[1] if len(parts) > 2 or _is_room(parts[-1]) else "__init__"


def _is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = path.relative_to(ROOT).parts[: -node.level]
    return ".".join((*package, *filter(None, [node.module])))


def test_every_room_has_a_floor() -> None:
    unknown = sorted({_room(path) for path in _modules()} - FLOOR_OF.keys())
    assert not unknown, f"give these a floor in FLOORS: {unknown}"


def test_imports_point_downwards() -> None:
    steps_up = [
        f"{path.relative_to(ROOT)}:{line} imports {room}"
        for path in _modules()
        for line, room in _imported_rooms(path)
        if FLOOR_OF.get(room, 0) > FLOOR_OF.get(_room(path), 0)
    ]
    assert not steps_up, "\n".join(steps_up)


def test_rooms_import_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in _modules():
        graph.setdefault(_room(path), set()).update(room for _, room in _imported_rooms(path) if room != _room(path))
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"rooms import one another: {' → '.join(error.args[1])}")


def test_docs_list_every_room_on_its_floor() -> None:
    """The table in docs/architecture.md, from the top floor down, is the same as FLOORS."""
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)/?` \|", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.MULTILINE
    )
    floors = [int(floor) for floor, _ in rows]
    assert floors == sorted(floors, reverse=True)
    listed = {room: int(floor) for floor, room in rows}
    rooms = {_room(path) for path in _modules()}
    assert len(rows) == len(listed)
    assert listed == {room: floor for room, floor in FLOOR_OF.items() if room in rooms}


def test_no_room_outgrows_the_others() -> None:
    """The largest has less than 15 % of the lines."""
    lines: Counter[str] = Counter()
    for path in _modules():
        lines[_room(path)] += len(path.read_text(encoding="utf-8").splitlines())
    room, most = lines.most_common(1)[0]
    share = most / lines.total()
    print(f"the largest room is {room}: {most} of {lines.total()} lines, {share:.1%}")
    assert share < 0.15, f"{room} has {share:.1%} of all lines: does everything in it belong together?"


def test_every_file_has_a_name_of_its_own() -> None:
    """Two files of one name cannot be told apart in a search, a traceback or a conversation."""
    files: dict[str, list[str]] = {}
    for path in _modules():
        files.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in files.items() if len(paths) > 1 and not name.startswith("__")}
    assert not twice, f"rename all but one of these: {twice}"


def test_only_the_runtime_runs_inference() -> None:
    """Constants may be folded elsewhere, and only in one place."""
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno} uses {name}"
        for path in _modules()
        if _room(path) != "runtime" and path != PACKAGE / "graph" / "constants.py"
        for node, name in _used_names(path)
        if name in INFERENCE
    ]
    assert not offenders, "\n".join(offenders)


def test_what_a_model_says_of_itself_is_read_in_one_place() -> None:
    """``rt_info`` is touched by one file, which few read by: what opens models. All else is handed ``ModelFacts``."""
    home = PACKAGE / "graph" / "rt_info.py"
    touching = [
        f"{path.relative_to(ROOT)}:{node.lineno} uses {name}"
        for path in _modules()
        if path != home
        for node, name in _used_names(path)
        if name in {"rt_info", "get_rt_info", "has_rt_info", "set_rt_info"}
    ]
    assert not touching, "\n".join(touching)
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in _modules()
        if path != home and "written" in _imported_from(path, "otx_xai.graph.rt_info")
    }
    # surgery asks whether the model says itself what its compiler is to do, which is no fact of what the model is
    assert readers == {
        "graph/surgery.py",
        "model/explained_output.py",
        "model/model_files.py",
        "model/model_info.py",
        "neighbours/ultralytics.py",
    }


def test_only_the_room_of_models_asks_what_a_model_is() -> None:
    """Task, class scores, format of boxes, and what exporters say: every later stage is handed the answers."""
    questions = {
        "otx_xai.model.model_info": {"model_info"},
        "otx_xai.model.identity": {"identify"},
        "otx_xai.model.class_scores": {"find_class_scores"},
        "otx_xai.model.formats.choice": {"find_format"},
        "otx_xai.neighbours": {"read_hints"},
        "otx_xai.neighbours.all_hints": {"read_hints"},
    }
    asking = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules()
        if _room(path) not in ("model", "neighbours")
        for module, names in questions.items()
        for name in names & _imported_from(path, module)
    ]
    assert not asking, "\n".join(asking)


def _imported_from(path: Path, module: str) -> set[str]:
    """Return the names that a file imports from a module, also inside functions."""
    return {
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and _absolute(path, node) == module
        for alias in node.names
    }


def _used_names(path: Path) -> Iterator[tuple[ast.expr | ast.alias, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node, node.attr
        elif isinstance(node, ast.Name):
            yield node, node.id
        elif isinstance(node, ast.alias):
            yield node, node.name


@pytest.mark.parametrize("folder", ["otx_xai", "tests", "benchmarks"])
def test_names_say_what_is_inside(folder: str) -> None:
    parts = {
        part.removesuffix(".py").strip("_")
        for path in (ROOT / folder).rglob("*.py")
        for part in path.relative_to(ROOT).parts
    }
    assert not parts & FORBIDDEN_NAMES


@pytest.mark.parametrize(
    "start",
    [
        "import otx_xai",
        "import otx_xai.cli",
        "import otx_xai.engine, otx_xai.explain, otx_xai.demo",
        "import otx_xai.cli; sys.argv = ['otx', '--help']; otx_xai.cli.main()",
        "import otx_xai.cli; sys.argv = ['otx', 'explain', '--help']; otx_xai.cli.main()",
    ],
)
def test_start_up_is_light(start: str) -> None:
    """Neither import nor help loads what only training and plotting need."""
    script = f"""
import sys
try:
    {start}
except SystemExit as exit:
    assert not exit.code, exit.code
print("LOADED", *sorted(set(sys.modules) & {set(HEAVY)!r}))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].strip() == "LOADED"


def test_help_costs_hardly_more_than_python_itself() -> None:
    """Time is measured elsewhere, where nothing else runs; modules can be counted anywhere."""
    script = """
import sys
before = set(sys.modules)
from otx_xai.cli import main
assert main(["--help"]) == 0
print("LOADED", *sorted(set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = run.stdout.splitlines()[-1].split()[1:]
    assert len(loaded) < 20, loaded
    assert not {"numpy", "yaml", "jsonargparse", "logging", "typing"} & set(loaded)


def _project_files() -> list[Path]:
    """Return the files that are, or would be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # a source archive: every file that no tool made
        made = {".venv", "__pycache__", "dist", "build", "out"}
        return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.relative_to(ROOT).parts)]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_files_name_no_registry_and_no_path_of_one_machine() -> None:
    offenders = []
    for path in _project_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        text = content.decode("utf-8", errors="replace")
        found = [host for host in FORBIDDEN_TEXTS if host in text.lower()]
        found += MACHINE_PATH.findall(text) if path != Path(__file__) else []
        offenders += [f"{path.relative_to(ROOT)}: {name}" for name in found]
    assert not offenders, "\n".join(offenders)
