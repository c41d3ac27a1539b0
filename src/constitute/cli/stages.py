"""`constitute generate`, `revise` and `label`: the data stages, each alone."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.pipeline.budget import Limits

retry = click.option(
    "--retry-failed",
    "retry",
    is_flag=True,
    help="Ask again for rows that failed before; with the setting that their reason blames, such as --set "
    "generate.max_tokens=400, those rows alone are made with it.",
)
judge = click.option("--judge", help="Another model that labels in the model's place.")
pairs = click.option(
    "--pairs",
    "pairs_files",
    multiple=True,
    help="Label your own pairs: a file with prompt, a, b; several files add up. A preference that the rows "
    "hold (chosen and rejected, or human) is what the labels are measured against.",
)
principles = click.option("--principles", help="one, all, or how many to draw for each pair.")


@options.command()
@options.compose(options.common, options.model, options.prompts, options.samples, options.limit)
@options.compose(options.shard, options.skip_bad, options.decontaminate, options.reuse, retry, options.limits)
def generate(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    prompts_file: str | None,
    samples: int | None,
    limit: int | None,
    shard: str | None,
    skip_bad: bool,
    eval_sets: tuple[str, ...],
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
) -> int:
    """Sample n responses for each prompt.

    Prompts come from JSONL (text or messages), Parquet, HH transcripts or a Hub data set. The same
    command continues a run that stopped; more prompts or a larger -n add to it.

    \b
    Examples:
      constitute generate --model smollm2 --prompts prompts.jsonl -n 2
      constitute generate --model http://localhost:8000 --prompts prompts.jsonl --set generate.temperature=0.7
    """
    wanted = {"model": model, "prompts": prompts_file, "generate.n": samples, "limit": limit, "seed": seed}
    more = {"shard": shard, "read.overlap.against": list(eval_sets) or None, "reuse": reuse_dir}
    config = options.configured(run_dir, config_file, sets, {**wanted, **more})
    return run_stage(config, "generate", as_json=as_json, skip_bad=skip_bad, retry=retry, limits=limits)


@options.command()
@options.compose(
    options.common, options.model, options.constitution, options.limit, options.reuse, retry, options.limits
)
@options.shard
@click.option("--rounds", type=click.IntRange(1, 64), help="Critique-revision rounds.")
def revise(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    limit: int | None,
    shard: str | None,
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
    rounds: int | None,
) -> int:
    """Critique and revise the run's responses under the constitution.

    Each row and round draws one principle; every intermediate revision is kept.

    \b
    Examples:
      constitute revise --constitution assistant
      constitute revise --run my-run --constitution constitution.yaml --rounds 4 --set revise.critique=false
    """
    wanted = {"model": model, "constitution": constitution_file, "limit": limit, "seed": seed, "shard": shard}
    config = options.configured(
        run_dir, config_file, sets, {**wanted, "revise.rounds": rounds, "reuse": reuse_dir}
    )
    return run_stage(config, "revise", as_json=as_json, skip_bad=False, retry=retry, limits=limits)


@options.command()
@options.compose(options.common, options.model, judge, options.constitution, pairs, principles, options.limit)
@options.compose(options.shard, options.skip_bad, options.decontaminate, options.reuse, retry)
@options.compose(options.limits, options.gates)
def label(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    judge: str | None,
    constitution_file: str | None,
    pairs_files: tuple[str, ...],
    principles: str | None,
    limit: int | None,
    shard: str | None,
    skip_bad: bool,
    eval_sets: tuple[str, ...],
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
    gates: dict[str, float | None],
) -> int:
    """Label pairs with soft preferences: log-probabilities of A and B, in both orders.

    label.pairs says which answers are compared: two samples of a prompt (samples), every two (all), the
    best and the worst (best_worst), a response and its last revision (revision), every two of its
    revisions (revisions), answers of another run (models), under a principle and against it (contrast);
    --pairs labels your own. Labels that say nothing of the answers, as of a judge that prefers whichever
    is shown first, end with exit code 4, and so do those that do not pass a gate.

    \b
    Examples:
      constitute label --constitution assistant --set label.pairs=revision
      constitute label --run judged --model smollm2 --constitution assistant --pairs pairs.jsonl
      constitute label --run judged --pairs hh.jsonl.gz --min-agreement 0.6 --max-order-flip 0.3
    """
    wanted = {"model": model, "judge": judge, "constitution": constitution_file, "limit": limit}
    more = {"label.principles": principles, "seed": seed, "read.overlap.against": list(eval_sets) or None}
    rest = {"shard": shard, "reuse": reuse_dir, **gates}
    config = options.configured(run_dir, config_file, sets, {**wanted, **more, **rest})
    return run_stage(
        config,
        "label",
        as_json=as_json,
        skip_bad=skip_bad,
        retry=retry,
        limits=limits,
        pairs_files=pairs_files,
    )


def stage_command(name: str) -> click.Command:
    """The command of a stage that has none of its own: it reads the rows of the stage before it."""

    @options.command(name, help=f"Run the stage {name} of the chain on the rows of the stage before it.")
    @options.compose(
        options.common,
        options.model,
        options.constitution,
        options.limit,
        options.shard,
        options.reuse,
        retry,
        options.limits,
    )
    def run(
        run_dir: Path,
        config_file: Path | None,
        sets: tuple[str, ...],
        seed: int | None,
        as_json: bool,
        model: str | None,
        constitution_file: str | None,
        limit: int | None,
        shard: str | None,
        reuse_dir: Path | None,
        retry: bool,
        limits: Limits,
    ) -> int:
        wanted = {
            "model": model,
            "constitution": constitution_file,
            "limit": limit,
            "seed": seed,
            "shard": shard,
        }
        config = options.configured(run_dir, config_file, sets, {**wanted, "reuse": reuse_dir})
        return run_stage(config, name, as_json=as_json, skip_bad=False, retry=retry, limits=limits)

    return run


def run_stage(
    config: RunConfig,
    stage: str,
    *,
    as_json: bool,
    skip_bad: bool = False,
    retry: bool = False,
    limits: Limits | None = None,
    pairs_files: tuple[str, ...] = (),
) -> int:
    """Read the input, run the stage, print how its rows ended; returns the exit code.

    Raises `GateFailed` for labels that say nothing or do not pass a gate, when all is saved and printed.
    """
    from constitute.cli.stage_result import print_result
    from constitute.data.pairs import open_pairs
    from constitute.data.prompts import open_prompts
    from constitute.errors import EngineError, GateFailed
    from constitute.pipeline import run_stages
    from constitute.progress import open_progress
    from constitute.stages import stage_spec

    with open_progress(as_json) as progress:
        prompts = pairs = None
        if stage_spec(stage).reads == "prompt" and config.prompts is not None:
            prompts = open_prompts(config.prompts, limit=config.limit, skip_bad=skip_bad, reading=config.read)
        if pairs_files:
            pairs = open_pairs(pairs_files, limit=config.limit, skip_bad=skip_bad, reading=config.read)
        for read in (prompts, pairs):
            for sentence in () if read is None else read.notes:
                progress.note(sentence)
        try:
            counts = run_stages(
                config, [stage], prompts=prompts, pairs=pairs, progress=progress, retry=retry, limits=limits
            )[stage]
        except EngineError as problem:
            raise EngineError(f"{problem}{_going_on(config)}") from problem
    for read in (prompts, pairs):
        if read is not None:
            read.note_left_out(config.run)
    stopped = print_result(config, counts, as_json)
    # A shard may be too small to judge its labels by; the merged run is judged.
    if stopped and config.shard is None:
        raise GateFailed(stopped)
    return ExitCode.ROWS_FAILED if counts.failed else ExitCode.OK


def _going_on(config: RunConfig) -> str:
    """How to go on where the model is gone; nothing where no answer was kept yet."""
    from constitute.store import Store

    with Store.open(config.run, readonly=True) as store:
        if store.empty():
            return ""
    return f"; every answer so far is kept, continue with: {shlex.join(['constitute', *sys.argv[1:]])}"
