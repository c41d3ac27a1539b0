"""`constitute evals export` and `import`: other harnesses run our sets, and their results come back."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.errors import ExitCode
from constitute.evals.exports import SET_FORMATS


@options.command()
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


@options.command("import")
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
    from constitute.cli.evals.text import print_results
    from constitute.evals.imports.base import import_logs, lacks

    config = options.configured(run_dir, config_file, sets, {})
    results = import_logs(config, files, policy=policy, force=force)
    for result in results:
        for said in lacks(result):
            click.echo(f"{result.set}: {said}", err=True)
    print_results(results, config, as_json)
    return ExitCode.ROWS_FAILED if any(result.failed for result in results) else ExitCode.OK
