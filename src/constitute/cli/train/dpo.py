"""`constitute train dpo`: direct preference optimisation on soft labels."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from constitute.cli import options

data = click.option(
    "--data", type=click.Path(path_type=Path), help="JSONL or Parquet; the run's export if absent."
)
out = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; in the run if absent."
)


@options.command()
@options.compose(options.common, data, out)
@click.option("--model", help="Model to start from, and the reference; the run's fine-tuned one if absent.")
def dpo(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    data: Path | None,
    out: Path | None,
    model: str | None,
) -> None:
    """Train the policy on soft preference labels by DPO, without a reward model.

    Rows hold `prompt`, `chosen`, `rejected` and `chosen_prob`. The implicit reward is measured on held-out
    prompts. The same command goes on from the last checkpoint.

    \b
    Examples:
      constitute train dpo --run run
      constitute train dpo --model tuned --data preferences.jsonl --out policy --set train.dpo.beta=0.05
    """
    from constitute.cli.train.print import print_summary
    from constitute.progress import open_progress
    from constitute.train.prefer import run_dpo

    config = options.configured(run_dir, config_file, sets, {"seed": seed})
    with open_progress(as_json) as progress:
        summary = run_dpo(config, data=data, model=model, out=out, progress=progress)
    folder = shlex.quote(str(out or config.run / "dpo"))
    print_summary(
        summary, as_json, f"constitute evals run --run {shlex.quote(str(config.run))} --model {folder}"
    )
