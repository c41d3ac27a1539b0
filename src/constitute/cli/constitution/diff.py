"""`constitute constitution diff`: what differs between two constitutions, in words and in effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.editing.diff.run import Diff
    from constitute.types import Constitution


@options.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path),
    help="Run whose labelled pairs show the effect; its rows stay as they are.",
)
@click.option("--pairs", "pairs_file", help="Pairs to use in place of the run's: JSONL or Parquet.")
@options.compose(options.model, options.limit)
@click.option("--dry-run", is_flag=True, help="Say how many questions would be asked, and ask none.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=options.in_a_folder,
    help="JSONL file to write, a row a pair.",
)
@options.force
@options.compose(options.config_file, options.sets, options.seed, options.as_json, options.debug)
def diff(
    first: str,
    second: str,
    run_dir: Path | None,
    pairs_file: str | None,
    model: str | None,
    limit: int | None,
    dry_run: bool,
    out: Path | None,
    force: bool,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Show what differs from constitution A to B, word by word; with --run, what it does to stored pairs.

    Labels are compared from the run's stored votes; only questions that changed are asked, of --model or
    the model that labelled the run. New weights and removed principles need no model where every
    principle votes on each pair. What `constitution test` found of the examples of both is shown too, where
    the run, or .constitute, holds it.

    \b
    Examples:
      constitute constitution diff assistant my.yaml
      constitute constitution diff old.yaml new.yaml --run run --dry-run
    """
    from constitute.cli.constitution.diff_text import changes_json, changes_text
    from constitute.cli.constitution.trial_text import tests_text
    from constitute.cli.text import coloured, said_if_slow
    from constitute.config import load_config
    from constitute.constitution.read import load_configured
    from constitute.editing.diff.changes import changes_between
    from constitute.editing.trial.known import compared
    from constitute.errors import ExitCode, UsageError

    if run_dir is None and (pairs_file or dry_run or out or model):
        raise UsageError("the effect on pairs needs a run that keeps the answers; give --run DIR")
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists already; give another name, or --force to replace it")
    if run_dir is None:
        config = load_config(config_file, sets, {"seed": seed})
    else:
        config = options.configured(run_dir, config_file, sets, {"seed": seed})
    with said_if_slow(f"reading {first} and {second}"):
        a, b = (load_configured(config, name) for name in (first, second))
    with said_if_slow("comparing their principles"):
        changes = changes_between(a, b, config.label)
    tests = compared(run_dir or Path(".constitute"), config.label, a, b)
    if not as_json:
        click.echo(changes_text(changes, coloured()))
        if tests:
            click.echo(f"\n{tests_text(tests)}")
    result: dict[str, Any] = {"event": "result", **changes_json(changes)}
    if tests:
        result["tests"] = [each.model_dump(mode="json") for each in tests]
    failed = 0
    if run_dir is not None:
        # The limit of a configuration is one of prompts, not of pairs.
        config = config.model_copy(update={"limit": limit})
        done = _effect(config, a, b, model, pairs_file, dry_run, as_json)
        result |= _print(done, config, out, as_json, dry_run)
        failed = done.failed
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def _effect(
    config: RunConfig,
    a: Constitution,
    b: Constitution,
    model: str | None,
    pairs_file: str | None,
    dry_run: bool,
    as_json: bool,
) -> Diff:
    from constitute.data.pairs import read_pairs
    from constitute.editing.diff.run import diff_constitutions
    from constitute.progress import open_progress

    pairs = None if pairs_file is None else read_pairs(pairs_file, limit=config.limit, reading=config.read)[0]
    with open_progress(as_json) as progress:
        return diff_constitutions(config, a, b, model=model, pairs=pairs, dry_run=dry_run, progress=progress)


def _print(done: Diff, config: RunConfig, out: Path | None, as_json: bool, dry_run: bool) -> dict[str, Any]:
    """Print or return what the effect is and what it took; write the rows where asked to."""
    from constitute.cli.constitution.diff_text import effect_json, effect_text
    from constitute.cli.text import harmless, say
    from constitute.editing.diff.run import pair_row
    from constitute.files import write_text

    took: dict[str, Any] = {
        name: getattr(done, name) for name in ("questions", "asked", "reused", "stored", "failed", "model")
    }
    took["unlabelled"] = dict(zip(("abstained", "failed"), done.unlabelled, strict=True))
    if done.effect is None:
        if not as_json:
            whom = f" of {done.model}" if done.questions and done.model else ""
            told = ", less those the store can answer" if done.questions else ""
            click.echo(harmless(f"\n{done.questions} questions to ask{whom}{told}; nothing was asked"))
        return {"dry_run": dry_run, **took}
    if out is not None:
        rows = (json.dumps(pair_row(pair), ensure_ascii=False) for pair in done.pairs)
        write_text(out, "".join(f"{row}\n" for row in rows))
        say(f"{out}: {len(done.pairs)} pairs")
    if not as_json:
        click.echo(f"\n{effect_text(done.effect)}\n\n{harmless(_took(done, config))}")
        return {}
    return {**took, "effect": effect_json(done.effect, [pair_row(pair) for pair in done.effect.movers])}


def _took(done: Diff, config: RunConfig) -> str:
    where = f"{done.stored} votes from stored rows"
    asked = f"{done.asked} questions asked, {done.reused} answered from the store"
    abstained, failed = done.unlabelled
    lines = [f"{where}; {asked}" + (f", {done.failed} votes failed" if done.failed else "")]
    if abstained or failed:
        lines.append(
            f"{config.run} has no label for {abstained + failed} more pairs ({abstained} abstained, "
            f"{failed} failed): not compared"
        )
    return "\n".join(lines)
