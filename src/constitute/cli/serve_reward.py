"""`constitute serve-reward`: rewards over HTTP, for trainers elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared
from constitute.errors import ExitCode


@options.command("serve-reward")
@options.compose(options.common, shared.reward, options.constitution, shared.judge, shared.force)
@click.option(
    "--model", help="Policy whose answers come in; the run's fine-tuned one, or its model, if absent."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--allow-remote", is_flag=True, help="Permit a host other than loopback (no password!).")
def serve_reward(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    rewards: tuple[str, ...],
    constitution_file: str | None,
    judge: str | None,
    force: bool,
    model: str | None,
    host: str,
    port: int,
    allow_remote: bool,
) -> int:
    """Serve what a policy is rewarded by until interrupted; the URL goes to stdout once it answers.

    POST /get_reward takes {"messages": [...]} or OpenRLHF's {"query", "prompts", "labels"} and answers
    {"rewards": [...]}; /classify answers as vLLM's server does for a reward model; GET /health. Requests of
    several clients are scored together. A row without a reward is an error that names it.

    \b
    Examples:
      constitute serve-reward --run run
      constitute serve-reward --run run --reward 0.5*judge --reward run/reward --port 5001
    """
    from constitute.progress import open_progress
    from constitute.train.rewards.server import RewardServing, serve

    where = RewardServing(host=host, port=port, allow_remote=allow_remote)
    where.check()
    given = {"seed": seed, "constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, sets, given)
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.rewards.served import open_served, served_policy, served_rewards
        wanted = rewards or served_rewards(config)
        policy = served_policy(config, model)
        with open_served(config, wanted, policy, progress, force=force) as (names, scoring):

            def ready(url: str) -> None:
                click.echo(url)
                progress.note(f"serving {', '.join(names)}; Ctrl-C ends it")

            try:
                asyncio.run(serve(names, scoring, where, ready))
            except KeyboardInterrupt:
                progress.note("the reward server is stopped")
    return ExitCode.INTERRUPTED
