"""`constitute evals check`: is an eval set balanced, without copies, and not to be had by a simple rule?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode
from constitute.evals.quality import CHECKS

if TYPE_CHECKING:
    from constitute.evals.check import CheckedSet

_PASSED = {True: "ok", False: "failed", None: "reported"}


@options.command()
@options.compose(options.run_dir, options.config_file, options.sets, options.as_json, options.debug)
@click.option(
    "--only",
    "names",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help=f"Checks to run: {', '.join(CHECKS)}; may be repeated. All of them if not given.",
)
@click.option(
    "--examples",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Items that the writer was shown, which no item may copy; may be repeated.",
)
@click.option(
    "--training",
    multiple=True,
    help="Data that a model is trained on, which no item may overlap; the run's prompts if not given.",
)
@click.option(
    "--fix",
    type=click.Path(path_type=Path, file_okay=False),
    help="Leave out what fails, and write the mended sets with their datasheets into this folder.",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def check(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
    names: Sequence[str],
    examples: tuple[Path, ...],
    training: tuple[str, ...],
    fix: Path | None,
    files: tuple[Path, ...],
) -> int:
    """Check eval sets; the exit code is 4 where a set fails.

    FILES are eval sets in the anthropics/evals format; without any, all that the run has written, whose
    datasheets (NAME.md) are written anew. Each set is compared with those before it.

    \b
    Examples:
      constitute evals check
      constitute evals check flattery.jsonl --examples gold.jsonl --fix mended
    """
    from constitute.evals.check import check_files

    config = options.configured(run_dir, config_file, sets, {})
    checked = check_files(config, files, names=names, examples=examples, training=training, fix=fix)
    _print_checked(checked, as_json)
    return ExitCode.GATE_FAILED if any(one.failed or not one.items for one in checked) else ExitCode.OK


def _print_checked(checked: Sequence[CheckedSet], as_json: bool) -> None:
    from constitute.cli.text import counted_reasons, harmless, table

    for one in checked:
        if as_json:
            record = one.model_dump(mode="json", exclude={"items"})
            click.echo(
                json.dumps({"event": "result", "size": len(one.items), "failed": one.failed, **record})
            )
            continue
        left = f"; left out {counted_reasons(one.left_out)}" if any(one.left_out.values()) else ""
        click.echo(harmless(f"{one.name}: {len(one.items)} items{left}"))
        rows = [(found.check, _PASSED[found.ok], found.said) for found in one.checks]
        click.echo(table(("check", "status", "what was found"), rows) + "\n")
