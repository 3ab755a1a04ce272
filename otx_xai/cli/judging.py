"""``otx judge``: its options are the fields of :class:`~otx_xai.settings.JudgeSettings`."""

from __future__ import annotations

from typing import Any

from otx_xai.cli.parsing import add_record, engine_for, make_parser

_EXAMPLES = """\
examples:
  otx judge --checkpoint model.xml --data_root photos --images 24
  otx judge --checkpoint model.xml --data_root photos --methods reciprocam,rise --sanity True --work_dir out
"""


def run(verb: str, argv: list[str]) -> int:
    """Judge, and return the exit code."""
    from otx_xai.settings import JudgeSettings

    engine, settings = engine_for(JudgeSettings, judge_parser(), verb, argv)
    judgement = engine.judge(**settings)
    print(judgement.summary())
    return judgement.exit_code


def judge_parser() -> Any:
    """Declare the options of ``otx judge``."""
    from otx_xai.settings import JudgeSettings

    parser = make_parser("judge", _EXAMPLES)
    add_record(parser, JudgeSettings)
    return parser
