"""`constitute train doctor`: what goes wrong in a PPO run, finished or running."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@click.argument("out", type=click.Path(path_type=Path))
@options.compose(options.as_json, options.debug)
def doctor(out: Path, as_json: bool) -> None:
    """Say what goes wrong in a PPO run, with figures and the setting to change.

    OUT is the folder that `train ppo` writes; a run that is still going can be looked at as well.

    \b
    Examples:
      constitute train doctor run/ppo
      constitute train doctor policy --json
    """
    from constitute.cli.text import harmless
    from constitute.train.doctor.evidence import FEWEST
    from constitute.train.ppo.watch import examine, held_out_of, held_out_text

    found, noted, iterations, samples = examine(out)
    held_out = held_out_of(out)
    if as_json:
        values = {
            "iterations": iterations,
            "samples": samples,
            "findings": [finding.model_dump() for finding in found],
            "noted": [note.model_dump() for note in noted],
        }
        click.echo(json.dumps(values | ({"held_out": held_out} if held_out else {})))
        return
    if not iterations:
        click.echo(f"nothing to examine: no iteration is finished in {out}")
        return
    count = "nothing wrong" if not found else "1 finding" if len(found) == 1 else f"{len(found)} findings"
    click.echo(f"{count} in {iterations} iterations and {samples} sampled completions")
    if iterations < FEWEST:
        click.echo(f"changes are judged from {FEWEST} iterations on")
    for finding in found:
        click.echo(f"\n{finding.severity}: {harmless(finding.sentence)}\n  do: {finding.remedy}")
    if held_out:
        click.echo("\n" + "\n".join(harmless(line) for line in held_out_text(held_out)))
    present = {finding.kind for finding in found}
    gone = [note for note in noted if note.finding.kind not in present]
    if gone:
        click.echo("\nseen earlier, not any more:")
    for note in gone:
        click.echo(f"  iteration {note.iteration}: {harmless(note.finding.sentence)}")
