"""``otx audit``: its options are the fields of :class:`~otx_xai.settings.AuditSettings`; and ``otx audit compare``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from otx_xai.cli.parsing import add_record, engine_for, make_parser
from otx_xai.errors import EXIT_GATE, ConfigError

_EXAMPLES = """\
examples:
  otx audit --checkpoint model.xml --data_root val --work_dir out
  otx audit --checkpoint int8.xml --baseline fp32.xml --data_root val
  otx audit --checkpoint model.xml --data_root val --fail_on verified_shortcut,background_reliance=0.25
  otx audit compare before after --json changes.json
"""


_COMPARE = """\
usage: otx audit compare OLD NEW [--json FILE]

what changed from one audit to another: findings that came, went, grew or shrank

  OLD, NEW     folders of audits, their work directories, or their audit.json
  --json FILE  write the changes as JSON, too

Ends with 8 where a verified finding came or grew."""


def run(verb: str, argv: list[str]) -> int:
    """Audit, or compare two audits, and return the exit code."""
    if argv[:1] == ["compare"]:
        return _compare(argv[1:])
    from otx_xai.settings import AuditConfig, AuditSettings

    engine, settings = engine_for(AuditSettings, audit_parser(), verb, argv)
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

    if {"-h", "--help"} & set(argv):
        print(_COMPARE)
        return 0
    words = list(argv)
    target = None
    if "--json" in words:
        place = words.index("--json")
        target = words[place + 1] if place + 1 < len(words) else ""
        del words[place : place + 2]
    if len(words) != 2 or target == "" or any(word.startswith("--") for word in words):
        raise ConfigError("Expected `otx audit compare OLD NEW [--json FILE]`: two folders of audits, the older first.")
    found = compare(read_audit(words[0]), read_audit(words[1]))
    print(found.summary())
    if target is not None:
        write_json(Path(target).expanduser(), found.content())
    return EXIT_GATE if found.is_worse else 0
