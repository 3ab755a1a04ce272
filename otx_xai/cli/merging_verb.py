"""``otx merge``: the parts of a run become the files that one process would have written."""

from __future__ import annotations

import argparse
from typing import NoReturn

from otx_xai.errors import ConfigError


class _MergeParser(argparse.ArgumentParser):
    """Reads the arguments of ``otx merge``."""

    def __init__(self) -> None:
        super().__init__(
            "otx merge",
            description="put the shards of a run together: predictions.jsonl, run.json and config.yaml; of an audit "
            "the evidence, which `otx audit` without --shard concludes from",
            epilog="Ends with 6 where shards are missing, and names them.",
            allow_abbrev=False,
        )
        self.add_argument(
            "work_dir",
            metavar="WORK_DIR",
            help="folder that `otx explain` or `otx audit` --shard was given as --work_dir",
        )

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, which ``otx`` turns into its exit code."""
        raise ConfigError(f"{message}. Expected `otx merge WORK_DIR`.")


def run(_verb: str, argv: list[str]) -> int:
    """Merge, and return the exit code."""
    folder = _MergeParser().parse_args(argv).work_dir
    from otx_xai.engine import Engine

    done = Engine(work_dir=folder).merge()
    print(done.summary())
    return done.exit_code
