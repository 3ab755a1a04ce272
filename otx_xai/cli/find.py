"""``otx find``."""

from __future__ import annotations

from otx_xai.cli.parsing import add, make_parser, parse


def run(verb: str, argv: list[str]) -> int:
    """List the recipes, and return the exit code."""
    parser = make_parser(verb)
    add(parser, "task", "TASK", "only recipes of this task")
    options = parse(parser, verb, argv)
    from otx_xai.recipe import list_recipes

    rows = [("recipe", "task", "architecture")]
    rows += [(f"{it.folder}/{it.name}", it.task, it.architecture) for it in list_recipes(options["task"])]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
