"""Obvious mistakes on every verb: each is answered with one line that repairs it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import classifiers
import cv2
import pytest

from otx_xai.cli import main

GIVEN = "--checkpoint model.xml --data_root photos"

MISTAKES = [
    ("trian --data_root photos", "'trian' is no sub-command; .* Did you mean otx train?"),
    ("explian", "Did you mean otx explain?"),
    ("explain", "No checkpoint was given, .* pass it as --checkpoint"),
    ("explain --checkpoint", "argument --checkpoint: expected one argument"),
    ("explain --checkpoint model.xml", "No images were given; .* Pass it as --data_root"),
    ("explain --checkpoint nofile.xml --data_root photos", "The checkpoint nofile.xml does not exist"),
    (
        "explain --checkpoint cut.xml --data_root photos",
        "The checkpoint cut.xml cannot be read: .* copy or export it",
    ),
    ("explain --checkpoint begun.xml --data_root photos", "begun.xml is no OpenVINO IR: .* Export the model again"),
    ("explain --checkpoint empty.xml --data_root photos", "empty.xml is empty; .* Copy or export it again"),
    ("explain --checkpoint text.onnx --data_root photos", "text.onnx is no ONNX model: it is a text. Copy or export"),
    ("explain --checkpoint text.tflite --data_root photos", "text.tflite is no TensorFlow Lite model"),
    ("explain --checkpoint text.bin --data_root photos", "has the suffix '.bin'; .* Pass text.xml instead"),
    (
        "explain --checkpoint photos --data_root photos",
        "photos is a folder without a model; expected a folder",
    ),
    ("explain --checkpoint model.xml --data_root nofolder", "'nofolder' does not exist"),
    ("explain --checkpoint model.xml --data-root photos", r"\(did you mean --data_root\?\)"),
    ("explain model.xml photos", "'model.xml' stands behind no option; write it as --checkpoint FILE --data_root PATH"),
    ("explain --model model.xml --data_root photos", "--model is 'model.xml', which is a file; .* as --checkpoint"),
    ("explain --config", "--config has no value; expected a YAML file, or the name of a recipe"),
    ("explain --config nothing", "--config 'nothing' is no file and no recipe"),
    (f"explain {GIVEN} --device TPU", "cannot compile the model for device 'TPU'.* Pass one of them as --device"),
    (f"explain {GIVEN} --precision fp16", "'fp16' is no Precision; .* Did you mean f16?"),
    (f"explain {GIVEN} --targets bleu", "Target 'bleu' is no class of the model. Close names: 'blue'"),
    (f"explain {GIVEN} --explain_method gradcamm", "'gradcamm' is no explain_method; .* Did you mean gradcam?"),
    (f"explain {GIVEN} --method rise", r"--method rise \(did you mean --explain_method\?\)"),
    (f"explain {GIVEN} --preset fast", "'fast' is no Preset; expected one of speed, balance, quality"),
    (f"explain {GIVEN} --explain_mode white", "'white' is no ExplainMode; .* Did you mean whitebox?"),
    (f"explain {GIVEN} --task detect", "'detect' is no Task; .* Did you mean detection?"),
    (f"explain {GIVEN} --batch_size two", "--batch_size: Expected int. Got value: two"),
    (f"explain {GIVEN} --batch_size 0", "--batch_size is 0; expected at least 1"),
    (f"explain {GIVEN} --labels nolabels.txt", "--labels nolabels.txt cannot be read"),
    (f"explain {GIVEN} --labels a,b", "--labels has 2 names .* but the model has 4 classes"),
    (f"explain {GIVEN} --input.mean 1,2", "--input.mean is '1,2'; expected one number or one per channel"),
    (f"explain {GIVEN} --mean 1", r"--mean 1 \(did you mean --input.mean"),
    (f"explain {GIVEN} --dump maybe", "--dump: Expected bool. Got value: maybe"),
    (f"explain {GIVEN} --work_dir model.xml", "--work_dir"),
    ("explain --ckpt model.xml", r"\(did you mean --checkpoint\?\)"),
    ("explain -x model.xml", r"\(did you mean --checkpoint\?\)"),
    ("explain -x photos", r"\(did you mean --data_root\?\)"),
    ("explain --weights model.xml --data_root photos", "'model.xml' is no Weights; .* given as --checkpoint"),
    ("explain --checkpoint modle.xml --data_root photos", "modle.xml does not exist; .* Did you mean model.xml?"),
    ("explain --checkpoint model.xml --source photos", r"\(did you mean --data_root\?\)"),
    (
        f"explain {GIVEN} --output out",
        "'out' is no output of the model; .* The folder for results is given as --work_dir",
    ),
    (f"explain {GIVEN} --output_dir out", r"\(did you mean --work_dir\?\)"),
    (f"explain {GIVEN} --gpu", r"\(did you mean --device\?\)"),
    (f"explain {GIVEN} --overlay", r"\(did you mean --dump\?\)"),
    (f"explain {GIVEN} --classes red", r"\(did you mean --targets\?\)"),
    (f"explain {GIVEN} --batch 4", r"\(did you mean --batch_size\?\)"),
    (f"explain {GIVEN} --explain_config", r"it has settings of its own, such as --explain_config\."),
    (f"explain {GIVEN} --labels 4", r"--labels has 1 name \('4'\), but the model has 4 classes"),
    ("explain --config unknown.yaml", r"'checkpint' is not accepted \(did you mean --checkpoint\?\)"),
    ("train --data photos", "--data has settings of its own, .* given as --data_root PATH"),
    ("train photos", "'photos' stands behind no option; write it as --config RECIPE --data_root PATH"),
    ("train --epochs 3", r"\(did you mean --max_epochs\?\)"),
    ("train --model mobilenet_v2 --data_root photos", "The name of a recipe is given as --config NAME"),
    (
        "train --config mobilenet_v2 --data_root photos",
        "names classes. Expected a folder for each class below --data_root",
    ),
    (f"judge {GIVEN} --methods reciprocam rise", "several of --methods with commas between them"),
    (f"audit {GIVEN} --fail_on 'accuracy>0.9'", "A figure takes a limit: accuracy=0.9"),
    ("train", "No data was given; .* Pass it as --data_root"),
    ("train --max_epochs 1", "No data was given; .* Pass it as --data_root"),
    ("train --config detectoin/fcos_resnet18", "is no file and no recipe. Close names: fcos_resnet18"),
    ("train --max_epoch 1", r"\(did you mean --max_epochs\?\)"),
    ("train --max_epochs one", "--max_epochs: Expected int. Got value: one"),
    ("train --trainer.max_epoch 1", r"\(did you mean --trainer.max_epochs\?\)"),
    ("train --model.class_path foo.Bar", "--model: Problem with given class_path 'foo.Bar': No module named 'foo'"),
    ("train --data_root photos", "No model was given to train; .* Pass --config NAME"),
    ("test", "No data was given; .* Pass it as --data_root"),
    ("predict --checkpoint x.ckpt", "No data was given; .* Pass it as --data_root"),
    ("export --checkpoint no.ckpt", "The checkpoint no.ckpt does not exist; expected a torch checkpoint"),
    ("export --explian True", r"\(did you mean --explain\?\)"),
    (f"judge {GIVEN} --methods reciprocan", "'reciprocan' is no explain_method; .* Did you mean reciprocam?"),
    (f"judge {GIVEN} --images none", "--images: Expected int. Got value: none"),
    ("judge --data_root photos", "No checkpoint was given, .* pass it as --checkpoint"),
    (f"audit {GIVEN} --fail_on bad", "--fail_on 'bad': there is no kind of finding 'bad'. Expected one of"),
    (f"audit {GIVEN} --baseline no.xml", "--baseline: The checkpoint no.xml does not exist"),
    ("audit compare a", "are required: NEW. Expected `otx audit compare OLD NEW"),
    ("merge a b", "unrecognized arguments: b. Expected `otx merge WORK_DIR`"),
    ("find fcos", "'fcos' stands behind no option; write it as --option value"),
    ("find --task segment", "There are no recipes of the task 'segment'; expected one of"),
    ("demo --task classify", "'classify' is no Task; .* Did you mean classification?"),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a picture, and files that are broken."""
    folder = tmp_path_factory.mktemp("desk")
    classifiers.save_colour_classifier(folder / "model.xml", "red green blue mixture")
    (folder / "photos").mkdir()
    assert cv2.imwrite(str(folder / "photos" / "0.png"), classifiers.coloured_image((40, 52)))
    whole = (folder / "model.xml").read_bytes()
    files = {"cut.xml": whole[:700], "begun.xml": whole[:20], "empty.xml": b""}
    files |= dict.fromkeys(("text.onnx", "text.tflite", "text.bin"), b"hello\tworld\r\n")
    files["unknown.yaml"] = b"checkpint: model.xml"
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "cut.bin").write_bytes((folder / "model.bin").read_bytes())
    return folder


@pytest.mark.parametrize(("typed", "told"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_answered_with_a_line_that_repairs_it(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], typed: str, told: str
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("OTX_XAI_LOG", "WARNING")
    code = main(shlex.split(typed))
    lines = capfd.readouterr().err.splitlines()  # what OpenVINO itself prints, too
    assert 2 <= code <= 8, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("otx: error: ")
    assert re.search(told, lines[0]), lines[0]
    assert len(lines[0]) < 420
