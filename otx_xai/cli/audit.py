"""``otx audit``: its options are the fields of :class:`~otx_xai.settings.AuditSettings`; and ``otx audit compare``."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, NoReturn

from otx_xai.cli.parsing import add_record, engine_for, make_parser, spelled_out
from otx_xai.errors import EXIT_GATE, ConfigError

_EXAMPLES = """\
examples:
  otx audit --checkpoint model.xml --data_root val --work_dir out
  otx audit --checkpoint int8.xml --baseline fp32.xml --data_root val
  otx audit --checkpoint model.xml --data_root val --fail_on verified_shortcut,background_reliance=0.25
  otx audit compare before after --json changes.json
"""


class _ComparisonParser(argparse.ArgumentParser):
    """Reads the arguments of ``otx audit compare``."""

    def __init__(self) -> None:
        super().__init__(
            "otx audit compare",
            description="what changed from one audit to another: findings that came, went, grew or shrank",
            epilog=f"Ends with {EXIT_GATE} where a verified finding came or grew.",
            allow_abbrev=False,
        )
        self.add_argument("old", metavar="OLD", help="folder of an audit, its work directory, or its audit.json")
        self.add_argument("new", metavar="NEW", help="likewise, the newer one")
        self.add_argument("--json", metavar="FILE", help="write the changes as JSON, too")

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, which ``otx`` turns into its exit code."""
        expected = "`otx audit compare OLD NEW [--json FILE]`: two audits, the older first"
        raise ConfigError(f"{message}. Expected {expected}.")


def run(verb: str, argv: list[str]) -> int:
    """Audit, or compare two audits, and return the exit code."""
    if argv[:1] == ["compare"]:
        return _compare(argv[1:])
    from otx_xai.records import AuditConfig
    from otx_xai.settings import AuditSettings

    engine, settings = engine_for(AuditSettings, audit_parser(), verb, spelled_out(argv))
    own = {field.name: settings.pop(field.name) for field in fields(AuditConfig)}
    done = engine.audit(audit_config=AuditConfig(**own), **settings)
    print(done.summary())
    return done.exit_code


def audit_parser() -> Any:
    """Declare the options of ``otx audit``."""
    from otx_xai.settings import AuditSettings

    parser = make_parser("audit", _EXAMPLES)
    add_record(parser, AuditSettings)
    return parser


def _compare(argv: list[str]) -> int:
    """Print what changed from one audit to another; a verified finding that came or grew gives :data:`EXIT_GATE`."""
    from pathlib import Path

    from otx_xai.audit.comparison import compare, read_audit
    from otx_xai.report.files import write_json

    options = _ComparisonParser().parse_args(argv)
    found = compare(read_audit(options.old), read_audit(options.new))
    print(found.summary())
    if options.json is not None:
        write_json(Path(options.json).expanduser(), found.content())
    return EXIT_GATE if found.is_worse else 0
