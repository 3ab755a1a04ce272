"""What a type checker makes of a user's script: nothing to say of a right one, and a word on every wrong line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SETTINGS = """
[mypy]
strict = true
cache_dir = cache
[mypy-openvino.*,cv2.*,torch.*,torchvision.*,lightning.*,matplotlib.*]
follow_imports = skip
"""
"""What others have written is left out: it would take a minute."""

RIGHT = """
from pathlib import Path

import numpy as np

import otx_xai as xai
from otx_xai import DumpContent, Engine, ExplainConfig, Explainer, Explanation, ExplainMode, ExplainRun, InputOptions
from otx_xai import Method, OTXDataModule, Task, insert_xai
from otx_xai.errors import GraphError

image = np.zeros((8, 8, 3), np.uint8)
explainer = Explainer(
    Path("model.xml"), Task.CLASSIFICATION, labels=["cat", "dog"], input=InputOptions(mean=127.5)
)
explainer(image, -1)
explainer(image, "cat,dog")
explainer(image, ["cat", 1], overlay=True, output_size=(224, 224))
explainer(image, np.array([1, 0]), explain_method="rise", num_masks=60)
explainer(image, np.argmax(image), label_names=("cat", "dog"))
explanation = explainer(image, "predicted")
assert isinstance(explanation, Explanation)
files: list[Path] = explanation.save("out", "cat")
shape: tuple[int, ...] = explanation.shape
score: float = explanation.predictions[0].score

config = ExplainConfig(predicted_maps_conf_thr=0.5, content=DumpContent.SHEET)
engine = Engine(work_dir="out", device="CPU", checkpoint="model.xml", max_epochs=3)
run: ExplainRun = engine.explain("model.xml", data_root="photos", explain_config=config, dump=True, targets=["cat"])
engine.explain(datamodule=OTXDataModule("photos"), explain_mode=ExplainMode.BLACKBOX, labels="cat,dog", preset="speed")
print(run.exit_code + 1, run.summary().upper(), run.failures.items())
engine.export(export_format="onnx", labels=("cat", "dog"))
judgement: xai.Judgement = engine.judge("model.xml", data_root="photos", methods=["rise"], images=3, judged="truth")
means: list[float] = [float(scores.insertion_zero.mean()) for scores in judgement.scores.values()]
metrics: dict[str, float] = engine.train(data_root="photos", seed=3)

try:
    insert_xai("model.xml", Task.DETECTION, Method.DETCLASSPROBABILITYMAP, ["a", "b"], targets=[0, "dog"])
    xai.insert_xai("model.onnx", explain_method="reciprocam")
except GraphError as error:
    print(error.exit_code, xai.__version__.split("."))
"""

WRONG = """
import numpy as np

from otx_xai import Engine, ExplainConfig, Explainer, Task, insert_xai

Explainer("model.xml", labels=7)
explainer = Explainer("model.xml", Task="detection")
explainer("image.png")
explainer(np.zeros((8, 8, 3), np.uint8), 1.5)
explainer(np.zeros((8, 8, 3), np.uint8), output_size=224)
Engine(work_dir=1)
Engine().explain("model.xml", targets=1.5)
Engine().explain("model.xml", batch_size="many")
Engine().explain("model.xml").exit_status
Engine().export(export_format="tflite")
Engine().judge("model.xml", images="all")
Engine().judge("model.xml").table
ExplainConfig(overlay_weight="half")
insert_xai("model.xml", Task.CLASSIFIER)
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """The file and the line of everything that mypy says, the package being one that is installed."""
    folder = tmp_path_factory.mktemp("scripts")
    for name, text in {"mypy.ini": SETTINGS, "right.py": RIGHT, "wrong.py": WRONG}.items():
        (folder / name).write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "right.py", "wrong.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode in (0, 1), run.stderr
    return [(file, int(line)) for file, line in re.findall(r"^(\S+?):(\d+): error", run.stdout, re.MULTILINE)]


def test_nothing_is_said_of_a_right_script(complaints: list[tuple[str, int]]) -> None:
    """Without py.typed, everything that comes from the package would be unknown, and an error of the import."""
    assert {file for file, _ in complaints} == {"wrong.py"}


def test_every_wrong_line_is_told(complaints: list[tuple[str, int]]) -> None:
    told = {line for file, line in complaints if file == "wrong.py"}
    lines = WRONG.splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line and "import" not in line}
    assert told == wrong, [lines[number - 1] for number in told ^ wrong]
