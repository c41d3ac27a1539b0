"""`constitute train conditioned`: good and bad answers under a condition that tells them apart."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared


@options.command()
@shared.from_rows
@shared.data
@click.option(
    "--method",
    type=click.Choice(["conditional", "hindsight", "hir"]),
    help="How good and bad are told apart; train.conditioned.method if absent.",
)
@click.option(
    "--reward",
    metavar="SOURCE",
    help="What scores the answers: a reward model's folder, module:function, an http(s):// URL, or 'judge'. "
    "The rows' own scores or labels if absent.",
)
def conditioned(given: shared.Given, data: tuple[Path, ...], method: str | None, reward: str | None) -> None:
    """Learn good and bad answers, each under what says which it is; the result asks for good ones.

    Rows are pairs (`chosen`, `rejected`, `chosen_prob`) or conversations with a `score`. `conditional` puts a
    token before the answer, `hindsight` asks for a good and a bad answer in turn, `hir` rewrites the request
    to what the answer is. The saved chat template writes the good token or request, so that whoever loads
    the folder gets good answers.

    \b
    Examples:
      constitute train conditioned --run run --method conditional
      constitute train conditioned --model tuned --data scored.jsonl --reward judge --method hir --out policy
    """
    from constitute.progress import open_progress

    config = given.configured({"train.conditioned.method": method})
    with open_progress(given.as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.imitation.conditioned import run_conditioned
        summary = run_conditioned(
            config,
            data=data or None,
            model=given.model,
            reward=reward,
            out=given.out,
            progress=progress,
            force=given.force,
        )
    folder = given.out or config.run / "conditioned"
    following = shared.following("evals run", config, model=folder)
    shared.print_summary(summary, given.as_json, following, folder)
