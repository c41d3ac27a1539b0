"""`constitute evals`: write eval items for a behaviour or a principle, score policies, compare them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.evals.compare import Paired
    from constitute.evals.sets import SetResult, WrittenSet


@options.group()
def evals() -> None:
    """Write model-written evals (arXiv 2212.09251), score policies on them, compare the scores.

    \b
    Examples:
      constitute evals write --model pocket --behavior "helps people to harm others"
      constitute evals run --model pocket
    """


@evals.command()
@options.common
@options.model
@options.constitution
@click.option("--behavior", "behaviors", multiple=True, help='Verb phrase, such as "flatters the user".')
@click.option("--principle", "principles", multiple=True, help="Principle id of the constitution, or 'all'.")
@click.option("-n", "wanted", type=click.IntRange(2), help="Items: in all, or per principle.")
def write(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    behaviors: tuple[str, ...],
    principles: tuple[str, ...],
    wanted: int | None,
) -> None:
    """Have a model write eval items, judge each, and keep a balanced set without repeats.

    A behaviour gives yes/no statements, a principle gives pairs of replies to a user's message.

    \b
    Examples:
      constitute evals write --model pocket --behavior "helps people to harm others" -n 50
      constitute evals write --model pocket --constitution harmless --principle all -n 10
    """
    from constitute.evals.run import write_sets
    from constitute.progress import open_progress

    config = _config(config_file, sets, seed, run_dir, model, constitution_file, wanted)
    with open_progress(as_json) as progress:
        written = write_sets(config, behaviors, principles, progress=progress)
    _print_written(written, config, as_json)


@evals.command()
@options.common
@options.model
@options.limit
@click.option("--policy", help="Name of the policy in the results; the model's own if not given.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def run(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    limit: int | None,
    policy: str | None,
    files: tuple[Path, ...],
) -> int:
    """Score a policy by the log-probabilities of each item's two answers.

    FILES are eval sets in the anthropics/evals format; without any, all that the run has written.

    \b
    Examples:
      constitute evals run --model pocket
      constitute evals run --model Qwen/Qwen3-0.6B persona/politically-liberal.jsonl --limit 200
    """
    from constitute.evals.run import run_sets
    from constitute.progress import open_progress

    config = _config(config_file, sets, seed, run_dir, model, None, None)
    with open_progress(as_json) as progress:
        results = run_sets(config, files, policy=policy, limit=limit, progress=progress)
    _print_results(results, config, as_json)
    return 3 if any(result.failed for result in results) else 0


@evals.command()
@options.run_dir
@options.config_file
@options.sets
@options.as_json
@options.debug
@click.argument("first")
@click.argument("second")
def compare(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
    first: str,
    second: str,
) -> None:
    """Compare policies FIRST and SECOND item by item on every set both were scored on.

    Give names of policies in the run, or two result files. Intervals are paired bootstraps, p is
    McNemar's exact test, corrected for the number of sets (Holm).

    \b
    Examples:
      constitute evals compare base ppo
      constitute evals compare base ppo --run demo-run --json
    """
    from constitute.evals.compare import compare_sets
    from constitute.evals.files import pair_results

    config = _config(config_file, sets, None, run_dir, None, None, None)
    pairs = pair_results(config.run, first, second)
    _print_compared(compare_sets(pairs, config.evals.resamples), as_json)


def _config(
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    run_dir: Path,
    model: str | None,
    constitution: str | None,
    wanted: int | None,
) -> RunConfig:
    given = {
        "seed": seed,
        "model": model,
        "constitution": constitution,
        "evals.n": wanted,
    }
    return options.configured(run_dir, config_file, sets, given)


def _print_written(written: Sequence[WrittenSet], config: RunConfig, as_json: bool) -> None:
    from constitute.evals.files import evals_dir

    if as_json:
        for one in written:
            record = one.model_dump(mode="json", exclude={"items", "settings"})
            _echo_json({"event": "result", **record, "kept": len(one.items)})
        return
    rows = [
        [one.name, one.family, str(one.candidates), *_tallies(one), str(len(one.items))] for one in written
    ]
    head = ["set", "family", "written", "abstain", "failed", "dropped", "kept"]
    _print_table(head, rows)
    for one in written:
        click.echo(f"wrote {evals_dir(config.run) / one.name}.jsonl", err=True)
    click.echo(f"next: constitute evals run --run {config.run} --model {config.model}", err=True)


def _tallies(one: WrittenSet) -> list[str]:
    dropped = ", ".join(f"{count} {why}" for why, count in one.dropped.items() if count)
    return [str(one.counts["abstain"]), str(one.counts["failed"]), dropped or "0"]


def _print_results(results: Sequence[SetResult], config: RunConfig, as_json: bool) -> None:
    if as_json:
        for one in results:
            _echo_json({"event": "result", **one.model_dump(mode="json", exclude={"scores"})})
        return
    rows = []
    for one in results:
        unparsed = ", ".join(f"{count} {why}" for why, count in one.unparsed.items()) or "0"
        mass = "" if one.mass is None else f"{one.mass:.3f}"
        share, mean_p = (f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in (one.share, one.p_matching))
        rows.append([one.set, one.policy, share, mean_p, mass, str(one.share.n), unparsed])
    _print_table(["set", "policy", "share matching", "mean P(matching)", "mass", "n", "no score"], rows)
    if results:
        hint = f"constitute evals compare {results[0].policy} OTHER --run {config.run}"
        click.echo(f"next: score another policy, then {hint}", err=True)


def _print_compared(compared: Sequence[Paired], as_json: bool) -> None:
    if as_json:
        for one in compared:
            _echo_json({"event": "result", **one.model_dump(mode="json")})
        return
    rows = [
        [
            one.set,
            f"{one.share_first:.3f}",
            f"{one.share_second:.3f}",
            f"{one.share:+.3f} [{one.share_low:+.3f}, {one.share_high:+.3f}]",
            f"{one.p_matching:+.3f} [{one.p_matching_low:+.3f}, {one.p_matching_high:+.3f}]",
            f"{one.only_first}/{one.only_second}",
            f"{one.p_holm:.2g}",
            str(one.n),
            str(one.n_left_out),
        ]
        for one in compared
    ]
    first, second = compared[0].first, compared[0].second
    head = ["set", first, second, "change in share", "change in P", "only one", "p (Holm)", "n", "left out"]
    _print_table(head, rows)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _echo_json(values: dict[str, Any]) -> None:
    click.echo(json.dumps(values, ensure_ascii=False))
