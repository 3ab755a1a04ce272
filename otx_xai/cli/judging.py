"""``otx judge``: its options are the fields of :class:`~otx_xai.settings.JudgeSettings`."""

from __future__ import annotations

from inspect import signature
from typing import Any

from otx_xai.cli.parsing import add_record, make_parser, open_config, parse
from otx_xai.recipe import SECTIONS

_EXAMPLES = """\
examples:
  otx judge --checkpoint model.xml --data_root photos --images 24
  otx judge --checkpoint model.xml --data_root photos --methods reciprocam,rise --sanity True --work_dir out
"""


def run(verb: str, argv: list[str]) -> int:
    """Judge, and return the exit code."""
    argv, recipe = open_config(argv, leave_out=SECTIONS)
    options = parse(judge_parser(), verb, argv)
    from otx_xai.settings import JudgeSettings

    settings = vars(JudgeSettings.from_options(options | {"model": options["model"] or recipe.get("model")}))
    from otx_xai.engine import Engine

    own = settings.keys() & signature(Engine).parameters.keys()
    engine = Engine(**{name: settings[name] for name in own})
    judgement = engine.judge(**{name: value for name, value in settings.items() if name not in own})
    print(judgement.summary())
    return judgement.exit_code


def judge_parser() -> Any:
    """Declare the options of ``otx judge``."""
    from otx_xai.settings import JudgeSettings

    parser = make_parser("judge", _EXAMPLES)
    add_record(parser, JudgeSettings)
    return parser
