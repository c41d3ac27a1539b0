"""`constitute evals compare` and `power`: what a change of the policy moves, and what a set can show."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@options.compose(options.run_dir, options.config_file, options.sets, options.as_json, options.debug)
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

    Give a policy by its name in the results, by its model, or as `base`, the run's own model; or give two
    result files. Intervals are paired bootstraps, p is McNemar's exact test, corrected for the number of
    sets (Holm); where items share a context, contexts are drawn and flipped whole. A sentence per set says
    whether a change is shown, excluded (smaller than evals.margin), or neither.

    \b
    Examples:
      constitute evals compare base ppo
      constitute evals compare pocket demo-run/ppo --run demo-run --json
    """
    from constitute.cli.evals.text import print_compared
    from constitute.evals.compare import compare_sets, pair_results

    config = options.configured(run_dir, config_file, sets, {})
    pairs = pair_results(config, first, second)
    print_compared(compare_sets(pairs, config.evals), as_json)


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
