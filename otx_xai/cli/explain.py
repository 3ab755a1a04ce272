"""``otx explain``: its options are the fields of :class:`~otx_xai.settings.ExplainSettings`."""

from __future__ import annotations

from typing import Any

from otx_xai.cli.parsing import add_record, engine_for, make_parser, spelled_out

_EXAMPLES = """\
examples:
  otx explain --checkpoint model.xml --data_root photos --dump True --work_dir out
  otx explain --checkpoint model.onnx --data_root 'photos/**/*.jpg' --dump True --labels cat,dog,horse \\
              --targets cat --explain_config.content overlays --input.mean 127.5 --input.scale 127.5
  otx explain --config out/config.yaml --explain_config.image_format jpg
"""


def run(verb: str, argv: list[str]) -> int:
    """Explain, and return the exit code."""
    from otx_xai.settings import ExplainSettings

    engine, settings = engine_for(ExplainSettings, explain_parser(), verb, spelled_out(argv))
    done = engine.explain(**settings, keep_explanations=False)
    print(done.summary())
    return done.exit_code


def explain_parser() -> Any:
    """Declare the options of ``otx explain``."""
    from otx_xai.settings import ExplainSettings

    parser = make_parser("explain", _EXAMPLES)
    add_record(parser, ExplainSettings)
    return parser
