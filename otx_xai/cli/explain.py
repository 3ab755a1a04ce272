"""``otx explain``: its options are the fields of :class:`~otx_xai.settings.ExplainSettings`."""

from __future__ import annotations

from inspect import signature
from typing import Any

from otx_xai.cli.parsing import add_record, make_parser, open_config, parse
from otx_xai.recipe import SECTIONS

_EXAMPLES = """\
examples:
  otx explain --checkpoint model.xml --data_root photos --dump True --work_dir out
  otx explain --checkpoint model.onnx --data_root 'photos/**/*.jpg' --dump True --labels cat,dog,horse \\
              --targets cat --explain_config.content overlays --input.mean 127.5 --input.scale 127.5
  otx explain --config out/config.yaml --explain_config.image_format jpg
"""


def run(verb: str, argv: list[str]) -> int:
    """Explain, and return the exit code."""
    argv, recipe = open_config(argv, leave_out=SECTIONS)
    options = parse(explain_parser(), verb, argv)
    from otx_xai.settings import ExplainSettings

    settings = vars(ExplainSettings.from_options(options | {"model": options["model"] or recipe.get("model")}))
    from otx_xai.engine import Engine

    own = settings.keys() & signature(Engine).parameters.keys()
    engine = Engine(**{name: settings[name] for name in own})
    rest = {name: value for name, value in settings.items() if name not in own}
    done = engine.explain(**rest, keep_explanations=False)
    print(done.summary())
    return done.exit_code


def explain_parser() -> Any:
    """Declare the options of ``otx explain``."""
    from otx_xai.settings import ExplainSettings

    parser = make_parser("explain", _EXAMPLES)
    add_record(parser, ExplainSettings)
    return parser
