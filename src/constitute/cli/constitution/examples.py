"""`constitute constitution examples` and `keep`: drafts by a model, and what a person makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options

some_ids = click.option(
    "--id", "ids", multiple=True, metavar="ID", help="Only this principle; may be repeated."
)


@options.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-n",
    "--n",
    "n",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Examples of a principle.",
)
@some_ids
@options.compose(
    options.model,
    options.cache,
    options.config_file,
    options.sets,
    options.seed,
    options.as_json,
    options.debug,
)
def examples(
    file: Path,
    n: int,
    ids: tuple[str, ...],
    model: str | None,
    cache_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Have a model draft examples for the principles of FILE that have fewer than -n, and write them into it.

    Each is a prompt with a better and a worse answer and what is wrong with the worse one, marked
    `draft: true`: no model is shown it and no test fails by it until somebody has read it and kept it. An
    answer that is no example is counted with its reason, exit code 3; another --seed asks again.

    \b
    Examples:
      constitute constitution examples my.yaml --model smollm2
      constitute constitution examples my.yaml --model http://localhost:8000 -n 4 --id be-brief
    """
    from constitute.cli.text import counted, say
    from constitute.constitution.drafts import add_examples_to_file
    from constitute.constitution.edit import read_mine
    from constitute.constitution.read import parse_constitution
    from constitute.editing.draft import draft_examples
    from constitute.errors import ExitCode
    from constitute.progress import open_progress
    from constitute.types import Example

    config = options.configured(cache_dir, config_file, sets, {"model": model, "seed": seed})
    constitution = parse_constitution(read_mine(file), file)
    with open_progress(as_json) as progress:
        rows = draft_examples(config, constitution, n, ids=ids, progress=progress)
    drafts: dict[str, list[Example]] = {}
    for row in rows:
        if row.example is not None:
            drafts.setdefault(row.principle, []).append(row.example)
    add_examples_to_file(file, drafts)
    failed = sum(row.example is None for row in rows)
    for row in rows:
        if as_json:
            draft = None if row.example is None else row.example.model_dump()
            line = {"principle": row.principle, "number": row.number, "example": draft, "failed": row.failed}
            click.echo(json.dumps({"event": "draft", **line}))
        elif row.example is None:
            say(f"not drafted: {row.principle}, example {row.number}: {row.failed}")
    if as_json:
        click.echo(json.dumps({"event": "result", "drafted": len(rows) - failed, "failed": failed}))
    elif not rows:
        say(f"{file}: no principle has fewer than {counted(n, 'example')}")
    else:
        again = f", {failed} failed: another --seed asks again" if failed else ""
        written = f"{len(rows) - failed} of {counted(len(rows), 'draft')} written{again}"
        then = f"; read them, then: constitute constitution keep {file}" if failed < len(rows) else ""
        say(f"{file}: {written}{then}")
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


@options.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@some_ids
@options.compose(options.as_json, options.debug)
def keep(file: Path, ids: tuple[str, ...], as_json: bool) -> None:
    """Take the marks `draft: true` out of FILE, or of the principles named: somebody has read them.

    Comments and layout stay. A draft that is not good enough is changed or removed in the file by hand.

    \b
    Examples:
      constitute constitution keep my.yaml
      constitute constitution keep my.yaml --id be-brief --id be-kind
    """
    from constitute.cli.text import counted, say
    from constitute.constitution.drafts import keep_in_file

    kept = keep_in_file(file, ids)
    if as_json:
        click.echo(json.dumps(kept._asdict()))
        return
    said = f"{counted(kept.principles, 'principle')} and {counted(kept.examples, 'example')} kept"
    say(f"{file}: {said}" if any(kept) else f"{file}: no draft there")
