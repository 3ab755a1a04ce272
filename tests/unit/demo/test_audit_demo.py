"""The demo of the audit: what was planted is found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from otx_xai.cli import main
from otx_xai.demo import demonstrate_audit, run_demo
from otx_xai.errors import ConfigError


def test_the_mark_is_found_and_nothing_without_it(tmp_path: Path) -> None:
    demo = demonstrate_audit(tmp_path, train_images=360, test_images=120)
    assert demo.is_found
    assert demo.audit.page.is_file()
    assert demo.clean.metrics["accuracy"].effect.value > 0.7
    text = demo.summary()
    assert "The audit of the first says: verified: The model decides for 'circle' by the same place" in text
    assert "it verifies nothing" in text
    folders = [str(done.folder) for done in (demo.clean, demo.audit)]
    assert main(["audit", "compare", *folders]) == 8  # a verified shortcut came
    assert main(["audit", "compare", *reversed(folders)]) == 0


def test_there_is_no_demo_of_other_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="'audits' is no Task"):
        next(iter(run_demo(tmp_path, "audits")))
    assert main(["demo", "--task", "multi_label_cls", "--work_dir", str(tmp_path)]) == 2
    assert "or audit" in capsys.readouterr().err
