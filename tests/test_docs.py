"""What the docs say is true: their commands run, their tables are those of the code, the files that they name exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import classifiers
import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import otx_xai
from otx_xai.audit.findings import FindingKind
from otx_xai.audit.gates import FIGURES, parse_gates
from otx_xai.cli import main
from otx_xai.cli.audit import audit_parser
from otx_xai.cli.explain import explain_parser, spelled_out
from otx_xai.cli.judging import judge_parser
from otx_xai.cli.parsing import open_config, parse
from otx_xai.cli.train import data_parser, export_parser
from otx_xai.options import Option, options_of
from otx_xai.recipe import SECTIONS
from otx_xai.records import AUDITED, JUDGED
from otx_xai.settings import AuditSettings, ExplainSettings, JudgeSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

LABELS = ["cat", "dog", "horse", "sheep"]

NOT_RUN = ("make demo", "make test")
"""Commands of the README that are not run here: one takes minutes and has tests of its own, the other is this suite."""


SHORTER = {
    "train": "--trainer.max_epochs 1 --trainer.enable_progress_bar False --trainer.enable_model_summary False "
    "--trainer.log_every_n_steps 1 --model.init_args.architecture squeezenet1_1 --model.init_args.input_size 64",
    "judge": "--images 2 --steps 4",
}
"""What is said behind a command, so that it does not take minutes."""


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    fenced = re.findall(r"^```(.*?)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for said, text in fenced if said == language]


# ---------------------------------------------------------------------------------------------------------------------
# README is run


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README speaks of: models, class names and pictures."""
    folder = tmp_path_factory.mktemp("desk")
    classifiers.save_colour_classifier(folder / "model.xml", " ".join(LABELS))
    onnx.save(_small_onnx(), folder / "mobilenet_v2.onnx")
    (folder / "imagenet.txt").write_text("golden retriever\nkite\ntench\n")
    for name in (
        "imgs/a.jpg",
        "dog.jpg",
        "photo.jpg",
        *(f"photos/{kind}/{n}.jpg" for kind in ("holiday", "work") for n in (0, 1, 2, "dog")),
    ):
        picture = classifiers.coloured_image((64, 96), "red" if "dog" in name else "blue")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), picture[..., ::-1])
    return folder


