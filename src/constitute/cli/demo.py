"""`constitute demo`: the whole loop on the embedded model, or on a small real one."""

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
    help="Constitution file or packaged name.  [default: pocket/harmless, with --real assistant]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run directory.  [default: demo-run, with --real demo-real]",
)
@click.option("--real", is_flag=True, help="Run it on SmolLM2-135M-Instruct, fetched once (93 MB).")
@click.option(
    "--overoptimise",
    is_flag=True,
    help="Then drive a second PPO too far, and name the checkpoint to ship (up to 8 minutes more).",
)
@options.compose(options.seed, options.sets, options.as_json, options.debug)
def demo(
    constitution_file: str | None,
    out: Path | None,
    real: bool,
    overoptimise: bool,
    seed: int | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the whole loop on the embedded model, on a CPU, in minutes.

    Generates, critiques and revises, fine-tunes, labels, trains a reward model and a policy, writes and
    runs evals, and measures every policy on prompts it never saw. The embedded model knows one small
    world of everyday advice: it shows that the loop works, not what a large model would say.

    With --real the same loop runs on a real model of English in about 20 minutes. It is the smallest
    there is: its critiques are often beside the point, and it is no good judge.

    \b
    Examples:
      constitute demo
      constitute demo --constitution pocket/concise --out concise-run
      constitute demo --overoptimise
      constitute demo --real
    """
    from constitute.errors import UsageError
    from constitute.progress import open_progress

    if real and overoptimise:
        raise UsageError(
            "--overoptimise needs the oracle, which reads nothing but the embedded model's small world; "
            "leave out --real"
        )
    with open_progress(as_json) as progress:
        if real:
            from constitute.smollm.demo import demo_config, run_demo
            from constitute.smollm.fetch import fetch

            out = out or Path("demo-real")
            config = demo_config(constitution_file, out, seed, sets)
            fetch(progress)
            summary = run_demo(config, progress)
        else:
            from constitute.pocket import demo as embedded

            out = out or Path("demo-run")
            config = embedded.demo_config(constitution_file or "pocket/harmless", out, seed, sets)
            summary = embedded.run_demo(config, progress, overoptimise=overoptimise)
    if as_json:
        click.echo(json.dumps({"event": "result", **summary}))
        return
    click.echo(_real_table(summary) if real else _table(summary))
    if overoptimise:
        click.echo(f"\n{_too_far(summary['overoptimise'])}")
    folder = shlex.quote(str(out))
    click.echo(f"\nreport: {folder}/report.html\nfigures: {folder}/summary.json\n", err=True)
    after = [f"constitute show {summary['example']} --run {folder}"] if summary["example"] else []
    if real:
        after += ["constitute judge --model smollm2 --constitution assistant", "constitute init my-project"]
    else:
        after += [
            *([] if overoptimise else [f"constitute demo --overoptimise --out {folder}"]),
            "constitute demo --constitution pocket/concise --out concise-run",
            "constitute init my-project",
        ]
    click.echo("next, try:\n" + "\n".join(f"  {line}" for line in after), err=True)


def _real_table(summary: dict[str, Any]) -> str:
    """One row a step, then how long each policy's answers are, then what is wrong, plainly."""
    from constitute.cli.text import table
    from constitute.stats import Estimate

    steps = [(name, f"{seconds:.0f}", outcome) for name, seconds, outcome in summary["steps"]]
    words = [(name, Estimate.model_validate(found).text(1)) for name, found in summary["words"].items()]
    parts = [
        table(("step", "seconds", "outcome"), steps),
        table(("policy", "words in an answer to a held-out prompt (95 % interval)"), words),
        f"seconds, all steps: {sum(summary['seconds'].values()):.0f}",
        "A model of 135 M parameters shows the machinery. Its critiques are often beside the point, many\n"
        "of its revisions repeat the critique, its labels are not shown to be better than chance, and\n"
        "intervals that overlap say that nothing was shown (docs/demo.md).",
    ]
    return "\n\n".join([*parts, *summary["gates"]])


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
    parts = [table(head, rows), table(("figure", "value"), others)]
    if changes := summary["evals_changes"]:
        moves = [_kind_row(change) for change in changes]
        kinds = ("evals, paired with base", "targets (p after Holm)", "controls (p after Holm)")
        parts += [table(kinds, moves), changes[-1]["sentence"]]
    return "\n\n".join([*parts, "\n".join(summary["said"])])


def _too_far(found: dict[str, Any]) -> str:
    """The second act: what is maximised and what the oracle says, checkpoint by checkpoint, then in words."""
    from constitute.cli.text import table
    from constitute.stats import Estimate

    rows = [
        (
            str(point["at"]),
            f"{point['kl']:.2f}",
            *(
                Estimate(**{key: point[one][key] for key in ("value", "low", "high", "n")}).text(2)
                for one in ("proxy", "gold")
            ),
        )
        for series in found["series"]
        for point in series["points"]
    ]
    head = ("iteration", "KL", "reward maximised (95 %)", "good replies by the oracle (95 %)")
    settings = ", ".join(f"{name} {value}" for name, value in found["settings"].items())
    return "\n".join([f"PPO driven too far ({settings})", table(head, rows), "", *found["said"]])


def _kind_row(change: dict[str, Any]) -> tuple[str, str, str]:
    """A policy's change on a set's targets and on its controls."""
    target, control = change["target"], change["control"]

    def shown(one: dict[str, Any]) -> str:
        return f"{_cell(one['share'])}, p = {one['p_holm']:.2g}"

    return f"{target['set']}, {target['second']}", shown(target), shown(control)


def _cell(figure: dict[str, Any]) -> str:
    from constitute.stats import Estimate

    return Estimate.model_validate(figure).text(1, percent=True)
