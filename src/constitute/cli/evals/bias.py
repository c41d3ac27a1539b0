"""`constitute evals bias`: what an instruction to be fair, and reasoning, do to a policy's answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode
from constitute.evals.asking import CONDITIONS

if TYPE_CHECKING:
    from constitute.evals.bias import BiasResult


@options.command()
@options.compose(options.common, options.model)
@click.option("-n", "wanted", type=click.IntRange(2), help="Items of each file, drawn by the seed.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help=f"How to ask: {', '.join(CONDITIONS)}; may be repeated. All of them if not given.",
)
@click.option(
    "--occupations",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Winogender's occupations-stats.tsv, for the correlation with the share of women.",
)
@click.option(
    "--pairs",
    "pairs_file",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="Write pairs here: the answer with the instruction chosen, the one without it rejected.",
)
@click.option(
    "--set-spec", metavar="NAME|FILE", help="How FILES are read: a set of `evals list`, or a YAML file."
)
@click.option("--policy", help="Name of the policy in the results; from the model's name if not given.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def bias(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    wanted: int | None,
    conditions: Sequence[str],
    occupations: Path | None,
    pairs_file: Path | None,
    set_spec: str | None,
    policy: str | None,
    files: tuple[Path, ...],
) -> int:
    """Score a policy on BBQ and Winogender, plainly, told to be fair, and with reasoning (arXiv 2302.07459).

    FILES are those of the sets as they are published, known by their rows, or such as --set-spec says. Each
    option's probability is the mean over every rotation of the options; intervals are bootstraps over the
    contexts that items share.

    \b
    Examples:
      constitute evals bias BBQ/data/Age.jsonl --model smollm2 -n 200
      constitute evals bias all_sentences.tsv --occupations occupations-stats.tsv --model smollm2
    """
    from constitute.evals.bias import read_bias, read_occupations, run_bias, write_pairs
    from constitute.evals.sets import find_spec
    from constitute.progress import open_progress

    given = {"seed": seed, "model": model, "evals.conditions": list(conditions) or None}
    config = options.configured(run_dir, config_file, sets, given)
    women, spec = read_occupations(occupations), find_spec(set_spec) if set_spec else None
    read = [read_bias(path, women, spec, n=wanted, seed=config.seed) for path in files]
    with open_progress(as_json) as progress:
        results = run_bias(config, read, policy=policy, progress=progress)
    if pairs_file is not None:
        write_pairs(pairs_file, read, results)
    _print_bias(results, as_json)
    failed = any("failed" in each.unparsed for one in results for each in one.conditions)
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def _print_bias(results: Sequence[BiasResult], as_json: bool) -> None:
    from constitute.cli.text import counted_reasons, harmless, say, table

    if as_json:
        for one in results:
            record = one.model_dump(mode="json", exclude={"conditions": {"__all__": {"scores"}}})
            click.echo(json.dumps({"event": "result", **record}))
        return
    for one in results:
        click.echo(harmless(f"{one.set} ({one.kind}): {one.items} items of {one.contexts} contexts"))
        names = [each.condition for each in one.conditions]
        rows = [
            (figure, *(each.figures[figure].text() for each in one.conditions))
            for figure in one.conditions[0].figures
        ]
        masses = ("-" if each.mass is None else f"{each.mass:.3f}" for each in one.conditions)
        rows.append(("mass of the letters", *masses))
        rows.append(("no score", *(counted_reasons(each.unparsed) for each in one.conditions)))
        click.echo(table(("figure", *names), rows))
        changes = [(f"{d.first} → {d.second}", d.figure, d.change.text()) for d in one.differences]
        if changes:
            click.echo("\n" + table(("conditions", "figure", "change, in pairs"), changes))
        if one.left_out:
            say(f"{one.set}: left out {counted_reasons(one.left_out)}")