def _small_onnx() -> onnx.ModelProto:
    """As a MobileNet: an NCHW input that wants normalised pixels, a convolution, a global pooling, a linear layer."""
    mix = np.tile((1.5 * np.eye(3) - 0.5)[:, :, None, None], (1, 1, 8, 8)).astype(np.float32) / 64
    least = np.full(3, -1, np.float32)
    constants = {
        "mix": mix,
        "least": least,
        "weights": 9 * np.eye(3, dtype=np.float32),
        "bias": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "mix", "least"], ["excess"], strides=[8, 8]),
        helper.make_node("Relu", ["excess"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
        helper.make_node("Gemm", ["vector", "weights", "bias"], ["output"]),
    ]
    shape = {"input": ["N", 3, 64, 64], "output": ["N", 3]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in shape.items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", [values["input"]], [values["output"]], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def commands(block: str) -> Iterator[str]:
    """Yield the commands of a shell block, those over several lines as one."""
    for line in block.replace("\\\n", " ").splitlines():
        command = line.partition(" # ")[0].strip()
        if command:
            yield command


def test_the_shell_blocks_of_the_readme_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    run = [command for block in blocks(README, "shell") for command in commands(block) if command not in NOT_RUN]
    assert len(run) >= 4
    for command in run:
        program, *words = shlex.split(command)
        assert program == "otx", f"{command!r} is neither run here nor in NOT_RUN"
        assert main([*words, *SHORTER.get(words[0], "").split(), "--debug"]) == 0, command
    for block in blocks(README, "text"):
        for line in block.splitlines():
            assert (desk / line.split()[0]).is_file(), line


def test_the_python_blocks_of_the_readme_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    assert blocks(README, "python")
    for block in blocks(README, "python"):
        exec(compile(block, str(README), "exec"), {})
    assert (desk / "out" / "dog_target_cat.jpg").is_file()


# ---------------------------------------------------------------------------------------------------------------------
# The other pages

PAGES = sorted((ROOT / "docs").rglob("*.md"))

NEEDS_MORE = {
    "explain-detectors.md": "trained detectors, which tests/integration/test_detectors.py has",
    "train-and-explain.md": "minutes of training; tests/integration/test_training.py does the same for less",
}
"""Pages whose examples need what cannot be made in a moment."""


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda page: page.stem)
def test_python_blocks_of_the_how_tos_run(desk: Path, monkeypatch: pytest.MonkeyPatch, page: Path) -> None:
    monkeypatch.chdir(desk)
    image = classifiers.coloured_image((64, 96))
    names: dict[str, Any] = {
        "image": image,
        "labels": LABELS,
        "batch": image.transpose(2, 0, 1)[None].astype("float32"),
    }
    for block in blocks(page, "python"):
        if ">>>" not in block:  # else it is a doctest
            code = compile(block, str(page), "exec")
            if page.name not in NEEDS_MORE:
                exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_docs_are_understood(page: Path) -> None:
    """Of commands that are not run, options and values at least mean something."""
    for block in blocks(page, ""):
        for command in filter(lambda line: line.startswith("otx explain "), commands(block)):
            words, _ = open_config(spelled_out(shlex.split(command)[2:]), leave_out=SECTIONS)
            ExplainSettings.from_options(parse(explain_parser(), "explain", words))
        for command in filter(lambda line: line.startswith("otx judge "), commands(block)):
            words, _ = open_config(shlex.split(command)[2:], leave_out=SECTIONS)
            JudgeSettings.from_options(parse(judge_parser(), "judge", words))
        for command in filter(lambda line: line.startswith("otx audit --"), commands(block)):
            words, _ = open_config(shlex.split(command)[2:], leave_out=SECTIONS)
            settings = AuditSettings.from_options(parse(audit_parser(), "audit", words))
            parse_gates(settings.fail_on)


def test_every_option_that_the_docs_name_exists() -> None:
    parsers = [
        explain_parser(),
        judge_parser(),
        audit_parser(),
        export_parser(),
        *map(data_parser, ("train", "test", "predict")),
    ]
    known = {word for parser in parsers for action in parser._actions for word in action.option_strings}
    known |= {"--ray"}  # --ray.address for short
    known |= {"--version", "--debug", "--print_shtab", "--json"}  # the last one is of `otx audit compare`
    families = ("--model.", "--data.", "--trainer.", "--input.*", "--baseline_input.*", "--explain_config.*")
    for page in (*PAGES, README):
        named = re.findall(r"(?<![\w-])--[a-z][\w.*]*(?<!\.)", page.read_text(encoding="utf-8"))
        unknown = {option for option in named if option not in known and not option.startswith(families)}
        assert not unknown, f"{page.relative_to(ROOT)} names options that no sub-command has: {unknown}"


# ---------------------------------------------------------------------------------------------------------------------
# Tables and names


def test_the_page_of_options_is_that_of_the_record() -> None:
    page = (ROOT / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    table = options_table(ExplainSettings)
    assert table in page, f"docs/reference/options.md differs from otx_xai.settings; its tables should be:\n\n{table}"


def test_the_page_of_judging_has_its_own_options() -> None:
    page = (ROOT / "docs" / "reference" / "judge.md").read_text(encoding="utf-8")
    heading, table = options_table(JudgeSettings, JUDGED).split("\n\n")
    assert heading == f"## {JUDGED}"
    assert table in page, f"docs/reference/judge.md differs from otx_xai.settings; its table should be:\n\n{table}"


def test_the_page_of_audits_has_its_own_options() -> None:
    page = (ROOT / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")
    heading, table = options_table(AuditSettings, AUDITED).split("\n\n")
    assert heading == f"## {AUDITED}"
    assert table in page, f"docs/reference/audit.md differs from otx_xai.settings; its table should be:\n\n{table}"
    assert not [name for name in FIGURES if f"`{name}`" not in page]
    assert not [str(kind) for kind in FindingKind if f"`{kind}`" not in page]


def options_table(record: type, group: str | None = None) -> str:
    """Return the options of a record as Markdown, those below one heading or all: a table a heading."""
    parts: dict[str, list[str]] = {}
    for option in options_of(record):
        if group not in (None, option.group):
            continue
        head = [f"## {option.group}", "", "| option | default | meaning |", "|---|---|---|"]
        parts.setdefault(option.group, head).append(_row(option))
    return "\n\n".join("\n".join(lines) for lines in parts.values())


def _row(option: Option) -> str:
    default = "" if option.default is None else f"`{option.default}`"
    metavar = option.metavar.replace("|", r"\|")
    return f"| `--{option.name} {metavar}` | {default} | {option.help.replace('<', chr(92) + '<')} |"


def test_the_reference_lists_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(otx_xai.__all__)
    documented = re.findall(r"\.\. automodule:: (\S+)", page)
    for name in set(otx_xai.__all__) - {"__version__"}:
        homes = [module for module in documented if hasattr(import_module(module), name)]
        assert homes, f"{name} is in none of the modules that docs/reference/api.md describes"
        assert (getattr(otx_xai, name).__doc__ or "").strip(), f"{name} has no docstring"


def test_contributing_names_what_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./<>-]+)`", text) if "/" in name or name.endswith((".py", ".md"))]
    assert len(named) > 10
    missing = [name for name in named if "<" not in name and not (ROOT / name).exists()]
    assert not missing, f"CONTRIBUTING.md names what is not there: {missing}"


def test_contributing_names_rooms_of_the_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tour = text[text.index("- `otx_xai/`") : text.index("- `tests/unit/`")]
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "otx_xai").iterdir()}
    named = set(re.findall(r"`(\w+)`", tour))
    assert len(named) > 10
    assert not named - rooms, f"CONTRIBUTING.md names rooms that are not there: {named - rooms}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Sphinx checks those below docs."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]
