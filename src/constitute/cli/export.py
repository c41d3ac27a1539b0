"""`constitute export`: write SFT and preference data sets from a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@options.run_dir
@click.option(
    "--what",
    type=click.Choice(["all", "sft", "preferences"]),
    default="all",
    show_default=True,
    help="Which sets; all writes those that the run has rows for.",
)
@click.option("--format", "kind", help="jsonl or parquet (TRL's rows), or hh (transcripts).")
@click.option(
    "--revisions",
    type=click.Choice(["last", "all", "best", "none"]),
    help="Imitate the last revision, every one, what the labels prefer, or the first response.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; RUN/export if absent."
)
@options.config_file
@options.sets
@options.as_json
@options.debug
def export(
    run_dir: Path,
    what: str,
    kind: str | None,
    revisions: str | None,
    out: Path | None,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write SFT and preference data sets from a run, with a data card beside them.

    SFT rows hold `messages`; preference rows `prompt`, `chosen`, `rejected` and the soft label
    `chosen_prob`. The same run gives the same files, byte for byte. `train` reads what was written last.

    \b
    Examples:
      constitute export --run run
      constitute export --run run --what sft --revisions all --format parquet
    """
    from constitute.cli.text import say
    from constitute.data.export import KINDS, export_run, labels_verdict

    wanted = {"export.format": kind, "export.revisions": revisions}
    config = options.configured(run_dir, config_file, sets, wanted)
    kinds = () if what == "all" else tuple(name for name in KINDS if name == what)
    written = export_run(config.run, config.export, kinds=kinds, out=out)
    for part in written:
        if as_json:
            click.echo(json.dumps(part.model_dump(mode="json"), ensure_ascii=False))
            continue
        click.echo(str(part.path))
        ended = ", ".join(f"{number} {status}" for status, number in part.counts.items())
        more = "".join(f"; left out: {number} {reason}" for reason, number in part.left_out.items())
        more += "".join(
            f"; last revision kept: {number} {reason}" for reason, number in part.unlabelled.items()
        )
        click.echo(f"{part.kind}: {part.rows} rows ({part.stage}: {ended}{more})", err=True)
        if part.unfinished:
            missing = "; ".join(each.sentence for each in part.unfinished)
            say(f"{part.kind} is not complete: {missing}, then export again", red=True)
    about = {labels_verdict(part.path) for part in written} - {""}
    for sentence in about:
        say(sentence, red=True)
