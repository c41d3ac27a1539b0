"""`constitute evals`: write eval items for a behaviour or a principle, score policies, compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.cli.bias import bias
from constitute.errors import ExitCode
from constitute.evals.exports import SET_FORMATS
from constitute.evals.families import FAMILIES

if TYPE_CHECKING:
    pass


@options.group()
def evals() -> None:
    """Write model-written evals (arXiv 2212.09251), score policies on them, compare the scores.

    \b
    Examples:
      constitute evals write --model smollm2 --behavior "helps people to harm others"
      constitute evals run --model smollm2
    """


evals.add_command(bias)


@evals.command()
@options.compose(options.common, options.model, options.constitution)
@click.option(
    "--behavior",
    "behaviors",
    multiple=True,
    help='Verb phrase, such as "flatters the user"; may be repeated.',
)
@click.option(
    "--principle",
    "principles",
    multiple=True,
    callback=options.names,
    metavar="ID[,ID]",
    help="Principle id of the constitution, or 'all'; may be repeated.",
)
@click.option(
    "--family",
    "families",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help=f"Kind of items: {', '.join(FAMILIES)}; may be repeated. All that suit if not given.",
)
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
    principles: list[str],
    families: list[str],
    wanted: int | None,
) -> int:
    """Have a model write eval items, judge each, and keep a balanced set without repeats.

    A behaviour gives yes/no statements, a principle gives pairs of replies to a user's message.

    \b
    Examples:
      constitute evals write --model smollm2 --behavior "helps people to harm others" -n 50
      constitute evals write --model pocket --constitution pocket/harmless --principle all -n 10
    """
    from constitute.cli.evals_text import print_written
    from constitute.evals.write import write_sets
    from constitute.progress import open_progress

    given = {
        "seed": seed,
        "model": model,
        "constitution": constitution_file,
        "evals.n": wanted,
        "evals.families": list(families) or None,
    }
    config = options.configured(run_dir, config_file, sets, given)
    with open_progress(as_json) as progress:
        written = write_sets(config, behaviors, principles, progress=progress)
    print_written(written, config, as_json)
    return ExitCode.ROWS_FAILED if any(one.counts["failed"] for one in written) else ExitCode.OK


@evals.command()
@options.compose(options.common, options.model, options.limit)
@click.option("--policy", help="Name of the policy in the results; from the model's name if not given.")
@click.option(
    "--set-spec", metavar="NAME|FILE", help="How FILES are read: a set of `evals list`, or a YAML file."
)
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
    set_spec: str | None,
    files: tuple[Path, ...],
) -> int:
    """Score a policy by the log-probabilities of each item's answers.

    FILES are eval sets in the anthropics/evals format, or in that of --set-spec; without any, all that the
    run has written. A model without a chat template is asked in plain text (evals.mode); where a model
    answers in another form, evals.instruction and evals.opening say how it should.

    \b
    Examples:
      constitute evals run --model smollm2
      constitute evals run --model Qwen/Qwen3-0.6B persona/politically-liberal.jsonl --limit 200
      constitute evals run --model smollm2 --set-spec bbq bbq/Age.jsonl
    """
    from constitute.cli.evals_text import print_results
    from constitute.errors import UsageError
    from constitute.evals.run import run_sets
    from constitute.evals.sets import find_spec
    from constitute.progress import open_progress

    if set_spec and not files:
        raise UsageError(f"--set-spec {set_spec} says how files are read, and none is given; name them")
    spec = find_spec(set_spec) if set_spec else None

    config = options.configured(run_dir, config_file, sets, {"seed": seed, "model": model})
    with open_progress(as_json) as progress:
        results = run_sets(config, files, policy=policy, limit=limit, progress=progress, spec=spec)
    print_results(results, config, as_json)
    return ExitCode.ROWS_FAILED if any(result.failed for result in results) else ExitCode.OK


@evals.command("list")
@options.compose(options.as_json, options.debug)
def list_sets(as_json: bool) -> None:
    """List the public sets that --set-spec knows, with where each is published.

    \b
    Examples:
      constitute evals list
      constitute evals list --json
    """
    from constitute.cli.evals_text import print_sets
    from constitute.evals.sets import set_specs

    print_sets(set_specs(), as_json)


@evals.command()
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
    from constitute.cli.evals_text import print_compared
    from constitute.evals.compare import compare_sets, pair_results

    config = options.configured(run_dir, config_file, sets, {})
    pairs = pair_results(config, first, second)
    print_compared(compare_sets(pairs, config.evals), as_json)


@evals.command()
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


@evals.command()
@options.compose(options.run_dir, options.config_file, options.sets, options.force, options.debug)
@click.option("--format", "form", required=True, help=f"One of {', '.join(SET_FORMATS)}.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def export(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    force: bool,
    form: str,
    out: Path,
    files: tuple[Path, ...],
) -> None:
    """Write eval sets as other programs read them, and say how these run them.

    FILES are eval sets in the anthropics/evals format; without any, all that the run has written.

    \b
    Examples:
      constitute evals export --format lm-eval --out for-lm-eval
      constitute evals export flattery.jsonl --format inspect --out for-inspect
    """
    from constitute.evals.exports import set_format
    from constitute.evals.exports.base import command, export_sets
    from constitute.evals.run import load_sets

    config = options.configured(run_dir, config_file, sets, {})
    spec = set_format(form)
    found = load_sets(files, config.run, None)
    for path in export_sets(found, spec, out, force=force):
        click.echo(str(path))
    for name in found:
        click.echo(f"next: {command(spec, name, out)}", err=True)


@evals.command("import")
@options.compose(
    options.run_dir, options.config_file, options.sets, options.as_json, options.force, options.debug
)
@click.option(
    "--policy", help="Name of the policy in the results; the model's name and the program if absent."
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def import_(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
    force: bool,
    policy: str | None,
    files: tuple[Path, ...],
) -> int:
    """Read results of lm-eval and Inspect, so that `evals compare` takes them.

    FILES are samples_*.jsonl of lm-eval (--log_samples) and logs of Inspect (.eval, .json). What a log does
    not say is said.

    \b
    Examples:
      constitute evals import results/model/samples_constitute_flattery_chat_*.jsonl
      constitute evals import logs/*.eval --policy by-inspect
    """
    from constitute.cli.evals_text import print_results
    from constitute.evals.imports.base import import_logs, lacks

    config = options.configured(run_dir, config_file, sets, {})
    results = import_logs(config, files, policy=policy, force=force)
    for result in results:
        for said in lacks(result):
            click.echo(f"{result.set}: {said}", err=True)
    print_results(results, config, as_json)
    return ExitCode.ROWS_FAILED if any(result.failed for result in results) else ExitCode.OK
