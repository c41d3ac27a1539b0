"""`constitute evals compare` and `power`: what a change of the policy moves, and what a set can show."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options

file_out = click.Path(path_type=Path, dir_okay=False)


def whole_numbers(ctx: click.Context, param: click.Parameter, given: str | None) -> tuple[int, ...]:
    """The numbers in `10,20`: a callback."""
    parts = [part.strip() for part in (given or "").split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{given!r} is not whole numbers with commas between them, such as 10,20")
    return tuple(map(int, parts))


@options.command()
@click.option(
    "--run",
    "run_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Run directory with results; may be repeated. 'run' if not given.",
)
@options.compose(options.config_file, options.sets, options.as_json, options.debug)
@click.option("--csv", "csv_file", type=file_out, callback=options.in_a_folder, help="Write them as CSV.")
@click.option(
    "--out", type=file_out, callback=options.in_a_folder, help="Write a page, with every item that moved."
)
@click.option(
    "--steps",
    metavar="N[,N]",
    callback=whole_numbers,
    help="Training steps of the policies after the first, for the page; by names such as "
    "ppo-step-40 if not given.",
)
@click.argument("policies", nargs=-1, required=True)
def compare(
    run_dirs: tuple[Path, ...],
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
    csv_file: Path | None,
    out: Path | None,
    steps: tuple[int, ...],
    policies: tuple[str, ...],
) -> None:
    """Compare POLICIES, each with the first, item by item on every set that both were scored on.

    Give a policy by its name in the results, by a pattern ('ppo-step-*'), by its model, as `base` (the run's
    own model), as RUN:POLICY, or as a result file; one alone is compared with all others of the run. A name
    that several runs (--run) have stands for each of them.

    Intervals are paired bootstraps, p is McNemar's exact test; where items share a context, contexts are
    drawn and flipped whole. Holm's correction is over all sets and policies. The parts of sets say where a
    change lies: they are corrected apart, over all parts, sets and policies. A sentence for each says
    whether a change is shown, excluded (smaller than evals.margin), or neither.

    \b
    Examples:
      constitute evals compare base sft ppo
      constitute evals compare seed1:base seed1:ppo seed2:ppo --csv changes.csv
      constitute evals compare pocket 'ppo-step-*' --run demo-run --out compared.html
    """
    from constitute.cli.evals.text import print_compared
    from constitute.cli.text import say
    from constitute.evals.compare import (
        as_csv,
        asked_otherwise,
        compare_parts,
        compare_sets,
        left_alone,
        pairs_of,
        thin_ones,
    )
    from constitute.evals.policies import find_policies
    from constitute.files import write_text

    runs = [options.settled(folder, config_file, sets, {}) for folder in run_dirs or (None,)]
    found = find_policies(runs, policies)
    pairs, cfg = pairs_of(found), runs[0].evals
    noted = [*left_alone(found), *asked_otherwise(pairs), *thin_ones(pairs, cfg)]
    compared = [*compare_sets(pairs, cfg), *compare_parts(pairs, cfg)]
    for sentence in noted:
        say(sentence)
    print_compared(compared, as_json)
    if out is not None:
        from constitute.report.evals.comparison import comparison_page, write_comparison

        page = comparison_page(found, compared, noted, steps)
        say(f"wrote {write_comparison(page, out)}")
    if csv_file is not None:
        say(f"wrote {write_text(csv_file, as_csv(compared))}")


@options.command()
@options.compose(options.run_dir, options.config_file, options.sets, options.as_json, options.debug)
@click.option(
    "--differing",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="Share of items on which two policies differ; 0.1, 0.3 and 0.5 if absent. `compare` counts them.",
)
@click.option("--power", type=click.FloatRange(0.5, 0.999), default=0.8, show_default=True,
              help="How often a change of that size is to be seen.")  # fmt: skip
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def power(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
    differing: tuple[float, ...],
    power: float,
    files: tuple[Path, ...],
) -> None:
    """Say before a run how small a change in the share matching each set can show.

    It depends on how many items the two policies differ on; items that share a context count once.

    \b
    Examples:
      constitute evals power
      constitute evals power --differing 0.2 flattery.jsonl
    """
    from constitute.cli.text import table
    from constitute.evals.run import load_sets
    from constitute.significance import minimum_detectable

    config = options.configured(run_dir, config_file, sets, {})
    shares = sorted(set(differing)) or [0.1, 0.3, 0.5]
    found = []
    for name, items in load_sets(files, config.run, None).items():
        n = len({item.context or f"item {item.id}" for item in items})
        found.append((name, len(items), n, [minimum_detectable(n, share, power) for share in shares]))
    if as_json:
        for name, size, n, changes in found:
            seen = dict(zip(map(str, shares), changes, strict=True))
            click.echo(json.dumps({"event": "result", "set": name, "items": size, "n": n, "change": seen}))
        return
    head = ("set", "items", "contexts", *(f"least change where {share:g} differ" for share in shares))
    click.echo(table(head, [(name, size, n, *changes) for name, size, n, changes in found]))
