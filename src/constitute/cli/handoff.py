"""`constitute handoff`: a run in the words of a trainer for many machines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import click

from constitute.cli import options


@options.command()
@click.argument("target", metavar="TRAINER")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option(
    "--method",
    type=click.Choice(["ppo", "grpo"]),
    help="Whose settings; the first of train.method that is one of them if absent.",
)
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines to train on.")
@click.option("--gpus", type=click.IntRange(1), default=8, show_default=True, help="GPUs of each.")
@click.option(
    "--reward-url",
    default="http://127.0.0.1:5000/get_reward",
    show_default=True,
    help="Where `serve-reward` will answer, as the training nodes reach it.",
)
@options.compose(options.model, options.prompts, options.limit, options.skip_bad, options.sets)
@options.compose(options.as_json, options.debug)
@click.option(
    "--run", "run_dir", type=click.Path(path_type=Path), help="Run directory, in place of the file's."
)
def handoff(
    target: str,
    file: Path,
    out: Path,
    method: Literal["ppo", "grpo"] | None,
    nodes: int,
    gpus: int,
    reward_url: str,
    model: str | None,
    prompts_file: str | None,
    limit: int | None,
    skip_bad: bool,
    sets: tuple[str, ...],
    as_json: bool,
    run_dir: Path | None,
) -> None:
    """Write prompts, training sets, the reward and a launch file for another trainer from one run.yaml.

    TRAINER is openrlhf, verl or nemo-rl. The policy is --model, else the run's fine-tuned one. Settings that
    the trainer does not have are named, here and in OUT/HANDOFF.md, which also says what to do.

    \b
    Examples:
      constitute handoff openrlhf run.yaml --out handed-over
      constitute handoff verl run.yaml --out big --nodes 4 --reward-url http://head:5000/get_reward
    """
    from constitute.cli.train import shared
    from constitute.config import load_config
    from constitute.progress import open_progress

    config = load_config(file, sets, {"prompts": prompts_file, "limit": limit, "run": run_dir})
    with open_progress(as_json) as progress:
        with progress.waiting("reading the run"):
            from constitute.handoff.base import Cluster
            from constitute.handoff.run import Wanted, check, hand_over
        named = method or ("grpo" if _first(config.train.method) == "grpo" else "ppo")
        given = {"--run": run_dir, "--prompts": prompts_file, "--limit": limit}
        makes_rows = _run_command(file, given, sets, skip_bad)
        wanted = Wanted(target, named, Cluster(nodes, gpus), reward_url, model, makes_rows)
        check(wanted, config)
        prompts = shared.given_prompts(config, skip_bad, progress)
        found = hand_over(wanted, config, prompts, out, progress)
        for sentence in found.lost:
            progress.note(f"no counterpart: {sentence}")
        if found.left_out:
            progress.note(
                f"{found.left_out} prompts are left out: the template refuses them, or no room is left"
            )
    files = [str(path) for path in found.files]
    if as_json:
        click.echo(
            json.dumps({"event": "result", "files": files, "lost": found.lost, "left_out": found.left_out})
        )
        return
    for path in files:
        click.echo(path)
    click.echo(f"next: read {out / 'HANDOFF.md'}", err=True)


def _run_command(file: Path, given: Mapping[str, object], sets: Sequence[str], skip_bad: bool) -> str:
    """The command that makes the rows of the same run from the same file and options."""
    words = ["constitute", "run", str(file), "--until", "data"]
    for option, value in given.items():
        words += [] if value is None else [option, str(value)]
    for each in sets:
        words += ["--set", each]
    return shlex.join([*words, "--skip-bad"] if skip_bad else words)


def _first(methods: tuple[str, ...]) -> str:
    """The first method that samples and is rewarded, `ppo` where there is none."""
    return next((name for name in methods if name in ("ppo", "grpo")), "ppo")
