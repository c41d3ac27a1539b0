"""`constitute demo`: the whole loop on the embedded model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from constitute.cli import options


@options.command()
@click.option(
    "--constitution",
    "constitution_file",
    default="harmless",
    show_default=True,
    help="Constitution file or packaged name.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-run"),
    show_default=True,
    help="Run directory.",
)
@options.compose(options.seed, options.sets, options.as_json, options.debug)
def demo(constitution_file: str, out: Path, seed: int | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Run the whole loop on the embedded model, on a CPU, in minutes.

    Generates, critiques and revises, fine-tunes, labels, trains a reward model and a policy, writes and
    runs evals, and measures every policy on prompts it never saw. The embedded model knows one small
    world of everyday advice: it shows that the loop works, not what a large model would say.

    \b
    Examples:
      constitute demo
      constitute demo --constitution concise --out concise-run
    """
    from constitute.pocket.demo import SUMMARY_FILE, demo_config, run_demo
    from constitute.progress import open_progress

    config = demo_config(constitution_file, out, seed, sets)
    with open_progress(as_json) as progress:
        summary = run_demo(config, progress)
    if as_json:
        click.echo(json.dumps({"event": "result", **summary}))
        return
    click.echo(_table(summary))
    folder = shlex.quote(str(out))
    click.echo(f"\nreport: {folder}/report.html\nfigures: {folder}/{SUMMARY_FILE}\n", err=True)
    click.echo(
        "next, try:\n"
        f"  constitute show {summary['example']} --run {folder}\n"
        "  constitute demo --constitution concise --out concise-run\n"
        "  constitute init my-project",
        err=True,
    )


def _table(summary: dict[str, Any]) -> str:
    """One row an axis, one column a policy, each with its interval; then the other figures."""
    from constitute.cli.text import table

    policies = summary["policies"]
    axes = list(policies["base"])
    rows = [(axis, *(_cell(policies[name][axis]) for name in policies)) for axis in axes]
    head = ("held-out prompts, %", *(f"{name} (95 % interval)" for name in policies))
    labels, reward, ppo = summary["labels"], summary["reward_model"], summary["ppo"]
    others = [
        ("labels agree with the oracle", _cell(labels["agreement"])),
        ("labels flip with the order, where answers differ", _cell(labels["order_flip_decided"])),
        ("labels flip with the order, all pairs", _cell(labels["order_flip"])),
        ("reward model accuracy, held out", _cell(reward["accuracy"])),
        (
            "PPO reward, before -> after",
            f"{ppo['reward_before']['value']:.2f} -> {ppo['reward_after']['value']:.2f}",
        ),
        ("PPO KL from the SFT model, nats", f"{ppo['kl']:.2f}"),
        ("seconds, all steps", f"{sum(summary['seconds'].values()):.0f}"),
    ]
    return f"{table(head, rows)}\n\n{table(('figure', 'value'), others)}"


def _cell(figure: dict[str, Any]) -> str:
    from constitute.stats import Estimate

    return Estimate.model_validate(figure).text(1, percent=True)
